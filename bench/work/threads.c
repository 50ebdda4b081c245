/* SPDX-License-Identifier: GPL-2.0-only */
/* A program with sleeping threads: threads REPORT COUNT */
#include "beat.h"
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

static void *sleeper(void *arg)
{
	pthread_mutex_lock(&lock);
	for (;;)
		pthread_cond_wait(&never, &lock);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_attr_t attr;

	if (argc != 3)
		return 2;
	beat_init();
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	for (long i = atol(argv[2]); i > 0; i--) {
		pthread_t th;

		if (pthread_create(&th, &attr, sleeper, NULL))
			return 1;
	}
	beat_run(argv[1], NULL);
}
