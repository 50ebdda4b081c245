// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pidfds. Processes of the tree are found by their pid once they exist; each task then opens its
 * own, at the number it had. A process that is gone is stood in for by one that ends at once.
 * Whatever else holds a pidfd on something outside the tree waits for a process that no restore can
 * bring: refused.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "fd_pidfd.pb-c.h"
#include "kind/fd/kinds.h"
#include "kind/fd/own.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

static bool pidfd_match(const struct fd_facts *f)
{
	return !strcmp(f->link, "anon_inode:[pidfd]") || !strncmp(f->link, "pidfd:", 6);
}

static int pidfd_check(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err)
{
	const char *pid = proc_field(f->fdinfo, "Pid");
	int n = pid ? atoi(pid) : -1;

	if (n <= 0 || dump_tree_has_pid(d, n))
		return 0;
	return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "fd %d (pidfd): %s %d is %s", f->fd,
			 f->flags & PIDFD_THREAD ? "thread" : "process", n,
			 f->flags & PIDFD_THREAD ? "no main thread of the tree"
						 : "outside the tree");
}

static int pidfd_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		      struct ckpt_err *err)
{
	Ckpt__FdPidfd *m = msg;
	auto_free char *info = NULL;
	const char *pid;
	char path[64];

	(void)obj;
	/* Our own copy, so that the number is as we see it. */
	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", f->local);
	if (io_read_file(AT_FDCWD, path, &info) < 0 || !(pid = proc_field(info, "Pid")))
		return ckpt_fail(err, E_KERNEL, -EPROTO, "fdinfo has no Pid");
	if (atoi(pid) <= 0)
		return 0;
	m->pid = dump_vpid(d, atoi(pid));
	return m->pid ? 0
		      : ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "process %d is outside the tree",
				  atoi(pid));
}

/* A process that is gone already. */
static int dead_pidfd(void)
{
	pid_t pid = fork();
	int fd;

	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(0);
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		fd = -errno;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return fd;
}

/* What processes inherit until they open their own. */
static int pidfd_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			 int *ret_fd, struct ckpt_err *err)
{
	int fd = dead_pidfd();

	(void)r;
	(void)obj;
	(void)msg;
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, fd, "cannot make a pidfd");
	*ret_fd = fd;
	return 0;
}

static int pidfd_plan(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int fdnum,
		      const Ckpt__Task *task, const Ckpt__FdTable *table, struct steps *s,
		      struct ckpt_err *err)
{
	const Ckpt__FdPidfd *m = msg;
	struct fd_own own;
	uint32_t opened;

	(void)task;
	(void)err;
	if (!m->pid || !restore_has_pid(r, m->pid))
		return 0;
	own = fd_own_plan(obj, table, fdnum, s);
	if (own.shared)
		return 0;
	opened = steps_call(s, "open a pidfd", SYS_pidfd_open, (uint64_t)m->pid,
			    obj->flags & (O_NONBLOCK | PIDFD_THREAD));
	fd_own_place(&own, opened, s);
	return 0;
}

const struct fd_kind fd_kind_pidfd = {
	.name = "pidfd",
	.desc = &ckpt__fd_pidfd__descriptor,
	.match = pidfd_match,
	.check = pidfd_check,
	.dump = pidfd_dump,
	.restore = pidfd_restore,
	.plan = pidfd_plan,
	.plan_each = true,
};
