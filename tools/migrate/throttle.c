// SPDX-License-Identifier: GPL-2.0-only
#include "migrate/throttle.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/quiet.h"
#include "kern/target.h"

#define PERIOD_MS 100u
#define MS 1000000

struct throttle {
	int pid;
	struct ckpt_ui *ui;
	pthread_t thread;
	pthread_mutex_t lock; /* held by the thread unless the tree runs untouched */
	pthread_cond_t wake;
	uint32_t percent;
	uint32_t paused;
	bool frozen, end;
};

/* Sleeps, lock given up meanwhile; woken up early by whoever wants something. */
static void wait_ms(struct throttle *t, uint32_t ms)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += (long)ms * MS;
	ts.tv_sec += ts.tv_nsec / (1000 * MS);
	ts.tv_nsec %= 1000 * MS;
	while (!t->end && !t->paused && pthread_cond_timedwait(&t->wake, &t->lock, &ts) == 0)
		;
}

static void *work(void *arg)
{
	struct throttle *t = arg;

	pthread_mutex_lock(&t->lock);
	while (!t->end) {
		struct target target = { .ui = t->ui };
		struct ckpt_err err = { 0 };
		uint32_t still = t->percent * PERIOD_MS / 100;

		if (t->paused || !still) {
			pthread_cond_wait(&t->wake, &t->lock);
			continue;
		}
		t->frozen = true;
		if (!target_freeze(&target, t->pid, &err)) {
			wait_ms(t, still);
			target_thaw(&target, TARGET_RUN);
		}
		target_free(&target);
		t->frozen = false;
		pthread_cond_broadcast(&t->wake);
		wait_ms(t, PERIOD_MS - still);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

struct throttle *throttle_start(int pid, struct ckpt_ui *ui)
{
	struct throttle *t = calloc(1, sizeof(*t));
	pthread_condattr_t attr;

	if (!t)
		return NULL;
	t->pid = pid;
	t->ui = ui;
	(void)pthread_mutex_init(&t->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&t->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	if (!quiet_thread(&t->thread, work, t))
		return t;
	free(t);
	return NULL;
}

void throttle_set(struct throttle *t, uint32_t percent)
{
	pthread_mutex_lock(&t->lock);
	t->percent = percent > THROTTLE_MAX ? THROTTLE_MAX : percent;
	pthread_cond_broadcast(&t->wake);
	pthread_mutex_unlock(&t->lock);
}

uint32_t throttle_get(const struct throttle *t)
{
	return t ? t->percent : 0;
}

void throttle_pause(struct throttle *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->paused++;
	pthread_cond_broadcast(&t->wake);
	while (t->frozen)
		pthread_cond_wait(&t->wake, &t->lock);
	pthread_mutex_unlock(&t->lock);
}

void throttle_resume(struct throttle *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->paused--;
	pthread_cond_broadcast(&t->wake);
	pthread_mutex_unlock(&t->lock);
}

void throttle_stop(struct throttle *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->end = true;
	pthread_cond_broadcast(&t->wake);
	pthread_mutex_unlock(&t->lock);
	(void)pthread_join(t->thread, NULL);
	(void)pthread_cond_destroy(&t->wake);
	(void)pthread_mutex_destroy(&t->lock);
	free(t);
}
