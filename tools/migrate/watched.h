/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shared anonymous memory of which the trackers tell all that is written (dump/watch.h), while its
 * program moves: so the last stop does not look at its contents. It is armed while the program
 * runs, before a round looks at what all of it holds. What counts is that nobody has changed an
 * address space between the stamps that are read behind that and the stop: then the mappings that
 * were found behind the stamps are all there were.
 */
#ifndef CKPT_MIGRATE_WATCHED_H
#define CKPT_MIGRATE_WATCHED_H

#include <pthread.h>

#include "dump/watch.h"

struct rounds;
struct round_task;

struct watched {
	const struct mm_watch *mm; /* NULL: nothing can be watched */
	struct notes notes;
	/* Who drops pages of what is tracked, or makes holes, waits until this thread knows. */
	pthread_t reader;
	pthread_mutex_t lock; /* of what follows; held from an event to when it is counted */
	int wake;             /* an eventfd; -1: no thread */
	bool stop;
	struct {
		int *v;
		size_t n, cap;
	} fds;
	uint64_t dug;
	uint64_t dug_at_stop; /* when all were registered of which it is known now */
};

void watched_begin(struct watched *w, const struct mm_watch *mm);
/* At a stop: @t has a tracker and its mappings were read; those that may be watched are registered.
 * What fails here is no failure. */
void watched_task(struct rounds *r, struct round_task *t, struct target_task *task);
/* Behind the last of them. Whoever makes a hole does so when the event was read, not before: only
 * of a tree that stands still is it known that those that were counted are made. */
void watched_stopped(struct watched *w);
/* In a round, while the program runs. 0 or -ENOMEM. */
int watched_arm(struct rounds *r);
/* Does it look as if the last stop need not look at this file? */
bool watched_has(const struct watched *w, uint64_t dev, uint64_t ino);
/* For struct dump_tracking. */
uint64_t watched_dug(struct watched *w);
void watched_end(struct watched *w);

#endif
