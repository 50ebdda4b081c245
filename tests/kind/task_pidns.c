// SPDX-License-Identifier: GPL-2.0-only
/* t: refuse=E-UNSUPPORTED "namespace" */
/* A tree with processes in a pid namespace of their own is refused by name. */
#include "t.h"

int main(int argc, char **argv)
{
	pid_t pid;

	t_init(argc, argv);
	t_sys(unshare(CLONE_NEWPID));
	pid = t_fork();
	if (pid == 0) {
		t_wait_go();
		_exit(getpid() == 1 ? 0 : 1);
	}
	t_ready();
	t_sys(kill(pid, SIGTERM));
	t_reap(pid, 0);
	return t_done();
}
