// SPDX-License-Identifier: GPL-2.0-only
/* A file of pressure stall information that may have a trigger. */
/* t: refuse=E-UNSUPPORTED "may have a trigger" */
#include "fd_lib.h"

int main(int argc, char **argv)
{
	int fd;

	fd_init(argc, argv);
	fd = open("/proc/pressure/memory", O_RDWR);
	if (fd < 0)
		t_skip("/proc/pressure");

	t_ready();

	t_check((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR, "the file");
	return t_done();
}
