// SPDX-License-Identifier: GPL-2.0-only
/* A terminal that somebody outside shows, and that is not that of the program's session: refused.
 */
/* t: refuse=E-UNSUPPORTED "outside the tree" */
#include "fd_lib.h"

int main(int argc, char **argv)
{
	int m, s, gate[2];
	pid_t pid;
	char c;

	fd_init(argc, argv);
	m = (int)MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	MUST(ioctl(m, TIOCSPTLCK, &(int) { 0 }));
	s = (int)MUST(ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY));
	MUST(pipe(gate));
	pid = (pid_t)MUST(fork());
	if (!pid) {
		/* An orphan: it becomes a child of somebody outside, and ends with this program. */
		if (MUST(fork()))
			_exit(0);
		(void)close(s);
		(void)close(gate[0]);
		while (getppid() != 1)
			t_tick();
		(void)close(gate[1]);
		while (read(m, &c, 1) == 1)
			;
		_exit(0);
	}
	MUST(waitpid(pid, NULL, 0));
	(void)close(m);
	(void)close(gate[1]);
	MUST(read(gate[0], &c, 1) == 0 ? 0 : -1);

	t_ready();

	t_check(isatty(s) && write(s, "x", 1) == 1, "terminal");
	return t_done();
}
