// SPDX-License-Identifier: GPL-2.0-only
/* A program that is hard to stop: threads that sleep with a timeout and are signalled all the time, threads and
 * processes that are made at full rate, by clone, fork and vfork. It counts what it does, and checks it. */
#include "t.h"

#include <poll.h>
#include <spawn.h>

enum { SLEEPERS = 3 };

static pid_t sleeper_tid[SLEEPERS];
static atomic_ulong handled, sleeps, threads, spawned, forked;
static atomic_bool stop;

static void on_signal(int sig)
{
	(void)sig;
	handled++;
}

static void *sleeper(void *arg)
{
	size_t at = (size_t)arg;

	sleeper_tid[at] = t_gettid();
	while (!stop) {
		struct timespec ts = { .tv_nsec = 3000000 };

		if (at == 0)
			t_check(poll(NULL, 0, 3) >= 0 || errno == EINTR, "poll: errno %d", errno);
		else if (at == 1)
			t_check(!nanosleep(&ts, NULL) || errno == EINTR, "sleep: errno %d", errno);
		else
			(void)syscall(SYS_futex, &at, 0 /* FUTEX_WAIT */, at, &ts, NULL, 0);
		sleeps++;
	}
	return NULL;
}

static void *sender(void *arg)
{
	(void)arg;
	while (!stop)
		for (size_t i = 0; i < SLEEPERS; i++) {
			struct timespec ts = { .tv_nsec = 100000 };

			(void)syscall(SYS_tgkill, getpid(), sleeper_tid[i], SIGUSR1);
			(void)nanosleep(&ts, NULL);
		}
	return NULL;
}

static void *nothing(void *arg)
{
	return arg;
}

static void *threader(void *arg)
{
	(void)arg;
	while (!stop) {
		t_zero(pthread_join(t_thread(nothing, NULL), NULL));
		threads++;
	}
	return NULL;
}

static void *spawner(void *arg)
{
	char *argv[] = { (char *)"true", NULL }, *envp[] = { NULL };
	pid_t pid;

	(void)arg;
	while (!stop) {
		t_zero(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, envp));
		t_reap(pid, 0);
		spawned++;
	}
	return NULL;
}

static void *forker(void *arg)
{
	(void)arg;
	while (!stop) {
		pid_t pid = t_fork();

		if (pid == 0)
			_exit(9);
		t_reap(pid, 9);
		forked++;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static void *(*const parts[])(void *) = { sender, threader, spawner, forker };
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pthread_t th[T_ARRAY_SIZE(parts) + SLEEPERS];
	unsigned long before[5];

	t_init(argc, argv);
	t_sys(sigaction(SIGUSR1, &sa, NULL));
	for (size_t i = 0; i < SLEEPERS; i++)
		th[i] = t_thread(sleeper, (void *)i);
	t_until(sleeper_tid[0] && sleeper_tid[1] && sleeper_tid[2], "all sleepers run");
	for (size_t i = 0; i < T_ARRAY_SIZE(parts); i++)
		th[SLEEPERS + i] = t_thread(parts[i], NULL);
	t_ready();
	before[0] = handled, before[1] = sleeps, before[2] = threads, before[3] = spawned, before[4] = forked;
	t_until(handled > before[0] && sleeps > before[1] && threads > before[2] && spawned > before[3] &&
			forked > before[4],
		"all of it goes on");
	stop = true;
	for (size_t i = 0; i < T_ARRAY_SIZE(th); i++)
		t_zero(pthread_join(th[i], NULL));
	return t_done();
}
