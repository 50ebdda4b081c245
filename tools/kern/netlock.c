// SPDX-License-Identifier: GPL-2.0-only
#include "kern/netlock.h"

#include <errno.h>
/* Before what the kernel has of the same. */
#include <netinet/in.h>

#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/nlmsg.h"

#define PRIORITY (-450)       /* before everybody else's rules */
#define TCP_FLAGS_AT 13       /* in the head of a segment */
#define ELEMS_PER_MSG 256u    /* an attribute has at most 64 KiB */
#define ROOM_BASE (64u << 10) /* table, sets, chains, rules */
#define ROOM_ELEM 128u        /* and each element, in a message or two */

enum { TCP_FLAG_SYN = 0x02, TCP_FLAG_ACK = 0x10 };

enum { CONN4, CONN6, BOUND4, BOUND6, PORTS, SETS };

/* What nft(8) shows as the type of an element: six bits for each part. */
#define T_V4 7u
#define T_V6 8u
#define T_PORT 13u

static const struct {
	const char *name;
	uint32_t type, key_len;
	size_t addr; /* bytes of an address in the key */
	bool remote; /* has the other end, too */
} sets[SETS] = {
	[CONN4] = { "conn4", T_V4 << 18 | T_PORT << 12 | T_V4 << 6 | T_PORT, 16, 4, true },
	[CONN6] = { "conn6", T_V6 << 18 | T_PORT << 12 | T_V6 << 6 | T_PORT, 40, 16, true },
	[BOUND4] = { "bound4", T_V4 << 6 | T_PORT, 8, 4, false },
	[BOUND6] = { "bound6", T_V6 << 6 | T_PORT, 20, 16, false },
	[PORTS] = { "ports", T_PORT, 2, 0, false },
};

struct batch {
	char *buf;
	size_t len, cap;
	uint32_t seq;
	struct nlmsghdr *last;
	bool failed; /* out of memory somewhere */
};

/* ---- entries ---------------------------------------------------------------------------- */

