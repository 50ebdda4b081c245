// SPDX-License-Identifier: GPL-2.0-only
#include "kern/hold.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"

#define DEADLINE_US 1000000u

int hold_pend(int pid)
{
	return kill(pid, SIGSTOP) ? -errno : 0;
}

int hold_take_back(int pid)
{
	uint64_t end = io_now_us() + DEADLINE_US;
	int status, sig = 0;
	pid_t r;

	for (;;) {
		if (ptrace(PTRACE_CONT, pid, 0, sig))
			return -errno;
		while ((r = waitpid(pid, &status, __WALL | WNOHANG)) == 0 ||
		       (r < 0 && errno == EINTR)) {
			/* Somebody's SIGCONT may have taken it out before us. */
			if (io_now_us() > end && (ptrace(PTRACE_INTERRUPT, pid, 0, 0) ||
						  waitpid(pid, &status, __WALL) != pid))
				return -ESRCH;
			if (io_now_us() > end)
				return 0;
			(void)usleep(10);
		}
		if (r < 0 || !WIFSTOPPED(status))
			return -ESRCH;
		sig = status >> 16 ? 0 : WSTOPSIG(status);
		if (sig == SIGSTOP)
			return 0;
	}
}
