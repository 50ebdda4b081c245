// SPDX-License-Identifier: GPL-2.0-only
/*
 * The network while a tree is made again: what the kinds want locked is locked before the first
 * socket exists and opened, together with the lock that the dump left, when all is about to run.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/vec.h"
#include "kern/guard.h"
#include "restore/restore.h"

static const struct fd_kind *kind_of(const struct restore_ctx *r, size_t i)
{
	return fd_kind_by_name(r->img->objects.v[i]->state->kind);
}

int restore_net_lock(struct restore_ctx *r, struct ckpt_err *err)
{
	struct netlock_conns l = { 0 };
	bool any = false;
	int rc = 0;

	if (r->opts->plan_only)
		return 0;
	for (size_t i = 0; !rc && i < r->img->objects.n; i++) {
		const struct fd_kind *kind = kind_of(r, i);
		struct netlock_conn c, *slot;
		enum fd_lock how;
		const void *msg;

		if (!kind || !kind->lock)
			continue;
		msg = restore_object_msg(r, (uint32_t)i + 1, err);
		if (!msg) {
			rc = err->code;
			break;
		}
		how = kind->lock(msg, &c);
		if (how == FD_LOCK_NONE)
			continue;
		slot = vec_push(&l);
		if (!slot) {
			rc = ckpt_oom(err);
			break;
		}
		*slot = c;
		any = any || how == FD_LOCK_ALIVE;
	}
	/* Who only listens has nothing to lose. */
	if (!rc && any)
		rc = netlock_take(&r->netlock, NETLOCK_ALL, l.v, l.n, err);
	/* Out of the way of the descriptors of tasks. */
	if (!rc && r->netlock.fd >= 0) {
		int high = fcntl(r->netlock.fd, F_DUPFD_CLOEXEC, r->fd_base);

		if (high < 0)
			rc = ckpt_fail_errno(err, E_LIMIT, -errno, "cannot keep the network lock");
		else
			(void)close(r->netlock.fd);
		r->netlock.fd = high < 0 ? r->netlock.fd : high;
	}
	vec_free(&l);
	if (!rc && any && (rc = ckpt_fault("tcp.built")))
		return ckpt_fail_errno(err, E_NETLOCK, rc, "fault point tcp.built");
	return rc;
}

struct opening {
	struct restore_ctx *r;
	size_t lost; /* connections */
};

/* A kill of ckpt does not reach this: half of the connections would be in repair mode for good. */
static int open_guarded(void *arg)
{
	struct opening *o = arg;
	struct restore_ctx *r = o->r;
	char name[NETLOCK_NAME_MAX];

	for (size_t i = 0; i < r->img->objects.n; i++) {
		const struct fd_kind *kind = kind_of(r, i);

		if (kind && kind->arrive && r->object_fds[i] >= 0)
			o->lost += kind->arrive(r->img->objects.v[i], r->object_msgs[i],
						r->object_fds[i]);
	}
	if (r->img->inv->content_id.len >= 6) {
		netlock_name(r->img->inv->content_id.data, name);
		(void)netlock_remove(&r->netlock, name);
	}
	netlock_lift(&r->netlock);
	for (size_t i = 0; i < r->img->objects.n; i++) {
		const struct fd_kind *kind = kind_of(r, i);

		if (kind && kind->release && r->object_fds[i] >= 0)
			kind->release(r->img->objects.v[i], r->object_msgs[i], r->object_fds[i]);
	}
	return 0;
}

void restore_net_open(struct restore_ctx *r)
{
	struct opening o = { .r = r };

	if (r->netlock.fd < 0 || r->netlock.lifted)
		return;
	if (guard_run(open_guarded, &o))
		(void)open_guarded(&o);
	if (o.lost)
		ui_warn(r->ui,
			"%zu TCP connections could not be taken up again: their peers find them "
			"reset",
			o.lost);
}

void restore_net_free(struct restore_ctx *r)
{
	netlock_drop(&r->netlock);
}
