// SPDX-License-Identifier: GPL-2.0-only
/* Eventfds: a counter and a mode. Both are in fdinfo; the mode only since Linux 6.5. */
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fd_eventfd.pb-c.h"
#include "kern/getfd.h"
#include "kern/guard.h"
#include "kind/fd/kinds.h"

static bool eventfd_match(const struct fd_facts *f)
{
	return !strcmp(f->link, "anon_inode:[eventfd]");
}

struct mode_probe {
	int fd;
	uint64_t count;
	bool semaphore;
};

/* Take one and look whether one or all are gone; put the same back. Runs guarded: the program's
 * counter must not be lost when ckpt is killed in between. */
static int mode_probe(void *arg)
{
	struct mode_probe *p = arg;
	uint64_t v = 2, got;
	int fl = fcntl(p->fd, F_GETFL);

	if (fl < 0 || fcntl(p->fd, F_SETFL, fl | O_NONBLOCK))
		return -errno;
	/* A counter of 0 or 1 does not tell; the maximum has no room, but tells. */
	if (p->count < 2 && write(p->fd, &v, sizeof(v)) != sizeof(v))
		return -errno;
	if (read(p->fd, &got, sizeof(got)) != sizeof(got))
		return -errno;
	p->semaphore = got == 1;
	if (p->count < 2 && p->semaphore) {
		/* One of the two that were added is still there. */
		if (read(p->fd, &got, sizeof(got)) != sizeof(got))
			return -errno;
	} else {
		v = p->semaphore ? 1 : p->count;
		if (v && write(p->fd, &v, sizeof(v)) != sizeof(v))
			return -errno;
	}
	return fcntl(p->fd, F_SETFL, fl) ? -errno : 0;
}

static int eventfd_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
			struct ckpt_err *err)
{
	Ckpt__FdEventfd *m = msg;
	struct mode_probe probe = { .fd = f->local };
	uint64_t v;
	int rc;

	(void)d;
	(void)obj;
	if (!proc_field_num(f->fdinfo, "eventfd-count", 0, 16, &m->count))
		return ckpt_fail(err, E_KERNEL, -EPROTO, "fdinfo has no eventfd-count");
	if (proc_field_num(f->fdinfo, "eventfd-semaphore", 0, 10, &v)) {
		m->semaphore = v != 0;
		return 0;
	}
	probe.count = m->count;
	rc = guard_run(mode_probe, &probe);
	if (rc)
		return ckpt_fail_errno(err, E_KERNEL, rc,
				       "cannot find out whether it is a semaphore");
	m->semaphore = probe.semaphore;
	return 0;
}

static int eventfd_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			   int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdEventfd *m = msg;
	int fd = fd_private(eventfd(0, EFD_NONBLOCK | (m->semaphore ? EFD_SEMAPHORE : 0)));

	(void)r;
	(void)obj;
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make an eventfd");
	if (m->count && write(fd, &m->count, sizeof(m->count)) != sizeof(m->count)) {
		int code = errno;

		(void)close(fd);
		return ckpt_fail_errno(err, E_RESTORE, -code,
				       "cannot set the counter of an eventfd");
	}
	*ret_fd = fd;
	return 0;
}

const struct fd_kind fd_kind_eventfd = {
	.name = "eventfd",
	.desc = &ckpt__fd_eventfd__descriptor,
	.match = eventfd_match,
	.dump = eventfd_dump,
	.restore = eventfd_restore,
};
