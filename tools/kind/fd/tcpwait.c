// SPDX-License-Identifier: GPL-2.0-only
#include "kind/fd/tcpwait.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "kern/guard.h"
#include "kern/sockdiag.h"
#include "kern/tcpraw.h"
#include "kind/fd/inet.h"
#include "kind/fd/sockopt.h"
#include "kind/fd/tcprepair.h"

/* From the last number of a connection in TIME_WAIT to the first of its successor. */
#define TIME_WAIT_STEP 65537u
/* The connection before is over by so much of what the peer sends. */
#define BEFORE 4096u
#define SMALL_DATA 1200u
#define WINDOW 65535u
#define WAIT_US 1000000u

struct waiting {
	int fd;
	Ckpt__FdTcp *m;
};

struct tcp_wait {
	struct {
		struct waiting *v;
		size_t n, cap;
	} all;
	struct heir heir;
	bool taking, elsewhere;
};

/* ---- out of the backlog ------------------------------------------------------------------ */

struct take {
	struct tcp_wait *w;
	int listener;
	size_t first; /* of those taken now */
	int rc;
	struct ckpt_err err;
};

static int address_put(ProtobufCBinaryData *b, const void *addr, socklen_t len)
{
	b->data = malloc(len);
	if (!b->data)
		return -ENOMEM;
	memcpy(b->data, addr, len);
	b->len = len;
	return 0;
}

/* Its peer has reset it: what came before can still be read. */
static int reset_capture(const struct waiting *s)
{
	int n = 0;

	s->m->state = TCP_CLOSE;
	s->m->mss = 1460;
	if (ioctl(s->fd, FIONREAD, &n) || n <= 0)
		return 0;
	s->m->unread.data = malloc((size_t)n);
	if (!s->m->unread.data)
		return -ENOMEM;
	if (recv(s->fd, s->m->unread.data, (size_t)n, MSG_PEEK | MSG_DONTWAIT) == n)
		s->m->unread.len = (size_t)n;
	return 0;
}

static int capture(struct take *t, const struct waiting *s)
{
	int rc = 0;

	if (tcp_state(s->fd) != TCP_CLOSE) {
		rc = tcp_capture(s->fd, s->m, &t->err);
		(void)tcp_set(s->fd, TCP_REPAIR, REPAIR_ON);
		if (!rc || tcp_state(s->fd) != TCP_CLOSE)
			return rc;
		ckpt_err_clear(&t->err);
	}
	rc = reset_capture(s);
	return rc ? ckpt_oom(&t->err) : 0;
}

/* The next one; 0 when there is none. */
static int take_one(struct take *t)
{
	struct pollfd p = { .fd = t->listener, .events = POLLIN };
	struct sockaddr_storage name, peer;
	socklen_t name_len = sizeof(name), peer_len = sizeof(peer);
	struct waiting *s;
	int rc;

	if (poll(&p, 1, 0) != 1)
		return 0;
	s = vec_push(&t->w->all);
	if (!s)
		return -ENOMEM;
	s->m = kind_msg_new(&ckpt__fd_tcp__descriptor);
	s->fd = s->m ? accept4(t->listener, (void *)&peer, &peer_len, SOCK_CLOEXEC) : -1;
	if (s->fd < 0) {
		rc = s->m ? -errno : -ENOMEM;
		free(s->m);
		t->w->all.n--;
		return rc == -EAGAIN ? 0 : rc;
	}
	/* Should this be all of us that is left, it ends without a word. */
	(void)tcp_set(s->fd, TCP_REPAIR, REPAIR_ON);
	s->m->family = peer.ss_family;
	rc = getsockname(s->fd, (void *)&name, &name_len) ? -errno : 0;
	if (!rc)
		rc = address_put(&s->m->name, &name, name_len);
	if (!rc)
		rc = address_put(&s->m->peer, &peer, peer_len);
	return rc ? rc : 1;
}

