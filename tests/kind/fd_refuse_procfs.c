// SPDX-License-Identifier: GPL-2.0-only
/* A file below /proc of a process that is no part of the tree: its number will be another's. */
/* t: refuse=E-UNSUPPORTED "belongs to a process outside the tree" */
#include "fd_lib.h"
#include <sys/file.h>

int main(int argc, char **argv)
{
	char path[64], first;
	pid_t outside;
	int lock, fd, status;

	fd_init(argc, argv);
	lock = (int)MUST(open("lock", O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	MUST(flock(lock, LOCK_EX));
	outside = (pid_t)MUST(fork());
	if (!outside) {
		outside = (pid_t)MUST(fork());
		if (outside)
			_exit(outside);
		/* An orphan: a child of somebody outside. It ends with this program. */
		(void)close(lock);
		lock = (int)MUST(open("lock", O_RDWR | O_CLOEXEC));
		_exit(flock(lock, LOCK_EX) ? 1 : 0);
	}
	/* Pids of a fresh namespace are small. */
	MUST(waitpid(outside, &status, 0));
	MUST(WIFEXITED(status) ? 0 : -1);
	snprintf(path, sizeof(path), "/proc/%d/status", WEXITSTATUS(status));
	fd = (int)MUST(open(path, O_RDONLY));

	t_ready();

	t_check(read(fd, &first, 1) == 1 && first == 'N', "its status");
	return t_done();
}
