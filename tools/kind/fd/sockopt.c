// SPDX-License-Identifier: GPL-2.0-only
/* Socket options: which ones there are, and how they are read and set again. */
#include "kind/fd/sockopt.h"

#include <limits.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "kind/fd/tcprepair.h"

/* Newer than the headers of Debian 12 */
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#define OPT_SO_TXREHASH 74
#define OPT_SO_PASSPIDFD 76
#define OPT_SO_RCVPRIORITY 82
#define OPT_SO_PASSRIGHTS 83
#define OPT_IP_LOCAL_PORT_RANGE 51
#define OPT_IPV6_FREEBIND 78
#define OPT_IPV6_RECVFRAGSIZE 77
#define OPT_IPV6_RECVERR_RFC4884 31
#define OPT_IP_RECVERR_RFC4884 26
#define OPT_TCP_RTO_MAX_MS 44
#define OPT_UDP_NO_CHECK6_TX 101
#define OPT_UDP_NO_CHECK6_RX 102

#define VALUE_MAX 64

/* SO_TIMESTAMPING may want a connection. SO_REUSEADDR is late so that sockets which share a port
 * can all be bound first. What makes the kernel name a socket or drop what it is sent (SO_PASSCRED
 * and so on) is late, too. */
static const struct {
	int level, name;
	enum sockopt_when when;
} table[] = {
	{ SOL_SOCKET, SO_REUSEADDR, SOCKOPT_LATE },
	{ SOL_SOCKET, SO_PASSCRED, SOCKOPT_LATE },
	{ SOL_SOCKET, SO_PASSSEC, SOCKOPT_LATE },
	{ SOL_SOCKET, OPT_SO_PASSPIDFD, SOCKOPT_LATE },
	{ SOL_SOCKET, OPT_SO_PASSRIGHTS, SOCKOPT_LATE },
	{ SOL_SOCKET, SO_PEEK_OFF, SOCKOPT_LATE },
	{ SOL_SOCKET, SO_REUSEPORT, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_KEEPALIVE, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_BROADCAST, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_OOBINLINE, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_DONTROUTE, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_LINGER, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_PRIORITY, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_MARK, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_BINDTODEVICE, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_RCVLOWAT, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_RCVTIMEO, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_SNDTIMEO, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_TIMESTAMP, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_TIMESTAMPNS, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_TIMESTAMPING, SOCKOPT_LATE },
	{ SOL_SOCKET, SO_RXQ_OVFL, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_NO_CHECK, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_BUSY_POLL, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_PREFER_BUSY_POLL, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_SELECT_ERR_QUEUE, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_WIFI_STATUS, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_MAX_PACING_RATE, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_ZEROCOPY, SOCKOPT_EARLY },
	{ SOL_SOCKET, SO_TXTIME, SOCKOPT_EARLY },
	{ SOL_SOCKET, OPT_SO_RESERVE_MEM, SOCKOPT_EARLY },
	{ SOL_SOCKET, OPT_SO_TXREHASH, SOCKOPT_EARLY },
	{ SOL_SOCKET, OPT_SO_RCVPRIORITY, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_TOS, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_TTL, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_OPTIONS, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_FREEBIND, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_TRANSPARENT, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, SOCKOPT_EARLY },
	{ IPPROTO_IP, OPT_IP_LOCAL_PORT_RANGE, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_MTU_DISCOVER, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_MINTTL, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_RECVERR, SOCKOPT_EARLY },
	{ IPPROTO_IP, OPT_IP_RECVERR_RFC4884, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_PKTINFO, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_RECVTTL, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_RECVTOS, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_RECVOPTS, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_RETOPTS, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_RECVORIGDSTADDR, SOCKOPT_EARLY },
	{ IPPROTO_IP, OPT_IP_RECVFRAGSIZE, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_PASSSEC, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_CHECKSUM, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_MULTICAST_TTL, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_MULTICAST_LOOP, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_MULTICAST_ALL, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_MULTICAST_IF, SOCKOPT_EARLY },
	{ IPPROTO_IP, IP_UNICAST_IF, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_V6ONLY, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_TCLASS, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_TRANSPARENT, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, OPT_IPV6_FREEBIND, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_MTU_DISCOVER, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_MINHOPCOUNT, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_DONTFRAG, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_RECVERR, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, OPT_IPV6_RECVERR_RFC4884, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_RECVPKTINFO, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_RECVHOPLIMIT, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_RECVRTHDR, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_RECVHOPOPTS, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_RECVDSTOPTS, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_RECVTCLASS, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_RECVPATHMTU, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, OPT_IPV6_RECVFRAGSIZE, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_MULTICAST_HOPS, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_MULTICAST_LOOP, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_MULTICAST_ALL, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_MULTICAST_IF, SOCKOPT_EARLY },
	{ IPPROTO_IPV6, IPV6_UNICAST_IF, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_NODELAY, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_CORK, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_MAXSEG, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_CONGESTION, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_KEEPIDLE, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_KEEPINTVL, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_KEEPCNT, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_SYNCNT, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_LINGER2, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_DEFER_ACCEPT, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_WINDOW_CLAMP, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_FASTOPEN, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_FASTOPEN_CONNECT, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_SAVE_SYN, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_THIN_DUPACK, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_INQ, SOCKOPT_EARLY },
	{ IPPROTO_TCP, TCP_TX_DELAY, SOCKOPT_EARLY },
	{ IPPROTO_TCP, OPT_TCP_RTO_MAX_MS, SOCKOPT_EARLY },
	{ IPPROTO_UDP, UDP_CORK, SOCKOPT_EARLY },
	{ IPPROTO_UDP, UDP_ENCAP, SOCKOPT_EARLY },
	{ IPPROTO_UDP, UDP_SEGMENT, SOCKOPT_EARLY },
	{ IPPROTO_UDP, UDP_GRO, SOCKOPT_EARLY },
	{ IPPROTO_UDP, OPT_UDP_NO_CHECK6_TX, SOCKOPT_EARLY },
	{ IPPROTO_UDP, OPT_UDP_NO_CHECK6_RX, SOCKOPT_EARLY },
};

