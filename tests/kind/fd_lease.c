// SPDX-License-Identifier: GPL-2.0-only
/* A lease is a promise of the kernel about future openers: refused by name. */
/* t: refuse=E-UNSUPPORTED "lease" */
#include "fd_lib.h"

int main(int argc, char **argv)
{
	int fd;

	fd_init(argc, argv);
	fd = (int)MUST(open("leased", O_CREAT | O_RDWR, 0600));
	MUST(fcntl(fd, F_SETLEASE, F_WRLCK));

	t_ready();

	t_check(fcntl(fd, F_GETLEASE) == F_WRLCK, "lease");
	return t_done();
}
