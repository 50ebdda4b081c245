// SPDX-License-Identifier: GPL-2.0-only
/*
 * IPv4 and IPv6: TCP sockets that are new, bound, listen, or whose connection is over; UDP sockets.
 * Connections that are alive are tcp.c's.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "kern/getfd.h"
#include "kind/fd/inet.h"
#include "kind/fd/kinds.h"
#include "kind/fd/sockopt.h"
#include "kind/fd/tcpwait.h"

#define RESET_WAIT_MS 5000
#define BACKLOG_WAIT_US 100000u
#define RECV_MAX (1 << 29)

static bool inet_match(const struct fd_facts *f)
{
	return (f->family == AF_INET || f->family == AF_INET6) && !(f->flags & O_PATH);
}

static int refuse(const struct fd_facts *f, enum ckpt_err_id id, struct ckpt_err *err,
		  const char *why)
{
	return ckpt_fail(err, id, -EOPNOTSUPP, "fd %d (inet %s): %s", f->fd, f->link, why);
}

static bool tcp_info(int fd, struct tcp_info *ret)
{
	socklen_t len = sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	return !getsockopt(fd, IPPROTO_TCP, TCP_INFO, ret, &len);
}

/* A program that accepts is given the time to: that is simpler than to do it in its name. */
static void backlog_await(int fd)
{
	uint64_t end = io_now_us() + BACKLOG_WAIT_US;
	struct tcp_info ti;

	while (tcp_info(fd, &ti) && ti.tcpi_unacked && io_now_us() < end)
		(void)usleep(1000);
}

static int tcp_check(struct dump_ctx *d, const struct fd_facts *f, int fd, struct ckpt_err *err)
{
	struct tcp_info ti;

	if (!tcp_info(fd, &ti))
		return refuse(f, E_UNSUPPORTED, err, "the kernel does not tell its state");
	if (ti.tcpi_state == TCP_LISTEN) {
		if (!ti.tcpi_unacked || dump_opts(d)->tcp == CKPT_TCP_CLOSE)
			return 0;
		if (dump_opts(d)->tcp == CKPT_TCP_KEEP) {
			if (f->local < 0)
				backlog_await(fd);
			return 0;
		}
		(void)ckpt_fail(err, E_TCP, -EOPNOTSUPP,
				"fd %d: %u established TCP connections wait to be accepted", f->fd,
				ti.tcpi_unacked);
		return ckpt_remedy(err,
				   "keep all connections or drop them: --tcp keep, --tcp close");
	}
	if (ti.tcpi_state == TCP_CLOSE)
		return 0;
	return ckpt_fail(err, E_TCP, -EAGAIN, "fd %d: its connection changes too fast", f->fd);
}

static int inet_check(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err)
{
	auto_fd own = f->local < 0 ? fd_take(f->pid, f->fd) : -1;
	int fd = f->local < 0 ? own : f->local;
	int protocol = f->protocol;
	int type = sockopt_get(fd, SOL_SOCKET, SO_TYPE);

	if (fd < 0)
		return 0; /* closed meanwhile */
	if (type == SOCK_STREAM && protocol == IPPROTO_TCP)
		return tcp_check(d, f, fd, err);
	if (type == SOCK_DGRAM && (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE))
		return 0;
	return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
			 "fd %d: a socket of type %d and IP protocol %d (raw, MPTCP, SCTP …)",
			 f->fd, type, protocol);
}

int inet_address_dump(int fd, int (*get)(int, struct sockaddr *, socklen_t *),
		      ProtobufCBinaryData *ret, struct ckpt_err *err)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	/* The port is at the same place in both families; without one there is no name. */
	if (get(fd, (void *)&ss, &len) || !((struct sockaddr_in *)&ss)->sin_port)
		return 0;
	ret->data = malloc(len);
	if (!ret->data)
		return ckpt_oom(err);
	memcpy(ret->data, &ss, len);
	ret->len = len;
	return 0;
}

/* Of a connection that is over: what the program has not read. */
static int unread_dump(int fd, size_t n, Ckpt__FdInet *m, struct ckpt_err *err)
{
	struct pollfd p = { .fd = fd };

	m->unread.data = malloc(n);
	if (!m->unread.data)
		return ckpt_oom(err);
	if (recv(fd, m->unread.data, n, MSG_PEEK | MSG_DONTWAIT) != (ssize_t)n)
		return ckpt_fail(err, E_TCP, -EOPNOTSUPP,
				 "urgent data of a TCP connection cannot be saved");
	m->unread.len = n;
	m->end_seen = !(poll(&p, 1, 0) > 0 && p.revents & POLLERR);
	return 0;
}

static int waiting_dump(struct dump_ctx *d, const struct fd_facts *f, unsigned int n,
			Ckpt__FdInet *m, struct ckpt_err *err)
{
	if (!n || dump_opts(d)->tcp != CKPT_TCP_KEEP)
		return 0;
	if (dump_net_takes_waiting(d, f->st.st_ino))
		return dump_net_waiting(d, f->local, m, err);
	ui_warn(dump_ui(d),
		"fd %d of task %d: %u connections wait to be accepted, they stay with the program "
		"and are not in the checkpoint",
		f->fd, f->pid, n);
	return 0;
}

