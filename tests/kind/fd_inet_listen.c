// SPDX-License-Identifier: GPL-2.0-only
/* TCP sockets that listen, are only bound, or nothing yet; IPv4 and IPv6; their options. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

static const struct {
	int level, name, value;
	const char *text;
	bool v6;
} opts[] = {
	{ SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR", false },
	{ SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT", false },
	{ SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE", false },
	{ SOL_SOCKET, SO_SNDBUF, 50000, "SO_SNDBUF", false },
	{ SOL_SOCKET, SO_RCVBUF, 60000, "SO_RCVBUF", false },
	{ SOL_SOCKET, SO_RCVLOWAT, 10, "SO_RCVLOWAT", false },
	{ SOL_SOCKET, SO_OOBINLINE, 1, "SO_OOBINLINE", false },
	{ SOL_SOCKET, SO_MARK, 77, "SO_MARK", false },
	{ SOL_SOCKET, SO_PRIORITY, 4, "SO_PRIORITY", false },
	{ SOL_SOCKET, SO_TIMESTAMP, 1, "SO_TIMESTAMP", false },
	{ SOL_SOCKET, SO_BUSY_POLL, 20, "SO_BUSY_POLL", false },
	{ IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY", false },
	{ IPPROTO_TCP, TCP_MAXSEG, 1000, "TCP_MAXSEG", false },
	{ IPPROTO_TCP, TCP_KEEPIDLE, 100, "TCP_KEEPIDLE", false },
	{ IPPROTO_TCP, TCP_KEEPINTVL, 11, "TCP_KEEPINTVL", false },
	{ IPPROTO_TCP, TCP_KEEPCNT, 5, "TCP_KEEPCNT", false },
	{ IPPROTO_TCP, TCP_SYNCNT, 3, "TCP_SYNCNT", false },
	{ IPPROTO_TCP, TCP_LINGER2, 20, "TCP_LINGER2", false },
	{ IPPROTO_TCP, TCP_DEFER_ACCEPT, 3, "TCP_DEFER_ACCEPT", false },
	{ IPPROTO_TCP, TCP_WINDOW_CLAMP, 40000, "TCP_WINDOW_CLAMP", false },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, 12345, "TCP_USER_TIMEOUT", false },
	{ IPPROTO_TCP, TCP_FASTOPEN, 7, "TCP_FASTOPEN", false },
	{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, 5555, "TCP_NOTSENT_LOWAT", false },
	{ IPPROTO_TCP, TCP_SAVE_SYN, 1, "TCP_SAVE_SYN", false },
	{ IPPROTO_IP, IP_TOS, 0x10, "IP_TOS", false },
	{ IPPROTO_IP, IP_TTL, 33, "IP_TTL", false },
	{ IPPROTO_IP, IP_FREEBIND, 1, "IP_FREEBIND", false },
	{ IPPROTO_IP, IP_TRANSPARENT, 1, "IP_TRANSPARENT", false },
	{ IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO, "IP_MTU_DISCOVER", false },
	{ IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1, "IP_BIND_ADDRESS_NO_PORT", false },
	{ IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY", true },
	{ IPPROTO_IPV6, IPV6_TCLASS, 0x20, "IPV6_TCLASS", true },
	{ IPPROTO_IPV6, IPV6_UNICAST_HOPS, 12, "IPV6_UNICAST_HOPS", true },
	{ IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO", true },
};
#define N (sizeof(opts) / sizeof(opts[0]))

static int get(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return getsockopt(fd, level, name, &v, &len) ? -1 : v;
}

static int make(int family, int type, bool with_options)
{
	struct sockaddr_storage ss = { .ss_family = (sa_family_t)family };
	int fd = (int)MUST(socket(family, type | SOCK_NONBLOCK, 0));

	for (size_t i = 0; with_options && i < N; i++)
		if (!opts[i].v6 || family == AF_INET6)
			MUST(setsockopt(fd, opts[i].level, opts[i].name, &opts[i].value,
					sizeof(int)));
	if (family == AF_INET)
		((struct sockaddr_in *)&ss)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)&ss)->sin6_addr = in6addr_loopback;
	MUST(bind(fd, (void *)&ss,
		  family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)));
	return fd;
}

static bool connects(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	int c = socket(get(fd, SOL_SOCKET, SO_DOMAIN), SOCK_STREAM, 0), a;
	bool ok;

	ok = !getsockname(fd, (void *)&ss, &len) && !connect(c, (void *)&ss, len) &&
	     write(c, "0123456789", 10) == 10 &&
	     poll(&(struct pollfd) { .fd = fd, .events = POLLIN }, 1, 10000) == 1 &&
	     (a = accept(fd, NULL, NULL)) >= 0;
	(void)close(c);
	return ok;
}

int main(int argc, char **argv)
{
	struct sock_filter code[] = { { BPF_RET | BPF_K, 0, 0, 0xffff } };
	struct sock_fprog prog = { 1, code };
	struct sockaddr_in6 name[4], now;
	struct linger linger = { 1, 9 }, l;
	int fds[4], v[4][N], fresh, cc, dev, filter, any, again;
	char text[64] = "";
	socklen_t len;

	fd_init(argc, argv);
	fds[0] = make(AF_INET, SOCK_STREAM, true);
	fds[1] = make(AF_INET6, SOCK_STREAM, true);
	fds[2] = make(AF_INET, SOCK_STREAM, false);
	fds[3] = make(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, false); /* bound, does not listen */
	for (int i = 0; i < 3; i++)
		MUST(listen(fds[i], 3 + i));
	for (int i = 0; i < 4; i++) {
		len = sizeof(name[i]);
		memset(&name[i], 0, sizeof(name[i]));
		MUST(getsockname(fds[i], (void *)&name[i], &len));
		for (size_t o = 0; o < N; o++)
			v[i][o] = get(fds[i], opts[o].level, opts[o].name);
	}
	MUST(setsockopt(fds[0], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	fresh = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(setsockopt(fresh, IPPROTO_TCP, TCP_NODELAY, &(int) { 1 }, sizeof(int)));
	cc = make(AF_INET, SOCK_STREAM, false);
	MUST(setsockopt(cc, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	dev = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(setsockopt(dev, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	filter = make(AF_INET, SOCK_STREAM, false);
	MUST(setsockopt(filter, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
	MUST(setsockopt(filter, SOL_SOCKET, SO_LOCK_FILTER, &(int) { 1 }, sizeof(int)));
	any = (int)MUST(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0));
	MUST(listen(any, 1)); /* no bind(): a port of the kernel's choice */
	/* Two sockets on one port. */
	again = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	MUST(setsockopt(again, SOL_SOCKET, SO_REUSEPORT, &(int) { 1 }, sizeof(int)));
	MUST(setsockopt(again, SOL_SOCKET, SO_REUSEADDR, &(int) { 1 }, sizeof(int)));
	MUST(bind(again, (void *)&name[0], sizeof(struct sockaddr_in)));
	MUST(listen(again, 1));

	t_ready();

	for (int i = 0; i < 4; i++) {
		memset(&now, 0, sizeof(now));
		len = sizeof(now);
		t_check(!getsockname(fds[i], (void *)&now, &len) &&
				!memcmp(&now, &name[i], sizeof(now)),
			"socket %d: another name", i);
		for (size_t o = 0; o < N; o++)
			t_check(get(fds[i], opts[o].level, opts[o].name) == v[i][o],
				"socket %d: %s %d, not %d", i, opts[o].text,
				get(fds[i], opts[o].level, opts[o].name), v[i][o]);
		t_check(fcntl(fds[i], F_GETFL) == (O_RDWR | O_NONBLOCK) &&
				fcntl(fds[i], F_GETFD) == (i == 3 ? FD_CLOEXEC : 0),
			"socket %d: flags", i);
		t_check(get(fds[i], SOL_SOCKET, SO_ACCEPTCONN) == (i < 3), "socket %d: listening",
			i);
	}
	len = sizeof(l);
	t_check(!getsockopt(fds[0], SOL_SOCKET, SO_LINGER, &l, &len) &&
			!memcmp(&l, &linger, sizeof(l)),
		"SO_LINGER %d %d", l.l_onoff, l.l_linger);
	t_check(connects(fds[2]), "IPv4: %s", strerror(errno));
	t_check(connects(any), "any: %s", strerror(errno));
	t_check(listen(fds[3], 1) == 0 && connects(fds[3]), "the bound one: %s", strerror(errno));
	t_check(get(fresh, IPPROTO_TCP, TCP_NODELAY) == 1, "option of the fresh socket");
	len = sizeof(text);
	t_check(!getsockopt(cc, IPPROTO_TCP, TCP_CONGESTION, text, &len) && !strcmp(text, "reno"),
		"congestion control %s", text);
	len = sizeof(text);
	t_check(!getsockopt(dev, SOL_SOCKET, SO_BINDTODEVICE, text, &len) && !strcmp(text, "lo"),
		"device %s", text);
	len = 0;
	t_check(!getsockopt(filter, SOL_SOCKET, SO_ATTACH_FILTER, NULL, &len) && len == 1,
		"filter of %u instructions", len);
	t_check(get(filter, SOL_SOCKET, SO_LOCK_FILTER) == 1, "SO_LOCK_FILTER");
	t_check(get(again, SOL_SOCKET, SO_ACCEPTCONN) == 1, "second listener of the port");
	return t_done();
}
