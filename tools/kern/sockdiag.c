// SPDX-License-Identifier: GPL-2.0-only
/* One request for all sockets: asking for a single one makes the kernel look through all of them.
 */
#include "kern/sockdiag.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "kern/nlmsg.h"

#define ANSWER_MAX 65536

static int waiting_copy(const struct rtattr *a, struct unix_diag *ret)
{
	size_t n = RTA_PAYLOAD(a) / sizeof(uint32_t);

	free(ret->waiting);
	ret->waiting = calloc(n + 1, sizeof(uint32_t));
	if (!ret->waiting)
		return -ENOMEM;
	memcpy(ret->waiting, RTA_DATA(a), n * sizeof(uint32_t));
	ret->n_waiting = n;
	return 0;
}

static int answer_parse(const struct nlmsghdr *h, struct unix_diag *ret)
{
	const struct unix_diag_msg *m = NLMSG_DATA(h);
	int left;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return -EPROTO;
	left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*m)));
	ret->ino = m->udiag_ino;
	ret->state = m->udiag_state;
	for (const struct rtattr *a = (const void *)(m + 1); RTA_OK(a, left);
	     a = RTA_NEXT(a, left)) {
		const void *v = RTA_DATA(a);
		size_t len = RTA_PAYLOAD(a);

		if (a->rta_type == UNIX_DIAG_PEER && len >= sizeof(uint32_t)) {
			ret->connected = true;
			memcpy(&ret->peer, v, sizeof(uint32_t));
		} else if (a->rta_type == UNIX_DIAG_SHUTDOWN && len >= 1) {
			ret->shutdown = *(const uint8_t *)v;
		} else if (a->rta_type == UNIX_DIAG_NAME && len <= sizeof(ret->name)) {
			memcpy(ret->name, v, len);
			ret->name_len = (uint32_t)len;
		} else if (a->rta_type == UNIX_DIAG_VFS && len >= sizeof(struct unix_diag_vfs)) {
			ret->file_ino = ((const struct unix_diag_vfs *)v)->udiag_vfs_ino;
			ret->file_dev = ((const struct unix_diag_vfs *)v)->udiag_vfs_dev;
		} else if (a->rta_type == UNIX_DIAG_RQLEN &&
			   len >= sizeof(struct unix_diag_rqlen)) {
			/* Of a listener: connections that wait, and how many may. */
			ret->backlog = ((const struct unix_diag_rqlen *)v)->udiag_wqueue;
		} else if (a->rta_type == UNIX_DIAG_ICONS && waiting_copy(a, ret)) {
			return -ENOMEM;
		}
	}
	return 0;
}

static int diag_cmp(const void *a, const void *b)
{
	uint32_t x = ((const struct unix_diag *)a)->ino, y = ((const struct unix_diag *)b)->ino;

	return x < y ? -1 : x > y;
}

/* Returns 1 at the end of the answer. */
static int messages_parse(const char *buf, size_t left, struct unix_diags *ret)
{
	for_each_message (h, buf, left) {
		struct unix_diag *d;
		int rc;

		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type == NLMSG_ERROR) {
			rc = message_error(h);
			return rc < 0 ? rc : -EPROTO;
		}
		d = vec_push(ret);
		rc = d ? answer_parse(h, d) : -ENOMEM;
		if (rc)
			return rc;
		if (d->state == TCP_LISTEN) {
			uint32_t *l = vec_push(&ret->listeners);

			if (!l)
				return -ENOMEM;
			*l = d->ino;
		}
	}
	return 0;
}

int sockdiag_unix_read(struct unix_diags *ret, struct ckpt_err *err)
{
	struct {
		struct nlmsghdr h;
		struct unix_diag_req r;
	} req = {
		.h = { .nlmsg_len = sizeof(req),
		       .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.r = { .sdiag_family = AF_UNIX,
		       .udiag_states = ~0u,
		       .udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN |
				     UDIAG_SHOW_NAME | UDIAG_SHOW_VFS },
	};
	auto_fd fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	auto_free char *buf = malloc(ANSWER_MAX);
	int rc = 0;

	memset(ret, 0, sizeof(*ret));
	if (!buf)
		return ckpt_oom(err);
	if (fd < 0 || send(fd, &req, sizeof(req), 0) < 0)
		rc = -errno;
	while (!rc) {
		ssize_t n = recv(fd, buf, ANSWER_MAX, 0);

		rc = n < 0 ? -errno : messages_parse(buf, (size_t)n, ret);
	}
	if (rc < 0) {
		sockdiag_unix_free(ret);
		(void)ckpt_fail_errno(err, E_KERNEL, rc, "sock_diag does not tell of unix sockets");
		return rc == -ENOENT ? ckpt_remedy(err, "load the kernel module unix_diag") : rc;
	}
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), diag_cmp);
	return 0;
}

const struct unix_diag *sockdiag_unix_find(const struct unix_diags *all, uint64_t ino)
{
	struct unix_diag key = { .ino = (uint32_t)ino };

	return all->n ? bsearch(&key, all->v, all->n, sizeof(key), diag_cmp) : NULL;
}