static int take_guarded(void *arg)
{
	struct take *t = arg;
	int rc;

	while ((rc = take_one(t)) > 0)
		;
	if (rc)
		t->rc = ckpt_fail_errno(&t->err, E_TCP, rc, "cannot take it out of its backlog");
	for (size_t i = t->first; i < t->w->all.n; i++)
		if (capture(t, &t->w->all.v[i]) && !t->rc)
			t->rc = t->err.code;
	t->w->taking = false;
	return 0;
}

static size_t put_back(struct tcp_wait *w)
{
	Ckpt__FdTcp **v = calloc(w->all.n + 1, sizeof(*v));
	size_t n = 0, lost = 0;

	for (size_t i = 0; i < w->all.n; i++) {
		struct waiting *s = &w->all.v[i];
		struct ckpt_err ignore = { 0 };

		/* Whoever read it was killed: once more. What cannot be read is reset. */
		if (!s->m->state && tcp_capture(s->fd, s->m, &ignore))
			(void)reset_capture(s);
		ckpt_err_clear(&ignore);
		(void)tcp_set(s->fd, TCP_REPAIR, REPAIR_ON);
		(void)close(s->fd);
		if (v && !w->elsewhere)
			v[n++] = s->m;
	}
	lost = v ? tcp_wait_put(v, n) : w->all.n;
	free(v);
	return lost;
}

/* ckpt is dead. Who takes, if somebody does, goes on to the end. */
static void inherit(void *arg)
{
	struct tcp_wait *w = arg;

	for (uint64_t end = io_now_us() + WAIT_US;
	     __atomic_load_n(&w->taking, __ATOMIC_SEQ_CST) && io_now_us() < end;)
		(void)usleep(100);
	(void)put_back(w);
}

static Ckpt__FdTcp *copy(const Ckpt__FdTcp *m)
{
	size_t len = protobuf_c_message_get_packed_size(&m->base);
	auto_free uint8_t *buf = malloc(len + 1);

	if (!buf)
		return NULL;
	(void)protobuf_c_message_pack(&m->base, buf);
	return ckpt__fd_tcp__unpack(NULL, len, buf);
}

static int copies(const struct take *t, Ckpt__FdInet *m, struct ckpt_err *err)
{
	size_t n = t->w->all.n - t->first;

	m->waiting = calloc(n + 1, sizeof(Ckpt__FdTcp *));
	for (; m->waiting && m->n_waiting < n; m->n_waiting++) {
		Ckpt__FdTcp *c = copy(t->w->all.v[t->first + m->n_waiting].m);

		if (!c)
			break;
		m->waiting[m->n_waiting] = c;
	}
	return m->waiting && m->n_waiting == n ? 0 : ckpt_oom(err);
}

int tcp_wait_take(struct tcp_wait **w, int fd, Ckpt__FdInet *m, struct ckpt_err *err)
{
	struct take t = { .listener = fd };
	int rc = 0;

	if (!*w) {
		*w = calloc(1, sizeof(**w));
		if (!*w)
			return ckpt_oom(err);
		rc = heir_start(&(*w)->heir, inherit, *w);
	}
	t.w = *w;
	t.first = t.w->all.n;
	if (!rc) {
		t.w->taking = true;
		rc = guard_run(take_guarded, &t);
		t.w->taking = false;
	}
	if (rc)
		return ckpt_fail_errno(err, E_TCP, rc, "cannot start a helper process");
	(void)ckpt_fault("tcp.taken");
	if (t.rc) {
		*err = t.err;
		return t.rc;
	}
	return copies(&t, m, err);
}

void tcp_wait_give(struct tcp_wait *w, bool elsewhere)
{
	if (w)
		w->elsewhere = elsewhere;
}

size_t tcp_wait_end(struct tcp_wait *w)
{
	size_t lost;

	if (!w)
		return 0;
	lost = put_back(w);
	/* From here on nothing is left to the heir: all are back, or elsewhere. */
	heir_end(&w->heir);
	for (size_t i = 0; i < w->all.n; i++)
		ckpt__fd_tcp__free_unpacked(w->all.v[i].m, NULL);
	vec_free(&w->all);
	free(w);
	return lost;
}

/* ---- into the backlog ------------------------------------------------------------------- */

