// SPDX-License-Identifier: GPL-2.0-only
/* F_SETOWN (process, group, thread), F_SETSIG, O_ASYNC: the signal arrives as before. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"

int main(int argc, char **argv)
{
	struct f_owner_ex ex = { F_OWNER_TID, 0 }, got;
	int proc[2], group[2], thread[2], none[2], async[2], sig;
	struct timespec limit = { 10, 0 };
	siginfo_t si;
	sigset_t set;

	fd_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
	MUST(pipe(proc));
	MUST(fcntl(proc[0], F_SETOWN, getpid()));
	MUST(pipe(group));
	MUST(fcntl(group[0], F_SETOWN, -getpgrp()));
	MUST(pipe(thread));
	ex.pid = gettid();
	MUST(fcntl(thread[0], F_SETOWN_EX, &ex));
	MUST(pipe(none));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, async));
	MUST(fcntl(async[0], F_SETOWN, getpid()));
	MUST(fcntl(async[0], F_SETSIG, SIGRTMIN + 5));
	MUST(fcntl(async[0], F_SETFL, O_ASYNC));

	t_ready();

	t_check(fcntl(proc[0], F_GETOWN) == getpid(), "process: %d", fcntl(proc[0], F_GETOWN));
	t_check(!fcntl(group[0], F_GETOWN_EX, &got) && got.type == F_OWNER_PGRP &&
			got.pid == getpgrp(),
		"group: %d", got.pid);
	t_check(!fcntl(thread[0], F_GETOWN_EX, &got) && got.type == F_OWNER_TID &&
			got.pid == gettid(),
		"thread: type %d %d", got.type, got.pid);
	t_check(fcntl(none[0], F_GETOWN) == 0 && fcntl(proc[1], F_GETOWN) == 0,
		"owner from nowhere");
	t_check(fcntl(async[0], F_GETSIG) == SIGRTMIN + 5, "signal %d", fcntl(async[0], F_GETSIG));
	t_check(fcntl(async[0], F_GETFL) & O_ASYNC && !(fcntl(async[1], F_GETFL) & O_ASYNC),
		"O_ASYNC %#o", fcntl(async[0], F_GETFL));
	MUST(write(async[1], "x", 1));
	sig = sigtimedwait(&set, &si, &limit);
	t_check(sig == SIGRTMIN + 5 && si.si_fd == async[0], "signal %d for fd %d", sig, si.si_fd);
	limit.tv_sec = 0;
	t_check(sigtimedwait(&set, &si, &limit) < 0, "a second signal");
	return t_done();
}