static bool address_set(const void *addr, size_t len, int *ret_family, uint8_t *ret,
			uint16_t *ret_port)
{
	union {
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a = { 0 };

	if (len > sizeof(a))
		len = sizeof(a);
	memcpy(&a, addr, len);
	memset(ret, 0, 16);
	if (a.in.sin_family == AF_INET && len >= sizeof(a.in)) {
		*ret_family = AF_INET;
		memcpy(ret, &a.in.sin_addr, 4);
		*ret_port = a.in.sin_port;
		return true;
	}
	if (a.in6.sin6_family != AF_INET6 || len < sizeof(a.in6))
		return false;
	*ret_port = a.in6.sin6_port;
	*ret_family = IN6_IS_ADDR_V4MAPPED(&a.in6.sin6_addr) ? AF_INET : AF_INET6;
	if (*ret_family == AF_INET)
		memcpy(ret, a.in6.sin6_addr.s6_addr + 12, 4);
	else
		memcpy(ret, &a.in6.sin6_addr, 16);
	return true;
}

bool netlock_conn_set(struct netlock_conn *c, const void *local, size_t local_len,
		      const void *remote, size_t remote_len)
{
	int family;

	memset(c, 0, sizeof(*c));
	if (!address_set(local, local_len, &c->family, c->local, &c->lport))
		return false;
	return !remote || (address_set(remote, remote_len, &family, c->remote, &c->rport) &&
			   family == c->family);
}

static int set_of(const struct netlock_conn *c)
{
	static const uint8_t any[16];

	if (c->rport)
		return c->family == AF_INET ? CONN4 : CONN6;
	if (!memcmp(c->local, any, sizeof(any)))
		return PORTS;
	return c->family == AF_INET ? BOUND4 : BOUND6;
}

/* Each part of a key begins at a multiple of four bytes. */
static void key_make(const struct netlock_conn *c, int set, uint8_t *ret)
{
	size_t addr = sets[set].addr;

	memset(ret, 0, sets[set].key_len);
	if (addr)
		memcpy(ret, c->local, addr);
	memcpy(ret + addr, &c->lport, 2);
	if (!sets[set].remote)
		return;
	memcpy(ret + addr + 4, c->remote, addr);
	memcpy(ret + 2 * addr + 4, &c->rport, 2);
}

/* ---- messages --------------------------------------------------------------------------- */

static struct nlmsghdr *message(struct batch *b, uint16_t type, uint16_t flags)
{
	if (b->last)
		b->len += NLMSG_ALIGN(b->last->nlmsg_len);
	b->last = nftnl_nlmsg_build_hdr(b->buf + b->len, type, NFPROTO_INET, flags, b->seq++);
	return b->last;
}

static void batch_open(struct batch *b, size_t elems)
{
	memset(b, 0, sizeof(*b));
	b->cap = ROOM_BASE + elems * ROOM_ELEM;
	b->buf = malloc(b->cap);
	b->failed = !b->buf;
	if (b->buf)
		b->last = nftnl_batch_begin(b->buf, b->seq++);
}

static void put_table(struct batch *b, const char *name, uint16_t type, uint16_t flags,
		      uint32_t table_flags)
{
	struct nftnl_table *t = nftnl_table_alloc();

	if (!t) {
		b->failed = true;
		return;
	}
	(void)nftnl_table_set_str(t, NFTNL_TABLE_NAME, name);
	if (table_flags)
		nftnl_table_set_u32(t, NFTNL_TABLE_FLAGS, table_flags);
	nftnl_table_nlmsg_build_payload(message(b, type, flags), t);
	nftnl_table_free(t);
}

static void put_set(struct batch *b, const char *table, int which)
{
	struct nftnl_set *s = nftnl_set_alloc();

	if (!s) {
		b->failed = true;
		return;
	}
	(void)nftnl_set_set_str(s, NFTNL_SET_TABLE, table);
	(void)nftnl_set_set_str(s, NFTNL_SET_NAME, sets[which].name);
	nftnl_set_set_u32(s, NFTNL_SET_ID, (uint32_t)which + 1);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_TYPE, sets[which].type);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_LEN, sets[which].key_len);
	nftnl_set_nlmsg_build_payload(message(b, NFT_MSG_NEWSET, NLM_F_CREATE), s);
	nftnl_set_free(s);
}

static void put_elems(struct batch *b, const char *table, int which, const struct netlock_conn *v,
		      size_t n)
{
	struct nftnl_set *s = NULL;
	unsigned int count = 0;

	for (size_t i = 0; i <= n && !b->failed; i++) {
		struct nftnl_set_elem *e;
		uint8_t key[40];

		if (s && (i == n || count == ELEMS_PER_MSG)) {
			nftnl_set_elems_nlmsg_build_payload(
				message(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE), s);
			nftnl_set_free(s);
			s = NULL;
			count = 0;
		}
		if (i == n || set_of(&v[i]) != which)
			continue;
		if (!s && (s = nftnl_set_alloc())) {
			(void)nftnl_set_set_str(s, NFTNL_SET_TABLE, table);
			(void)nftnl_set_set_str(s, NFTNL_SET_NAME, sets[which].name);
			nftnl_set_set_u32(s, NFTNL_SET_ID, (uint32_t)which + 1);
		}
		e = s ? nftnl_set_elem_alloc() : NULL;
		b->failed = !e;
		if (!e)
			break;
		key_make(&v[i], which, key);
		(void)nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, key, sets[which].key_len);
		nftnl_set_elem_add(s, e);
		count++;
	}
	if (s)
		nftnl_set_free(s);
}

static void put_chain(struct batch *b, const char *table, const char *name, uint32_t hook)
{
	struct nftnl_chain *c = nftnl_chain_alloc();

	if (!c) {
		b->failed = true;
		return;
	}
	(void)nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, table);
	(void)nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
	(void)nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, "filter");
	nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, hook);
	nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, PRIORITY);
	nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	nftnl_chain_nlmsg_build_payload(message(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE), c);
	nftnl_chain_free(c);
}

