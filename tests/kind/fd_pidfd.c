// SPDX-License-Identifier: GPL-2.0-only
/* Pidfds of itself, a child, a zombie and a process that is gone. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"

#ifndef PIDFD_NONBLOCK
#define PIDFD_NONBLOCK O_NONBLOCK
#endif

static int child_idle(void *arg)
{
	(void)arg;
	return 7;
}

int main(int argc, char **argv)
{
	int self, alive, zombie, status;
	struct fd_child child;
	siginfo_t si;
	pid_t dead;

	fd_init(argc, argv);
	child = fd_child_start(child_idle, NULL);
	self = (int)MUST(syscall(SYS_pidfd_open, getpid(), 0));
	alive = (int)MUST(syscall(SYS_pidfd_open, child.pid, PIDFD_NONBLOCK));
	dead = (pid_t)MUST(fork());
	if (!dead)
		_exit(3);
	zombie = (int)MUST(syscall(SYS_pidfd_open, dead, 0));
	MUST(poll(&(struct pollfd) { .fd = zombie, .events = POLLIN }, 1, 10000) == 1 ? 0 : -1);

	t_ready();

	t_check(fd_info(self, "Pid", 10) == getpid(), "own pid: %lld", fd_info(self, "Pid", 10));
	t_check(fcntl(alive, F_GETFL) & O_NONBLOCK, "flags");
	t_check(!fd_poll(alive, POLLIN), "the child has ended");
	t_check(!syscall(SYS_pidfd_send_signal, alive, 0, NULL, 0), "signal 0 to the child");
	t_check(fd_poll(zombie, POLLIN) == POLLIN, "the zombie lives");
	memset(&si, 0, sizeof(si));
	t_check(!waitid(P_PIDFD, (id_t)zombie, &si, WEXITED) && si.si_pid == dead &&
			si.si_status == 3,
		"wait for the zombie: %s", strerror(errno));
	status = fd_child_end(&child);
	t_check(status == 7, "child's status %d", status);
	t_check(fd_poll(alive, POLLIN) & POLLIN, "end of the child is not seen");
	return t_done();
}