struct put {
	const Ckpt__FdTcp *m;
	struct netlock_conn conn;
	uint32_t ours, theirs; /* numbers of the two SYN */
	bool timestamps;
};

static int say(const struct put *p, struct tcpraw_seg seg)
{
	seg.window = WINDOW;
	return tcpraw_send(&p->conn, &seg);
}

static int bound(const struct put *p)
{
	auto_fd fd = socket((int)p->m->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* In repair mode a port may be taken by many. */
	if (fd < 0 || tcp_set(fd, TCP_REPAIR, REPAIR_ON) ||
	    bind(fd, (void *)p->m->name.data, (socklen_t)p->m->name.len))
		return -errno;
	return take_fd(&fd);
}

/*
 * The clock of a connection is that of the machine and an offset by its addresses, which only the
 * kernel sets. Where it would run behind the one that the peer has seen, the peer would drop all;
 * then it is made without.
 */
static bool clock_goes_on(const struct put *p)
{
	auto_fd fd = bound(p);
	socklen_t len = sizeof(uint32_t);
	uint32_t now;

	if (fd < 0 || tcp_set(fd, TCP_REPAIR, REPAIR_OFF_NO_PROBE))
		return false;
	(void)connect(fd, (void *)p->m->peer.data, (socklen_t)p->m->peer.len);
	if (getsockopt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &now, &len))
		return false;
	(void)tcp_set(fd, TCP_REPAIR, REPAIR_ON);
	return (int32_t)(now - p->m->timestamp) >= 0;
}

/* A connection of these addresses that is just over. */
static int time_wait(const struct put *p)
{
	uint32_t first = p->ours - TIME_WAIT_STEP - 1, theirs = p->theirs - BEFORE;
	struct tcp_repair_window w = { theirs, WINDOW, WINDOW, WINDOW, theirs };
	auto_fd fd = bound(p);
	int rc;

	if (fd < 0)
		return fd;
	rc = tcp_set_numbers(fd, first, theirs);
	if (rc)
		return rc;
	if (connect(fd, (void *)p->m->peer.data, (socklen_t)p->m->peer.len) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w)) || shutdown(fd, SHUT_WR))
		return -errno;
	rc = say(p, (struct tcpraw_seg) {
			    .seq = theirs, .ack = first + 1, .flags = TCPRAW_FIN | TCPRAW_ACK });
	return rc ? rc : tcp_state(fd) == TCP_CLOSE ? 0 : -EPROTO;
}

static int syn(const struct put *p)
{
	uint8_t o[TCPRAW_OPTIONS_MAX];
	size_t n = 0;

	o[n++] = TCPOPT_MAXSEG;
	o[n++] = TCPOLEN_MAXSEG;
	o[n++] = (uint8_t)(p->m->mss >> 8);
	o[n++] = (uint8_t)p->m->mss;
	if (p->m->sack) {
		o[n++] = TCPOPT_NOP;
		o[n++] = TCPOPT_NOP;
		o[n++] = TCPOPT_SACK_PERMITTED;
		o[n++] = TCPOLEN_SACK_PERMITTED;
	}
	if (p->m->scaled) {
		o[n++] = TCPOPT_NOP;
		o[n++] = TCPOPT_WINDOW;
		o[n++] = TCPOLEN_WINDOW;
		o[n++] = (uint8_t)p->m->send_scale;
	}
	if (p->timestamps) {
		o[n++] = TCPOPT_NOP;
		o[n++] = TCPOPT_NOP;
		o[n++] = TCPOPT_TIMESTAMP;
		o[n++] = TCPOLEN_TIMESTAMP;
		memset(o + n, 0, 8); /* 0: what the peer says next is taken as it comes */
		n += 8;
	}
	return say(p,
		   (struct tcpraw_seg) {
			   .seq = p->theirs, .flags = TCPRAW_SYN, .options = o, .n_options = n });
}