/* ---- rules ------------------------------------------------------------------------------ */

static struct nftnl_expr *expr(struct batch *b, struct nftnl_rule *r, const char *name)
{
	struct nftnl_expr *e = nftnl_expr_alloc(name);

	b->failed = b->failed || !e;
	if (e)
		nftnl_rule_add_expr(r, e);
	return e;
}

static void expr_meta_is(struct batch *b, struct nftnl_rule *r, uint32_t key, const void *v,
			 uint32_t len)
{
	struct nftnl_expr *e = expr(b, r, "meta");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG32_00);
	e = expr(b, r, "cmp");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG32_00);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
	nftnl_expr_set_data(e, NFTNL_EXPR_CMP_DATA, v, len);
}

static void expr_payload(struct batch *b, struct nftnl_rule *r, uint32_t base, uint32_t offset,
			 uint32_t len, uint32_t *reg)
{
	struct nftnl_expr *e = expr(b, r, "payload");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, *reg);
	*reg += (len + 3) / 4;
}

/* Address and port of an end: of the packet's source or its destination. */
static void expr_end(struct batch *b, struct nftnl_rule *r, size_t addr, bool source, uint32_t *reg)
{
	uint32_t at = addr == 4 ? 12 : 8;

	if (addr)
		expr_payload(b, r, NFT_PAYLOAD_NETWORK_HEADER, at + (source ? 0 : (uint32_t)addr),
			     (uint32_t)addr, reg);
	expr_payload(b, r, NFT_PAYLOAD_TRANSPORT_HEADER, source ? 0 : 2, 2, reg);
}

static void put_rule(struct batch *b, struct nftnl_rule *r, const char *table, const char *chain,
		     uint32_t verdict)
{
	struct nftnl_expr *e = expr(b, r, "immediate");

	if (e) {
		nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
		nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, verdict);
		(void)nftnl_rule_set_str(r, NFTNL_RULE_TABLE, table);
		(void)nftnl_rule_set_str(r, NFTNL_RULE_CHAIN, chain);
		nftnl_rule_set_u32(r, NFTNL_RULE_FAMILY, NFPROTO_INET);
		nftnl_rule_nlmsg_build_payload(
			message(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND), r);
	}
	nftnl_rule_free(r);
}

/* SYN without ACK */
static void expr_begins(struct batch *b, struct nftnl_rule *r)
{
	const uint8_t mask = TCP_FLAG_SYN | TCP_FLAG_ACK, want = TCP_FLAG_SYN, none = 0;
	uint32_t reg = NFT_REG32_00;
	struct nftnl_expr *e;

	expr_payload(b, r, NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_AT, 1, &reg);
	e = expr(b, r, "bitwise");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, NFT_REG32_00);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, NFT_REG32_00);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, 1);
	nftnl_expr_set_data(e, NFTNL_EXPR_BITWISE_MASK, &mask, 1);
	nftnl_expr_set_data(e, NFTNL_EXPR_BITWISE_XOR, &none, 1);
	e = expr(b, r, "cmp");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG32_00);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
	nftnl_expr_set_data(e, NFTNL_EXPR_CMP_DATA, &want, 1);
}

/* Packets that are ours pass; @inwards: their destination is the local end. */
static void put_rules(struct batch *b, const char *table, const char *chain, bool inwards,
		      enum netlock_how how)
{
	const uint32_t mark = NETLOCK_MARK;
	const uint8_t tcp = IPPROTO_TCP;
	struct nftnl_rule *r = nftnl_rule_alloc();

