// SPDX-License-Identifier: GPL-2.0-only
/* t: refuse=E-UNSUPPORTED "leader of session" */
/* A process in a session whose leader has ended, as a daemon that forked twice is below the subreaper
 * that has adopted it: nobody could make that session again, so it is refused by name. */
#include "t.h"

#include <sys/prctl.h>

int main(int argc, char **argv)
{
	pid_t middle, orphan = 0;
	int link[2];

	t_init(argc, argv);
	t_sys(prctl(PR_SET_CHILD_SUBREAPER, 1));
	t_sys(pipe(link));
	middle = t_fork();
	if (middle == 0) {
		t_sys(setsid());
		orphan = t_fork();
		if (orphan == 0) {
			t_until(getppid() != getsid(0), "adopted");
			orphan = getpid();
			t_check(write(link[1], &orphan, sizeof(orphan)) == sizeof(orphan), "say the pid");
			t_wait_go();
			_exit(t_status());
		}
		_exit(0);
	}
	t_reap(middle, 0);
	t_check(read(link[0], &orphan, sizeof(orphan)) == sizeof(orphan), "the orphan's pid");
	t_ready();
	t_check(getsid(orphan) == middle, "session %d: %d", middle, getsid(orphan));
	t_sys(kill(orphan, SIGTERM));
	t_reap(orphan, 0);
	return t_done();
}
