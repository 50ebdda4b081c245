// SPDX-License-Identifier: GPL-2.0-only
/* A directory that was removed while open cannot be brought back: refused by name. */
/* t: refuse=E-UNSUPPORTED "deleted directory" */
#include "fd_lib.h"

int main(int argc, char **argv)
{
	struct stat st;
	int fd;

	fd_init(argc, argv);
	MUST(mkdir("gone", 0700));
	fd = (int)MUST(open("gone", O_RDONLY | O_DIRECTORY));
	MUST(rmdir("gone"));

	t_ready();

	t_check(!fstat(fd, &st) && S_ISDIR(st.st_mode), "descriptor");
	return t_done();
}
