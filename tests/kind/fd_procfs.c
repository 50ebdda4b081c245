// SPDX-License-Identifier: GPL-2.0-only
/* Files of the program's own processes and threads below /proc. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"

struct waiter {
	volatile pid_t tid;
	int go[2];
};

static void *thread_wait(void *arg)
{
	struct waiter *w = arg;
	char c;

	w->tid = gettid();
	return read(w->go[0], &c, 1) == 1 ? NULL : w;
}

static int child_idle(void *arg)
{
	(void)arg;
	return 0;
}

static long long number(int fd, const char *key)
{
	char buf[8192], *at;
	ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);

	buf[n > 0 ? n : 0] = 0;
	at = strstr(buf, key);
	return at ? atoll(at + strlen(key)) : -1;
}

int main(int argc, char **argv)
{
	int self, dup_self, other, of_thread, dir, mem, root, init, ref, link;
	struct waiter w = { 0 };
	struct fd_child child;
	char path[64], got[4];
	pthread_t th;

	fd_init(argc, argv);
	MUST(pipe(w.go));
	child = fd_child_start(child_idle, NULL);
	th = t_thread(thread_wait, &w);
	t_until(w.tid, "thread");
	self = (int)MUST(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
	MUST(read(self, got, 4));
	dup_self = (int)MUST(dup(self));
	snprintf(path, sizeof(path), "/proc/%d/status", child.pid);
	other = (int)MUST(open(path, O_RDONLY));
	snprintf(path, sizeof(path), "/proc/self/task/%d/status", w.tid);
	of_thread = (int)MUST(open(path, O_RDONLY));
	dir = (int)MUST(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
	mem = (int)MUST(open("/proc/self/mem", O_RDWR));
	root = (int)MUST(open("/proc", O_RDONLY | O_DIRECTORY));
	init = (int)MUST(open("/proc/1/status", O_RDONLY));
	ref = (int)MUST(open("/proc/self/task", O_PATH | O_DIRECTORY));
	link = (int)MUST(open("/proc/self/exe", O_PATH | O_NOFOLLOW));

	t_ready();

	t_check(lseek(self, 0, SEEK_CUR) == 4 && fcntl(self, F_GETFD) == FD_CLOEXEC &&
			fcntl(dup_self, F_GETFD) == 0,
		"position and close-on-exec");
	t_check(fd_same(getpid(), self, getpid(), dup_self), "the duplicate is no duplicate");
	t_check(number(self, "\nPid:") == getpid(), "own status: %lld", number(self, "\nPid:"));
	t_check(number(other, "\nPid:") == child.pid, "child's status: %lld",
		number(other, "\nPid:"));
	t_check(number(of_thread, "\nPid:") == w.tid, "thread's status: %lld",
		number(of_thread, "\nPid:"));
	snprintf(path, sizeof(path), "%d", mem);
	t_check(!faccessat(dir, path, F_OK, AT_SYMLINK_NOFOLLOW), "directory");
	t_check(pread(mem, got, 4, (off_t)(uintptr_t)path) == 4 && !memcmp(got, path, 2), "memory");
	t_check(number(init, "\nPid:") == 1, "init's status: %lld", number(init, "\nPid:"));
	snprintf(path, sizeof(path), "%d", getpid());
	t_check(!faccessat(root, path, F_OK, 0), "the root of /proc");
	snprintf(path, sizeof(path), "%d", w.tid);
	t_check(fcntl(ref, F_GETFL) & O_PATH && !faccessat(ref, path, F_OK, 0), "directory, O_PATH");
	t_check(readlinkat(link, "", path, sizeof(path)) > 0 && path[0] == '/', "link, O_PATH");
	t_check(!fd_child_end(&child), "child");
	MUST(write(w.go[1], "g", 1));
	t_zero(pthread_join(th, NULL));
	return t_done();
}
