// SPDX-License-Identifier: GPL-2.0-only
#include "migrate/pump.h"

#include <string.h>

#include "base/quiet.h"

static void *pump_main(void *arg)
{
	struct pump *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (p->done == p->put && !p->end)
			pthread_cond_wait(&p->changed, &p->lock);
		if (p->done == p->put)
			break;
		if (!p->failed) {
			void *parcel = p->parcel[p->done % PUMP_PARCELS];
			int rc;

			pthread_mutex_unlock(&p->lock);
			rc = p->work(p->arg, parcel);
			pthread_mutex_lock(&p->lock);
			p->failed = rc;
		}
		p->done++;
		pthread_cond_broadcast(&p->changed);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

void pump_start(struct pump *p, void *const *parcels, bool threaded,
		int (*work)(void *arg, void *parcel), void *arg)
{
	memset(p, 0, sizeof(*p));
	memcpy(p->parcel, parcels, sizeof(p->parcel));
	p->work = work;
	p->arg = arg;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
	p->runs = threaded && !quiet_thread(&p->thread, pump_main, p);
}

void *pump_next(struct pump *p)
{
	pthread_mutex_lock(&p->lock);
	while (p->put - p->done >= PUMP_PARCELS)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
	return p->parcel[p->put % PUMP_PARCELS];
}

int pump_put(struct pump *p)
{
	int rc;

	if (!p->runs) {
		if (!p->failed)
			p->failed = p->work(p->arg, p->parcel[p->put % PUMP_PARCELS]);
		p->put++;
		p->done++;
		return p->failed;
	}
	pthread_mutex_lock(&p->lock);
	p->put++;
	rc = p->failed;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

int pump_drain(struct pump *p)
{
	int rc;

	if (!p->work)
		return 0;
	pthread_mutex_lock(&p->lock);
	while (p->done != p->put)
		pthread_cond_wait(&p->changed, &p->lock);
	rc = p->failed;
	pthread_mutex_unlock(&p->lock);
	return rc;
}

int pump_stop(struct pump *p)
{
	int rc;

	if (!p->work)
		return 0;
	rc = pump_drain(p);
	pthread_mutex_lock(&p->lock);
	p->end = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	if (p->runs)
		(void)pthread_join(p->thread, NULL);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	memset(p, 0, sizeof(*p));
	return rc;
}
