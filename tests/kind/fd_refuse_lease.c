// SPDX-License-Identifier: GPL-2.0-only
/* A lease that forbids others to read, on a file that ckpt would have to open: refused, and not broken. */
/* t: refuse=E-UNSUPPORTED "is of a file that is mapped as well" */
#include "fd_lib.h"

#include <sys/mman.h>

int main(int argc, char **argv)
{
	int fd;

	fd_init(argc, argv);
	fd = (int)MUST(open("leased", O_CREAT | O_RDWR, 0600));
	MUST(ftruncate(fd, 4096));
	if (mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
		t_die(__FILE__, __LINE__, "mmap");
	MUST(fcntl(fd, F_SETLEASE, F_WRLCK));

	t_ready();

	t_check(fcntl(fd, F_GETLEASE) == F_WRLCK, "lease");
	return t_done();
}
