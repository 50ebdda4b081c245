// SPDX-License-Identifier: GPL-2.0-only
/* Data sent to a socket that nobody has accepted yet cannot be looked at: refused by name. */
/* t: refuse=E-UNSUPPORTED "not accepted yet" */
#include "fd_lib.h"
#include <sys/un.h>

int main(int argc, char **argv)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int l, c, s;
	char got[8];

	fd_init(argc, argv);
	l = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(bind(l, (void *)&sun, sizeof(sun)));
	MUST(listen(l, 1));
	c = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(connect(c, (void *)&sun, sizeof(sun)));
	MUST(write(c, "early", 5));

	t_ready();

	s = accept(l, NULL, NULL);
	t_check(s >= 0 && read(s, got, sizeof(got)) == 5, "early data");
	return t_done();
}
