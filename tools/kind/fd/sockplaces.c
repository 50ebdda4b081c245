// SPDX-License-Identifier: GPL-2.0-only
#include "kind/fd/sockplaces.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "kind/fd/sockopt.h"

static const int families[] = { AF_INET, AF_INET6 };

/*
 * Options that are not tried: to set one is to change how the kernel treats the packets of all, or
 * takes memory that it may not have. Their places go by name. No name: of a TCP socket it cannot be
 * set, and has always the same value.
 */
static const struct named {
	int level, name;
	const char *in, *member, *besides; /* the second where the kernel has it */
} named[] = {
	{ SOL_SOCKET, SO_TIMESTAMP, "sock_common", "skc_flags", NULL },
	{ SOL_SOCKET, SO_TIMESTAMPNS, "sock_common", "skc_flags", NULL },
	{ SOL_SOCKET, SO_TIMESTAMPING, "sock", "sk_tsflags", "sk_bind_phc" },
	{ SOL_SOCKET, OPT_SO_RESERVE_MEM, "sock", "sk_reserved_mem", NULL },
	{ IPPROTO_TCP, TCP_TX_DELAY, "tcp_sock", "tcp_tx_delay", NULL },
	{ IPPROTO_TCP, TCP_THIN_DUPACK, NULL, NULL, NULL },
	{ IPPROTO_IP, OPT_IP_RECVFRAGSIZE, NULL, NULL, NULL },
};

/* What options change besides, and the kernel by itself: members of struct sock. The sizes of
 * buffers mean something where they are locked, which has a place. */
static const char *const besides[] = { "sk_pacing_rate", "sk_sndbuf", "sk_rcvbuf" };

/* Numbers that options take, or structs that begin with them. */
static const int numbers[] = { 1, 2, 3, 5, 8, 64, 300, 1000, 70000, 0x01000000, 0x01010101, 0 };

#define VALUE_MAX 64

/* A socket of ckpt's own, always by the same number. */
struct probe {
	int fd;
	struct sock_record record;
	int besides[ARRAY_SIZE(besides)];
	int family;
	union probe_words {
		uint64_t word[SOCK_RECORD_WORDS];
		unsigned char byte[SOCK_RECORD_WORDS * 8];
	} now, *marked; /* bytes of marked: 255 or 0 */
};

static int probe_renew(struct probe *p)
{
	auto_fd fresh = socket(p->family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);

	if (fresh < 0 || dup3(fresh, p->fd, O_CLOEXEC) < 0)
		return -errno;
	return sock_record_read(&p->record, p->now.word);
}

static bool is_besides(const struct probe *p, uint32_t at)
{
	for (size_t i = 0; i < ARRAY_SIZE(besides); i++)
		if (p->besides[i] == (int)at)
			return true;
	return false;
}

/* Mark the members that are other than before. Were there any? */
static int probe_look(struct probe *p, bool *ret_changed)
{
	union probe_words was = p->now;
	int rc = sock_record_read(&p->record, p->now.word);

	for (uint32_t i = 0; !rc && i < sizeof(was); i++) {
		uint32_t first, end;

		if (was.byte[i] == p->now.byte[i] ||
		    !sock_record_member(&p->record, p->family, i, &first, &end))
			continue;
		i = end - 1;
		if (is_besides(p, first))
			continue;
		memset(p->marked->byte + first, 255, end - first);
		*ret_changed = true;
	}
	return rc;
}

struct option {
	int level, name;
	unsigned char v[VALUE_MAX];
	socklen_t len;
};

static bool option_get(int fd, struct option *o)
{
	memset(o->v, 0, sizeof(o->v));
	o->len = sizeof(o->v);
	return !getsockopt(fd, o->level, o->name, o->v, &o->len);
}

/* Set it to @v. *ret_placed: it has changed, and so has its place. */
static int option_try(struct probe *p, struct option *o, const void *v, socklen_t len,
		      bool *ret_placed)
{
	struct option now = { .level = o->level, .name = o->name };
	bool changed = false;
	int rc;

	if (setsockopt(p->fd, o->level, o->name, v, len) || !option_get(p->fd, &now) ||
	    (now.len == o->len && !memcmp(now.v, o->v, sizeof(now.v))))
		return 0;
	rc = probe_look(p, &changed);
	/* It has another value, and nobody sees where. */
	if (!rc && !changed)
		rc = -ENOENT;
	*ret_placed = !rc;
	*o = now;
	return rc;
}