	if (!r) {
		b->failed = true;
		return;
	}
	expr_meta_is(b, r, NFT_META_MARK, &mark, sizeof(mark));
	put_rule(b, r, table, chain, NF_ACCEPT);
	for (int i = 0; i < SETS && !b->failed; i++) {
		uint8_t family = sets[i].addr == 4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
		bool begins = how == NETLOCK_NEW && !sets[i].remote;
		uint32_t reg = NFT_REG32_00;
		struct nftnl_expr *e;

		if (begins && !inwards)
			continue;
		r = nftnl_rule_alloc();
		b->failed = !r;
		if (!r)
			return;
		if (sets[i].addr)
			expr_meta_is(b, r, NFT_META_NFPROTO, &family, 1);
		expr_meta_is(b, r, NFT_META_L4PROTO, &tcp, 1);
		if (begins)
			expr_begins(b, r);
		expr_end(b, r, sets[i].addr, !inwards, &reg);
		if (sets[i].remote)
			expr_end(b, r, sets[i].addr, inwards, &reg);
		e = expr(b, r, "lookup");
		if (e) {
			nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, NFT_REG32_00);
			(void)nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, sets[i].name);
			nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SET_ID, (uint32_t)i + 1);
		}
		put_rule(b, r, table, chain, NF_DROP);
	}
}

static void put_lock(struct batch *b, const char *name, uint32_t flags, enum netlock_how how,
		     const struct netlock_conn *v, size_t n)
{
	put_table(b, name, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, flags);
	for (int i = 0; i < SETS && !b->failed; i++)
		put_set(b, name, i);
	if (b->failed)
		return;
	put_chain(b, name, "in", NF_INET_LOCAL_IN);
	put_chain(b, name, "out", NF_INET_LOCAL_OUT);
	for (int i = 0; i < SETS && !b->failed; i++)
		put_elems(b, name, i, v, n);
	if (!b->failed)
		put_rules(b, name, "in", true, how);
	if (!b->failed)
		put_rules(b, name, "out", false, how);
}

/* ---- the socket ------------------------------------------------------------------------- */

static int nl_open(void)
{
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK };
	auto_fd fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

	if (fd < 0 || bind(fd, (void *)&sa, sizeof(sa)))
		return -errno;
	return take_fd(&fd);
}

/* The kernel is done with it when send() returns; its answers wait. */
static int answers(int fd)
{
	char buf[8192] __attribute__((aligned(8)));
	int rc = -EPROTO;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		size_t left = (size_t)n;

		for_each_message (h, buf, left) {
			if (h->nlmsg_type != NLMSG_ERROR)
				continue;
			rc = message_error(h);
			if (rc)
				return rc;
		}
	}
	return rc;
}

static int batch_send(struct batch *b, int fd)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int room = (int)b->cap * 2, rc = b->failed ? -ENOMEM : 0;

	if (!rc) {
		b->last->nlmsg_flags |= NLM_F_ACK;
		b->len += NLMSG_ALIGN(b->last->nlmsg_len);
		b->len += nftnl_batch_end(b->buf + b->len, b->seq++)->nlmsg_len;
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
		if (sendto(fd, b->buf, b->len, 0, (void *)&kernel, sizeof(kernel)) < 0)
			rc = -errno;
	}
	if (!rc)
		rc = answers(fd);
	free(b->buf);
	b->buf = NULL;
	return rc;
}

static int fail(struct ckpt_err *err, int rc)
{
	(void)ckpt_fail_errno(err, E_NETLOCK, rc, "cannot hold back the packets of %s",
			      "TCP connections");
	return rc == -EPERM ? ckpt_remedy(err, "run ckpt with CAP_NET_ADMIN") : rc;
}

int netlock_take(struct netlock *l, enum netlock_how how, const struct netlock_conn *v, size_t n,
		 struct ckpt_err *err)
{
	auto_fd fd = nl_open();
	struct batch b;
	uint32_t r = 0;
	int rc = fd;

	if (fd >= 0) {
		(void)getrandom(&r, sizeof(r), GRND_NONBLOCK);
		(void)snprintf(l->name, sizeof(l->name), "ckpt-%d-%08x", getpid(), r);
		batch_open(&b, n);
		if (!b.failed)
			put_lock(&b, l->name, NFT_TABLE_F_OWNER, how, v, n);
		rc = batch_send(&b, fd);
	}
	if (rc)
		return fail(err, rc);
	l->fd = take_fd(&fd);
	l->lifted = false;
	return 0;
}

