// SPDX-License-Identifier: GPL-2.0-only
/* Memory that nobody else can read. */
/* t: refuse=E-UNSUPPORTED "secret memory" */
#include "fd_lib.h"
#include <sys/mman.h>

int main(int argc, char **argv)
{
	char *map;
	int fd;

	fd_init(argc, argv);
	fd = (int)syscall(447 /* memfd_secret */, 0);
	if (fd < 0)
		t_skip("memfd_secret()");
	MUST(ftruncate(fd, 4096));
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(map == MAP_FAILED ? -1 : 0);
	strcpy(map, "secret");

	t_ready();

	t_check(!strcmp(map, "secret"), "contents");
	return t_done();
}
