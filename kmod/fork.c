// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: what happens when a target forks or executes a program. The child has a copy of the address
 * space that nobody tracks. The owner is told, and a session that follows forks
 * attaches the child: unarmed, so that all of it counts as changed until the
 * next arm. What the child becomes by exec is not followed: it may have gained
 * privileges that the owner does not have.
 */
#include <linux/binfmts.h>
#include <linux/rculist.h>
#include <linux/sched/coredump.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/tracepoint.h>

#include "ckpt.h"

/* One fork. Holds references to all it names (the mm's by mm_count). */
struct fork_work {
	struct work_struct work;
	struct ckpt_session *session;
	struct mm_struct *mm;
	struct pid *child;
	struct pid *parent;
	u32 parent_track;
};

static struct tracepoint *fork_tracepoint, *exec_tracepoint;

static void fork_worker(struct work_struct *work)
{
	struct fork_work *w = container_of(work, struct fork_work, work);
	struct ckpt_session *s = w->session;
	struct ckpt_track *t;
	u32 other, type = CKPT_EVENT_FORK;

	mutex_lock(&s->mutex);
	if (!s->dead) {
		if ((s->flags & CKPT_SESSION_FOLLOW_FORKS) && mmget_not_zero(w->mm)) {
			if (ckpt_track_attach(s, w->mm, w->child, true, &t, &other))
				type = CKPT_EVENT_FORK_LOST;
			mmput(w->mm);
		}
		ckpt_ctl_event(type, s->id, w->parent_track, w->parent, w->child);
	}
	mutex_unlock(&s->mutex);

	mmdrop(w->mm);
	put_pid(w->child);
	put_pid(w->parent);
	ckpt_session_put(s);
	kfree(w);
}

/* A copy of @t's flags is in @mm, with what was set only for as long as @t is tracked. */
static void huge_pages_again(const struct ckpt_track *t, struct mm_struct *mm)
{
	if (READ_ONCE(t->thp_off))
		clear_bit(MMF_DISABLE_THP, &mm->flags);
}

/* The child exists and has not run yet. */
static void on_fork(void *unused, struct task_struct *parent, struct task_struct *child)
{
	struct mm_struct *mm = child->mm;
	struct ckpt_session *s;
	struct ckpt_track *t;
	struct fork_work *w;

	if (!mm || mm == parent->mm)
		return;
	rcu_read_lock();
	t = ckpt_track_find(parent->mm);
	if (!t)
		goto out;
	huge_pages_again(t, mm);
	s = t->session;
	w = kzalloc(sizeof(*w), GFP_ATOMIC | __GFP_NOWARN);
	if (!w) {
		ckpt_track_event(t, CKPT_PENDING_FORK_LOST);
		goto out;
	}
	if (!kobject_get_unless_zero(&s->kobj)) {
		kfree(w);
		goto out;
	}
	INIT_WORK(&w->work, fork_worker);
	w->session = s;
	w->parent_track = t->id;
	w->parent = get_pid(t->pid);
	w->child = get_pid(task_tgid(child));
	w->mm = mm;
	mmgrab(mm);
	queue_work(ckpt_wq, &w->work);
out:
	rcu_read_unlock();
}

/*
 * @task runs another program: its address space is a new one. The track that it was
 * attached by is found by its pid, as the old address space may be gone already.
 */
static void on_exec(void *unused, struct task_struct *task, pid_t old_pid,
		    struct linux_binprm *bprm)
{
	struct ckpt_track *t;
	struct pid *pid;
	int i;

	rcu_read_lock();
	pid = task_tgid(task);
	for (i = 0; i < ARRAY_SIZE(ckpt_table); i++)
		hlist_for_each_entry_rcu(t, &ckpt_table[i], hash) {
			if (t->pid != pid || t->mm == task->mm || test_and_set_bit(CKPT_EXEC_SEEN, &t->events))
				continue;
			huge_pages_again(t, task->mm);
			ckpt_track_event(t, CKPT_PENDING_EXEC);
		}
	/* A child of vfork() ran in the address space of its parent until now. */
	t = ckpt_track_find(READ_ONCE(rcu_dereference(task->real_parent)->mm));
	if (t && t->mm != task->mm)
		huge_pages_again(t, task->mm);
	rcu_read_unlock();
}

static void pick(struct tracepoint *tp, void *unused)
{
	if (!strcmp(tp->name, "sched_process_fork"))
		fork_tracepoint = tp;
	else if (!strcmp(tp->name, "sched_process_exec"))
		exec_tracepoint = tp;
}

int ckpt_fork_init(void)
{
	int err;

	for_each_kernel_tracepoint(pick, NULL);
	if (!fork_tracepoint || !exec_tracepoint) {
		pr_err("this kernel lacks the tracepoint sched_process_%s\n",
		       fork_tracepoint ? "exec" : "fork");
		return -ENOENT;
	}
	err = tracepoint_probe_register(fork_tracepoint, on_fork, NULL);
	if (err)
		return err;
	err = tracepoint_probe_register(exec_tracepoint, on_exec, NULL);
	if (err) {
		tracepoint_probe_unregister(fork_tracepoint, on_fork, NULL);
		tracepoint_synchronize_unregister();
	}
	return err;
}

void ckpt_fork_exit(void)
{
	tracepoint_probe_unregister(exec_tracepoint, on_exec, NULL);
	tracepoint_probe_unregister(fork_tracepoint, on_fork, NULL);
	tracepoint_synchronize_unregister();
}