static int table_delete(int fd, const char *name)
{
	struct batch b;

	batch_open(&b, 0);
	if (!b.failed)
		put_table(&b, name, NFT_MSG_DELTABLE, 0, 0);
	return batch_send(&b, fd);
}

/* 0, -ENOENT, or -errno. To delete what is not there takes the kernel as long as a close. */
static int table_find(int fd, const char *name)
{
	struct batch b = { .cap = ROOM_BASE, .buf = malloc(ROOM_BASE) };
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	const struct nlmsghdr *h = (const void *)b.buf;
	int rc = b.buf ? 0 : -ENOMEM;
	ssize_t n = 0;

	if (!rc) {
		put_table(&b, name, NFT_MSG_GETTABLE, 0, 0);
		rc = b.failed ? -ENOMEM : 0;
	}
	if (!rc && sendto(fd, b.buf, h->nlmsg_len, 0, (void *)&kernel, sizeof(kernel)) < 0)
		rc = -errno;
	if (!rc && (n = recv(fd, b.buf, b.cap, MSG_DONTWAIT)) < (ssize_t)sizeof(*h))
		rc = n < 0 ? -errno : -EPROTO;
	if (!rc && h->nlmsg_type == NLMSG_ERROR)
		rc = message_error(h);
	free(b.buf);
	return rc;
}

void netlock_lift(struct netlock *l)
{
	if (l->fd < 0 || l->lifted)
		return;
	l->lifted = true;
	if (table_delete(l->fd, l->name))
		netlock_drop(l);
}

void netlock_drop(struct netlock *l)
{
	if (l->fd >= 0)
		(void)close(l->fd);
	l->fd = -1;
}

void netlock_name(const uint8_t *id, char *ret)
{
	static const char digits[] = "0123456789abcdef";
	char *p = stpcpy(ret, "ckpt-");

	for (int i = 0; i < 6; i++) {
		*p++ = digits[id[i] >> 4];
		*p++ = digits[id[i] & 15];
	}
	*p = 0;
}

/* That of @by, if it is open, or *own. */
static int socket_of(const struct netlock *by, int *own)
{
	if (by && by->fd >= 0)
		return by->fd;
	*own = nl_open();
	return *own;
}

int netlock_keep(const struct netlock *by, const char *name, const struct netlock_conn *v, size_t n,
		 struct ckpt_err *err)
{
	auto_fd own = -1;
	int fd = socket_of(by, &own), rc = fd;
	struct batch b;

	if (fd >= 0) {
		batch_open(&b, n);
		if (!b.failed) {
			/* So that there is one to be deleted: the way nft(8) replaces a table. */
			put_table(&b, name, NFT_MSG_NEWTABLE, NLM_F_CREATE, 0);
			put_table(&b, name, NFT_MSG_DELTABLE, 0, 0);
			put_lock(&b, name, 0, NETLOCK_ALL, v, n);
		}
		rc = batch_send(&b, fd);
	}
	return rc ? fail(err, rc) : 0;
}

int netlock_remove(const struct netlock *by, const char *name)
{
	auto_fd own = -1;
	int fd = socket_of(by, &own);
	int rc = fd < 0 ? fd : table_find(fd, name);

	return rc ? rc : table_delete(fd, name);
}

int netlock_probe(void)
{
	const struct netlock_conn any = { .family = AF_INET,
					  .local = { 192, 0, 2, 1 },
					  .remote = { 192, 0, 2, 2 },
					  .lport = 1,
					  .rport = 1 };
	struct ckpt_err err = { 0 };
	struct netlock l = { .fd = -1 };
	int rc = netlock_take(&l, NETLOCK_ALL, &any, 1, &err);

	netlock_drop(&l);
	return rc;
}
