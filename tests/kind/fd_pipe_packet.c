// SPDX-License-Identifier: GPL-2.0-only
/* Packet mode (O_DIRECT pipes): boundaries stay where they were. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"

static const int sizes[] = { 1, 4096, 17, 100, 4095, 1, 1, 0x800 };
#define N ((int)(sizeof(sizes) / sizeof(sizes[0])))

int main(int argc, char **argv)
{
	char buf[4096];
	int p[2], late[2];

	fd_init(argc, argv);
	MUST(pipe2(p, O_DIRECT | O_NONBLOCK));
	for (int i = 0; i < N; i++) {
		fd_fill(buf, (size_t)sizes[i], (unsigned int)i);
		MUST(write(p[1], buf, (size_t)sizes[i]));
	}
	/* Packet mode is set by the writer at the time of writing: here it is off again. */
	MUST(pipe2(late, O_NONBLOCK));
	MUST(fcntl(late[1], F_SETFL, O_DIRECT | O_NONBLOCK));
	MUST(write(late[1], "one", 3));
	MUST(write(late[1], "two", 3));
	MUST(fcntl(late[1], F_SETFL, O_NONBLOCK));
	MUST(write(late[1], "three", 5));
	MUST(write(late[1], "four", 4));

	t_ready();

	t_check(fcntl(p[0], F_GETFL) == (O_RDONLY | O_NONBLOCK) &&
			fcntl(p[1], F_GETFL) == (O_WRONLY | O_DIRECT | O_NONBLOCK),
		"flags %#o, %#o", fcntl(p[0], F_GETFL), fcntl(p[1], F_GETFL));
	for (int i = 0; i < N; i++) {
		ssize_t n = read(p[0], buf, sizeof(buf));

		t_check(n == sizes[i] && fd_filled(buf, (size_t)sizes[i], (unsigned int)i),
			"packet %d: %zd bytes, not %d", i, n, sizes[i]);
	}
	t_check(read(p[0], buf, 1) < 0 && errno == EAGAIN, "one packet too many");
	t_check(fcntl(late[1], F_GETFL) == (O_WRONLY | O_NONBLOCK), "late flags %#o",
		fcntl(late[1], F_GETFL));
	t_check(read(late[0], buf, sizeof(buf)) == 3 && !memcmp(buf, "one", 3), "first packet");
	t_check(read(late[0], buf, sizeof(buf)) == 3 && !memcmp(buf, "two", 3), "second packet");
	t_check(read(late[0], buf, sizeof(buf)) == 9 && !memcmp(buf, "threefour", 9), "stream");
	return t_done();
}