struct value {
	uint8_t v[VALUE_MAX];
	socklen_t len;
};

static bool value_get(int fd, int level, int name, struct value *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->len = sizeof(ret->v);
	return !getsockopt(fd, level, name, ret->v, &ret->len);
}

int sockopt_get(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int v;

	return getsockopt(fd, level, name, &v, &len) ? -1 : v;
}

static int opt_push(Ckpt__SockOpts *m, int level, int name, const struct value *v)
{
	Ckpt__SockOpt *o = kind_msg_new(&ckpt__sock_opt__descriptor);

	if (!o || kind_push(&m->n_opts, &m->opts, o))
		return -ENOMEM;
	o->level = (uint32_t)level;
	o->name = (uint32_t)name;
	o->value.data = malloc(v->len + 1);
	if (!o->value.data)
		return -ENOMEM;
	memcpy(o->value.data, v->v, v->len);
	o->value.len = v->len;
	return 0;
}

static int filter_dump(int fd, Ckpt__SockOpts *m, struct ckpt_err *err)
{
	socklen_t len = 0; /* in instructions, also in the answer */

	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &len))
		return errno == EACCES ? ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
						   "the socket has an eBPF filter")
				       : 0;
	if (!len)
		return 0;
	m->filter.len = len * sizeof(struct sock_filter);
	m->filter.data = malloc(m->filter.len);
	if (!m->filter.data)
		return ckpt_oom(err);
	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, m->filter.data, &len))
		return ckpt_fail_errno(err, E_KERNEL, -errno,
				       "cannot read the filter of the socket");
	m->lock_filter = sockopt_get(fd, SOL_SOCKET, SO_LOCK_FILTER) == 1;
	return 0;
}

