// SPDX-License-Identifier: GPL-2.0-only
/* --tcp close: established connections come back as if the peer had reset them; listeners stay. */
/* t: modes=control,leave,kill,twice dump=--tcp,close */
#include "fd_lib.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int l, c, s, one = 1, c2;
	char got[16];
	ssize_t n;

	fd_init(argc, argv);
	(void)signal(SIGPIPE, SIG_IGN);
	l = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	MUST(bind(l, (void *)&a, sizeof(a)));
	MUST(getsockname(l, (void *)&a, &len));
	MUST(listen(l, 4));
	c = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	(void)connect(c, (void *)&a, sizeof(a));
	MUST(poll(&(struct pollfd) { .fd = c, .events = POLLOUT }, 1, 10000) == 1 ? 0 : -1);
	s = (int)MUST(accept(l, NULL, NULL));
	MUST(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
	MUST(write(c, "data", 4));

	t_ready();

	/* The connection is there (control, leave), or ends in an error that programs expect. */
	n = read(s, got, sizeof(got));
	t_check(n == 4 || n == 0 || (n < 0 && (errno == ECONNRESET || errno == ENOTCONN)),
		"read: %zd %s", n, strerror(errno));
	if (n != 4) {
		t_check(fd_poll(c, POLLIN | POLLOUT) & (POLLHUP | POLLERR | POLLIN),
			"poll does not tell: %#x", fd_poll(c, POLLIN | POLLOUT));
		t_check(write(c, "x", 1) < 0, "write works");
	}
	t_check(fcntl(c, F_GETFD) == FD_CLOEXEC && fcntl(c, F_GETFL) & O_NONBLOCK, "flags");
	c2 = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
	t_check(!connect(c2, (void *)&a, sizeof(a)), "listener: %s", strerror(errno));
	t_check(poll(&(struct pollfd) { .fd = l, .events = POLLIN }, 1, 10000) == 1 &&
			(s = accept(l, NULL, NULL)) >= 0,
		"accept: %s", strerror(errno));
	return t_done();
}