void sockdiag_unix_free(struct unix_diags *all)
{
	for (size_t i = 0; i < all->n; i++)
		free(all->v[i].waiting);
	vec_free(&all->listeners);
	vec_free(all);
}

static bool has_v6only(const struct nlmsghdr *h, const struct inet_diag_msg *m)
{
	int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*m)));

	for (const struct rtattr *a = (const void *)(m + 1); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == INET_DIAG_SKV6ONLY && RTA_PAYLOAD(a) >= 1)
			return *(const uint8_t *)RTA_DATA(a) != 0;
	return false;
}

/* Returns 1 at the end of the answer. */
static int tcp_parse(const char *buf, size_t left, struct tcp_diags *ret)
{
	for_each_message (h, buf, left) {
		const struct inet_diag_msg *m = NLMSG_DATA(h);
		struct tcp_diag *d;
		int rc;

		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type == NLMSG_ERROR) {
			rc = message_error(h);
			return rc < 0 ? rc : -EPROTO;
		}
		if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
			return -EPROTO;
		d = vec_push(ret);
		if (!d)
			return -ENOMEM;
		d->ino = m->idiag_inode;
		d->family = m->idiag_family;
		d->state = m->idiag_state;
		d->v6only = has_v6only(h, m);
		memcpy(d->local, m->id.idiag_src, sizeof(d->local));
		memcpy(d->remote, m->id.idiag_dst, sizeof(d->remote));
		d->lport = m->id.idiag_sport;
		d->rport = m->id.idiag_dport;
		d->unread = m->idiag_rqueue;
		d->repeated = m->idiag_retrans;
	}
	return 0;
}

static int inet_family_read(int fd, int family, int protocol, uint32_t states, char *buf,
			    struct tcp_diags *ret)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} req = {
		.h = { .nlmsg_len = sizeof(req),
		       .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.r = { .sdiag_family = (uint8_t)family,
		       .sdiag_protocol = (uint8_t)protocol,
		       .idiag_states = states },
	};
	int rc = send(fd, &req, sizeof(req), 0) < 0 ? -errno : 0;

	while (!rc) {
		ssize_t n = recv(fd, buf, ANSWER_MAX, 0);

		rc = n < 0 ? -errno : tcp_parse(buf, (size_t)n, ret);
	}
	return rc < 0 ? rc : 0;
}

static int tcp_cmp(const void *a, const void *b)
{
	uint32_t x = ((const struct tcp_diag *)a)->ino, y = ((const struct tcp_diag *)b)->ino;

	return x < y ? -1 : x > y;
}

static int inet_read(int protocol, uint32_t states, struct tcp_diags *ret, struct ckpt_err *err)
{
	auto_fd fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	auto_free char *buf = malloc(ANSWER_MAX);
	int rc;

	memset(ret, 0, sizeof(*ret));
	if (!buf)
		return ckpt_oom(err);
	rc = fd < 0 ? -errno : inet_family_read(fd, AF_INET, protocol, states, buf, ret);
	if (!rc)
		rc = inet_family_read(fd, AF_INET6, protocol, states, buf, ret);
	if (rc)
		vec_free(ret);
	else if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), tcp_cmp);
	return rc;
}

int sockdiag_tcp_read(uint32_t states, struct tcp_diags *ret, struct ckpt_err *err)
{
	int rc = inet_read(IPPROTO_TCP, states, ret, err);

	if (!rc || err->code)
		return rc;
	(void)ckpt_fail_errno(err, E_KERNEL, rc, "sock_diag does not tell of TCP sockets");
	return rc == -ENOENT ? ckpt_remedy(err, "load the kernel module tcp_diag") : rc;
}

static uint32_t address_fill(const struct tcp_diag *t, const uint8_t *addr, uint16_t port,
			     struct sockaddr_storage *ret)
{
	struct sockaddr_in *in = (void *)ret;
	struct sockaddr_in6 *in6 = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	ret->ss_family = t->family;
	in->sin_port = port; /* at the same place in both */
	if (t->family == AF_INET)
		memcpy(&in->sin_addr, addr, 4);
	else
		memcpy(&in6->sin6_addr, addr, 16);
	return t->family == AF_INET ? sizeof(*in) : sizeof(*in6);
}

uint32_t tcp_diag_local(const struct tcp_diag *t, struct sockaddr_storage *ret)
{
	return address_fill(t, t->local, t->lport, ret);
}

uint32_t tcp_diag_remote(const struct tcp_diag *t, struct sockaddr_storage *ret)
{
	return address_fill(t, t->remote, t->rport, ret);
}

int sockdiag_udp_read(struct tcp_diags *ret, struct ckpt_err *err)
{
	int rc = inet_read(IPPROTO_UDP, ~0u, ret, err);

	if (!rc || rc == -ENOENT || err->code)
		return rc;
	return ckpt_fail_errno(err, E_KERNEL, rc, "sock_diag does not tell of UDP sockets");
}
