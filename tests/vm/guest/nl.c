// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/genetlink.h>

#include "nl.h"

#ifndef NETLINK_EXT_ACK
#define NETLINK_EXT_ACK 11
#endif

void vnl_begin(struct nl *nl, struct vnl_msg *m, int cmd, int flags)
{
	struct nlmsghdr *h = (struct nlmsghdr *)m->buf;
	struct genlmsghdr *g = NLMSG_DATA(h);

	memset(m->buf, 0, NLMSG_LENGTH(GENL_HDRLEN));
	h->nlmsg_type = nl->family;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	h->nlmsg_seq = ++nl->seq;
	g->cmd = cmd;
	g->version = CKPT_GENL_VERSION;
	m->len = NLMSG_LENGTH(GENL_HDRLEN);
}

void vnl_put(struct vnl_msg *m, int attr, const void *data, size_t len)
{
	struct nlattr *a = (struct nlattr *)(m->buf + m->len);

	a->nla_type = attr;
	a->nla_len = NLA_HDRLEN + len;
	memcpy((char *)a + NLA_HDRLEN, data, len);
	m->len += NLA_ALIGN(a->nla_len);
}

void vnl_put_u32(struct vnl_msg *m, int attr, uint32_t value)
{
	vnl_put(m, attr, &value, sizeof(value));
}

static const struct nlattr *find(const void *data, size_t len, int attr)
{
	const struct nlattr *a = data;

	while (len >= NLA_HDRLEN && a->nla_len >= NLA_HDRLEN && a->nla_len <= len) {
		size_t step = NLA_ALIGN(a->nla_len);

		if ((a->nla_type & NLA_TYPE_MASK) == attr)
			return a;
		if (step >= len)
			break;
		len -= step;
		a = (const void *)((const char *)a + step);
	}
	return NULL;
}

const struct nlattr *vnl_attr(const struct nlmsghdr *h, int attr)
{
	return find((const char *)NLMSG_DATA(h) + GENL_HDRLEN,
		    h->nlmsg_len - NLMSG_LENGTH(GENL_HDRLEN), attr);
}

uint32_t vnl_u32(const struct nlattr *a)
{
	uint32_t v = 0;

	if (a)
		memcpy(&v, (const char *)a + NLA_HDRLEN, sizeof(v));
	return v;
}

uint64_t vnl_u64(const struct nlattr *a)
{
	uint64_t v = 0;

	if (a)
		memcpy(&v, (const char *)a + NLA_HDRLEN, sizeof(v));
	return v;
}

static void ext_ack(struct nl *nl, const struct nlmsghdr *h)
{
	const struct nlmsgerr *e = NLMSG_DATA(h);
	size_t skip = NLMSG_HDRLEN + sizeof(*e);
	const struct nlattr *a;

	nl->ext[0] = 0;
	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		skip += e->msg.nlmsg_len - NLMSG_HDRLEN;
	if (skip >= h->nlmsg_len)
		return;
	a = find((const char *)h + skip, h->nlmsg_len - skip, NLMSGERR_ATTR_MSG);
	if (a)
		strncpy(nl->ext, (const char *)a + NLA_HDRLEN, sizeof(nl->ext) - 1);
}

