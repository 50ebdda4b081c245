// SPDX-License-Identifier: GPL-2.0-only
/* An established TCP connection: refused unless told what becomes of it. */
/* t: refuse=E-TCP "established" */
#include "fd_lib.h"
#include <arpa/inet.h>

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int l, c, s;
	char got[4];

	fd_init(argc, argv);
	l = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(bind(l, (void *)&a, sizeof(a)));
	MUST(getsockname(l, (void *)&a, &len));
	MUST(listen(l, 1));
	c = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(connect(c, (void *)&a, sizeof(a)));
	s = (int)MUST(accept(l, NULL, NULL));

	t_ready();

	t_check(write(c, "x", 1) == 1 && read(s, got, 1) == 1, "connection");
	return t_done();
}
