// SPDX-License-Identifier: GPL-2.0-only
/* t: timeout=90 */
/* Threads that are created and end at full rate while the dump runs. The counts must add up:
 * every thread that was started has done its work exactly once. */
#include "t.h"

enum { SPAWNERS = 3, BATCH = 8 };

static atomic_ulong started, worked, joined;
static atomic_bool stop;

static void *work(void *arg)
{
	volatile uint64_t x = (uintptr_t)arg;

	for (int i = 0; i < 50; i++)
		x = t_pattern(x);
	worked++;
	return (void *)(uintptr_t)x;
}

static void *spawn(void *arg)
{
	uint64_t seed = (uintptr_t)arg;

	while (!stop) {
		pthread_t th[BATCH];
		void *ret;

		for (int i = 0; i < BATCH; i++) {
			th[i] = t_thread(work, (void *)(uintptr_t)(seed + (uint64_t)i));
			started++;
		}
		for (int i = 0; i < BATCH; i++) {
			uint64_t x = seed + (uint64_t)i;

			t_zero(pthread_join(th[i], &ret));
			joined++;
			for (int j = 0; j < 50; j++)
				x = t_pattern(x);
			t_check((uintptr_t)ret == x, "result of thread %d", i);
		}
		seed++;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th[SPAWNERS];
	unsigned long before;

	t_init(argc, argv);
	for (uint64_t i = 0; i < SPAWNERS; i++)
		th[i] = t_thread(spawn, (void *)(i << 32));
	t_until(started > 100, "threads are created");
	t_ready();
	before = started;
	t_until(started > before + 100, "threads are still created");
	stop = true;
	for (int i = 0; i < SPAWNERS; i++)
		t_zero(pthread_join(th[i], NULL));
	t_check(started == worked && worked == joined, "%lu started, %lu worked, %lu joined", started,
		worked, joined);
	return t_done();
}
