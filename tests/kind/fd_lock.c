// SPDX-License-Identifier: GPL-2.0-only
/* File locks of all three families, whole files and ranges, shared and exclusive. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/file.h>

static struct flock range(short type, off_t start, off_t len)
{
	return (struct flock) {
		.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len
	};
}

/* Could somebody else take this lock? */
static bool is_free(const char *name, short type, off_t start, off_t len)
{
	struct flock fl = range(type, start, len);
	int fd = (int)MUST(open(name, O_RDWR));

	MUST(fcntl(fd, F_OFD_GETLK, &fl));
	(void)close(fd);
	return fl.l_type == F_UNLCK;
}

static pid_t posix_owner(const char *name, off_t start)
{
	struct flock fl = range(F_WRLCK, start, 1);
	int fd = (int)MUST(open(name, O_RDWR));

	MUST(fcntl(fd, F_GETLK, &fl));
	/* Closing a descriptor of a file drops this process's POSIX locks on it: leave it open. */
	return fl.l_type == F_UNLCK ? 0 : fl.l_pid;
}

static int child_posix(void *arg)
{
	/* The parent's locks are not the child's: it sees them as somebody else's. */
	pid_t owner = posix_owner("posix", 10);

	(void)arg;
	return owner == getppid() && posix_owner("posix", 0) == 0 &&
			       posix_owner("posix", 100) == getppid()
		       ? 0
		       : 1;
}

int main(int argc, char **argv)
{
	int ex, sh1, sh2, px, ofd, dup_ex, other;
	struct flock fl;
	struct fd_child child;

	fd_init(argc, argv);
	ex = (int)MUST(open("ex", O_CREAT | O_RDWR, 0600));
	MUST(flock(ex, LOCK_EX));
	dup_ex = (int)MUST(dup(ex)); /* a flock belongs to the description */
	sh1 = (int)MUST(open("sh", O_CREAT | O_RDWR, 0600));
	sh2 = (int)MUST(open("sh", O_RDWR));
	MUST(flock(sh1, LOCK_SH));
	MUST(flock(sh2, LOCK_SH));

	px = (int)MUST(open("posix", O_CREAT | O_RDWR, 0600));
	fl = range(F_WRLCK, 10, 5);
	MUST(fcntl(px, F_SETLK, &fl));
	fl = range(F_RDLCK, 100, 0);
	MUST(fcntl(px, F_SETLK, &fl));

	ofd = (int)MUST(open("ofd", O_CREAT | O_RDWR, 0600));
	fl = range(F_WRLCK, 0, 3);
	MUST(fcntl(ofd, F_OFD_SETLK, &fl));
	fl = range(F_RDLCK, 50, 0);
	MUST(fcntl(ofd, F_OFD_SETLK, &fl));

	child = fd_child_start(child_posix, NULL);

	t_ready();

	t_check(!fd_child_end(&child), "POSIX locks as another process sees them");

	other = (int)MUST(open("ex", O_RDWR));
	t_check(flock(other, LOCK_SH | LOCK_NB) < 0, "the exclusive flock is lost");
	(void)close(ex);
	t_check(flock(other, LOCK_SH | LOCK_NB) < 0, "the flock did not belong to the description");
	MUST(flock(dup_ex, LOCK_UN));
	t_check(!flock(other, LOCK_EX | LOCK_NB), "unlocked by one of the descriptors");

	other = (int)MUST(open("sh", O_RDWR));
	t_check(!flock(other, LOCK_SH | LOCK_NB), "shared flock is exclusive now");
	t_check(flock(other, LOCK_EX | LOCK_NB) < 0, "shared flocks are lost");
	(void)close(sh1);
	t_check(flock(other, LOCK_EX | LOCK_NB) < 0, "the second shared flock is lost");
	(void)close(sh2);
	t_check(!flock(other, LOCK_EX | LOCK_NB), "a third shared flock came from nowhere");

	t_check(is_free("ofd", F_WRLCK, 3, 47), "OFD: hole");
	t_check(!is_free("ofd", F_RDLCK, 2, 1), "OFD: write lock is lost");
	t_check(!is_free("ofd", F_WRLCK, 1000000, 1), "OFD: read lock to the end is lost");
	t_check(is_free("ofd", F_RDLCK, 1000000, 1), "OFD: read lock became a write lock");
	(void)close(ofd);
	t_check(is_free("ofd", F_WRLCK, 0, 0), "OFD: lock outlived its description");
	return t_done();
}
