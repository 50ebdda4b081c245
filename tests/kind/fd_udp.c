// SPDX-License-Identifier: GPL-2.0-only
/* UDP sockets: bound, connected, unbound; IPv4, IPv6 and mapped; options, queued datagrams. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>

static int get(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return getsockopt(fd, level, name, &v, &len) ? -1 : v;
}

static void set(int fd, int level, int name, int v)
{
	MUST(setsockopt(fd, level, name, &v, sizeof(v)));
}

static struct sockaddr_in loopback(void)
{
	return (struct sockaddr_in) { .sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = loopback(), b, now;
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
	struct ip_mreqn group = { .imr_multiaddr.s_addr = htonl(0xef010203),
				  .imr_address.s_addr = htonl(INADDR_LOOPBACK) };
	int server, client, six, fresh, multi, n, lite, unconn;
	socklen_t len = sizeof(a);
	char got[64];

	fd_init(argc, argv);
	server = (int)MUST(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	set(server, SOL_SOCKET, SO_BROADCAST, 1);
	set(server, SOL_SOCKET, SO_RXQ_OVFL, 1);
	set(server, IPPROTO_IP, IP_PKTINFO, 1);
	set(server, IPPROTO_IP, IP_RECVTTL, 1);
	set(server, IPPROTO_IP, IP_RECVERR, 1);
	set(server, SOL_UDP, UDP_SEGMENT, 0);
	set(server, SOL_SOCKET, SO_NO_CHECK, 1);
	MUST(bind(server, (void *)&a, sizeof(a)));
	MUST(getsockname(server, (void *)&a, &len));
	client = (int)MUST(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	MUST(connect(client, (void *)&a, sizeof(a)));
	len = sizeof(b);
	MUST(getsockname(client, (void *)&b, &len));
	MUST(connect(server, (void *)&b, sizeof(b)));

	six = (int)MUST(socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	MUST(bind(six, (void *)&a6, sizeof(a6)));
	fresh = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
	set(fresh, SOL_SOCKET, SO_PRIORITY, 2);
	lite = (int)MUST(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP));
	unconn = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
	MUST(connect(unconn, (void *)&a, sizeof(a)));
	MUST(connect(unconn, &(struct sockaddr) { .sa_family = AF_UNSPEC },
		     sizeof(struct sockaddr)));

	multi = (int)MUST(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	set(multi, IPPROTO_IP, IP_MULTICAST_TTL, 5);
	set(multi, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
	MUST(setsockopt(multi, IPPROTO_IP, IP_MULTICAST_IF, &group, sizeof(group)));

	t_ready();

	t_check(get(server, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM &&
			get(server, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP,
		"type");
	t_check(get(server, SOL_SOCKET, SO_BROADCAST) == 1 &&
			get(client, SOL_SOCKET, SO_BROADCAST) == 0,
		"SO_BROADCAST");
	t_check(get(server, SOL_SOCKET, SO_RXQ_OVFL) == 1, "SO_RXQ_OVFL");
	t_check(get(server, SOL_SOCKET, SO_NO_CHECK) == 1, "SO_NO_CHECK");
	t_check(get(server, IPPROTO_IP, IP_PKTINFO) == 1 &&
			get(server, IPPROTO_IP, IP_RECVTTL) == 1 &&
			get(server, IPPROTO_IP, IP_RECVERR) == 1,
		"IP options");
	len = sizeof(now);
	t_check(!getsockname(server, (void *)&now, &len) && !memcmp(&now, &a, sizeof(a)), "name");
	len = sizeof(now);
	t_check(!getpeername(server, (void *)&now, &len) && now.sin_port == b.sin_port, "peer");
	len = sizeof(now);
	t_check(!getsockname(client, (void *)&now, &len) && !memcmp(&now, &b, sizeof(b)),
		"client's name");
	t_check(fcntl(client, F_GETFD) == FD_CLOEXEC && fcntl(client, F_GETFL) & O_NONBLOCK,
		"flags");
	t_check(send(client, "ping", 4, 0) == 4, "ping: %s", strerror(errno));
	t_check(fd_poll(server, POLLIN) && recv(server, got, 64, 0) == 4, "ping: %s",
		strerror(errno));
	t_check(send(server, "pong", 4, 0) == 4 && recv(client, got, 64, 0) == 4, "pong");
	len = sizeof(a6);
	t_check(!getsockname(six, (void *)&a6, &len), "IPv6 name");
	n = (int)MUST(socket(AF_INET6, SOCK_DGRAM, 0));
	t_check(sendto(n, "six", 3, 0, (void *)&a6, len) == 3 && recv(six, got, 64, 0) == 3,
		"IPv6");
	len = sizeof(now);
	t_check(!getsockname(fresh, (void *)&now, &len) && !now.sin_port, "fresh socket is bound");
	t_check(get(fresh, SOL_SOCKET, SO_PRIORITY) == 2, "fresh socket's priority");
	t_check(getpeername(unconn, (void *)&now, &len) < 0, "disconnected socket is connected");
	t_check(get(lite, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP, "protocol");
	t_check(get(multi, IPPROTO_IP, IP_MULTICAST_TTL) == 5 &&
			get(multi, IPPROTO_IP, IP_MULTICAST_LOOP) == 0,
		"multicast options");
	return t_done();
}
