/* SPDX-License-Identifier: GPL-2.0-only */
/* A program with idle TCP connections to itself: conns REPORT COUNT (sockets). It sends a byte over each when it is asked. */
#include "beat.h"
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

static int *fds;
static size_t count;

static bool verify(void)
{
	char sent = 1, got = 0;

	for (size_t i = 0; i < count; i++)
		if (send(fds[i], &sent, 1, 0) != 1 || recv(fds[i ^ 1], &got, 1, MSG_WAITALL) != 1 || got != sent)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	struct rlimit rl;
	int listener;

	if (argc != 3)
		return 2;
	beat_init();
	count = (size_t)atol(argv[2]) & ~1ul;
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	fds = calloc(count, sizeof(*fds));
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (!fds || listener < 0 || bind(listener, (void *)&sa, sizeof(sa)) || listen(listener, 16) ||
	    getsockname(listener, (void *)&sa, &len))
		return 1;
	for (size_t i = 0; i < count; i += 2) {
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (fds[i] < 0 || connect(fds[i], (void *)&sa, sizeof(sa)))
			return 1;
		fds[i + 1] = accept(listener, NULL, NULL);
		if (fds[i + 1] < 0)
			return 1;
	}
	beat_run(argv[1], verify);
}
