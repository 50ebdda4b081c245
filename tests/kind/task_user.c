// SPDX-License-Identifier: GPL-2.0-only
/* t: uid=nobody */
/* A program of an unprivileged user is restored as itself, with threads and a child, and can do
 * what it could before: open its files, signal its child, change its limits downwards. */
#include "t.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

static pthread_barrier_t barrier;

static void *run(void *arg)
{
	char ids[256];

	(void)arg;
	(void)snprintf(ids, sizeof(ids), "%s", t_proc("thread-self/status", "Uid"));
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	t_check(strcmp(ids, t_proc("thread-self/status", "Uid")) == 0, "thread's ids %s: %s", ids,
		t_proc("thread-self/status", "Uid"));
	return NULL;
}

int main(int argc, char **argv)
{
	struct rlimit lim = { 100, 200 }, got;
	struct stat st;
	pthread_t thread;
	uid_t uid = getuid();
	pid_t child;
	int fd;

	t_init(argc, argv);
	t_check(uid != 0, "not root");
	t_zero(pthread_barrier_init(&barrier, NULL, 2));
	thread = t_thread(run, NULL);
	pthread_barrier_wait(&barrier);
	t_sys(setrlimit(RLIMIT_NOFILE, &lim));
	t_sys(mkdir(t_path("private"), 0700));
	child = t_fork();
	if (child == 0) {
		t_wait_go();
		_exit(getuid() == uid ? 3 : 4);
	}
	t_ready();
	t_check(getuid() == uid && geteuid() == uid, "uid %d: %d %d", uid, getuid(), geteuid());
	t_check(access("/etc/shadow", R_OK) != 0, "no more rights than before");
	fd = open(t_path("private/file"), O_CREAT | O_RDWR, 0600);
	t_check(fd >= 0, "own directory is usable, errno %d", errno);
	t_check(fstat(fd, &st) == 0 && st.st_uid == uid, "a new file is mine");
	t_sys(getrlimit(RLIMIT_NOFILE, &got));
	t_check(got.rlim_cur == 100 && got.rlim_max == 200, "limit 100 of 200: %lu of %lu",
		got.rlim_cur, got.rlim_max);
	t_check(prctl(PR_GET_DUMPABLE) == 1, "dumpable: %d", prctl(PR_GET_DUMPABLE));
	t_check(strcmp(t_proc("self/status", "CapPrm"), "0000000000000000") == 0, "no capability");
	t_check(kill(child, SIGTERM) == 0, "may signal its child, errno %d", errno);
	t_reap(child, 3);
	pthread_barrier_wait(&barrier);
	t_zero(pthread_join(thread, NULL));
	return t_done();
}
