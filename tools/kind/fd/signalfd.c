// SPDX-License-Identifier: GPL-2.0-only
/* Signalfds: a mask. What they read are the reader's pending signals, which are the tasks' state.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fd_signalfd.pb-c.h"
#include "kern/getfd.h"
#include "kind/fd/kinds.h"

static bool signalfd_match(const struct fd_facts *f)
{
	return !strcmp(f->link, "anon_inode:[signalfd]");
}

static int signalfd_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
			 struct ckpt_err *err)
{
	Ckpt__FdSignalfd *m = msg;

	(void)d;
	(void)obj;
	if (!proc_field_num(f->fdinfo, "sigmask", 0, 16, &m->mask))
		return ckpt_fail(err, E_KERNEL, -EPROTO, "fdinfo has no sigmask");
	return 0;
}

static int signalfd_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			    int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdSignalfd *m = msg;
	/* The system call itself: the library would hide its own real-time signals. */
	int fd = fd_private((int)syscall(SYS_signalfd4, -1, &m->mask, sizeof(m->mask), 0));

	(void)r;
	(void)obj;
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make a signalfd");
	*ret_fd = fd;
	return 0;
}

const struct fd_kind fd_kind_signalfd = {
	.name = "signalfd",
	.desc = &ckpt__fd_signalfd__descriptor,
	.match = signalfd_match,
	.dump = signalfd_dump,
	.restore = signalfd_restore,
};
