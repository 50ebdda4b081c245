// SPDX-License-Identifier: GPL-2.0-only
/* t: refuse=E-UNSUPPORTED "vfork" */
/* A child of vfork that does not call exec: its parent can be stopped by nobody. Refused before a freeze. */
#include "t.h"

#include <sys/mman.h>

static char stack[65536] __attribute__((aligned(16)));
static int gate[2];
static atomic_int started;

static int child(void *arg)
{
	char c;

	(void)arg;
	started = 1;
	while (read(gate[0], &c, 1) < 0 && errno == EINTR)
		;
	_exit(7);
}

static void *forker(void *arg)
{
	(void)arg;
	t_reap((pid_t)t_sys(clone(child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL)), 7);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	t_init(argc, argv);
	t_sys(pipe(gate));
	thread = t_thread(forker, NULL);
	t_until(started, "the child runs");
	t_ready();
	t_check(write(gate[1], "x", 1) == 1, "write");
	t_zero(pthread_join(thread, NULL));
	return t_done();
}