bool sockopt_of_connection(int level, int name)
{
	return level == IPPROTO_TCP &&
	       (name == TCP_MAXSEG || name == TCP_WINDOW_CLAMP || name == TCP_FASTOPEN_CONNECT);
}

/* *state: 0 until it was asked. */
static bool is_of_connection(int fd, int level, int name, int *state)
{
	if (!sockopt_of_connection(level, name))
		return false;
	if (!*state)
		*state = tcp_state(fd);
	return *state > 0 && *state != TCP_LISTEN && *state != TCP_CLOSE;
}

/* A connected socket shows values here that it cannot be given. */
static bool is_multicast(int level, int name)
{
	return level == IPPROTO_IP
		       ? name == IP_MULTICAST_IF || name == IP_MULTICAST_TTL ||
				 name == IP_MULTICAST_LOOP || name == IP_MULTICAST_ALL
		       : level == IPPROTO_IPV6 &&
				 (name == IPV6_MULTICAST_IF || name == IPV6_MULTICAST_HOPS ||
				  name == IPV6_MULTICAST_LOOP || name == IPV6_MULTICAST_ALL);
}

#define NO_OPTION UINT32_MAX
_Static_assert(ARRAY_SIZE(table) <= SOCKOPTS_MAX, "bits of struct sockopt_places");

/* What a new socket has. */
struct sockopt_defaults {
	struct sockopt_defaults *next;
	int family, type, protocol;
	bool placed[2];                    /* of connections and listeners: every one is */
	struct value v[ARRAY_SIZE(table)]; /* of length NO_OPTION: none such */
};

/* A connection or listener that was asked for its options, and what the kernel's record held. */
struct sockopts_asked {
	struct sockopts_asked *next;
	struct file_view view;
	Ckpt__SockOpts *opts;
};

void sockopts_forget(struct sockopt_defaults *all, struct sockopts_asked *asked)
{
	while (all) {
		struct sockopt_defaults *next = all->next;

		free(all);
		all = next;
	}
	while (asked) {
		struct sockopts_asked *next = asked->next;

		ckpt__sock_opts__free_unpacked(asked->opts, NULL);
		free(asked);
		asked = next;
	}
}

/* The record has a pointer or a number for these: to the same there may be something else later. */
static bool is_named(const Ckpt__SockOpt *o)
{
	return (o->level == SOL_SOCKET && o->name == SO_BINDTODEVICE) ||
	       (o->level == IPPROTO_IP && o->name == IP_OPTIONS) ||
	       (o->level == IPPROTO_TCP && o->name == TCP_CONGESTION);
}

void sockopts_outlive(struct sockopts_asked **asked)
{
	while (*asked) {
		struct sockopts_asked *a = *asked;
		bool named = false;

		for (size_t i = 0; i < a->opts->n_opts; i++)
			named |= is_named(a->opts->opts[i]);
		if (!named) {
			asked = &a->next;
			continue;
		}
		*asked = a->next;
		a->next = NULL;
		sockopts_forget(NULL, a);
	}
}

/* Can a socket of this family and protocol have option @i? */
static bool is_asked(size_t i, int family, int protocol)
{
	if (table[i].level != SOL_SOCKET && family == AF_UNIX)
		return false;
	return !((table[i].level == IPPROTO_IPV6 && family != AF_INET6) ||
		 (table[i].level == IPPROTO_TCP && protocol != IPPROTO_TCP) ||
		 (protocol == IPPROTO_TCP && is_multicast(table[i].level, table[i].name)) ||
		 (table[i].level == IPPROTO_UDP && protocol != IPPROTO_UDP));
}

bool sockopt_nth(size_t i, int family, int protocol, int *ret_level, int *ret_name)
{
	if (i >= ARRAY_SIZE(table) || !is_asked(i, family, protocol))
		return false;
	*ret_level = table[i].level;
	*ret_name = table[i].name;
	return true;
}

