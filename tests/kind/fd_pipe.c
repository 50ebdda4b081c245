// SPDX-License-Identifier: GPL-2.0-only
/* Pipes: data, capacity, flags, single ends, full and drained ones, sharing. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"

#define BIG (256 * 1024)

static int child_read(void *arg)
{
	int *p = arg;
	char c[4];

	/* The child holds the read end of the parent's pipe; the parent reads first. */
	return read(p[0], c, 3) == 3 && !memcmp(c, "def", 3) ? 0 : 1;
}

int main(int argc, char **argv)
{
	static char buf[BIG], got[BIG];
	int plain[2], big[2], full[2], one_w[2], one_r[2], shared[2], empty[2], async[2], small[2];
	int capacity, small_capacity, filled = 0, ro_again, n;
	struct fd_child child;
	char path[64];

	fd_init(argc, argv);
	(void)signal(SIGPIPE, SIG_IGN);
	fd_fill(buf, sizeof(buf), 3);

	MUST(pipe2(plain, O_NONBLOCK));
	MUST(write(plain[1], "hello ", 6));
	MUST(write(plain[1], "world", 5));

	MUST(pipe(big));
	capacity = (int)MUST(fcntl(big[1], F_SETPIPE_SZ, BIG));
	MUST(write(big[1], buf, BIG - 4096));

	MUST(pipe(small));
	small_capacity = (int)MUST(fcntl(small[1], F_SETPIPE_SZ, 4096));
	MUST(write(small[1], "s", 1));

	MUST(pipe2(full, O_NONBLOCK | O_CLOEXEC));
	while ((n = (int)write(full[1], buf + filled % 4096, 1000)) > 0)
		filled += n;
	MUST(errno == EAGAIN ? 0 : -1);

	MUST(pipe(one_w)); /* only the write end is left: writing is an error */
	(void)close(one_w[0]);
	MUST(pipe(one_r)); /* only the read end is left, with data: data, then end of file */
	MUST(write(one_r[1], "last", 4));
	(void)close(one_r[1]);

	MUST(pipe(empty));
	MUST(pipe(async));
	MUST(fcntl(async[0], F_SETFL, O_NONBLOCK));

	MUST(pipe(shared));
	MUST(write(shared[1], "abcdef", 6));
	child = fd_child_start(child_read, shared);

	/* A second description of a read end, with flags of its own. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", plain[0]);
	ro_again = (int)MUST(open(path, O_RDONLY));

	t_ready();

	t_check(fcntl(plain[0], F_GETFL) == (O_RDONLY | O_NONBLOCK), "read end's flags %#o",
		fcntl(plain[0], F_GETFL));
	t_check(fcntl(plain[1], F_GETFL) == (O_WRONLY | O_NONBLOCK), "write end's flags %#o",
		fcntl(plain[1], F_GETFL));
	n = (int)read(plain[0], got, sizeof(got));
	t_check(n == 11 && !memcmp(got, "hello world", 11), "%d bytes", n);
	t_check(read(plain[0], got, 1) < 0 && errno == EAGAIN, "not empty afterwards");
	t_check(!(fcntl(ro_again, F_GETFL) & O_NONBLOCK), "flags of the second description");
	t_check(write(plain[1], "x", 1) == 1 && read(ro_again, got, 2) == 1,
		"second description is another pipe");

	t_check(fcntl(big[0], F_GETPIPE_SZ) == capacity, "capacity %d, not %d",
		fcntl(big[0], F_GETPIPE_SZ), capacity);
	t_check(fcntl(big[0], F_GETFL) == O_RDONLY && fcntl(big[1], F_GETFL) == O_WRONLY, "flags");
	n = 0;
	while (n < BIG - 4096) {
		int r = (int)read(big[0], got + n, BIG);

		if (r <= 0)
			break;
		n += r;
	}
	t_check(n == BIG - 4096 && fd_filled(got, (size_t)n, 3), "%d bytes of the big one", n);
	t_check(fcntl(small[0], F_GETPIPE_SZ) == small_capacity, "small capacity %d",
		fcntl(small[0], F_GETPIPE_SZ));
	t_check(read(small[0], got, 2) == 1 && got[0] == 's', "small one");

	t_check(write(full[1], buf, 4096) < 0 && errno == EAGAIN, "the full pipe has room");
	t_check(fcntl(full[0], F_GETFD) == FD_CLOEXEC && fcntl(full[1], F_GETFD) == FD_CLOEXEC,
		"close-on-exec");
	for (n = 0; n < filled;) {
		int r = (int)read(full[0], got, 1000);

		t_check(r == 1000 && !memcmp(got, buf + n % 4096, 1000), "full pipe at %d: %d", n,
			r);
		if (r <= 0)
			break;
		n += r;
	}
	t_check(read(full[0], got, 1) < 0 && errno == EAGAIN, "more than was written");

	t_check(write(one_w[1], "x", 1) < 0 && errno == EPIPE, "a reader came from nowhere");
	t_check(fd_poll(one_w[1], POLLOUT) & POLLERR, "poll of the lone write end");
	t_check(read(one_r[0], got, 10) == 4 && !memcmp(got, "last", 4), "lone read end");
	t_check(read(one_r[0], got, 10) == 0, "a writer came from nowhere");
	t_check(!fd_poll(empty[0], POLLIN), "the empty pipe is readable");
	t_check(write(empty[1], "e", 1) == 1 && read(empty[0], got, 2) == 1, "empty pipe");
	t_check(fcntl(async[0], F_GETFL) == (O_RDONLY | O_NONBLOCK) &&
			fcntl(async[1], F_GETFL) == O_WRONLY,
		"flags of the ends differ");

	t_check(read(shared[0], got, 3) == 3 && !memcmp(got, "abc", 3), "shared pipe");
	t_check(!fd_child_end(&child), "shared pipe in the child");
	return t_done();
}
