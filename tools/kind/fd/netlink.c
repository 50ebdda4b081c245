// SPDX-License-Identifier: GPL-2.0-only
/*
 * Netlink sockets of protocols that keep nothing about a socket but what it can be asked: its port,
 * its groups and its options. Others (audit, netfilter, generic …) are refused, and so is one with
 * messages that the program has not read.
 */
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "fd_netlink.pb-c.h"
#include "kern/getfd.h"
#include "kind/fd/kinds.h"
#include "kind/fd/sockopt.h"

#define GROUPS_MAX 4096u

static const int protocols[] = { NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_KOBJECT_UEVENT };
static const int options[] = { NETLINK_PKTINFO,         NETLINK_BROADCAST_ERROR, NETLINK_NO_ENOBUFS,
			       NETLINK_LISTEN_ALL_NSID, NETLINK_CAP_ACK,         NETLINK_EXT_ACK,
			       NETLINK_GET_STRICT_CHK };

static bool netlink_match(const struct fd_facts *f)
{
	return f->family == AF_NETLINK && !(f->flags & O_PATH);
}

static bool is_known(int protocol)
{
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
		if (protocols[i] == protocol)
			return true;
	return false;
}

static int netlink_check(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err)
{
	auto_fd own = f->local < 0 ? fd_take(f->pid, f->fd) : -1;
	int fd = f->local < 0 ? own : f->local;
	int protocol = sockopt_get(fd, SOL_SOCKET, SO_PROTOCOL);
	char byte;

	(void)d;
	if (fd < 0)
		return 0; /* closed meanwhile */
	if (!is_known(protocol))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "fd %d: a netlink socket of protocol %d, of which the kernel may "
				 "know more than it tells",
				 f->fd, protocol);
	if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC) < 0)
		return 0;
	(void)ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
			"fd %d: a netlink socket with unread messages", f->fd);
	return ckpt_remedy(err, "repeat when the program has read them");
}

static int groups_dump(int fd, Ckpt__FdNetlink *m, struct ckpt_err *err)
{
	uint32_t bits[GROUPS_MAX / 32] = { 0 };
	socklen_t len = sizeof(bits);

	if (getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, bits, &len))
		return ckpt_fail_errno(err, E_KERNEL, -errno, "cannot ask for netlink groups");
	m->groups = calloc(GROUPS_MAX, sizeof(*m->groups));
	if (!m->groups)
		return ckpt_oom(err);
	for (uint32_t g = 0; g < GROUPS_MAX; g++)
		if (bits[g / 32] >> (g % 32) & 1)
			m->groups[m->n_groups++] = g + 1;
	return 0;
}

static int netlink_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
			struct ckpt_err *err)
{
	Ckpt__FdNetlink *m = msg;
	struct sockaddr_nl nl = { 0 };
	int rc;

	(void)d;
	(void)obj;
	m->type = (uint32_t)sockopt_get(f->local, SOL_SOCKET, SO_TYPE);
	m->protocol = (uint32_t)sockopt_get(f->local, SOL_SOCKET, SO_PROTOCOL);
	if (!getsockname(f->local, (void *)&nl, &(socklen_t) { sizeof(nl) }))
		m->port = nl.nl_pid;
	memset(&nl, 0, sizeof(nl));
	if (!getpeername(f->local, (void *)&nl, &(socklen_t) { sizeof(nl) })) {
		m->peer_port = nl.nl_pid;
		m->peer_groups = nl.nl_groups;
	}
	m->options = calloc(ARRAY_SIZE(options), sizeof(*m->options));
	if (!m->options)
		return ckpt_oom(err);
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (sockopt_get(f->local, SOL_NETLINK, options[i]) > 0)
			m->options[m->n_options++] = (uint32_t)options[i];
	rc = groups_dump(f->local, m, err);
	return rc ? rc : sockopts_dump(d, f, &m->opts, err);
}

static int netlink_bind(struct restore_ctx *r, const Ckpt__FdNetlink *m, int fd,
			struct ckpt_err *err)
{
	struct sockaddr_nl nl = { .nl_family = AF_NETLINK, .nl_pid = m->port };

	if (!m->port || !bind(fd, (void *)&nl, sizeof(nl)))
		return 0;
	if (errno != EADDRINUSE)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot bind a netlink socket");
	/* In another pid namespace the number may be somebody's; the kernel chooses another one. */
	ui_note(restore_ui(r), 1, "netlink port %u is taken: the socket gets another one", m->port);
	nl.nl_pid = 0;
	return bind(fd, (void *)&nl, sizeof(nl))
		       ? ckpt_fail_errno(err, E_RESTORE, -errno, "cannot bind a netlink socket")
		       : 0;
}

static int netlink_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			   int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdNetlink *m = msg;
	struct sockaddr_nl peer = { .nl_family = AF_NETLINK,
				    .nl_pid = m->peer_port,
				    .nl_groups = m->peer_groups };
	auto_fd fd = socket(AF_NETLINK, (int)m->type | SOCK_CLOEXEC, (int)m->protocol);
	int one = 1, rc;

	(void)obj;
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot make a netlink socket of protocol %u", m->protocol);
	rc = netlink_bind(r, m, fd, err);
	for (size_t i = 0; !rc && i < m->n_options; i++)
		if (setsockopt(fd, SOL_NETLINK, (int)m->options[i], &one, sizeof(one)))
			rc = ckpt_fail_errno(err, E_RESTORE, -errno,
					     "cannot set option %u of a netlink socket",
					     m->options[i]);
	for (size_t i = 0; !rc && i < m->n_groups; i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &m->groups[i],
			       sizeof(m->groups[i])))
			rc = ckpt_fail_errno(err, E_RESTORE, -errno,
					     "cannot join netlink group %u of protocol %u",
					     m->groups[i], m->protocol);
	if (!rc && (m->peer_port || m->peer_groups) && connect(fd, (void *)&peer, sizeof(peer)))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "cannot connect a netlink socket");
	if (!rc)
		rc = sockopts_restore(fd, m->opts, SOCKOPT_EARLY, err);
	if (!rc)
		*ret_fd = take_fd(&fd);
	return rc;
}

static int netlink_finish(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int fd,
			  struct ckpt_err *err)
{
	const Ckpt__FdNetlink *m = msg;

	(void)r;
	(void)obj;
	return sockopts_restore(fd, m->opts, SOCKOPT_LATE, err);
}

const struct fd_kind fd_kind_netlink = {
	.name = "netlink",
	.desc = &ckpt__fd_netlink__descriptor,
	.match = netlink_match,
	.check = netlink_check,
	.dump = netlink_dump,
	.restore = netlink_restore,
	.finish = netlink_finish,
};