int vnl_talk(struct nl *nl, struct vnl_msg *m, void (*fn)(const struct nlmsghdr *, void *), void *arg)
{
	static _Thread_local _Alignas(NLMSG_ALIGNTO) char buf[1 << 16];
	struct nlmsghdr *h = (struct nlmsghdr *)m->buf;
	int dump = (h->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;

	h->nlmsg_len = m->len;
	if (!dump)
		h->nlmsg_flags |= NLM_F_ACK;
	if (send(nl->fd, m->buf, m->len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(nl->fd, buf, sizeof(buf), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (struct nlmsghdr *r = (struct nlmsghdr *)buf; NLMSG_OK(r, n);
		     r = NLMSG_NEXT(r, n)) {
			if (r->nlmsg_seq != nl->seq)
				continue; /* an event */
			if (r->nlmsg_type == NLMSG_ERROR) {
				ext_ack(nl, r);
				return ((struct nlmsgerr *)NLMSG_DATA(r))->error;
			}
			if (r->nlmsg_type == NLMSG_DONE)
				return *(int *)NLMSG_DATA(r);
			if (fn)
				fn(r, arg);
		}
	}
}

static void got_family(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *id = vnl_attr(h, CTRL_ATTR_FAMILY_ID);
	const struct nlattr *groups = vnl_attr(h, CTRL_ATTR_MCAST_GROUPS);
	struct nl *nl = arg;

	nl->family = id ? *(uint16_t *)((char *)id + NLA_HDRLEN) : 0;
	if (groups) {
		const struct nlattr *g = (const void *)((const char *)groups + NLA_HDRLEN);

		nl->events_group = vnl_u32(find((const char *)g + NLA_HDRLEN,
					       g->nla_len - NLA_HDRLEN, CTRL_ATTR_MCAST_GRP_ID));
	}
}

int vnl_open(struct nl *nl)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	socklen_t len = sizeof(addr);
	int one = 1, big = 4 << 20, err;
	struct vnl_msg m;

	memset(nl, 0, sizeof(*nl));
	nl->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	if (nl->fd < 0)
		return -errno;
	if (bind(nl->fd, (struct sockaddr *)&addr, len) ||
	    getsockname(nl->fd, (struct sockaddr *)&addr, &len)) {
		err = -errno;
		close(nl->fd);
		return err;
	}
	nl->port = addr.nl_pid;
	(void)setsockopt(nl->fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one));
	(void)setsockopt(nl->fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof(big));

	nl->family = GENL_ID_CTRL;
	vnl_begin(nl, &m, CTRL_CMD_GETFAMILY, 0);
	vnl_put(&m, CTRL_ATTR_FAMILY_NAME, CKPT_GENL_NAME, sizeof(CKPT_GENL_NAME));
	err = vnl_talk(nl, &m, got_family, nl);
	if (err)
		close(nl->fd);
	return err;
}

void vnl_close(struct nl *nl)
{
	close(nl->fd);
	nl->fd = -1;
}

static void got_session(const struct nlmsghdr *h, void *arg)
{
	*(uint32_t *)arg = vnl_u32(vnl_attr(h, CKPT_A_SESSION));
}

int vnl_session(struct nl *nl, uint32_t flags, uint32_t *ret_session)
{
	struct vnl_msg m;

	vnl_begin(nl, &m, CKPT_CMD_OPEN, 0);
	if (flags)
		vnl_put_u32(&m, CKPT_A_SESSION_FLAGS, flags);
	return vnl_talk(nl, &m, got_session, ret_session);
}

static void got_track(const struct nlmsghdr *h, void *arg)
{
	*(uint32_t *)arg = vnl_u32(vnl_attr(h, CKPT_A_TRACK));
}

int vnl_attach(struct nl *nl, uint32_t session, int32_t pid, uint32_t *ret_track)
{
	struct vnl_msg m;

	vnl_begin(nl, &m, CKPT_CMD_ATTACH, 0);
	vnl_put_u32(&m, CKPT_A_SESSION, session);
	vnl_put(&m, CKPT_A_PID, &pid, sizeof(pid));
	return vnl_talk(nl, &m, got_track, ret_track);
}

struct results {
	struct vnl_result *r;
	int n, max;
};

static void got_results(const struct nlmsghdr *h, void *arg)
{
	struct results *res = arg;
	const char *p = (const char *)NLMSG_DATA(h) + GENL_HDRLEN;
	const char *end = (const char *)h + h->nlmsg_len;

	while (p + NLA_HDRLEN <= end) {
		const struct nlattr *a = (const void *)p;
		const void *in = p + NLA_HDRLEN;
		size_t len = a->nla_len - NLA_HDRLEN;

		if ((a->nla_type & NLA_TYPE_MASK) == CKPT_A_RESULT && res->n < res->max) {
			struct vnl_result *r = &res->r[res->n++];

			memset(r, 0, sizeof(*r));
			r->track = vnl_u32(find(in, len, CKPT_A_TRACK));
			r->pid = vnl_u32(find(in, len, CKPT_A_PID));
			r->flags = vnl_u32(find(in, len, CKPT_A_RESULT_FLAGS));
			r->epoch = vnl_u64(find(in, len, CKPT_A_EPOCH));
			r->pages = vnl_u64(find(in, len, CKPT_A_PAGES));
			r->nruns = vnl_u64(find(in, len, CKPT_A_RUNS));
			r->wall_ns = vnl_u64(find(in, len, CKPT_A_WALL_NS));
		}
		p += NLA_ALIGN(a->nla_len);
	}
}

static int scan(struct nl *nl, int cmd, uint32_t session, uint32_t flags, struct vnl_result *r, int max)
{
	struct results res = { r, 0, max };
	struct vnl_msg m;
	int err;

	vnl_begin(nl, &m, cmd, 0);
	vnl_put_u32(&m, CKPT_A_SESSION, session);
	if (flags)
		vnl_put_u32(&m, CKPT_A_COLLECT_FLAGS, flags);
	err = vnl_talk(nl, &m, got_results, &res);
	return err ? err : res.n;
}

int vnl_arm(struct nl *nl, uint32_t session, struct vnl_result *r, int max)
{
	return scan(nl, CKPT_CMD_ARM, session, 0, r, max);
}

int vnl_collect(struct nl *nl, uint32_t session, uint32_t flags, struct vnl_result *r, int max)
{
	return scan(nl, CKPT_CMD_COLLECT, session, flags, r, max);
}

struct runs {
	struct vnl_result *r;
	uint64_t got;
	int err;
};

static void got_runs(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *a = vnl_attr(h, CKPT_A_RUN_DATA);
	struct runs *runs = arg;
	size_t n = a ? (a->nla_len - NLA_HDRLEN) / sizeof(struct ckpt_run) : 0;

	if (runs->got + n > runs->r->nruns || vnl_u64(vnl_attr(h, CKPT_A_EPOCH)) != runs->r->epoch) {
		runs->err = -EBADMSG;
		return;
	}
	if (n)
		memcpy(runs->r->runs + runs->got, (const char *)a + NLA_HDRLEN, n * sizeof(struct ckpt_run));
	runs->got += n;
}

int vnl_runs(struct nl *nl, uint32_t session, struct vnl_result *r)
{
	struct runs runs = { .r = r };
	struct vnl_msg m;
	int err;

	r->runs = calloc(r->nruns + 1, sizeof(*r->runs));
	vnl_begin(nl, &m, CKPT_CMD_RUNS, NLM_F_DUMP);
	vnl_put_u32(&m, CKPT_A_SESSION, session);
	vnl_put_u32(&m, CKPT_A_TRACK, r->track);
	err = vnl_talk(nl, &m, got_runs, &runs);
	if (!err)
		err = runs.err;
	if (!err && runs.got != r->nruns)
		err = -EBADMSG;
	return err;
}

struct snapshot {
	int fd;
	uint64_t pages, pool;
};

static void got_snapshot(const struct nlmsghdr *h, void *arg)
{
	struct snapshot *s = arg;

	s->fd = vnl_u32(vnl_attr(h, CKPT_A_FD));
	s->pages = vnl_u64(vnl_attr(h, CKPT_A_PAGES));
	s->pool = vnl_u64(vnl_attr(h, CKPT_A_POOL_PAGES));
}

int vnl_snapshot(struct nl *nl, uint32_t session, uint32_t track, uint64_t *ret_pages,
		 uint64_t *ret_pool)
{
	struct snapshot s = { -1, 0, 0 };
	struct vnl_msg m;
	int err;

	vnl_begin(nl, &m, CKPT_CMD_SNAPSHOT, 0);
	vnl_put_u32(&m, CKPT_A_SESSION, session);
	vnl_put_u32(&m, CKPT_A_TRACK, track);
	err = vnl_talk(nl, &m, got_snapshot, &s);
	if (err) {
		if (s.fd >= 0)
			close(s.fd);
		return err;
	}
	if (ret_pages)
		*ret_pages = s.pages;
	if (ret_pool)
		*ret_pool = s.pool;
	return s.fd;
}

int vnl_detach(struct nl *nl, uint32_t session, uint32_t track)
{
	struct vnl_msg m;

	vnl_begin(nl, &m, CKPT_CMD_DETACH, 0);
	vnl_put_u32(&m, CKPT_A_SESSION, session);
	if (track)
		vnl_put_u32(&m, CKPT_A_TRACK, track);
	return vnl_talk(nl, &m, NULL, NULL);
}