static bool mark_member(struct probe *p, const char *in, const char *member)
{
	int at = sock_record_offset(&p->record, in, member);
	uint32_t first, end;

	if (at < 0 || !sock_record_member(&p->record, p->family, (uint32_t)at, &first, &end))
		return false;
	memset(p->marked->byte + first, 255, end - first);
	return true;
}

static bool named_place(struct probe *p, const struct named *n)
{
	if (!n->member)
		return true;
	if (n->besides)
		(void)mark_member(p, n->in, n->besides);
	return mark_member(p, n->in, n->member);
}

static int option_place(struct probe *p, int level, int name, bool *ret_placed)
{
	struct option o = { .level = level, .name = name };
	static const char *const words[] = { "reno", "cubic", "lo" };
	int rc = 0;

	*ret_placed = false;
	for (size_t i = 0; i < ARRAY_SIZE(named); i++)
		if (named[i].level == level && named[i].name == name) {
			*ret_placed = named_place(p, &named[i]);
			return 0;
		}
	if (!option_get(p->fd, &o))
		return 0;
	for (size_t i = 0; !rc && i < ARRAY_SIZE(words); i++)
		if (name == (level == SOL_SOCKET ? SO_BINDTODEVICE : TCP_CONGESTION) &&
		    (level == SOL_SOCKET || level == IPPROTO_TCP))
			rc = option_try(p, &o, words[i], (socklen_t)strlen(words[i]) + 1,
					ret_placed);
	for (size_t i = 0; !rc && i < ARRAY_SIZE(numbers); i++) {
		int v[VALUE_MAX / sizeof(int)] = { numbers[i], numbers[i] };

		rc = option_try(p, &o, v, o.len >= sizeof(int) ? o.len : sizeof(int), ret_placed);
	}
	/* Not placed after all. */
	if (rc == -ENOENT) {
		*ret_placed = false;
		return 0;
	}
	return rc;
}

/* What is no option of the table. */
static int extras_place(struct probe *p)
{
	struct sock_filter all[] = { { BPF_RET | BPF_K, 0, 0, UINT32_MAX } };
	struct sock_fprog prog = { ARRAY_SIZE(all), all };
	static const int three = 3, one = 1;
	bool placed[3] = { false };
	int rc = 0;

	if (!setsockopt(p->fd, SOL_SOCKET, SO_BUF_LOCK, &three, sizeof(three)))
		rc = probe_look(p, &placed[0]);
	if (!rc && !setsockopt(p->fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)))
		rc = probe_look(p, &placed[1]);
	if (!rc && !setsockopt(p->fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof(one)))
		rc = probe_look(p, &placed[2]);
	return rc || (placed[0] && placed[1] && placed[2]) ? rc : -EOPNOTSUPP;
}

/* To set what is set already changes nothing: then what changes otherwise is a place. */
static int probe_check(struct probe *p)
{
	static const int none = 0;
	bool changed = false;
	int rc = 0;

	for (int i = 0; !rc && !changed && i < 3; i++) {
		if (setsockopt(p->fd, SOL_SOCKET, SO_KEEPALIVE, &none, sizeof(none)) ||
		    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &none, sizeof(none)))
			rc = -errno;
		else
			rc = probe_look(p, &changed);
	}
	return rc || !changed ? rc : -EOPNOTSUPP;
}

/* @marked: of connections, and what listeners have besides. */
static int family_places(struct probe *p, size_t at, union probe_words marked[2],
			 struct sockopt_places *ret)
{
	int rc, level, name;

