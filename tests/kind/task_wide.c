// SPDX-License-Identifier: GPL-2.0-only
/* t: timeout=120 */
/* Many children of one parent, some with threads, each with memory of its own. */
#include "t.h"

enum { CHILDREN = 200, THREADS = 4 };

static pthread_barrier_t barrier;
static int mine;

static void *thread(void *arg)
{
	uint64_t n = (uintptr_t)arg, pattern = t_pattern(n);

	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	t_check(pattern == t_pattern(n), "a thread's stack");
	return NULL;
}

static int child(int n)
{
	pthread_t th[THREADS];
	int threads = n % 10 == 0 ? THREADS : 0;
	uint64_t *heap = malloc(65536);

	mine = n;
	for (size_t i = 0; i < 8192; i++)
		heap[i] = t_pattern((uint64_t)n * 10000 + i);
	t_zero(pthread_barrier_init(&barrier, NULL, (unsigned int)threads + 1));
	for (int i = 0; i < threads; i++)
		th[i] = t_thread(thread, (void *)(uintptr_t)(n * 10 + i));
	pthread_barrier_wait(&barrier);
	t_wait_go();
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < threads; i++)
		t_zero(pthread_join(th[i], NULL));
	for (size_t i = 0; i < 8192; i++)
		if (!t_check(heap[i] == t_pattern((uint64_t)n * 10000 + i), "heap of child %d", n))
			break;
	t_check(mine == n, "own data");
	return t_status() ? 99 : n % 90;
}

int main(int argc, char **argv)
{
	static pid_t pid[CHILDREN];

	t_init(argc, argv);
	for (int i = 0; i < CHILDREN; i++) {
		pid[i] = t_fork();
		if (pid[i] == 0)
			_exit(child(i));
	}
	for (int i = 0; i < CHILDREN; i++)
		t_until_asleep(pid[i], pid[i], SYS_rt_sigtimedwait);
	t_ready();
	for (int i = 0; i < CHILDREN; i++) {
		t_sys(kill(pid[i], SIGTERM));
		t_reap(pid[i], i % 90);
	}
	return t_done();
}
