// SPDX-License-Identifier: GPL-2.0-only
/* Working directory, root and umask of each process: a chroot, and a directory below it. */
#include "t.h"

#include <limits.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
	char buf[PATH_MAX], dir[PATH_MAX];
	struct stat root, st, self;
	pid_t other, jailed;

	t_init(argc, argv);
	(void)snprintf(dir, sizeof(dir), "%s", t_dir());
	t_sys(mkdir(t_path("jail"), 0777));
	t_sys(chmod(t_path("jail"), 0777));
	t_sys(mkdir(t_path("jail/sub"), 0777));
	t_sys(mkdir(t_path("jail/sub/deep"), 0777));
	t_sys(chdir(dir));
	t_sys(stat("/", &self));
	other = t_fork();
	if (other == 0) { /* outside, in the test's directory */
		t_wait_go();
		t_check(strcmp(getcwd(buf, sizeof(buf)) ? buf : "", dir) == 0, "cwd: %s", buf);
		t_check(stat("/", &st) == 0 && st.st_ino == self.st_ino, "root: %lu", st.st_ino);
		_exit(t_status());
	}
	jailed = t_fork();
	if (jailed == 0) {
		t_sys(chroot(t_path("jail")));
		t_sys(chdir("/sub"));
		t_set_dir("/");
		umask(0127);
		t_sys(stat("/", &root));
		t_check(mkdir("/inside", 0777) == 0, "the jail is writable");
		t_wait_go();
		t_check(stat("/", &st) == 0 && st.st_ino == root.st_ino && st.st_dev == root.st_dev,
			"root is the jail");
		t_check(access("/etc", F_OK) != 0, "no way out");
		t_check(getcwd(buf, sizeof(buf)) && strcmp(buf, "/sub") == 0, "cwd /sub: %s", buf);
		t_check(access("deep", F_OK) == 0, "relative names work");
		t_check(umask(0) == 0127, "umask");
		_exit(t_status());
	}
	t_until(access(t_path("jail/inside"), F_OK) == 0, "the jail is used");
	t_until_asleep(jailed, jailed, SYS_rt_sigtimedwait);
	t_ready();
	t_check(getcwd(buf, sizeof(buf)) && strcmp(buf, dir) == 0, "cwd %s: %s", dir, buf);
	t_sys(kill(other, SIGTERM));
	t_reap(other, 0);
	t_sys(kill(jailed, SIGTERM));
	t_reap(jailed, 0);
	return t_done();
}
