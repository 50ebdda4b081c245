// SPDX-License-Identifier: GPL-2.0-only
/* t: timeout=90 */
/* Processes that are forked and end at full rate while the dump runs: each is waited for once and
 * says what it was told. */
#include "t.h"

enum { SPAWNERS = 2, BATCH = 4 };

static atomic_bool stop;
static atomic_ulong reaped;

static void *spawn(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;

	while (!stop) {
		pid_t pid[BATCH];

		for (unsigned int i = 0; i < BATCH; i++) {
			pid[i] = t_fork();
			if (pid[i] == 0) {
				if (i == 3) { /* with a child of its own */
					pid_t p = fork();

					if (p == 0)
						_exit(1);
					if (p > 0)
						(void)waitpid(p, NULL, 0);
				}
				_exit((int)((seed + i) & 0x7f));
			}
		}
		for (unsigned int i = 0; i < BATCH; i++) {
			t_reap(pid[i], (int)((seed + i) & 0x7f));
			reaped++;
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
	for (uintptr_t i = 0; i < SPAWNERS; i++)
		th[i] = t_thread(spawn, (void *)(i * 31));
	t_until(reaped > 50, "children come and go");
	t_ready();
	before = reaped;
	t_until(reaped > before + 50, "children still come and go");
	stop = true;
	for (int i = 0; i < SPAWNERS; i++)
		t_zero(pthread_join(th[i], NULL));
	t_check(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "no child is left");
	return t_done();
}
