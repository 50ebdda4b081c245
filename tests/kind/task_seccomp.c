// SPDX-License-Identifier: GPL-2.0-only
/* Seccomp: strict mode in a child, filters of a process and of one thread alone, and their order.
 * A filter that was there still refuses, one that was not does not. */
#include "t.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

/* Refuse @nr with @err, allow everything else. */
static void add_filter(long nr, int err, unsigned int flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { T_ARRAY_SIZE(code), code };

	t_sys(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog));
}

static void expect(const char *who, long nr, int err)
{
	long r = syscall(nr, -1, -1, -1, -1, -1);

	if (err)
		t_check(r == -1 && errno == err, "%s: call %ld is refused with %d: %ld errno %d",
			who, nr, err, r, errno);
	else
		t_check(r != -1 || (errno != 71 && errno != 72 && errno != 73),
			"%s: call %ld is allowed: errno %d", who, nr, errno);
}

static pthread_barrier_t barrier;

static void *one_more(void *arg)
{
	(void)arg;
	add_filter(SYS_getpriority, 73, 0);
	add_filter(SYS_acct, 74, SECCOMP_FILTER_FLAG_LOG);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	expect("thread", SYS_sysfs, 71);
	expect("thread", SYS_getpriority, 73);
	expect("thread", SYS_acct, 74);
	return NULL;
}

int main(int argc, char **argv)
{
	int to_child[2], from_child[2];
	pthread_t thread;
	pid_t strict, inherits;
	char c = 0;

	t_init(argc, argv);
	t_sys(pipe(to_child));
	t_sys(pipe(from_child));
	strict = t_fork();
	if (strict == 0) {
		/* read, write, exit and sigreturn are all it has. */
		t_sys(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0));
		while (syscall(SYS_read, to_child[0], &c, 1) == 1 && c != 'q') {
			c++;
			syscall(SYS_write, from_child[1], &c, 1);
		}
		/* Forbidden: must end by SIGKILL. */
		if (c == 'q')
			syscall(SYS_getpid);
		syscall(SYS_exit, 5);
	}
	t_sys(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	add_filter(SYS_sysfs, 71, 0);
	inherits = t_fork();
	if (inherits == 0) {
		add_filter(SYS_ustat, 72, 0);
		t_wait_go();
		expect("child", SYS_sysfs, 71);
		expect("child", SYS_ustat, 72);
		_exit(t_status());
	}
	t_zero(pthread_barrier_init(&barrier, NULL, 2));
	thread = t_thread(one_more, NULL);
	pthread_barrier_wait(&barrier);
	t_check(write(to_child[1], "a", 1) == 1 && read(from_child[0], &c, 1) == 1 && c == 'b',
		"the strict child answers");
	t_until(strcmp(t_proc("self/status", "Seccomp"), "2") == 0, "filter mode");
	char path[32], filters[2][32];

	(void)snprintf(path, sizeof(path), "%d/status", inherits);
	t_until(strcmp(t_proc(path, "Seccomp_filters"), "2") == 0, "the child's filters");
	(void)snprintf(filters[0], 32, "%s", t_proc("self/status", "Seccomp_filters"));

	t_ready();
	(void)snprintf(filters[1], 32, "%s", t_proc("self/status", "Seccomp_filters"));
	t_check(strcmp(filters[0], filters[1]) == 0, "filters %s: %s", filters[0], filters[1]);
	t_check(strcmp(t_proc(path, "Seccomp_filters"), "2") == 0, "the child's filters: %s",
		t_proc(path, "Seccomp_filters"));
	expect("main", SYS_sysfs, 71);
	expect("main", SYS_getpriority, 0);
	expect("main", SYS_ustat, 0);
	t_check(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "no_new_privs");
	pthread_barrier_wait(&barrier);
	t_zero(pthread_join(thread, NULL));
	t_sys(kill(inherits, SIGTERM));
	t_reap(inherits, 0);
	c = 0;
	t_check(write(to_child[1], "x", 1) == 1 && read(from_child[0], &c, 1) == 1 && c == 'y',
		"the strict child still answers: %c", c);
	(void)snprintf(path, sizeof(path), "%d/status", strict);
	t_check(strcmp(t_proc(path, "Seccomp"), "1") == 0, "strict mode: %s",
		t_proc(path, "Seccomp"));
	t_check(write(to_child[1], "q", 1) == 1, "ask the strict child for a forbidden call");
	int status = 0;

	t_sys(waitpid(strict, &status, 0));
	t_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "killed: %#x", status);
	return t_done();
}
