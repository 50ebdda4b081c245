// SPDX-License-Identifier: GPL-2.0-only
/* t: refuse=E-UNSUPPORTED "first thread" */
/* The first thread of a process has ended, others go on, under its pid: refused by name. */
#include "t.h"

static pid_t pid;

static void *second(void *arg)
{
	char path[64];
	volatile uint64_t local = t_pattern(99);

	(void)arg;
	(void)snprintf(path, sizeof(path), "self/task/%d/status", pid);
	t_until(t_proc(path, "State")[0] == 'Z', "the leader is a zombie");
	t_ready();
	t_check(getpid() == pid && t_gettid() != pid, "pid %d: %d", pid, getpid());
	t_check(t_proc(path, "State")[0] == 'Z', "the leader is still a zombie: %s",
		t_proc(path, "State"));
	t_check(local == t_pattern(99), "own stack");
	_exit(t_done());
}

int main(int argc, char **argv)
{
	t_init(argc, argv);
	pid = getpid();
	t_thread(second, NULL);
	/* Only this thread ends, not the process. */
	syscall(SYS_exit, 0);
	return 1;
}
