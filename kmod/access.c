// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: who may do what. A capability opens the family; each target is then
 * checked as strictly as ptrace would.
 */
#include <linux/capability.h>
#include <linux/pid.h>
#include <linux/ptrace.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

#include "ckpt.h"
#include "compat/compat.h"

/* May the sender, and whoever opened its socket, use the family at all? */
bool ckpt_access_allowed(struct sk_buff *skb)
{
	return netlink_capable(skb, CAP_CHECKPOINT_RESTORE) || netlink_capable(skb, CAP_SYS_ADMIN);
}

/*
 * The address space of process @nr (as the caller sees it), with a user of it
 * held, and its pid with a reference. Checked together, so that no exec of a
 * privileged program comes in between.
 */
int ckpt_access_open_mm(pid_t nr, struct mm_struct **ret_mm, struct pid **ret_pid,
			struct netlink_ext_ack *extack)
{
	struct task_struct *task;
	struct mm_struct *mm;
	struct pid *pid;
	int err;

	pid = find_get_pid(nr);
	task = get_pid_task(pid, PIDTYPE_PID);
	put_pid(pid);
	if (!task) {
		NL_SET_ERR_MSG(extack, "there is no process with this pid");
		return -ESRCH;
	}
	err = down_read_killable(&task->signal->exec_update_lock);
	if (err)
		goto err_put_task;
	err = -EPERM;
	if (!ckpt_ptrace_may_access(task, PTRACE_MODE_ATTACH_REALCREDS)) {
		NL_SET_ERR_MSG(extack, "this process may not be traced by the caller");
		goto err_unlock_exec;
	}
	err = -ESRCH;
	mm = get_task_mm(task);
	if (!mm) {
		NL_SET_ERR_MSG(extack, "the process has no address space: it is a kernel thread or has exited");
		goto err_unlock_exec;
	}
	*ret_mm = mm;
	*ret_pid = get_task_pid(task, PIDTYPE_TGID);
	err = 0;

err_unlock_exec:
	up_read(&task->signal->exec_update_lock);
err_put_task:
	put_task_struct(task);
	return err;
}
