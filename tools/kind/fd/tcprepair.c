// SPDX-License-Identifier: GPL-2.0-only
#include "kind/fd/tcprepair.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <linux/socket.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "kern/getfd.h"
#include "kern/guard.h"
#include "kern/tcpraw.h"
#include "kind/fd/sockopt.h"

/* Part of a segment at the head of the queue may be acknowledged already. */
#define SEGMENT_MAX (64u << 10)
#define QUEUE_MAX (1u << 30)
#define TRIES 100
#define STATE_WAIT_US 2000000u

static const struct {
	bool sent, received; /* a FIN */
	bool acked;          /* the one that was sent */
	bool known;
} states[] = {
	[TCP_ESTABLISHED] = { .known = true },
	[TCP_FIN_WAIT1] = { .sent = true, .known = true },
	[TCP_FIN_WAIT2] = { .sent = true, .acked = true, .known = true },
	[TCP_CLOSE_WAIT] = { .received = true, .known = true },
	[TCP_LAST_ACK] = { .sent = true, .received = true, .known = true },
	[TCP_CLOSING] = { .sent = true, .received = true, .known = true },
};

int tcp_set(int fd, int name, int v)
{
	return setsockopt(fd, IPPROTO_TCP, name, &v, sizeof(v)) ? -errno : 0;
}

int tcp_set_numbers(int fd, uint32_t send, uint32_t receive)
{
	int rc = tcp_set(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);

	if (!rc)
		rc = tcp_set(fd, TCP_QUEUE_SEQ, (int)receive);
	if (!rc)
		rc = tcp_set(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
	return rc ? rc : tcp_set(fd, TCP_QUEUE_SEQ, (int)send);
}

static int get(int fd, int name, uint32_t *ret)
{
	socklen_t len = sizeof(*ret);

	return getsockopt(fd, IPPROTO_TCP, name, ret, &len) ? -errno : 0;
}

int tcp_state(int fd)
{
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) ? -1 : ti.tcpi_state;
}

/* ---- reading ---------------------------------------------------------------------------- */

struct capture {
	int fd;
	Ckpt__FdTcp *m;
	int reuse, peek_off; /* as they were: repair mode has a hand in the one, and so have we */
	int rc;
	const char *what; /* failed */
};

struct captures {
	struct capture *v;
	size_t n, at; /* the one at hand, or that failed */
};

/* What moves when a packet comes or goes. */
struct marks {
	uint32_t send_seq, recv_seq;
	int state, outq, unsent, inq;
};

