// SPDX-License-Identifier: GPL-2.0-only
/* A userfaultfd: refused by name. */
/* t: refuse=E-UNSUPPORTED "userfaultfd" */
#include "fd_lib.h"
#include <linux/userfaultfd.h>

int main(int argc, char **argv)
{
	int fd;

	fd_init(argc, argv);
	fd = (int)syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY);
	if (fd < 0)
		t_skip("userfaultfd: %s", strerror(errno));

	t_ready();

	t_check(fcntl(fd, F_GETFD) >= 0, "descriptor");
	return t_done();
}
