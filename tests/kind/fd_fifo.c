// SPDX-License-Identifier: GPL-2.0-only
/* FIFOs: data, all ways to open one, two openings of one, an unlinked one. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"

int main(int argc, char **argv)
{
	int r, w, rw, lone, gone, gone_w, r2;
	struct stat a, b;
	char got[64];

	fd_init(argc, argv);
	(void)signal(SIGPIPE, SIG_IGN);
	MUST(mkfifo("fifo", 0640));
	r = (int)MUST(open("fifo", O_RDONLY | O_NONBLOCK));
	w = (int)MUST(open("fifo", O_WRONLY | O_CLOEXEC));
	r2 = (int)MUST(open("fifo", O_RDONLY));
	MUST(write(w, "queued", 6));
	MUST(mkfifo("rw", 0600));
	rw = (int)MUST(open("rw", O_RDWR));
	MUST(write(rw, "both", 4));
	MUST(mkfifo("lone", 0600));
	lone = (int)MUST(open("lone", O_RDONLY | O_NONBLOCK));
	MUST(mkfifo("gone", 0600));
	gone = (int)MUST(open("gone", O_RDONLY | O_NONBLOCK));
	gone_w = (int)MUST(open("gone", O_WRONLY));
	MUST(unlink("gone"));
	MUST(write(gone_w, "gone", 4));

	t_ready();

	t_check(!fstat(r, &a) && !stat("fifo", &b) && a.st_ino == b.st_ino &&
			a.st_dev == b.st_dev && S_ISFIFO(a.st_mode),
		"not the fifo with that name");
	t_check(fcntl(r, F_GETFL) & O_NONBLOCK, "flags");
	t_check(!(fcntl(r2, F_GETFL) & O_NONBLOCK), "flags of the second reader");
	t_check(fcntl(w, F_GETFD) == FD_CLOEXEC, "close-on-exec");
	t_check(read(r, got, 3) == 3 && !memcmp(got, "que", 3), "data");
	t_check(read(r2, got, 10) == 3 && !memcmp(got, "ued", 3), "data for the second reader");
	t_check(read(r, got, 1) < 0 && errno == EAGAIN, "empty afterwards");
	(void)close(w);
	t_check(read(r, got, 1) == 0, "no end of file: another writer exists");
	t_check(read(rw, got, 10) == 4 && !memcmp(got, "both", 4), "O_RDWR fifo");
	t_check(read(lone, got, 10) == 0, "lone reader");
	w = open("lone", O_WRONLY | O_NONBLOCK);
	t_check(w >= 0 && write(w, "x", 1) == 1 && read(lone, got, 10) == 1, "writer by name: %s",
		strerror(errno));
	t_check(read(gone, got, 10) == 4 && !memcmp(got, "gone", 4), "unlinked fifo");
	t_check(write(gone_w, "y", 1) == 1 && read(gone, got, 10) == 1, "unlinked fifo, new data");
	return t_done();
}
