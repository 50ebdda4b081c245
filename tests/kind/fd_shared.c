// SPDX-License-Identifier: GPL-2.0-only
/* Shared descriptions: dup, fork, the same file opened twice; numbers with gaps. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"

static int far_fd, file, dup_file, again;

static int child_check(void *arg)
{
	pid_t p = getppid();

	(void)arg;
	/* close-on-exec is the descriptor's own, the position is the description's. */
	if (!fd_same(getpid(), file, p, file) || !fd_same(getpid(), dup_file, p, file) ||
	    fd_same(getpid(), file, getpid(), again))
		return 1;
	if (fcntl(file, F_GETFD) != FD_CLOEXEC || fcntl(dup_file, F_GETFD) != 0)
		return 2;
	if (fcntl(dup_file, F_GETFL) != fcntl(file, F_GETFL) || !(fcntl(file, F_GETFL) & O_APPEND))
		return 3;
	if (lseek(dup_file, 50, SEEK_SET) != 50)
		return 4;
	return fcntl(far_fd, F_GETFD) == 0 && fcntl(far_fd - 1, F_GETFD) < 0 ? 0 : 5;
}

int main(int argc, char **argv)
{
	struct fd_child child;
	int status;

	fd_init(argc, argv);
	file = (int)MUST(open("f", O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	dup_file = (int)MUST(dup(file));
	again = (int)MUST(open("f", O_RDWR));
	far_fd = (int)MUST(fcntl(file, F_DUPFD, 900));
	child = fd_child_start(child_check, NULL);
	MUST(fcntl(file, F_SETFL, O_APPEND));
	MUST(lseek(file, 10, SEEK_SET));

	t_ready();

	t_check(fd_same(getpid(), file, getpid(), dup_file) &&
			fd_same(getpid(), file, getpid(), far_fd),
		"duplicates");
	t_check(!fd_same(getpid(), file, getpid(), again), "two openings became one");
	t_check(lseek(file, 0, SEEK_CUR) == 10 && lseek(again, 0, SEEK_CUR) == 0, "positions");
	t_check(fcntl(file, F_GETFL) & O_APPEND && !(fcntl(again, F_GETFL) & O_APPEND), "flags");
	t_check(fcntl(file, F_GETFD) == FD_CLOEXEC && fcntl(dup_file, F_GETFD) == 0,
		"close-on-exec");
	t_check(fcntl(far_fd, F_GETFD) == 0 && fcntl(far_fd - 1, F_GETFD) < 0, "numbers");
	status = fd_child_end(&child);
	t_check(!status, "child's verdict %d", status);
	t_check(lseek(file, 0, SEEK_CUR) == 50, "the child does not share the position");
	return t_done();
}