static bool all_placed(const struct sockopt_places *p, const struct sockopt_defaults *def,
		       bool listens)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (is_asked(i, def->family, def->protocol) && def->v[i].len != NO_OPTION &&
		    (listens || !sockopt_of_connection(table[i].level, table[i].name)) &&
		    !sockopt_placed(p, def->family, listens, i))
			return false;
	return true;
}

static int defaults_make(struct sockopt_defaults **all, const struct sockopt_places *places,
			 int family, int type, int protocol, const struct sockopt_defaults **ret,
			 struct ckpt_err *err)
{
	struct sockopt_defaults *def;
	auto_fd fresh = -1;

	for (def = *all; def; def = def->next)
		if (def->family == family && def->type == type && def->protocol == protocol) {
			*ret = def;
			return 0;
		}
	fresh = socket(family, type | SOCK_CLOEXEC, protocol);
	if (fresh < 0)
		return ckpt_fail_errno(err, E_KERNEL, -errno,
				       "cannot make a socket to compare with");
	def = calloc(1, sizeof(*def));
	if (!def)
		return ckpt_oom(err);
	*def = (struct sockopt_defaults) {
		.next = *all, .family = family, .type = type, .protocol = protocol
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (is_asked(i, family, protocol) &&
		    !value_get(fresh, table[i].level, table[i].name, &def->v[i]))
			def->v[i].len = NO_OPTION;
	def->placed[0] = all_placed(places, def, false);
	def->placed[1] = all_placed(places, def, true);
	*ret = *all = def;
	return 0;
}

static int defaults_find(struct dump_ctx *d, int family, int type, int protocol,
			 const struct sockopt_defaults **ret, struct ckpt_err *err)
{
	pthread_mutex_t *lock;
	struct sockopt_defaults **all = dump_sockopt_defaults(d, &lock);
	int rc;

	pthread_mutex_lock(lock);
	rc = defaults_make(all, dump_sockopt_places(d), family, type, protocol, ret, err);
	pthread_mutex_unlock(lock);
	return rc;
}

int sockopts_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__SockOpts **ret,
		  struct ckpt_err *err)
{
	*ret = dump_sockopts_ahead(d, f->local);
	return *ret ? 0 : sockopts_read(d, f, ret, err);
}

/* ---- sockets that have the same -------------------------------------------------------------- */

/* Sockets that differ in their options are few; with more, the rest is asked. */
#define ASKED_MAX 32u

/* One that is neither may become either. */
static bool has_view(const struct file_view *view)
{
	return view && view->state != TCP_CLOSE;
}

static bool listens(const struct file_view *view)
{
	return view->state == TCP_LISTEN;
}

/* The options of a socket that has the same; NULL: it must be asked itself. *ret_n: how many were
 * asked so far. */
static const Ckpt__SockOpts *asked_alike(struct dump_ctx *d, const struct file_view *view,
					 size_t *ret_n)
{
	*ret_n = 0;
	if (!has_view(view))
		return NULL;
	for (struct sockopts_asked *a = *dump_sockopts_asked(d); a; a = a->next) {
		if (sockopts_alike(dump_sockopt_places(d), &a->view, view))
			return a->opts;
		++*ret_n;
	}
	return NULL;
}

bool sockopts_known(struct dump_ctx *d, const struct file_view *view)
{
	const struct sockopt_defaults *def;
	struct ckpt_err ignore = { 0 };
	size_t asked;

	return asked_alike(d, view, &asked) &&
	       !defaults_find(d, (int)view->family, (int)view->type, (int)view->protocol, &def,
			      &ignore) &&
	       def->placed[listens(view)];
}

size_t sockopts_sets(const struct sockopts_asked *asked)
{
	size_t n = 0;

	for (; asked; asked = asked->next)
		n++;
	return n;
}

static Ckpt__SockOpts *opts_copy(const Ckpt__SockOpts *m)
{
	size_t len = ckpt__sock_opts__get_packed_size(m);
	auto_free uint8_t *packed = malloc(len + 1);

	if (!packed)
		return NULL;
	(void)ckpt__sock_opts__pack(m, packed);
	return ckpt__sock_opts__unpack(NULL, len, packed);
}

