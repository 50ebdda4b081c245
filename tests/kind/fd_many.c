// SPDX-License-Identifier: GPL-2.0-only
/* Ten thousand descriptors of several kinds; the numbers and the sharing are right. */
/* t: modes=control,leave,kill timeout=120 */
#include "fd_lib.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#define N 10000

int main(int argc, char **argv)
{
	static int fds[N];
	struct rlimit rl;
	int ep, bad = 0, file, n = N;
	uint64_t v;

	fd_init(argc, argv);
	MUST(getrlimit(RLIMIT_NOFILE, &rl));
	/* ckpt needs numbers of its own, for pipes two. */
	if (rl.rlim_max < 2 * N)
		n = (int)rl.rlim_max / 2 & ~3;
	rl.rlim_cur = rl.rlim_max;
	MUST(setrlimit(RLIMIT_NOFILE, &rl));
	ep = (int)MUST(epoll_create1(0));
	file = (int)MUST(open("f", O_CREAT | O_RDWR, 0600));
	for (int i = 0; i < n; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.u32 = (uint32_t)i };

		if (i % 4 == 0) {
			fds[i] = (int)MUST(eventfd((unsigned int)i + 1, 0));
			MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &ev));
		} else if (i % 4 == 1) {
			fds[i] = (int)MUST(dup(fds[i - 1]));
		} else if (i % 4 == 2) {
			fds[i] = (int)MUST(open("f", O_RDONLY));
			MUST(lseek(fds[i], i, SEEK_SET));
		} else {
			int p[2];

			MUST(pipe(p));
			MUST(write(p[1], &i, sizeof(i)));
			(void)close(p[1]);
			fds[i] = p[0];
		}
	}

	t_ready();

	for (int i = 0; i < n; i++) {
		int j = -1;

		if (i % 4 == 0)
			bad += read(fds[i], &v, 8) != 8 || v != (uint64_t)i + 1;
		else if (i % 4 == 1)
			bad += !fd_same(getpid(), fds[i], getpid(), fds[i - 1]);
		else if (i % 4 == 2)
			bad += lseek(fds[i], 0, SEEK_CUR) != i;
		else
			bad += read(fds[i], &j, sizeof(j)) != sizeof(j) || j != i;
	}
	t_check(!bad, "%d descriptors are wrong", bad);
	t_check(lseek(file, 0, SEEK_CUR) == 0, "position of the file");
	return t_done();
}
