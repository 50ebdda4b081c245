// SPDX-License-Identifier: GPL-2.0-only
/* A hundred sockets, each with options of its own: every one comes back with what it had. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum { N = 100, OPTIONS = 6 };

static const struct {
	int level, name;
	bool tcp;
} options[OPTIONS] = {
	{ SOL_SOCKET, SO_PRIORITY, false }, { SOL_SOCKET, SO_KEEPALIVE, false },
	{ SOL_SOCKET, SO_RCVLOWAT, true },  { IPPROTO_IP, IP_TOS, false },
	{ IPPROTO_TCP, TCP_NODELAY, true }, { IPPROTO_TCP, TCP_KEEPCNT, true },
};

static bool is_tcp(int i)
{
	return i % 3 != 0;
}

/* What option @k of socket @i is set to; no two sockets in a row are alike. */
static int value(int i, int k)
{
	unsigned int v = (unsigned int)(i * (2 * k + 3) + k);

	switch (k) {
	case 0:
		return (int)(v % 7);
	case 2:
		return (int)(v % 4000) + 1;
	case 3:
		return (int)(v % 64) * 4;
	case 5:
		return (int)(v % 120) + 1;
	default:
		return v % 2;
	}
}

static int get(int fd, int k)
{
	socklen_t len = sizeof(int);
	int v = -1;

	MUST(getsockopt(fd, options[k].level, options[k].name, &v, &len));
	return v;
}

int main(int argc, char **argv)
{
	int fds[N], want[N][OPTIONS];

	fd_init(argc, argv);
	for (int i = 0; i < N; i++) {
		fds[i] = (int)MUST(socket(AF_INET, is_tcp(i) ? SOCK_STREAM : SOCK_DGRAM, 0));
		for (int k = 0; k < OPTIONS; k++) {
			int v = value(i, k);

			if (options[k].tcp && !is_tcp(i))
				continue;
			MUST(setsockopt(fds[i], options[k].level, options[k].name, &v, sizeof(v)));
		}
		/* As they are now, for IP_TOS sets a priority as well. */
		for (int k = 0; k < OPTIONS; k++)
			want[i][k] = options[k].tcp && !is_tcp(i) ? 0 : get(fds[i], k);
	}

	t_ready();

	for (int i = 0; i < N; i++)
		for (int k = 0; k < OPTIONS; k++) {
			if (options[k].tcp && !is_tcp(i))
				continue;
			t_check(get(fds[i], k) == want[i][k], "option %d of socket %d: %d, not %d",
				options[k].name, i, get(fds[i], k), want[i][k]);
		}
	return t_done();
}
