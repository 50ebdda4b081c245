// SPDX-License-Identifier: GPL-2.0-only
/*
 * Descriptors that the user declared external (dump --external NAME): nothing of them is saved but
 * what they are called. The caller of the restore hands others over in their place; the framework
 * does that before it asks a kind. What is left to do here is the end that nobody holds the other
 * end of.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fd_external.pb-c.h"
#include "kind/fd/kinds.h"
#include "kind/fd/sockopt.h"

static int external_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
			 struct ckpt_err *err)
{
	Ckpt__FdExternal *m = msg;

	(void)d;
	(void)obj;
	m->name = strdup(f->link);
	m->mode = f->st.st_mode & S_IFMT;
	m->family = f->family > 0 ? (uint32_t)f->family : 0;
	m->type = f->family > 0 ? (uint32_t)sockopt_get(f->local, SOL_SOCKET, SO_TYPE) : 0;
	return m->name ? 0 : ckpt_oom(err);
}

/* An end whose other end is closed. */
static int closed_end(const Ckpt__FdExternal *m, uint32_t flags, int *ret_fd, struct ckpt_err *err)
{
	bool writer = (flags & O_ACCMODE) == O_WRONLY;
	int p[2];

	if (S_ISFIFO(m->mode) && (flags & O_ACCMODE) != O_RDWR) {
		if (pipe2(p, O_CLOEXEC))
			return ckpt_fail_errno(err, E_LIMIT, -errno, "cannot make a pipe");
	} else if (S_ISSOCK(m->mode) && m->family == AF_UNIX) {
		if (socketpair(AF_UNIX, (int)m->type | SOCK_CLOEXEC, 0, p))
			return ckpt_fail_errno(err, E_RESTORE, -errno,
					       "cannot make a unix socket of type %u", m->type);
	} else {
		return ckpt_fail(err, E_EXTERNAL, -EINVAL,
				 "%s is neither a pipe nor a unix socket: it has no other end that "
				 "could be closed",
				 m->name);
	}
	(void)close(p[writer ? 0 : 1]);
	*ret_fd = p[writer ? 1 : 0];
	return 0;
}

static int external_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			    int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdExternal *m = msg;
	const struct ckpt_restore_opts *o = restore_opts(r);
	bool can_close = S_ISFIFO(m->mode) || (S_ISSOCK(m->mode) && m->family == AF_UNIX);

	for (size_t i = 0; i < o->n_inherit; i++)
		if (o->inherit[i].fd < 0 && !strcmp(o->inherit[i].name, m->name))
			return closed_end(m, obj->flags, ret_fd, err);
	if (o->plan_only) {
		*ret_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		return *ret_fd < 0 ? ckpt_fail_errno(err, E_RESTORE, -errno, "/dev/null") : 0;
	}
	(void)ckpt_fail(err, E_EXTERNAL, -EBADF, "%s is external, and nothing was handed over",
			m->name);
	return ckpt_remedy(err, "hand a descriptor over: ckpt restore --inherit-fd N:'%s'%s",
			   m->name,
			   can_close ? "; or let it find its other end closed: closed:NAME" : "");
}

static const char *external_called(const void *msg)
{
	return ((const Ckpt__FdExternal *)msg)->name;
}

/* Matches nothing by itself: the user says which. */
const struct fd_kind fd_kind_external = {
	.name = "external",
	.desc = &ckpt__fd_external__descriptor,
	.dump = external_dump,
	.restore = external_restore,
	.called = external_called,
};