/* Sizes of buffers and filters are not looked for: whoever has such is not kept. */
static void asked_keep(struct dump_ctx *d, const struct fd_facts *f, const Ckpt__SockOpts *m,
		       size_t n)
{
	struct sockopts_asked **all = dump_sockopts_asked(d), *a;

	if (!has_view(f->view) || n >= ASKED_MAX || m->buf_lock || m->filter.len)
		return;
	a = calloc(1, sizeof(*a));
	if (!a)
		return;
	*a = (struct sockopts_asked) { *all, *f->view, opts_copy(m) };
	if (a->opts)
		*all = a;
	else
		free(a);
}

/* Is option @i the next of that other connection? They are in the order of the table. */
static bool is_next(const Ckpt__SockOpts *like, size_t at, size_t i)
{
	return at < like->n_opts && like->opts[at]->level == (uint32_t)table[i].level &&
	       like->opts[at]->name == (uint32_t)table[i].name;
}

/* @o, as that other connection has it. */
static int repeat(const Ckpt__SockOpt *o, Ckpt__SockOpts *m)
{
	struct value v = { .len = (socklen_t)o->value.len };

	memcpy(v.v, o->value.data, o->value.len);
	return opt_push(m, (int)o->level, (int)o->name, &v);
}

/* ---- what a socket has ------------------------------------------------------------------------
 */

/* A size that was set by hand is kept; the others follow this system's defaults. */
static void bufs_dump(int fd, Ckpt__SockOpts *m)
{
	int lock = sockopt_get(fd, SOL_SOCKET, SO_BUF_LOCK);

	m->buf_lock = lock > 0 ? (uint32_t)lock : 0;
	if (m->buf_lock & 1)
		m->sndbuf = (uint32_t)sockopt_get(fd, SOL_SOCKET, SO_SNDBUF);
	if (m->buf_lock & 2)
		m->rcvbuf = (uint32_t)sockopt_get(fd, SOL_SOCKET, SO_RCVBUF);
}

int sockopts_read(struct dump_ctx *d, const struct fd_facts *f, Ckpt__SockOpts **ret,
		  struct ckpt_err *err)
{
	const struct sockopt_places *places = dump_sockopt_places(d);
	int fd = f->local, state = 0, family, type, protocol, rc;
	Ckpt__SockOpts *m = kind_msg_new(&ckpt__sock_opts__descriptor);
	const struct sockopt_defaults *def = NULL;
	const Ckpt__SockOpts *like;
	size_t asked, at = 0;
	bool connected;

	if (!m)
		return ckpt_oom(err);
	*ret = m; /* freed with the message it belongs to, whatever happens below */
	family = f->view ? (int)f->view->family : sockopt_get(fd, SOL_SOCKET, SO_DOMAIN);
	type = f->view ? (int)f->view->type : sockopt_get(fd, SOL_SOCKET, SO_TYPE);
	protocol = f->view ? (int)f->view->protocol : sockopt_get(fd, SOL_SOCKET, SO_PROTOCOL);
	if (defaults_find(d, family, type, protocol, &def, err))
		return err->code;
	like = asked_alike(d, f->view, &asked);
	connected = has_view(f->view) && !listens(f->view);
	for (size_t i = 0;
	     i < ARRAY_SIZE(table) && !(like && at == like->n_opts && def->placed[!connected]);
	     i++) {
		bool had = like && is_next(like, at, i);
		struct value v;

		at += had;
		/* What a new socket has not, none has. */
		if (!is_asked(i, family, protocol) || def->v[i].len == NO_OPTION)
			continue;
		if (like && sockopt_placed(places, family, !connected, i)) {
			if (had && repeat(like->opts[at - 1], m))
				return ckpt_oom(err);
			continue;
		}
		if (connected && sockopt_of_connection(table[i].level, table[i].name))
			continue;
		if (!value_get(fd, table[i].level, table[i].name, &v))
			continue;
		if (def->v[i].len == v.len && !memcmp(def->v[i].v, v.v, v.len))
			continue;
		if (is_of_connection(fd, table[i].level, table[i].name, &state))
			continue;
		if (opt_push(m, table[i].level, table[i].name, &v))
			return ckpt_oom(err);
	}
	if (like)
		return 0;
	bufs_dump(fd, m);
	rc = filter_dump(fd, m, err);
	if (!rc)
		asked_keep(d, f, m, asked);
	return rc;
}

