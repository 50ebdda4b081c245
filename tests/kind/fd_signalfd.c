// SPDX-License-Identifier: GPL-2.0-only
/* Signalfds: mask, flags, and a pending signal that is read through one. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/signalfd.h>

int main(int argc, char **argv)
{
	struct signalfd_siginfo si;
	sigset_t set, other;
	int a, b;

	fd_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 3);
	sigaddset(&set, SIGRTMAX);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
	a = (int)MUST(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
	sigemptyset(&other);
	b = (int)MUST(signalfd(-1, &other, 0));
	MUST(sigqueue(getpid(), SIGRTMIN + 3, (union sigval) { .sival_int = 4711 }));

	t_ready();

	t_check(fcntl(a, F_GETFL) & O_NONBLOCK && fcntl(a, F_GETFD) == FD_CLOEXEC, "flags");
	t_check(!(fcntl(b, F_GETFL) & O_NONBLOCK) && !fd_poll(b, POLLIN), "empty mask");
	t_check(fd_info(b, "sigmask", 16) == 0, "empty mask is %llx", fd_info(b, "sigmask", 16));
	t_check(read(a, &si, sizeof(si)) == sizeof(si) && (int)si.ssi_signo == SIGRTMIN + 3 &&
			si.ssi_int == 4711,
		"pending signal");
	t_check(read(a, &si, sizeof(si)) < 0 && errno == EAGAIN, "a second signal");
	MUST(kill(getpid(), SIGUSR2));
	t_check(read(a, &si, sizeof(si)) == sizeof(si) && si.ssi_signo == SIGUSR2, "new signal");
	MUST(kill(getpid(), SIGRTMAX));
	t_check(read(a, &si, sizeof(si)) == sizeof(si) && (int)si.ssi_signo == SIGRTMAX,
		"last signal");
	return t_done();
}
