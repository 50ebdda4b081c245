// SPDX-License-Identifier: GPL-2.0-only
/* A chain of processes, each the child of the last. */
#include "t.h"

enum { DEPTH = 60 };

static int level(int depth)
{
	pid_t parent = getppid(), self = getpid(), child = 0;
	volatile uint64_t local = t_pattern((uint64_t)depth);

	if (depth < DEPTH) {
		child = t_fork();
		if (child == 0)
			_exit(level(depth + 1));
	}
	if (depth == DEPTH)
		t_sys(open(t_path("bottom"), O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
	if (depth == 0)
		t_until(access(t_path("bottom"), F_OK) == 0, "the chain is complete");
	if (depth == 0)
		t_ready();
	else
		t_wait_go();
	t_check(getppid() == parent && getpid() == self, "level %d: %d, parent %d: %d, %d", depth,
		self, parent, getpid(), getppid());
	t_check(local == t_pattern((uint64_t)depth), "level %d: own memory", depth);
	if (child) {
		t_sys(kill(child, SIGTERM));
		t_reap(child, (depth + 1) & 0x7f);
	}
	return t_status() ? 99 : depth & 0x7f;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);
	(void)level(0);
	return t_done();
}