/* The last part of the handshake comes with the data: who defers accept(2) waits for some. */
static int data(const struct put *p)
{
	struct tcpraw_seg seg = { .seq = p->theirs + 1, .ack = p->ours + 1, .flags = TCPRAW_ACK };
	size_t most = TCPRAW_DATA_MAX, left = p->m->unread.len;
	int rc;

	seg.data = p->m->unread.data;
	do {
		seg.n_data = left < most ? left : most;
		rc = say(p, seg);
		if (rc == -EMSGSIZE && most > SMALL_DATA) {
			most = SMALL_DATA;
			continue;
		}
		if (rc)
			return rc;
		seg.seq += (uint32_t)seg.n_data;
		seg.data += seg.n_data;
		left -= seg.n_data;
	} while (left);
	seg.data = NULL;
	seg.n_data = 0;
	if (p->m->state == TCP_CLOSE_WAIT)
		seg.flags |= TCPRAW_FIN;
	else if (p->m->state == TCP_CLOSE)
		seg.flags |= TCPRAW_RST;
	else
		return 0;
	return say(p, seg);
}

static int put_one(const Ckpt__FdTcp *m)
{
	struct put p = { .m = m };
	int rc;

	if (!netlock_conn_set(&p.conn, m->name.data, m->name.len, m->peer.data, m->peer.len))
		return -EBADMSG;
	/* Nobody wrote to it, so all that it has sent is its SYN. */
	p.ours = m->send_seq - 1;
	p.theirs = m->recv_seq - (uint32_t)m->unread.len - (m->state == TCP_CLOSE_WAIT) - 1;
	p.timestamps = m->timestamps && clock_goes_on(&p);
	rc = time_wait(&p);
	if (!rc)
		rc = syn(&p);
	return rc ? rc : data(&p);
}

/* Is it in a backlog, with all that it had received? */
static bool is_there(const struct tcp_diags *all, const Ckpt__FdTcp *m)
{
	struct netlock_conn want, has;

	if (!netlock_conn_set(&want, m->name.data, m->name.len, m->peer.data, m->peer.len))
		return false;
	for (size_t i = 0; i < all->n; i++) {
		const struct tcp_diag *t = &all->v[i];

		if (t->lport == want.lport && t->rport == want.rport && !t->ino &&
		    inet_diag_conn(t, &has) && !memcmp(&want, &has, sizeof(has)))
			return t->unread == m->unread.len + (m->state == TCP_CLOSE_WAIT);
	}
	return false;
}

static bool belongs(const Ckpt__FdInet *listener, const Ckpt__FdTcp *m)
{
	static const uint8_t any[16];
	struct netlock_conn l, c;

	if (!netlock_conn_set(&l, listener->name.data, listener->name.len, NULL, 0) ||
	    !netlock_conn_set(&c, m->name.data, m->name.len, m->peer.data, m->peer.len) ||
	    l.lport != c.lport || !c.rport)
		return false;
	return !memcmp(l.local, any, sizeof(any)) ||
	       (l.family == c.family && !memcmp(l.local, c.local, sizeof(l.local)));
}

int tcp_wait_check(const Ckpt__FdInet *m, struct ckpt_err *err)
{
	for (size_t i = 0; i < m->n_waiting; i++) {
		const Ckpt__FdTcp *w = m->waiting[i];

		if (!m->listening || !belongs(m, w) || w->send_scale > 14 ||
		    (w->state != TCP_ESTABLISHED && w->state != TCP_CLOSE_WAIT &&
		     w->state != TCP_CLOSE))
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
					 "a connection in state %u that waits for another listener",
					 w->state);
	}
	return 0;
}

size_t tcp_wait_put(Ckpt__FdTcp *const *v, size_t n)
{
	struct tcp_diags all = { 0 };
	struct ckpt_err ignore = { 0 };
	size_t lost = 0;
	bool known;

	if (!n)
		return 0;
	for (size_t i = 0; i < n; i++)
		(void)put_one(v[i]);
	known = !sockdiag_tcp_read(1u << TCP_ESTABLISHED | 1u << TCP_CLOSE_WAIT, &all, &ignore);
	ckpt_err_clear(&ignore);
	for (size_t i = 0; known && i < n; i++)
		lost += v[i]->state != TCP_CLOSE && !is_there(&all, v[i]);
	vec_free(&all);
	return lost;
}