	p->family = families[at];
	p->marked = &marked[0];
	rc = probe_renew(p);
	if (!rc)
		rc = probe_check(p);
	if (!rc)
		rc = extras_place(p);
	for (size_t i = 0; !rc && i < SOCKOPTS_MAX; i++) {
		uint8_t bit = (uint8_t)(1u << i % 8);
		bool placed = false, changes;

		if (!sockopt_nth(i, families[at], IPPROTO_TCP, &level, &name))
			continue;
		changes = sockopt_of_connection(level, name);
		p->marked = &marked[changes];
		rc = probe_renew(p);
		if (!rc)
			rc = option_place(p, level, name, &placed);
		if (rc || !placed)
			continue;
		ret->of[at][1].known[i / 8] |= bit;
		if (!changes)
			ret->of[at][0].known[i / 8] |= bit;
	}
	return rc;
}

/* What was marked of either family, ascending. */
static int add_words(union probe_words (*marked)[2], struct sockopt_places *ret)
{
	struct sock_words *w = &ret->words;

	for (uint16_t i = 0; i < SOCK_RECORD_WORDS; i++) {
		uint64_t any = 0;

		for (size_t at = 0; at < ARRAY_SIZE(families); at++)
			any |= marked[at][0].word[i] | marked[at][1].word[i];
		if (!any)
			continue;
		if (w->n == SOCK_WORDS_MAX)
			return -E2BIG;
		for (size_t at = 0; at < ARRAY_SIZE(families); at++) {
			ret->of[at][0].mask[w->n] = marked[at][0].word[i];
			ret->of[at][1].mask[w->n] = marked[at][0].word[i] | marked[at][1].word[i];
		}
		w->at[w->n++] = i;
	}
	return 0;
}

/* There is no room for what listeners have besides. */
static int connections_alone(union probe_words (*marked)[2], struct sockopt_places *ret)
{
	ret->words.n = 0;
	for (size_t at = 0; at < ARRAY_SIZE(families); at++) {
		memset(&marked[at][1], 0, sizeof(marked[at][1]));
		memcpy(ret->of[at][1].known, ret->of[at][0].known, sizeof(ret->of[at][1].known));
	}
	return add_words(marked, ret);
}

int sockopt_places_find(struct sockopt_places *ret, struct btf *types)
{
	auto_fd fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	struct probe *p = calloc(1, sizeof(*p));
	union probe_words(*marked)[2] = calloc(ARRAY_SIZE(families), sizeof(*marked));
	int rc;

	*ret = (struct sockopt_places) { 0 };
	if (!p || !marked || fd < 0) {
		free(p);
		free(marked);
		return -ENOMEM;
	}
	p->fd = fd;
	rc = sock_record_open(&p->record, types, fd);
	for (size_t i = 0; !rc && i < ARRAY_SIZE(besides); i++)
		p->besides[i] = sock_record_offset(&p->record, "sock", besides[i]);
	for (size_t i = 0; !rc && i < ARRAY_SIZE(families); i++) {
		rc = family_places(p, i, marked[i], ret);
		/* Where there is no IPv6 nobody has such. */
		if (rc == -EAFNOSUPPORT)
			rc = 0;
	}
	if (!rc && add_words(marked, ret))
		rc = connections_alone(marked, ret);
	sock_record_close(&p->record);
	free(p);
	free(marked);
	if (rc)
		ret->words.n = 0;
	return rc;
}

static int family_at(uint64_t family)
{
	for (size_t at = 0; at < ARRAY_SIZE(families); at++)
		if ((uint64_t)families[at] == family)
			return (int)at;
	return -1;
}

bool sockopts_alike(const struct sockopt_places *p, const struct file_view *a,
		    const struct file_view *b)
{
	int at = family_at(a->family);
	const struct sockopt_place *of;
	uint64_t differ = 0, known = 0;

	if (at < 0 || a->family != b->family || a->type != b->type || a->protocol != b->protocol ||
	    a->state != b->state)
		return false;
	of = &p->of[at][a->state == TCP_LISTEN];
	for (uint16_t i = 0; i < p->words.n; i++) {
		differ |= (a->words[i] ^ b->words[i]) & of->mask[i];
		known |= of->mask[i];
	}
	return known && !differ;
}

bool sockopt_placed(const struct sockopt_places *p, int family, bool listens, size_t i)
{
	int at = family_at((uint64_t)family);

	return at >= 0 && p->words.n && p->of[at][listens].known[i / 8] >> i % 8 & 1;
}
