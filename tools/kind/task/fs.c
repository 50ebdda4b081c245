// SPDX-License-Identifier: GPL-2.0-only
/* Working directory, root directory, umask. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "kind/task/kinds.h"
#include "task_basic.pb-c.h"

static int fs_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		   const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		   struct ckpt_err *err)
{
	Ckpt__TaskFs *m = msg;
	struct stat ours, theirs;
	char path[64];
	uint64_t umask_bits = 022;
	int rc;

	(void)a;
	(void)slot;
	(void)priv;
	if (dump_shares_fs(d, f->task))
		return 1;
	(void)proc_field_num(f->status, "Umask", 0, 8, &umask_bits);
	m->umask = (uint32_t)umask_bits;
	(void)snprintf(path, sizeof(path), "/proc/%d/root", f->task->pid);
	if (!stat("/", &ours) && !stat(path, &theirs) &&
	    (ours.st_dev != theirs.st_dev || ours.st_ino != theirs.st_ino)) {
		rc = dump_object_link(d, f->task->pid, "root", O_RDONLY | O_DIRECTORY, &m->root,
				      err);
		if (rc)
			return rc;
	}
	return dump_object_link(d, f->task->pid, "cwd", O_RDONLY | O_DIRECTORY, &m->cwd, err);
}

static int fs_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		   const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__TaskFs *m = msg;
	int fd, rc;

	(void)task;
	(void)thread;
	if (m->root) {
		rc = restore_object_fd(r, m->root, &fd, err);
		if (rc)
			return rc;
		(void)steps_call(s, "enter the root directory", SYS_fchdir, (uint64_t)fd);
		(void)steps_call(s, "chroot", SYS_chroot, steps_str(s, "."));
	}
	rc = restore_object_fd(r, m->cwd, &fd, err);
	if (rc)
		return rc;
	(void)steps_call(s, "enter the working directory", SYS_fchdir, (uint64_t)fd);
	(void)steps_call(s, "set the umask", SYS_umask, m->umask);
	return 0;
}

const struct task_kind task_kind_fs = {
	.name = "fs",
	.desc = &ckpt__task_fs__descriptor,
	.scope = SCOPE_TASK,
	.phase = PHASE_FS, /* needs ckpt's descriptors */
	.dump = fs_dump,
	.plan = fs_plan,
};
