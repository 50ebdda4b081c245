// SPDX-License-Identifier: GPL-2.0-only
/* Namespaces that are held open: those of the program itself, and one that has a name. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sched.h>
#include <sys/mount.h>

static const char *const own[] = { "net", "mnt", "pid", "ipc", "uts", "user", "cgroup", "time" };
#define N (sizeof(own) / sizeof(own[0]))

static int make_named(void *arg)
{
	(void)arg;
	MUST(unshare(CLONE_NEWUTS));
	MUST(sethostname("named", 5));
	MUST(mount("/proc/self/ns/uts", "named", NULL, MS_BIND, NULL));
	return 0;
}

int main(int argc, char **argv)
{
	struct fd_child child;
	int fds[N], named;
	struct stat a, b;
	char path[64];

	fd_init(argc, argv);
	for (size_t i = 0; i < N; i++) {
		snprintf(path, sizeof(path), "/proc/self/ns/%s", own[i]);
		fds[i] = (int)MUST(open(path, O_RDONLY | O_CLOEXEC));
	}
	close((int)MUST(open("named", O_CREAT | O_RDONLY, 0600)));
	child = fd_child_start(make_named, NULL);
	MUST(fd_child_end(&child));
	named = (int)MUST(open("named", O_RDONLY));

	t_ready();

	for (size_t i = 0; i < N; i++) {
		snprintf(path, sizeof(path), "/proc/self/ns/%s", own[i]);
		t_check(!fstat(fds[i], &a) && !stat(path, &b) && a.st_ino == b.st_ino,
			"the %s namespace", own[i]);
		t_check(fcntl(fds[i], F_GETFD) == FD_CLOEXEC, "close-on-exec");
	}
	t_check(!fstat(named, &a) && !stat("named", &b) && a.st_ino == b.st_ino &&
			a.st_dev == b.st_dev,
		"the namespace with a name");
	t_check(!setns(named, CLONE_NEWUTS) && !gethostname(path, sizeof(path)) &&
			!strcmp(path, "named"),
		"host name in it: %s", path);
	close(named);
	t_check(!umount2("named", MNT_DETACH), "umount");
	return t_done();
}