static int tcp_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__FdInet *m,
		    struct ckpt_err *err)
{
	struct pollfd p = { .fd = f->local };
	struct tcp_info ti;
	int unread = 0;
	char c;

	if (!tcp_info(f->local, &ti))
		return refuse(f, E_KERNEL, err, "the kernel does not tell its state");
	m->listening = ti.tcpi_state == TCP_LISTEN;
	if (m->listening) {
		m->backlog = ti.tcpi_sacked;
		return waiting_dump(d, f, ti.tcpi_unacked, m, err);
	}
	m->ended = ti.tcpi_state != TCP_CLOSE;
	if (m->ended)
		return 0;
	if (!ioctl(f->local, FIONREAD, &unread) && unread > 0) {
		m->ended = true;
		return unread_dump(f->local, (size_t)unread, m, err);
	}
	/* Closed: never connected, or over. An error that waits says so, and must not be taken. */
	if (poll(&p, 1, 0) > 0 && p.revents & POLLERR) {
		m->ended = true;
	} else if (recv(f->local, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
		m->ended = true;
		m->end_seen = true;
	}
	return 0;
}

static int inet_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		     struct ckpt_err *err)
{
	Ckpt__FdInet *m = msg;
	int queued = 0, rc = 0;

	(void)obj;
	m->family = (uint32_t)f->family;
	m->type = (uint32_t)sockopt_get(f->local, SOL_SOCKET, SO_TYPE);
	m->protocol = (uint32_t)f->protocol;
	if (m->type == SOCK_STREAM)
		rc = tcp_dump(d, f, m, err);
	if (!rc && !m->ended)
		rc = inet_address_dump(f->local, getsockname, &m->name, err);
	if (!rc && m->type == SOCK_DGRAM) {
		rc = inet_address_dump(f->local, getpeername, &m->peer, err);
		if (!ioctl(f->local, FIONREAD, &queued) && queued)
			ui_warn(dump_ui(d), "fd %d of task %d: unread UDP datagrams are not kept",
				f->fd, f->pid);
	}
	return rc ? rc : sockopts_dump(d, f, &m->opts, err);
}

/* From one end of a connection on the loopback to the other. */
static int send_through(int peer, int fd, const ProtobufCBinaryData *b)
{
	int room = b->len > RECV_MAX ? RECV_MAX : (int)b->len * 2 + 65536;
	uint64_t end = io_now_us() + RESET_WAIT_MS * 1000u;
	int left = 1;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	(void)setsockopt(peer, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	for (size_t at = 0; at < b->len || left;) {
		ssize_t n = at < b->len ? send(peer, b->data + at, b->len - at,
					       MSG_DONTWAIT | MSG_NOSIGNAL)
					: 0;

		if ((n < 0 && errno != EAGAIN) || ioctl(peer, TIOCOUTQ, &left))
			return -errno;
		if (io_now_us() > end)
			return -ETIMEDOUT;
		at += n > 0 ? (size_t)n : 0;
		if (n <= 0 && left)
			(void)usleep(100);
	}
	return 0;
}

/* A connection that the peer has reset: the real thing, on the loopback. */
int inet_connection_over(int family, int fd, const ProtobufCBinaryData *unread)
{
	union {
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a = { .in.sin_family = (sa_family_t)family };
	socklen_t len = family == AF_INET ? sizeof(a.in) : sizeof(a.in6);
	auto_fd l = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	auto_fd peer = -1;
	struct linger now = { 1, 0 };
	struct pollfd p = { .fd = fd };
	int rc;

	if (family == AF_INET)
		a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		a.in6.sin6_addr = in6addr_loopback;
	if (l < 0 || bind(l, (void *)&a, len) || getsockname(l, (void *)&a, &len) || listen(l, 1) ||
	    connect(fd, (void *)&a, len))
		return -errno;
	peer = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	if (peer < 0 || setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now)))
		return -errno;
	rc = unread ? send_through(peer, fd, unread) : 0;
	if (rc)
		return rc;
	(void)close(take_fd(&peer));
	return poll(&p, 1, RESET_WAIT_MS) == 1 ? 0 : -ETIMEDOUT;
}

bool inet_diag_conn(const struct tcp_diag *t, struct netlock_conn *ret)
{
	struct sockaddr_storage local, remote;
	uint32_t local_len = tcp_diag_local(t, &local), remote_len = tcp_diag_remote(t, &remote);

	return netlock_conn_set(ret, &local, local_len, t->state == TCP_LISTEN ? NULL : &remote,
				remote_len);
}

