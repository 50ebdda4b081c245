// SPDX-License-Identifier: GPL-2.0-only
/* t: needs=cgroup2 */
/* Each process comes back in the cgroup it was in. */
#include "t.h"

#include <limits.h>
#include <sys/stat.h>

static char base[PATH_MAX], base_dir[PATH_MAX];

/* Where the unified hierarchy is mounted: not the same place everywhere. */
static bool find_cgroup2(void)
{
	static char text[65536];

	if (t_slurp("/proc/self/mountinfo", text, sizeof(text)) < 0)
		return false;
	for (char *save = NULL, *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		if (strstr(line, " - cgroup2 ") &&
		    sscanf(line, "%*d %*d %*s %*s %4000s", base) == 1)
			return true;
	return false;
}

static void join(const char *group)
{
	char path[PATH_MAX + 64];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", base, group);
	t_sys(mkdir(path, 0755));
	(void)snprintf(path, sizeof(path), "%s/%s/cgroup.procs", base, group);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "0", 1) != 1)
		t_skip("a writable cgroup2 mount");
	close(fd);
}

static void leave(const char *group)
{
	char path[PATH_MAX + 64];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/cgroup.procs", base);
	fd = open(path, O_WRONLY);
	t_check(fd >= 0 && write(fd, "0", 1) == 1, "back to the root cgroup");
	close(fd);
	(void)snprintf(path, sizeof(path), "%s/%s", base, group);
	t_check(rmdir(path) == 0, "remove %s, errno %d", path, errno);
}

static const char *mine(void)
{
	static char text[4096];
	char *p;

	t_slurp("/proc/self/cgroup", text, sizeof(text));
	p = strstr(text, "0::");
	if (!p)
		return "";
	p[strcspn(p, "\n")] = 0;
	return p + 3;
}

int main(int argc, char **argv)
{
	char name[2][64], want[128];
	char *run;
	pid_t child;

	t_init(argc, argv);
	if (!find_cgroup2())
		t_skip("a cgroup2 mount");
	/* Named after the run, which removes what is left of them in any case. */
	(void)snprintf(base_dir, sizeof(base_dir), "%s", t_dir());
	*strrchr(base_dir, '/') = 0;
	run = strrchr(base_dir, '/') + 1;
	for (int i = 0; i < 2; i++)
		(void)snprintf(name[i], sizeof(name[i]), "%.50s-%d", run, i);
	child = t_fork();
	if (child == 0) {
		join(name[1]);
		(void)snprintf(want, sizeof(want), "%s", mine());
		t_check(strstr(want, name[1]), "in %s: %s", name[1], want);
		t_wait_go();
		t_check(strcmp(mine(), want) == 0, "cgroup %s: %s", want, mine());
		leave(name[1]);
		_exit(t_status());
	}
	join(name[0]);
	t_until_asleep(child, child, SYS_rt_sigtimedwait);
	(void)snprintf(want, sizeof(want), "%s", mine());
	t_ready();
	t_check(strcmp(mine(), want) == 0, "cgroup %s: %s", want, mine());
	t_sys(kill(child, SIGTERM));
	t_reap(child, 0);
	leave(name[0]);
	return t_done();
}
