// SPDX-License-Identifier: GPL-2.0-only
/*
 * Epoll sets. A watch belongs to a pair (open file description, number it was added by). The number
 * may have been closed or given to something else since, while a duplicate keeps the description
 * and the watch alive; so the kernel is asked what a watch looks at (KCMP_EPOLL_TFD), and at
 * restore each watch is added through the number it had.
 */
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "fd_epoll.pb-c.h"
#include "kern/getfd.h"
#include "kind/fd/kinds.h"

/* Linux 6.9: busy polling of one set */
struct busy_poll {
	uint32_t usecs;
	uint16_t budget;
	uint8_t prefer;
	uint8_t pad;
};
_Static_assert(sizeof(struct busy_poll) == 8, "struct epoll_params");
#define IOC_SET_BUSY_POLL _IOW(0x8a, 0x01, struct busy_poll)
#define IOC_GET_BUSY_POLL _IOR(0x8a, 0x02, struct busy_poll)

#define PRIVATE_BITS ((uint32_t)(EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE))

static bool epoll_match(const struct fd_facts *f)
{
	return !strcmp(f->link, "anon_inode:[eventpoll]");
}

/* Nothing before the descriptors of all tasks are known. */
static int epoll_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		      struct ckpt_err *err)
{
	Ckpt__FdEpoll *m = msg;
	struct busy_poll bp = { 0 };

	(void)d;
	(void)obj;
	(void)err;
	if (!ioctl(f->local, IOC_GET_BUSY_POLL, &bp)) {
		m->busy_poll_usecs = bp.usecs;
		m->busy_poll_budget = bp.budget;
		m->prefer_busy_poll = bp.prefer;
	}
	return 0;
}

/* Is descriptor (@pid, @fd) what the watch looks at? */
static bool watch_is(const struct fd_facts *f, const struct kcmp_epoll_slot *slot, int pid, int fd)
{
	return syscall(SYS_kcmp, pid, f->pid, KCMP_EPOLL_TFD, (long)fd, (long)slot) == 0;
}

static int watch_object(struct dump_ctx *d, const struct fd_facts *f,
			const struct kcmp_epoll_slot *slot, dev_t dev, ino_t ino, uint32_t *ret_id,
			struct ckpt_err *err)
{
	uint32_t id = dump_object_socket(d, dev, ino);
	int pid, fd;

	/* Whoever watches the inode of a socket watches its one description. To ask takes the
	 * kernel a look through all watches. */
	*ret_id = id;
	if (id)
		return 0;
	/* Most watches are of a file with an inode of its own, by the number that it still has. */
	if (dump_object_next(d, dev, ino, &id, &pid, &fd) && pid == f->pid &&
	    (uint32_t)fd == slot->tfd && watch_is(f, slot, pid, fd)) {
		*ret_id = id;
		return 0;
	}
	id = 0;
	if (watch_is(f, slot, f->pid, (int)slot->tfd)) {
		*ret_id = dump_object_find(d, f->pid, (int)slot->tfd);
		if (*ret_id)
			return 0;
	}
	while (dump_object_next(d, dev, ino, &id, &pid, &fd))
		if (watch_is(f, slot, pid, fd)) {
			*ret_id = id;
			return 0;
		}
	return ckpt_fail(
		err, E_UNSUPPORTED, -EOPNOTSUPP,
		"it watches something (added as fd %u) that no descriptor of the tree shows: "
		"it is held outside the tree",
		slot->tfd);
}

struct parsed {
	Ckpt__FdEpollWatch *w;
	struct kcmp_epoll_slot slot;
	dev_t dev;
	ino_t ino;
	size_t order;
};