void inet_address_print(const struct sockaddr_storage *ss, char *ret, size_t size)
{
	const struct sockaddr_in *in = (const void *)ss;
	const struct sockaddr_in6 *in6 = (const void *)ss;
	char host[INET6_ADDRSTRLEN] = "?";

	if (ss->ss_family == AF_INET6)
		(void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
	else
		(void)inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
	(void)snprintf(ret, size, ss->ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host,
		       ntohs(in->sin_port));
}

int inet_bind(int fd, const ProtobufCBinaryData *name, struct ckpt_err *err)
{
	struct sockaddr_storage ss = { 0 };
	char text[80];
	int rc;

	if (!name->len)
		return 0;
	if (name->len > sizeof(ss))
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "an address of %zu bytes",
				 name->len);
	memcpy(&ss, name->data, name->len);
	if (!bind(fd, (void *)&ss, (socklen_t)name->len))
		return 0;
	rc = -errno;
	inet_address_print(&ss, text, sizeof(text));
	(void)ckpt_fail_errno(err, E_RESTORE, rc, "cannot bind a socket to %s", text);
	if (rc == -EADDRNOTAVAIL)
		return ckpt_remedy(err, "give this machine the address: ip address add");
	return rc == -EADDRINUSE ? ckpt_remedy(err, "end the program that has it: ss -nap") : rc;
}

bool inet_is_here(const ProtobufCBinaryData *name)
{
	struct sockaddr_storage ss = { 0 };
	auto_fd fd = -1;

	if (name->len > sizeof(ss))
		return true;
	memcpy(&ss, name->data, name->len);
	((struct sockaddr_in *)&ss)->sin_port = 0; /* at the same place in both */
	fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd < 0 || !bind(fd, (void *)&ss, (socklen_t)name->len) || errno != EADDRNOTAVAIL;
}

bool inet_borrow(struct restore_ctx *r, int fd, const ProtobufCBinaryData *name)
{
	int one = 1;

	if (!restore_opts(r)->addresses_later || !name->len || inet_is_here(name) ||
	    sockopt_get(fd, IPPROTO_IP, IP_TRANSPARENT) == 1)
		return false;
	return !setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &one, sizeof(one));
}

void inet_return(int fd)
{
	int zero = 0;

	(void)setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &zero, sizeof(zero));
}

static int inet_make(struct restore_ctx *r, const Ckpt__FdInet *m, int fd, struct ckpt_err *err)
{
	bool borrowed = false;
	int one = 1, rc;

	if (m->family != AF_INET && m->family != AF_INET6)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "socket family %u", m->family);
	rc = tcp_wait_check(m, err);
	if (rc)
		return rc;
	/* Several sockets may share a port; what they want of that themselves is set at the end. */
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	rc = sockopts_restore(fd, m->opts, SOCKOPT_EARLY, err);
	if (!rc) {
		borrowed = inet_borrow(r, fd, &m->name);
		rc = inet_bind(fd, &m->name, err);
	}
	if (!rc && m->listening && listen(fd, (int)m->backlog))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "cannot listen on a socket");
	if (!rc && m->peer.len > sizeof(struct sockaddr_storage))
		rc = ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "an address of %zu bytes",
			       m->peer.len);
	if (!rc && m->peer.len && connect(fd, (void *)m->peer.data, (socklen_t)m->peer.len))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "cannot connect a UDP socket");
	if (borrowed)
		inet_return(fd);
	return rc;
}

static int inet_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdInet *m = msg;
	auto_fd fd = socket((int)m->family, (int)m->type | SOCK_CLOEXEC, (int)m->protocol);
	int rc;

	(void)obj;
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make a socket of family %u",
				       m->family);
	if (restore_opts(r)->plan_only) { /* no port is taken for a look at the plan */
		*ret_fd = take_fd(&fd);
		return 0;
	}
	if (m->ended) {
		rc = inet_connection_over((int)m->family, fd, &m->unread);
		if (rc)
			/* No loopback here: a socket that is not connected is the next best. */
			ui_note(restore_ui(r), 1,
				"a connection that is over becomes a new socket: %s",
				strerror(-rc));
		if (m->end_seen)
			(void)sockopt_get(fd, SOL_SOCKET, SO_ERROR);
	}
	rc = inet_make(r, m, fd, err);
	if (!rc)
		*ret_fd = take_fd(&fd);
	return rc;
}

static int inet_finish(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int fd,
		       struct ckpt_err *err)
{
	const Ckpt__FdInet *m = msg;
	int zero = 0;

	(void)r;
	(void)obj;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &zero, sizeof(zero));
	return sockopts_restore(fd, m->opts, SOCKOPT_LATE, err);
}

static size_t inet_arrive(const Ckpt__Object *obj, const void *msg, int fd)
{
	const Ckpt__FdInet *m = msg;

	(void)obj;
	(void)fd;
	return tcp_wait_put(m->waiting, m->n_waiting);
}

static enum fd_lock inet_lock(const void *msg, struct netlock_conn *ret)
{
	const Ckpt__FdInet *m = msg;

	if (!m->listening || !netlock_conn_set(ret, m->name.data, m->name.len, NULL, 0))
		return FD_LOCK_NONE;
	return m->n_waiting ? FD_LOCK_ALIVE : FD_LOCK_IDLE;
}

const struct fd_kind fd_kind_inet = {
	.name = "inet",
	.desc = &ckpt__fd_inet__descriptor,
	.match = inet_match,
	.check = inet_check,
	.dump = inet_dump,
	.restore = inet_restore,
	.finish = inet_finish,
	.arrive = inet_arrive,
	.lock = inet_lock,
};