static int marks_read(int fd, struct marks *ret)
{
	int rc;

	memset(ret, 0, sizeof(*ret));
	rc = tcp_set(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
	if (!rc)
		rc = get(fd, TCP_QUEUE_SEQ, &ret->send_seq);
	if (!rc)
		rc = tcp_set(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
	if (!rc)
		rc = get(fd, TCP_QUEUE_SEQ, &ret->recv_seq);
	if (!rc && (ioctl(fd, SIOCOUTQ, &ret->outq) || ioctl(fd, SIOCOUTQNSD, &ret->unsent) ||
		    ioctl(fd, SIOCINQ, &ret->inq)))
		rc = -errno;
	ret->state = tcp_state(fd);
	if (ret->outq < 0 || ret->unsent < 0 || ret->inq < 0 || ret->unsent > ret->outq)
		rc = rc ? rc : -EPROTO;
	return rc;
}

static int bytes_set(ProtobufCBinaryData *b, const char *data, size_t len)
{
	free(b->data);
	b->len = 0;
	b->data = malloc(len + 1);
	if (!b->data)
		return -ENOMEM;
	memcpy(b->data, data, len);
	b->len = len;
	return 0;
}

/* The last @want bytes of a queue. */
static int queue_peek(int fd, int queue, size_t want, char **ret_buf, const char **ret)
{
	size_t room = want + SEGMENT_MAX;
	ssize_t n;
	int rc;

	*ret = *ret_buf = malloc(room);
	if (!*ret_buf)
		return -ENOMEM;
	if (!want)
		return 0;
	rc = tcp_set(fd, TCP_REPAIR_QUEUE, queue);
	if (rc)
		return rc;
	n = recv(fd, *ret_buf, room, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	if ((size_t)n < want || (queue == TCP_RECV_QUEUE && (size_t)n != want))
		return -EAGAIN;
	*ret = *ret_buf + ((size_t)n - want);
	return 0;
}

static int queues_read(struct capture *c, const struct marks *m)
{
	auto_free char *out_buf = NULL;
	auto_free char *in_buf = NULL;
	bool fin = states[m->state].sent && !states[m->state].acked && m->outq;
	size_t total = (size_t)(m->outq - fin);
	size_t unsent = m->unsent ? (size_t)(m->unsent - fin) : 0;
	const char *out, *in;
	int rc = queue_peek(c->fd, TCP_SEND_QUEUE, total, &out_buf, &out);

	c->what = "what it has to send";
	if (!rc)
		rc = bytes_set(&c->m->unacked, out, total - unsent);
	if (!rc)
		rc = bytes_set(&c->m->unsent, out + total - unsent, unsent);
	c->m->fin_unsent = fin && m->unsent;
	if (rc)
		return rc;
	c->what = "what it has received";
	rc = queue_peek(c->fd, TCP_RECV_QUEUE, (size_t)m->inq, &in_buf, &in);
	return rc ? rc : bytes_set(&c->m->unread, in, (size_t)m->inq);
}

static int options_read(struct capture *c)
{
	struct tcp_info ti = { 0 };
	struct tcp_repair_window w;
	socklen_t len = sizeof(ti);
	Ckpt__FdTcp *m = c->m;
	int rc;

	c->what = "its options";
	if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &ti, &len))
		return -errno;
	m->scaled = ti.tcpi_options & TCPI_OPT_WSCALE;
	m->send_scale = ti.tcpi_snd_wscale;
	m->recv_scale = ti.tcpi_rcv_wscale;
	m->sack = ti.tcpi_options & TCPI_OPT_SACK;
	m->timestamps = ti.tcpi_options & TCPI_OPT_TIMESTAMPS;
	rc = get(c->fd, TCP_MAXSEG, &m->mss);
	if (!rc)
		rc = get(c->fd, TCP_TIMESTAMP, &m->timestamp);
	len = sizeof(w);
	if (!rc && getsockopt(c->fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, &len))
		rc = -errno;
	m->send_window_seq = w.snd_wl1;
	m->send_window = w.snd_wnd;
	m->max_window = w.max_window;
	m->recv_window = w.rcv_wnd;
	m->recv_window_seq = w.rcv_wup;
	return rc;
}

static int capture_once(struct capture *c)
{
	struct marks before, after;
	int rc = marks_read(c->fd, &before);

	c->what = "its queues";
	if (rc)
		return rc;
	if (before.state < 0 || (size_t)before.state >= sizeof(states) / sizeof(states[0]) ||
	    !states[before.state].known)
		return -ESTALE; /* it ended while we looked */
	rc = queues_read(c, &before);
	if (!rc)
		rc = options_read(c);
	if (!rc)
		rc = marks_read(c->fd, &after);
	if (rc)
		return rc;
	c->m->state = (uint32_t)before.state;
	c->m->send_seq = before.send_seq;
	c->m->recv_seq = before.recv_seq;
	/* The lock drops what comes, but not what was on its way through the kernel. */
	return memcmp(&before, &after, sizeof(before)) ? -EAGAIN : 0;
}

static void capture_end(const struct capture *c)
{
	if (c->peek_off >= 0)
		(void)setsockopt(c->fd, SOL_SOCKET, SO_PEEK_OFF, &c->peek_off, sizeof(c->peek_off));
	(void)tcp_set(c->fd, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
	(void)tcp_set(c->fd, TCP_REPAIR, REPAIR_OFF_NO_PROBE);
	(void)setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &c->reuse, sizeof(c->reuse));
}

static int capture_one(struct capture *c)
{
	int none = -1;

	c->what = "its repair mode";
	c->rc = tcp_set(c->fd, TCP_REPAIR, REPAIR_ON);
	if (c->rc)
		return c->rc;
	(void)ckpt_fault("tcp.repair");
	if (c->peek_off >= 0)
		(void)setsockopt(c->fd, SOL_SOCKET, SO_PEEK_OFF, &none, sizeof(none));
	for (int i = 0; i < TRIES; i++) {
		c->rc = capture_once(c);
		if (c->rc != -EAGAIN)
			break;
	}
	capture_end(c);
	return c->rc;
}

static int capture_guarded(void *arg)
{
	struct captures *all = arg;

	while (all->at < all->n && !capture_one(&all->v[all->at]))
		all->at++;
	return 0;
}

static int capture_all(struct captures *all, struct ckpt_err *err)
{
	int rc = guard_run(capture_guarded, all);
	struct capture *c = &all->v[all->at];

	if (all->at == all->n)
		return 0;
	if (rc) { /* there was no helper, or somebody killed it */
		capture_end(c);
		return ckpt_fail_errno(err, E_KERNEL, rc, "cannot read %s", c->what);
	}
	return c->rc == -EAGAIN ? ckpt_fail(err, E_TCP, -EOPNOTSUPP,
					    "urgent data of a TCP connection cannot be saved")
				: ckpt_fail_errno(err, E_KERNEL, c->rc, "cannot read %s", c->what);
}

int tcp_capture_all(const struct tcp_conn *v, size_t n, size_t *ret_at, struct ckpt_err *err)
{
	struct captures all = { .v = calloc(n + 1, sizeof(*all.v)), .n = n };
	int rc;

	if (!all.v)
		return ckpt_oom(err);
	for (size_t i = 0; i < n; i++)
		all.v[i] = (struct capture) {
			.fd = v[i].fd,
			.m = v[i].m,
			.reuse = sockopt_get(v[i].fd, SOL_SOCKET, SO_REUSEADDR),
			.peek_off = sockopt_get(v[i].fd, SOL_SOCKET, SO_PEEK_OFF),
			.what = "anything of it",
		};
	rc = n ? capture_all(&all, err) : 0;
	*ret_at = all.at;
	free(all.v);
	for (size_t i = 0; !rc && i < n; i++) {
		struct pollfd p = { .fd = v[i].fd, .events = POLLRDHUP };
		Ckpt__FdTcp *m = v[i].m;

		m->sndbuf = (uint32_t)sockopt_get(p.fd, SOL_SOCKET, SO_SNDBUF);
		m->rcvbuf = (uint32_t)sockopt_get(p.fd, SOL_SOCKET, SO_RCVBUF);
		m->read_shut =
			!states[m->state].received && poll(&p, 1, 0) == 1 && p.revents & POLLRDHUP;
	}
	return rc;
}

int tcp_capture(int fd, Ckpt__FdTcp *m, struct ckpt_err *err)
{
	const struct tcp_conn c = { .fd = fd, .m = m };
	size_t at;

	return tcp_capture_all(&c, 1, &at, err);
}

/* ---- making ----------------------------------------------------------------------------- */

static int fail(struct ckpt_err *err, int rc, const char *what)
{
	return ckpt_fail_errno(err, E_RESTORE, rc, "a TCP connection: cannot %s", what);
}

static int fill(int fd, int queue, const ProtobufCBinaryData *b)
{
	int rc = tcp_set(fd, TCP_REPAIR_QUEUE, queue);

	for (size_t at = 0; !rc && at < b->len;) {
		size_t n = b->len - at < SEGMENT_MAX ? b->len - at : SEGMENT_MAX;
		ssize_t done = send(fd, b->data + at, n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (done < 0)
			rc = -errno;
		else
			at += (size_t)done;
	}
	return rc;
}

/* Bytes of a buffer; the kernel doubles what it is given. */
static void buffer_set(int fd, int name, size_t bytes)
{
	int n = bytes / 2 > QUEUE_MAX ? (int)QUEUE_MAX : (int)(bytes / 2);

	(void)setsockopt(fd, SOL_SOCKET, name, &n, sizeof(n));
}

static uint32_t buffer_lock(const Ckpt__FdTcp *m)
{
	return m->opts ? m->opts->buf_lock : 0;
}

/* The send buffer as it was, and both free to grow unless the program fixed them. */
static void send_final(int fd, const Ckpt__FdTcp *m)
{
	uint32_t lock = buffer_lock(m);

	buffer_set(fd, SO_SNDBUFFORCE, m->sndbuf);
	(void)setsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &lock, sizeof(lock));
}

static int options_write(int fd, const Ckpt__FdTcp *m)
{
	struct tcp_repair_opt o[4] = { { TCPOPT_MAXSEG, m->mss } };
	size_t n = 1;

	if (m->scaled)
		o[n++] = (struct tcp_repair_opt) { TCPOPT_WINDOW,
						   m->send_scale | m->recv_scale << 16 };
	if (m->sack)
		o[n++] = (struct tcp_repair_opt) { TCPOPT_SACK_PERMITTED, 0 };
	if (m->timestamps)
		o[n++] = (struct tcp_repair_opt) { TCPOPT_TIMESTAMP, 0 };
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, o, (socklen_t)(n * sizeof(*o))))
		return -errno;
	return m->timestamps ? tcp_set(fd, TCP_TIMESTAMP, (int)m->timestamp) : 0;
}

