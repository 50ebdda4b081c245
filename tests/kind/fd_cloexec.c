// SPDX-License-Identifier: GPL-2.0-only
/* Close-on-exec is of a number, also of descriptions that were made with it. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#define N 6

static void make(int fds[N], int on)
{
	sigset_t set;
	int zero = 0, master = (int)MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MUST(ioctl(master, TIOCSPTLCK, &zero));
	fds[0] = (int)MUST(eventfd(0, on ? EFD_CLOEXEC : 0));
	fds[1] = (int)MUST(epoll_create1(on ? EPOLL_CLOEXEC : 0));
	fds[2] = (int)MUST(timerfd_create(CLOCK_MONOTONIC, on ? TFD_CLOEXEC : 0));
	fds[3] = (int)MUST(signalfd(-1, &set, on ? SFD_CLOEXEC : 0));
	fds[4] = (int)MUST(inotify_init1(on ? IN_CLOEXEC : 0));
	fds[5] = (int)MUST(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | (on ? O_CLOEXEC : 0)));
}

int main(int argc, char **argv)
{
	int with[N], without[N], dups[N], cleared[N], set[N];

	fd_init(argc, argv);
	make(with, 1);
	make(without, 0);
	make(cleared, 1);
	make(set, 0);
	for (int i = 0; i < N; i++) {
		dups[i] = (int)MUST(dup(with[i]));
		MUST(fcntl(cleared[i], F_SETFD, 0));
		MUST(fcntl(set[i], F_SETFD, FD_CLOEXEC));
	}

	t_ready();

	for (int i = 0; i < N; i++) {
		t_check(fcntl(with[i], F_GETFD) == FD_CLOEXEC, "made with it, %d", i);
		t_check(fcntl(dups[i], F_GETFD) == 0, "duplicate of one made with it, %d", i);
		t_check(fcntl(without[i], F_GETFD) == 0, "made without it, %d", i);
		t_check(fcntl(cleared[i], F_GETFD) == 0, "cleared, %d", i);
		t_check(fcntl(set[i], F_GETFD) == FD_CLOEXEC, "set, %d", i);
	}
	return t_done();
}
