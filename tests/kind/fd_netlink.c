// SPDX-License-Identifier: GPL-2.0-only
/* Netlink sockets: ports, groups, options, and that they still answer. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/random.h>

static bool has_group(int fd, unsigned int group)
{
	uint32_t bits[64] = { 0 };
	socklen_t len = sizeof(bits);

	return !getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, bits, &len) &&
	       bits[(group - 1) / 32] >> ((group - 1) % 32) & 1;
}

static int option(int fd, int name)
{
	int v = -1;

	return getsockopt(fd, SOL_NETLINK, name, &v, &(socklen_t) { sizeof(v) }) ? -1 : v;
}

/* Is there an interface lo? */
static bool asks(int fd)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
	} q = { { .nlmsg_len = sizeof(q), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST, .nlmsg_seq = 7 },
		{ .ifi_index = 1 } };
	char answer[16384];
	struct nlmsghdr *h = (void *)answer;

	return send(fd, &q, sizeof(q), 0) == sizeof(q) && recv(fd, answer, sizeof(answer), 0) > 0 &&
	       h->nlmsg_type == RTM_NEWLINK && h->nlmsg_seq == 7;
}

int main(int argc, char **argv)
{
	struct sockaddr_nl nl = { .nl_family = AF_NETLINK }, was, now;
	int bound, fresh, uevent, one = 1, group = RTNLGRP_NEXTHOP, size = 30000;
	socklen_t len = sizeof(was);
	uint32_t port;

	fd_init(argc, argv);
	/* The port that the kernel gives is the pid, and other pid namespaces have that one, too. */
	MUST(getrandom(&port, sizeof(port), 0));
	nl.nl_pid = port | 0x40000000;
	bound = (int)MUST(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
	MUST(bind(bound, (void *)&nl, sizeof(nl)));
	nl.nl_pid = 0;
	MUST(setsockopt(bound, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)));
	MUST(setsockopt(bound, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one)));
	MUST(setsockopt(bound, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)));
	MUST(getsockname(bound, (void *)&was, &len));
	fresh = (int)MUST(socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE));
	uevent = (int)MUST(socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT));

	t_ready();

	len = sizeof(now);
	MUST(getsockname(bound, (void *)&now, &len));
	t_check(now.nl_pid == was.nl_pid, "port %u, not %u", now.nl_pid, was.nl_pid);
	t_check(has_group(bound, RTNLGRP_NEXTHOP) && !has_group(bound, RTNLGRP_LINK), "groups");
	t_check(option(bound, NETLINK_EXT_ACK) == 1 && option(bound, NETLINK_CAP_ACK) == 0, "options");
	t_check(!getsockopt(bound, SOL_SOCKET, SO_RCVBUF, &size, &(socklen_t) { sizeof(size) }) && size == 60000,
		"receive buffer: %d", size);
	t_check(fcntl(bound, F_GETFL) & O_NONBLOCK && fcntl(bound, F_GETFD) == FD_CLOEXEC, "flags");
	MUST(fcntl(bound, F_SETFL, 0));
	t_check(asks(bound), "the bound one answers");
	len = sizeof(now);
	t_check(!getsockname(fresh, (void *)&now, &len) && !now.nl_pid, "one that was not bound is");
	t_check(asks(fresh), "the other one answers");
	t_check(!bind(uevent, (void *)&nl, sizeof(nl)), "a third protocol");
	return t_done();
}
