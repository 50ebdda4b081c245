// SPDX-License-Identifier: GPL-2.0-only
/* The first thread of a process has ended (pthread_exit in main) and others go on under its pid, with
 * memory, descriptors, a child and a timer; then the last of them ends by itself as well. */
#include "t.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

enum { CHILD_CODE = 5, LEADER_CODE = 0 };

static pid_t pid, child, third_tid;
static int pipes[2];
static char *heap;
static atomic_int third_done;
static pthread_t third_thread;
static timer_t timer;

static void *third(void *arg)
{
	char c = 0;

	(void)arg;
	third_tid = t_gettid();
	t_check(read(pipes[0], &c, 1) == 1 && c == 'x', "a read goes on: %c", c);
	third_done = 1;
	return NULL;
}

static void make_state(void)
{
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	const struct itimerspec in = { .it_value = { .tv_sec = 1000 } };

	t_sys(pipe2(pipes, O_CLOEXEC));
	heap = malloc(1 << 20);
	for (size_t i = 0; i < (1 << 20) / 8; i++)
		((uint64_t *)(void *)heap)[i] = t_pattern(i);
	t_sys(timer_create(CLOCK_MONOTONIC, &ev, &timer));
	t_sys(timer_settime(timer, 0, &in, NULL));
	child = t_fork();
	if (child == 0) {
		t_wait_go();
		_exit(CHILD_CODE);
	}
}

static bool leader_ended(void)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "self/task/%d/status", pid);
	return t_proc(path, "State")[0] == 'Z';
}

static void verify_names(void)
{
	char path[64], text[64] = "", link[256] = "", maps[64];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	t_check(t_slurp(path, text, sizeof(text)) > 0 && !strcmp(text, "first\n"),
		"the name of the process: %s", text);
	(void)snprintf(path, sizeof(path), "/proc/%d/exe", t_gettid());
	n = readlink(path, link, sizeof(link) - 1);
	t_check(n > 0 && strstr(link, "task_leader"), "exe: %s", link);
	(void)snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	t_check(t_slurp(path, maps, sizeof(maps)) <= 0, "the first thread has no memory: %s", maps);
}

static void *second(void *arg)
{
	volatile uint64_t local = t_pattern(99);
	struct itimerspec left;
	size_t bad = 0;

	(void)arg;
	t_until(leader_ended(), "the leader is a zombie");
	t_until_asleep(pid, third_tid, SYS_read);
	t_ready();
	t_check(getpid() == pid && t_gettid() != pid, "pid %d: %d", pid, getpid());
	t_check(leader_ended(), "the leader is still a zombie");
	t_check(local == t_pattern(99), "own stack");
	for (size_t i = 0; i < (1 << 20) / 8; i++)
		bad += ((uint64_t *)(void *)heap)[i] != t_pattern(i);
	t_check(!bad, "%zu words of memory differ", bad);
	verify_names();
	t_sys(timer_gettime(timer, &left));
	t_check(left.it_value.tv_sec > 900, "the timer runs: %ld s", left.it_value.tv_sec);
	t_check(write(pipes[1], "x", 1) == 1, "write");
	t_zero(pthread_join(third_thread, NULL));
	t_check(third_done, "the third thread went on");
	t_sys(kill(child, SIGTERM));
	t_reap(child, CHILD_CODE);
	(void)t_done();
	/* The last thread ends, and with it the process. */
	syscall(SYS_exit, 0);
	return NULL;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);
	pid = getpid();
	t_sys(prctl(PR_SET_NAME, "first"));
	make_state();
	third_thread = t_thread(third, NULL);
	t_until(third_tid, "the third thread runs");
	t_thread(second, NULL);
	/* Only this thread ends, not the process. */
	syscall(SYS_exit, LEADER_CODE);
	return 1;
}
