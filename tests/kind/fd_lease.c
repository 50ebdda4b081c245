// SPDX-License-Identifier: GPL-2.0-only
/* Leases: who opens such a file waits until the holder, who is told, gives it up. */
#include "fd_lib.h"

#include <signal.h>
#include <sys/wait.h>

enum { TOLD = 40 };

/* Another process tries to open the file: the errno, 0 when it was opened. */
static int try_open(const char *name, int flags)
{
	pid_t pid = t_fork();
	int st;

	if (!pid)
		_exit(open(name, flags | O_NONBLOCK | O_CLOEXEC) < 0 ? errno : 0);
	MUST(waitpid(pid, &st, 0));
	return WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

int main(int argc, char **argv)
{
	struct timespec soon = { 20, 0 };
	int own, both, other, sig;
	siginfo_t si;
	sigset_t set;

	fd_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, TOLD);
	sigaddset(&set, SIGIO);
	t_zero(pthread_sigmask(SIG_BLOCK, &set, NULL));

	own = (int)MUST(open("leased", O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	MUST(fcntl(own, F_SETSIG, TOLD));
	MUST(fcntl(own, F_SETLEASE, F_WRLCK));
	(void)close((int)MUST(open("shared", O_CREAT | O_RDWR | O_CLOEXEC, 0600)));
	both = (int)MUST(open("shared", O_RDONLY | O_CLOEXEC));
	MUST(fcntl(both, F_SETLEASE, F_RDLCK));
	other = (int)MUST(dup(both));

	t_ready();

	t_check(fcntl(own, F_GETLEASE) == F_WRLCK, "the lease for writing: %d", fcntl(own, F_GETLEASE));
	t_check(fcntl(both, F_GETLEASE) == F_RDLCK && fcntl(other, F_GETLEASE) == F_RDLCK, "the lease for reading");
	t_check(fcntl(own, F_GETOWN) == getpid() && fcntl(both, F_GETOWN) == getpid(), "whom signals go to");
	t_check(sigpending(&set) == 0 && !sigismember(&set, TOLD) && !sigismember(&set, SIGIO), "nobody has opened them");
	sigemptyset(&set);
	sigaddset(&set, TOLD);
	sigaddset(&set, SIGIO);

	t_check(try_open("shared", O_RDONLY) == 0, "others may read what is leased for reading");
	t_check(try_open("leased", O_RDONLY) == EWOULDBLOCK, "others may not read what is leased for writing");
	sig = sigtimedwait(&set, &si, &soon);
	t_check(sig == TOLD && si.si_fd == own, "signal %d of descriptor %d", sig, si.si_fd);
	MUST(fcntl(own, F_SETLEASE, F_UNLCK));
	t_check(try_open("leased", O_RDWR) == 0, "given up");

	t_check(try_open("shared", O_WRONLY) == EWOULDBLOCK, "others may not write what is leased for reading");
	sig = sigtimedwait(&set, &si, &soon);
	t_check(sig == SIGIO, "signal %d", sig);
	MUST(fcntl(both, F_SETLEASE, F_UNLCK));
	t_check(try_open("shared", O_WRONLY) == 0, "given up, too");
	return t_done();
}
