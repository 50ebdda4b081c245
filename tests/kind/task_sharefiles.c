// SPDX-License-Identifier: GPL-2.0-only
/* t: refuse=E-UNSUPPORTED "CLONE_FILES" */
/* Processes that share what a fork copies (clone with CLONE_FILES, no thread) are refused by name. */
#include "t.h"

static char stack[65536] __attribute__((aligned(16)));

static int other(void *arg)
{
	(void)arg;
	t_wait_go();
	return 7;
}

int main(int argc, char **argv)
{
	pid_t pid;

	t_init(argc, argv);
	pid = clone(other, stack + sizeof(stack), CLONE_FILES | SIGCHLD, NULL);
	t_sys(pid);
	t_ready();
	t_sys(kill(pid, SIGTERM));
	t_reap(pid, 7);
	return t_done();
}
