// SPDX-License-Identifier: GPL-2.0-only
/* A socket whose peer is no part of the tree: refused by name. */
/* t: refuse=E-UNSUPPORTED "outside" */
#include "fd_lib.h"

int main(int argc, char **argv)
{
	int p[2], gate[2];
	pid_t pid;
	char c;

	fd_init(argc, argv);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
	MUST(pipe(gate));
	pid = (pid_t)MUST(fork());
	if (!pid) {
		/* An orphan: it becomes a child of somebody outside, and ends with this program. */
		if (MUST(fork()))
			_exit(0);
		(void)close(p[0]);
		(void)close(gate[0]);
		while (getppid() != 1)
			t_tick();
		(void)close(gate[1]);
		while (read(p[1], &c, 1) == 1)
			if (write(p[1], &c, 1) != 1)
				break;
		_exit(0);
	}
	MUST(waitpid(pid, NULL, 0));
	(void)close(p[1]);
	(void)close(gate[1]);
	MUST(read(gate[0], &c, 1) == 0 ? 0 : -1);

	t_ready();

	t_check(write(p[0], "x", 1) == 1 && read(p[0], &c, 1) == 1 && c == 'x', "echo");
	return t_done();
}
