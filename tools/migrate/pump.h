/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Parcels from one thread to another, in order, a bounded number at a time: while one is worked on
 * the next is made. Whoever made the pump fills them; one other thread works on them.
 */
#ifndef CKPT_MIGRATE_PUMP_H
#define CKPT_MIGRATE_PUMP_H

#include <pthread.h>
#include <stdbool.h>

#define PUMP_PARCELS 4u

struct pump {
	void *parcel[PUMP_PARCELS];
	int (*work)(void *arg, void *parcel);
	void *arg;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int put, done; /* of all so far */
	bool runs;              /* the thread; else work is done where it is put */
	bool end;
	int failed; /* what @work returned first; nothing is worked on any more */
};

/* The parcels are the caller's: PUMP_PARCELS of them. Without @threaded, or when there is no thread
 * to be had, pump_put() does the work. */
void pump_start(struct pump *p, void *const *parcels, bool threaded,
		int (*work)(void *arg, void *parcel), void *arg);
/* A parcel to fill; the same one until it is put. */
void *pump_next(struct pump *p);
/* Hand it over. 0, or what work failed with, now or earlier. */
int pump_put(struct pump *p);
/* All that was put is worked on when it returns: 0, or what work failed with. */
int pump_drain(struct pump *p);
/* The same, and the thread has ended. Forgives a pump that was never started. */
int pump_stop(struct pump *p);

#endif
