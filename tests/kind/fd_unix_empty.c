// SPDX-License-Identifier: GPL-2.0-only
/* Empty messages between others. A second dump of the same unread ones cannot see them: the kernel
 * marks an empty message that was looked at and passes over it from then on. */
/* t: modes=control,leave,kill */
#include "fd_lib.h"

int main(int argc, char **argv)
{
	static const int types[] = { SOCK_DGRAM, SOCK_SEQPACKET };
	static const int sizes[] = { 0, 3, 0, 0, 5, 0 };
	int p[2][2];
	char got[16];
	ssize_t n;

	fd_init(argc, argv);
	for (int t = 0; t < 2; t++) {
		MUST(socketpair(AF_UNIX, types[t] | SOCK_NONBLOCK, 0, p[t]));
		for (size_t i = 0; i < T_ARRAY_SIZE(sizes); i++)
			MUST(send(p[t][0], "abcdefg", (size_t)sizes[i], 0));
	}

	t_ready();

	for (int t = 0; t < 2; t++) {
		for (size_t i = 0; i < T_ARRAY_SIZE(sizes); i++) {
			n = recv(p[t][1], got, sizeof(got), 0);
			t_check(n == sizes[i], "type %d, message %zu: %zd bytes, not %d", types[t],
				i, n, sizes[i]);
		}
		t_check(recv(p[t][1], got, 1, 0) < 0 && errno == EAGAIN, "one too many");
	}
	return t_done();
}