static int set_int(int fd, int level, int name, int v)
{
	return setsockopt(fd, level, name, &v, sizeof(v));
}

/* The kernel doubles what it is given. */
static int set_buf(int fd, int force, int plain, uint32_t bytes)
{
	return set_int(fd, SOL_SOCKET, force, (int)(bytes / 2)) &&
	       set_int(fd, SOL_SOCKET, plain, (int)(bytes / 2));
}

static int bufs_restore(int fd, const Ckpt__SockOpts *m, struct ckpt_err *err)
{
	if ((m->sndbuf && set_buf(fd, SO_SNDBUFFORCE, SO_SNDBUF, m->sndbuf)) ||
	    (m->rcvbuf && set_buf(fd, SO_RCVBUFFORCE, SO_RCVBUF, m->rcvbuf)))
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot set the buffers of a socket");
	return 0;
}

static int filter_restore(int fd, const Ckpt__SockOpts *m, struct ckpt_err *err)
{
	size_t n = m->filter.len / sizeof(struct sock_filter);
	struct sock_fprog prog = { .len = (unsigned short)n, .filter = (void *)m->filter.data };

	if (!m->filter.len)
		return 0;
	if (m->filter.len % sizeof(struct sock_filter) || n > BPF_MAXINSNS)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "a socket filter of %zu bytes",
				 m->filter.len);
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)))
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot attach the filter of a socket");
	if (m->lock_filter && set_int(fd, SOL_SOCKET, SO_LOCK_FILTER, 1))
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot lock the filter of a socket");
	return 0;
}

static int table_find(const Ckpt__SockOpt *o)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if ((uint32_t)table[i].level == o->level && (uint32_t)table[i].name == o->name)
			return (int)i;
	return -1;
}

int sockopts_restore(int fd, const Ckpt__SockOpts *m, enum sockopt_when when, struct ckpt_err *err)
{
	int rc;

	if (!m)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "a socket without options");
	for (size_t i = 0; i < m->n_opts; i++) {
		const Ckpt__SockOpt *o = m->opts[i];
		int at = table_find(o);

		if (at < 0 || o->value.len > VALUE_MAX)
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
					 "socket option %u of level %u", o->name, o->level);
		if (table[at].when != when)
			continue;
		if (setsockopt(fd, (int)o->level, (int)o->name, o->value.data,
			       (socklen_t)o->value.len))
			return ckpt_fail_errno(err, E_RESTORE, -errno,
					       "cannot set socket option %u of level %u", o->name,
					       o->level);
	}
	if (when != SOCKOPT_EARLY)
		return 0;
	rc = bufs_restore(fd, m, err);
	return rc ? rc : filter_restore(fd, m, err);
}

void sockopt_room_make(int fd, size_t bytes, struct sockopt_room *ret)
{
	size_t want = bytes * 4 + (1u << 20);

	ret->sndbuf = sockopt_get(fd, SOL_SOCKET, SO_SNDBUF);
	ret->lock = sockopt_get(fd, SOL_SOCKET, SO_BUF_LOCK);
	(void)set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, want > INT_MAX / 2 ? INT_MAX / 2 : (int)want);
}

void sockopt_room_undo(int fd, const struct sockopt_room *room)
{
	if (room->sndbuf > 0)
		(void)set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, room->sndbuf / 2);
	if (room->lock >= 0)
		(void)set_int(fd, SOL_SOCKET, SO_BUF_LOCK, room->lock);
}
