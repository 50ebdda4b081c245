// SPDX-License-Identifier: GPL-2.0-only
/* Regular files: position, access mode, status flags, close-on-exec. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"

static const struct {
	int flags;
	off_t pos;
} cases[] = {
	{ O_RDONLY, 0 },
	{ O_RDONLY, 1000 },
	{ O_WRONLY, 17 },
	{ O_RDWR, 4096 },
	{ O_RDWR, 5000000000 }, /* behind the end */
	{ O_RDWR | O_APPEND, 3 },
	{ O_WRONLY | O_APPEND | O_NONBLOCK, 0 },
	{ O_RDWR | O_SYNC, 9 },
	{ O_RDWR | O_DSYNC, 9 },
	{ O_RDONLY | O_NOATIME, 9 },
	{ O_RDONLY | O_NOATIME | O_CLOEXEC | O_NONBLOCK, 9 },
};
#define N (sizeof(cases) / sizeof(cases[0]))

int main(int argc, char **argv)
{
	int fds[N], fl[N], trunc;
	char buf[8192], got[8192];
	struct stat st;

	fd_init(argc, argv);
	fd_fill(buf, sizeof(buf), 1);
	for (size_t i = 0; i < N; i++) {
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "file%zu", i);
		fd = (int)MUST(open(name, O_CREAT | O_EXCL | O_WRONLY, 0640));
		MUST(write(fd, buf, sizeof(buf)));
		(void)close(fd);
		fds[i] = (int)MUST(open(name, cases[i].flags));
		MUST(lseek(fds[i], cases[i].pos, SEEK_SET));
		fl[i] = (int)MUST(fcntl(fds[i], F_GETFL));
	}
	/* O_TRUNC and O_CREAT say what open() does, they must not be done again. */
	trunc = (int)MUST(open("trunc", O_CREAT | O_EXCL | O_TRUNC | O_RDWR, 0600));
	MUST(write(trunc, "kept", 4));

	t_ready();

	for (size_t i = 0; i < N; i++) {
		off_t pos = lseek(fds[i], 0, SEEK_CUR);
		int now = fcntl(fds[i], F_GETFL), fdfl = fcntl(fds[i], F_GETFD);

		t_check(pos == cases[i].pos, "case %zu: position %ld, not %ld", i, (long)pos,
			(long)cases[i].pos);
		t_check(now == fl[i], "case %zu: flags %#o, not %#o", i, now, fl[i]);
		t_check(fdfl == (cases[i].flags & O_CLOEXEC ? FD_CLOEXEC : 0),
			"case %zu: descriptor flags %d", i, fdfl);
		t_check(!fstat(fds[i], &st) && st.st_size == sizeof(buf) &&
				(st.st_mode & 07777) == 0640,
			"case %zu: size %ld mode %o", i, (long)st.st_size, st.st_mode);
		if ((cases[i].flags & O_ACCMODE) == O_WRONLY)
			t_check(pread(fds[i], got, 1, 0) < 0, "case %zu is readable", i);
		else
			t_check(pread(fds[i], got, sizeof(got), 0) == sizeof(got) &&
					fd_filled(got, sizeof(got), 1),
				"case %zu: contents differ", i);
		if ((cases[i].flags & O_ACCMODE) == O_RDONLY)
			t_check(write(fds[i], "x", 1) < 0, "case %zu is writable", i);
		else if (cases[i].flags & O_APPEND)
			t_check(write(fds[i], "x", 1) == 1 && !fstat(fds[i], &st) &&
					st.st_size == sizeof(buf) + 1,
				"case %zu: not appended", i);
	}
	t_check(pread(trunc, got, sizeof(got), 0) == 4 && !memcmp(got, "kept", 4),
		"truncated file lost its contents");
	return t_done();
}
