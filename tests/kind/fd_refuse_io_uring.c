// SPDX-License-Identifier: GPL-2.0-only
/* An io_uring instance: refused by name, with what databases can do about it. */
/* t: refuse=E-UNSUPPORTED "io_method=worker" */
#include "fd_lib.h"
#include <linux/io_uring.h>

int main(int argc, char **argv)
{
	int fd;

	fd_init(argc, argv);
	struct io_uring_params p = { 0 };

	fd = (int)syscall(SYS_io_uring_setup, 4, &p);
	if (fd < 0)
		t_skip("io_uring: %s", strerror(errno));

	t_ready();

	t_check(fcntl(fd, F_GETFD) >= 0, "descriptor");
	return t_done();
}
