// SPDX-License-Identifier: GPL-2.0-only
/*
 * TCP connections. They are refused, or ended at the restore as if the peer had reset them (--tcp
 * close), or kept: then the socket of the restore goes on where the old one was stopped, and the
 * peer sees no more than a pause. tcprepair.h reads and makes them, the network lock of the dump
 * and of the restore sees to it that nothing moves meanwhile.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "kern/getfd.h"
#include "kind/fd/inet.h"
#include "kind/fd/kinds.h"
#include "kind/fd/sockopt.h"
#include "kind/fd/tcprepair.h"

/* Newer than the headers of Debian 12 */
#define OPT_TCP_AO_INFO 40

static bool tcp_match(const struct fd_facts *f)
{
	return f->tcp_state > 0 && f->tcp_state != TCP_CLOSE && f->tcp_state != TCP_LISTEN &&
	       !(f->flags & O_PATH);
}

static int refuse(const struct fd_facts *f, struct ckpt_err *err, const char *why)
{
	return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "fd %d: a TCP connection %s", f->fd, why);
}

/* What is more than a stream of bytes between two ends. */
static int extras_check(const struct fd_facts *f, int fd, struct ckpt_err *err)
{
	char ulp[16] = "";
	uint8_t ao[256] = { 0 };
	socklen_t len = sizeof(ulp);

	if (!getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len) && len && ulp[0])
		return refuse(f, err, "with TLS or another protocol inside the kernel");
	len = sizeof(ao);
	if (!getsockopt(fd, IPPROTO_TCP, OPT_TCP_AO_INFO, ao, &len))
		return refuse(f, err, "that is authenticated by TCP-AO");
	return 0;
}

static int tcp_check(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err)
{
	bool dropped = dump_opts(d)->tcp == CKPT_TCP_CLOSE;
	auto_fd own = f->local < 0 && !dropped ? fd_take(f->pid, f->fd) : -1;
	int fd = f->local < 0 ? own : f->local;
	struct sockaddr_storage peer = { 0 };
	socklen_t len = sizeof(peer);
	char text[80] = "?";

	if (fd < 0 || dropped)
		return 0;
	if (!getpeername(fd, (void *)&peer, &len))
		inet_address_print(&peer, text, sizeof(text));
	if (dump_opts(d)->tcp == CKPT_TCP_REFUSE)
		return ckpt_fail(err, E_TCP, -EOPNOTSUPP,
				 "fd %d: an established TCP connection to %s", f->fd, text);
	if (tcp_state(fd) == TCP_SYN_RECV) {
		(void)ckpt_fail(err, E_TCP, f->local < 0 ? -EOPNOTSUPP : -EAGAIN,
				"fd %d: the connection with %s is being made", f->fd, text);
		return ckpt_remedy(err, "repeat in a moment");
	}
	return extras_check(f, fd, err);
}

static int syn_sent_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__FdTcp *m,
			 struct ckpt_err *err)
{
	struct sockaddr_storage ss;
	uint32_t len = dump_net_peer(d, f->st.st_ino, &ss);

	if (!len)
		return ckpt_fail(err, E_TCP, -EAGAIN, "nobody knows where it connects to");
	m->peer.data = malloc(len);
	if (!m->peer.data)
		return ckpt_oom(err);
	memcpy(m->peer.data, &ss, len);
	m->peer.len = len;
	return 0;
}

static int kept_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__FdTcp *m,
		     struct ckpt_err *err)
{
	int rc = inet_address_dump(f->local, getsockname, &m->name, err);

	if (!rc)
		rc = dump_net_conn(d, f->local, err);
	if (rc)
		return rc;
	if (m->state == TCP_SYN_SENT)
		return syn_sent_dump(d, f, m, err);
	return inet_address_dump(f->local, getpeername, &m->peer, err);
}

static int tcp_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		    struct ckpt_err *err)
{
	Ckpt__FdTcp *m = msg;
	int rc = 0;

	(void)obj;
	m->family = (uint32_t)f->family;
	m->state = f->view ? (uint32_t)f->view->state : (uint32_t)tcp_state(f->local);
	m->dropped = dump_opts(d)->tcp == CKPT_TCP_CLOSE;
	if (m->state == TCP_CLOSE && !m->dropped)
		return ckpt_fail(err, E_TCP, -EAGAIN, "the connection ended during the dump");
	if (!m->dropped)
		rc = kept_dump(d, f, m, err);
	return rc ? rc : sockopts_dump(d, f, &m->opts, err);
}

static int tcp_dump_together(const struct fd_dumped *v, size_t n, size_t *ret_at,
			     struct ckpt_err *err)
{
	struct tcp_conn *c = calloc(n, sizeof(*c));
	size_t kept = 0, at = 0;
	int rc;

