// SPDX-License-Identifier: GPL-2.0-only
/* t: timeout=120 */
/* A thousand threads, each blocked on its own futex, each with something to remember. */
#include "t.h"

#include <limits.h>
#include <linux/futex.h>

enum { N = 1000 };

static int word[N];
static atomic_int running, right;

static void *run(void *arg)
{
	uint64_t n = (uintptr_t)arg, pattern = t_pattern(n);
	pid_t tid = t_gettid();

	running++;
	while (__atomic_load_n(&word[n], __ATOMIC_ACQUIRE) == 0)
		(void)syscall(SYS_futex, &word[n], FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	if (t_check(pattern == t_pattern(n) && tid == t_gettid(), "thread %lu", n))
		right++;
	return (void *)pattern;
}

int main(int argc, char **argv)
{
	static pthread_t th[N];
	pthread_attr_t attr;

	t_init(argc, argv);
	t_zero(pthread_attr_init(&attr));
	t_zero(pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN + 65536));
	for (uintptr_t i = 0; i < N; i++)
		t_zero(pthread_create(&th[i], &attr, run, (void *)i));
	t_until(running == N, "all threads run");
	t_ready();
	for (uintptr_t i = 0; i < N; i++) {
		void *ret = NULL;

		__atomic_store_n(&word[i], 1, __ATOMIC_RELEASE);
		(void)syscall(SYS_futex, &word[i], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		t_zero(pthread_join(th[i], &ret));
		t_check((uintptr_t)ret == t_pattern(i), "result of thread %lu", i);
	}
	t_check(right == N, "%d threads of %d were right", right, N);
	return t_done();
}