/*
 * What the peer said of its window while nobody was here is lost, and it may have said it in a
 * segment that was in order before others: it must be able to say it again. A window of nothing is
 * looked at by a byte of data, whose acknowledgement counts whatever the order.
 */
static int window_write(int fd, const Ckpt__FdTcp *m)
{
	struct tcp_repair_window w = { m->send_window_seq, m->send_window, m->max_window,
				       m->recv_window, m->recv_window_seq };

	if ((int32_t)(w.snd_wl1 - m->recv_seq) > 0)
		w.snd_wl1 = m->recv_seq;
	if (!w.snd_wnd && w.max_window)
		w.snd_wnd = 1;
	return setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w)) ? -errno : 0;
}

/*
 * Before anything can come: in a buffer with more room the peer would be let send more than the
 * program's takes, and when that is full the kernel closes the window behind what is on its way
 * already. Then nothing that the peer says is in its window any more, and it is never heard again.
 * What was received may take more memory than before; the peer may send what it was promised all
 * the same.
 */
static int receive_final(int fd, const Ckpt__FdTcp *m)
{
	uint32_t mem[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(mem);
	size_t need = 0;

	if (!(buffer_lock(m) & SOCK_RCVBUF_LOCK) &&
	    !getsockopt(fd, SOL_SOCKET, SO_MEMINFO, mem, &len))
		need = mem[SK_MEMINFO_RMEM_ALLOC] + 2 * (size_t)m->recv_window;
	buffer_set(fd, SO_RCVBUFFORCE, need > m->rcvbuf ? need : m->rcvbuf);
	return window_write(fd, m);
}

static int state_await(int fd, int state)
{
	uint64_t end = io_now_us() + STATE_WAIT_US;

	while (tcp_state(fd) != state) {
		if (io_now_us() > end)
			return -ETIMEDOUT;
		(void)usleep(100);
	}
	return 0;
}

/* First byte that the peer has not acknowledged. */
static uint32_t send_una(const Ckpt__FdTcp *m)
{
	return m->send_seq - (uint32_t)m->unacked.len - (uint32_t)m->unsent.len -
	       (states[m->state].sent && !states[m->state].acked);
}

static int peer_says(int fd, const Ckpt__FdTcp *m, uint8_t flags, int state)
{
	struct tcpraw_seg seg = { .seq = m->recv_seq - !!(flags & TCPRAW_FIN),
				  .ack = send_una(m),
				  .window = (uint16_t)(m->send_window >> m->send_scale),
				  .flags = flags | TCPRAW_ACK };
	struct netlock_conn c;
	int rc;

	if (!netlock_conn_set(&c, m->name.data, m->name.len, m->peer.data, m->peer.len))
		return -EBADMSG;
	rc = tcpraw_send(&c, &seg);
	return rc ? rc : state_await(fd, state);
}

static int we_end(int fd)
{
	int rc = tcp_set(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);

	return rc ? rc : shutdown(fd, SHUT_WR) ? -errno : 0;
}

/* From an established connection to one half of which is closed, by the way it went. */
static int state_reach(int fd, const Ckpt__FdTcp *m)
{
	bool late = m->fin_unsent; /* our FIN comes in tcp_go() */
	int rc = 0;

	switch (m->state) {
	case TCP_FIN_WAIT1:
		return late ? 0 : we_end(fd);
	case TCP_FIN_WAIT2:
		rc = we_end(fd);
		return rc ? rc : peer_says(fd, m, 0, TCP_FIN_WAIT2);
	case TCP_CLOSE_WAIT:
		return peer_says(fd, m, TCPRAW_FIN, TCP_CLOSE_WAIT);
	case TCP_LAST_ACK:
		rc = peer_says(fd, m, TCPRAW_FIN, TCP_CLOSE_WAIT);
		return rc || late ? rc : we_end(fd);
	case TCP_CLOSING:
		if (!late)
			rc = we_end(fd);
		return rc ? rc : peer_says(fd, m, TCPRAW_FIN, late ? TCP_CLOSE_WAIT : TCP_CLOSING);
	default:
		return 0;
	}
}

static int connect_again(int fd, const Ckpt__FdTcp *m, struct ckpt_err *err)
{
	uint32_t first_read = m->recv_seq - (uint32_t)m->unread.len - states[m->state].received;
	uint32_t first_sent = m->send_seq - (uint32_t)m->unacked.len - (uint32_t)m->unsent.len -
			      states[m->state].sent;
	int rc = tcp_set_numbers(fd, first_sent, first_read);

	if (rc)
		return fail(err, rc, "set its sequence numbers");
	if (connect(fd, (void *)m->peer.data, (socklen_t)m->peer.len)) {
		rc = -errno;
		(void)fail(err, rc, "take it up");
		return rc == -EADDRNOTAVAIL
			       ? ckpt_remedy(err, "end the program that has it: ss -nap")
			       : rc;
	}
	return 0;
}

int tcp_rebuild(int fd, const Ckpt__FdTcp *m, bool early, struct ckpt_err *err)
{
	int rc;

	if (m->state >= sizeof(states) / sizeof(states[0]) || !states[m->state].known ||
	    m->send_scale > 14 || m->recv_scale > 14)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "a connection in state %u",
				 m->state);
	buffer_set(fd, SO_SNDBUFFORCE,
		   m->sndbuf + 4 * (m->unacked.len + m->unsent.len) + (1u << 20));
	buffer_set(fd, SO_RCVBUFFORCE, m->rcvbuf + 4 * m->unread.len + (1u << 20));
	rc = connect_again(fd, m, err);
	if (rc)
		return rc;
	rc = options_write(fd, m);
	if (rc)
		return fail(err, rc, "set its options");
	rc = fill(fd, TCP_RECV_QUEUE, &m->unread);
	if (rc)
		return fail(err, rc, "put back what it has received");
	rc = fill(fd, TCP_SEND_QUEUE, &m->unacked);
	if (rc)
		return fail(err, rc, "put back what it has sent");
	/* The window counts a FIN that has not come yet. */
	if (early && m->state != TCP_ESTABLISHED)
		return 0;
	rc = state_reach(fd, m);
	if (rc)
		return fail(err, rc, "bring it into its state");
	rc = receive_final(fd, m);
	if (rc)
		return fail(err, rc, "set its window");
	return 0;
}

