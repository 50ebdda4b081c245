// SPDX-License-Identifier: GPL-2.0-only
/* A namespace that neither is the program's own nor has a name. */
/* t: refuse=E-UNSUPPORTED "is not the program's own and has no name" */
#include "fd_lib.h"
#include <sched.h>

int main(int argc, char **argv)
{
	struct stat before, now;
	int own, other;

	fd_init(argc, argv);
	own = (int)MUST(open("/proc/self/ns/uts", O_RDONLY));
	MUST(unshare(CLONE_NEWUTS));
	other = (int)MUST(open("/proc/self/ns/uts", O_RDONLY));
	MUST(setns(own, CLONE_NEWUTS));
	MUST(fstat(other, &before));

	t_ready();

	t_check(!fstat(other, &now) && now.st_ino == before.st_ino, "the namespace");
	return t_done();
}