/* By number, then as the kernel lists them. */
static int parsed_cmp(const void *a, const void *b)
{
	const struct parsed *x = a, *y = b;

	if (x->w->fd != y->w->fd)
		return x->w->fd < y->w->fd ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

static int watch_parse(const struct fd_facts *f, const char *at, struct parsed *p,
		       struct ckpt_err *err)
{
	unsigned long long data, ino;
	unsigned int tfd, events, sdev;

	if (text_scan(at, "tfd: %u events: %x data: %llx pos:%*d ino:%llx sdev:%x", &tfd, &events,
		      &data, &ino, &sdev) != 5)
		return ckpt_fail(err, E_KERNEL, -EPROTO,
				 "fdinfo of an epoll set has another format");
	p->w->fd = p->slot.tfd = tfd;
	p->w->events = events;
	p->w->data = data;
	p->slot.efd = (uint32_t)f->fd;
	p->dev = makedev(sdev >> 20, sdev & 0xfffff);
	p->ino = (ino_t)ino;
	return 0;
}

static int epoll_dump_late(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj,
			   void *msg, struct ckpt_err *err)
{
	auto_free struct parsed *all = NULL;
	Ckpt__FdEpoll *m = msg;
	size_t n = 0;
	int rc = 0;

	(void)obj;
	for (const char *at = f->fdinfo; (at = strstr(at, "tfd:")); at += 4)
		n++;
	all = calloc(n + 1, sizeof(*all));
	if (!all)
		return ckpt_oom(err);
	n = 0;
	for (const char *at = f->fdinfo; !rc && (at = strstr(at, "tfd:")); at += 4, n++) {
		Ckpt__FdEpollWatch *w = kind_msg_new(&ckpt__fd_epoll_watch__descriptor);

		if (!w || kind_push(&m->n_watches, &m->watches, w))
			return ckpt_oom(err);
		all[n].w = w;
		all[n].order = n;
		rc = watch_parse(f, at, &all[n], err);
	}
	/* The kernel tells several watches of one number apart by their order. */
	qsort(all, n, sizeof(*all), parsed_cmp);
	for (size_t i = 0; !rc && i < n; i++) {
		if (i && all[i].w->fd == all[i - 1].w->fd)
			all[i].slot.toff = all[i - 1].slot.toff + 1;
		rc = watch_object(d, f, &all[i].slot, all[i].dev, all[i].ino, &all[i].w->object,
				  err);
	}
	return rc;
}

static int epoll_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			 int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdEpoll *m = msg;
	struct busy_poll bp = { .usecs = m->busy_poll_usecs,
				.budget = (uint16_t)m->busy_poll_budget,
				.prefer = m->prefer_busy_poll != 0 };
	auto_fd fd = fd_private(epoll_create1(0));

	(void)r;
	(void)obj;
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make an epoll set");
	if ((bp.usecs || bp.budget || bp.prefer) && ioctl(fd, IOC_SET_BUSY_POLL, &bp))
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot set busy polling of an epoll set");
	*ret_fd = take_fd(&fd);
	return 0;
}

/* A one-shot watch that had its shot: its events are gone, also EPOLLERR and EPOLLHUP, which the
 * kernel adds to everything that is armed. It is armed for anything, then shot. */
static bool watch_is_spent(const Ckpt__FdEpollWatch *w)
{
	return (w->events & EPOLLONESHOT) && !(w->events & ~PRIVATE_BITS);
}

static int watch_add(int ep, const Ckpt__FdEpollWatch *w)
{
	struct epoll_event ev = { .events = w->events, .data.u64 = w->data };
	bool spent = watch_is_spent(w);

	if (spent)
		ev.events |= EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, (int)w->fd, &ev))
		return -errno;
	if (!spent || epoll_wait(ep, &ev, 1, 0) == 1)
		return 0;
	/* Nothing to report at present: all that can be done is to listen for errors only. */
	ev = (struct epoll_event) { .events = w->events, .data.u64 = w->data };
	return epoll_ctl(ep, EPOLL_CTL_MOD, (int)w->fd, &ev) ? -errno : 0;
}

/* Add a watch through the number it had, whatever ckpt itself has there. */
static int watch_restore(struct restore_ctx *r, int ep, const Ckpt__FdEpollWatch *w,
			 struct ckpt_err *err)
{
	int target, flags = fcntl((int)w->fd, F_GETFD);
	auto_fd saved = -1;
	auto_fd ep_dup = -1;
	int rc = restore_object_fd(r, w->object, &target, err);

	if (rc)
		return rc;
	if (flags >= 0) {
		saved = fcntl((int)w->fd, F_DUPFD_CLOEXEC, 3);
		if (saved < 0)
			return ckpt_fail_errno(err, E_LIMIT, -errno,
					       "cannot duplicate a descriptor");
	}
	if (ep == (int)w->fd) {
		ep_dup = fcntl(ep, F_DUPFD_CLOEXEC, 3);
		ep = ep_dup;
	}
	if ((int)w->fd != target && dup3(target, (int)w->fd, O_CLOEXEC) < 0)
		return ckpt_fail_errno(err, E_LIMIT, -errno, "cannot use descriptor %u for a watch",
				       w->fd);
	rc = watch_add(ep, w);
	if ((int)w->fd != target) {
		if (saved < 0)
			(void)close((int)w->fd);
		else if (dup3(saved, (int)w->fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0) < 0)
			rc = -errno;
	}
	return rc ? ckpt_fail_errno(err, E_RESTORE, rc, "cannot watch fd %u", w->fd) : 0;
}

static int epoll_finish(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int fd,
			struct ckpt_err *err)
{
	const Ckpt__FdEpoll *m = msg;
	int rc = 0;

	(void)obj;
	/* Spent ones first, while nothing else in the set can report an event. */
	for (int spent = 1; spent >= 0; spent--)
		for (size_t i = 0; !rc && i < m->n_watches; i++)
			if (watch_is_spent(m->watches[i]) == spent)
				rc = watch_restore(r, fd, m->watches[i], err);
	return rc;
}

const struct fd_kind fd_kind_epoll = {
	.name = "epoll",
	.desc = &ckpt__fd_epoll__descriptor,
	.match = epoll_match,
	.dump = epoll_dump,
	.dump_late = epoll_dump_late,
	.restore = epoll_restore,
	.finish = epoll_finish,
};