	if (!c)
		return ckpt_oom(err);
	for (size_t i = 0; i < n; i++) {
		Ckpt__FdTcp *m = v[i].msg;

		if (!m->dropped && m->state != TCP_SYN_SENT)
			c[kept++] = (struct tcp_conn) { .fd = v[i].local, .m = m };
	}
	rc = tcp_capture_all(c, kept, &at, err);
	for (size_t i = 0; rc && i < n; i++)
		if (v[i].local == c[at].fd)
			*ret_at = i;
	free(c);
	return rc;
}

static int kept_restore(struct restore_ctx *r, const Ckpt__FdTcp *m, int fd, struct ckpt_err *err)
{
	bool borrowed, early = restore_opts(r)->addresses_later && !inet_is_here(&m->name);
	int one = 1, rc;

	if (m->peer.len > sizeof(struct sockaddr_storage) || !m->peer.len || !m->name.len)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
				 "a TCP connection without an address");
	/* In repair mode a port may be taken by many. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &one, sizeof(one)))
		return ckpt_fail_errno(err, E_KERNEL, -errno,
				       "this kernel does not restore TCP connections");
	borrowed = inet_borrow(r, fd, &m->name);
	rc = inet_bind(fd, &m->name, err);
	if (!rc && m->state != TCP_SYN_SENT)
		rc = tcp_rebuild(fd, m, early, err);
	if (borrowed)
		inet_return(fd);
	return rc;
}

static int tcp_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int *ret_fd,
		       struct ckpt_err *err)
{
	const Ckpt__FdTcp *m = msg;
	auto_fd fd = -1;
	int rc = 0;

	(void)obj;
	if (m->family != AF_INET && m->family != AF_INET6)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "socket family %u", m->family);
	fd = socket((int)m->family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make a socket of family %u",
				       m->family);
	if (!restore_opts(r)->plan_only) {
		rc = m->dropped ? inet_connection_over((int)m->family, fd, NULL) : 0;
		if (rc)
			/* No loopback here: a socket that is not connected is the next best. */
			ui_note(restore_ui(r), 1,
				"a connection that is over becomes a new socket: %s",
				strerror(-rc));
		rc = sockopts_restore(fd, m->opts, SOCKOPT_EARLY, err);
		if (!rc && !m->dropped)
			rc = kept_restore(r, m, fd, err);
	}
	if (!rc)
		*ret_fd = take_fd(&fd);
	return rc;
}

static int tcp_finish(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int fd,
		      struct ckpt_err *err)
{
	const Ckpt__FdTcp *m = msg;

	(void)r;
	(void)obj;
	return sockopts_restore(fd, m->opts, SOCKOPT_LATE, err);
}

/* What is being connected begins anew: the peer has heard nothing that it would miss. */
static void connect_again(const Ckpt__FdTcp *m, int fd)
{
	int flags = fcntl(fd, F_GETFL), off = -1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off));
	(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	(void)connect(fd, (void *)m->peer.data, (socklen_t)m->peer.len);
	(void)fcntl(fd, F_SETFL, flags);
}

static size_t tcp_come(const Ckpt__Object *obj, const void *msg, int fd)
{
	const Ckpt__FdTcp *m = msg;

	(void)obj;
	return !m->dropped && m->state != TCP_SYN_SENT && tcp_arrive(fd, m);
}

static void tcp_release(const Ckpt__Object *obj, const void *msg, int fd)
{
	const Ckpt__FdTcp *m = msg;

	(void)obj;
	if (m->dropped)
		return;
	if (m->state == TCP_SYN_SENT)
		connect_again(m, fd);
	else
		tcp_go(fd, m);
	/* Repair mode has a hand in it. */
	for (size_t i = 0; i < m->opts->n_opts; i++) {
		const Ckpt__SockOpt *o = m->opts->opts[i];

		if (o->level == SOL_SOCKET && o->name == SO_REUSEADDR)
			(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, o->value.data,
					 (socklen_t)o->value.len);
	}
}

static enum fd_lock tcp_lock(const void *msg, struct netlock_conn *ret)
{
	const Ckpt__FdTcp *m = msg;

	return !m->dropped && netlock_conn_set(ret, m->name.data, m->name.len, m->peer.data,
					       m->peer.len)
		       ? FD_LOCK_ALIVE
		       : FD_LOCK_NONE;
}

const struct fd_kind fd_kind_tcp = {
	.name = "tcp",
	.desc = &ckpt__fd_tcp__descriptor,
	.match = tcp_match,
	.check = tcp_check,
	.dump = tcp_dump,
	.dump_together = tcp_dump_together,
	.restore = tcp_restore,
	.finish = tcp_finish,
	.arrive = tcp_come,
	.release = tcp_release,
	.lock = tcp_lock,
};