int tcp_arrive(int fd, const Ckpt__FdTcp *m)
{
	int rc;

	if (m->state == TCP_ESTABLISHED || tcp_state(fd) != TCP_ESTABLISHED)
		return 0;
	rc = state_reach(fd, m);
	return rc ? rc : receive_final(fd, m);
}

void tcp_go(int fd, const Ckpt__FdTcp *m)
{
	(void)tcp_set(fd, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
	(void)tcp_set(fd, TCP_REPAIR, REPAIR_OFF);
	for (size_t at = 0; at < m->unsent.len;) {
		ssize_t n = send(fd, m->unsent.data + at, m->unsent.len - at,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n <= 0)
			break; /* the peer has ended it meanwhile */
		at += (size_t)n;
	}
	if (m->fin_unsent)
		(void)shutdown(fd, SHUT_WR);
	if (m->read_shut)
		(void)shutdown(fd, SHUT_RD);
	send_final(fd, m);
}

static void each_connection(int pid, void (*fn)(int fd))
{
	char path[64], link[64];
	auto_dir DIR *dir = NULL;
	struct dirent *e;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link));
		auto_fd fd = -1;

		if (n < 8 || memcmp(link, "socket:[", 8) != 0)
			continue;
		fd = fd_take(pid, atoi(e->d_name));
		if (fd >= 0 && sockopt_get(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP &&
		    tcp_state(fd) != TCP_LISTEN)
			fn(fd);
	}
}

static void silence(int fd)
{
	(void)tcp_set(fd, TCP_REPAIR, REPAIR_ON);
}

void tcp_silence_task(int pid)
{
	each_connection(pid, silence);
}

static void reset(int fd)
{
	const struct sockaddr none = { .sa_family = AF_UNSPEC };

	if (sockopt_get(fd, IPPROTO_TCP, TCP_REPAIR) != REPAIR_ON)
		return;
	(void)tcp_set(fd, TCP_REPAIR, REPAIR_OFF_NO_PROBE);
	/* The peer is told, and the program finds ECONNRESET. */
	(void)connect(fd, &none, sizeof(none));
}

void tcp_reset_task(int pid)
{
	each_connection(pid, reset);
}
