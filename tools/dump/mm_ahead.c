// SPDX-License-Identifier: GPL-2.0-only
#include "dump/mm_ahead.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/quiet.h"
#include "kern/inject.h"

/* Of fewer descriptors all is known before a thread has started. */
#define WORTH_A_THREAD 24u

enum { OPEN, BEGUN, OURS };

struct mm_ahead {
	struct mm_ahead *next;
	struct dump_ctx *d;
	struct target_task *task;
	struct tracker *tracker;
	pthread_t thread;
	/* Whoever waits for a thread that has no processor yet waits for all others that have one:
	 * what has not begun is the caller's. */
	atomic_int state;
	sem_t looked, done;
	bool waited; /* for the second of them */
	bool untouched;
	char *maps;
	struct mm_walk walk;
	int rc;
	struct ckpt_err err;
};

static void *look(void *arg)
{
	struct mm_ahead *a = arg;
	struct ckpt_err ignore = { 0 };
	int was = OPEN;

	if (!atomic_compare_exchange_strong(&a->state, &was, BEGUN))
		return NULL;
	a->untouched = (a->maps || !proc_read(a->task->pid, "maps", &a->maps, NULL, &ignore)) &&
		       inject_untouched(a->task, a->maps);
	(void)sem_post(&a->looked);
	if (a->untouched) {
		a->rc = walk_begin(a->d, a->task, a->maps, &a->walk, &a->err);
		if (!a->rc)
			a->rc = walk_pages(a->d, a->task, a->tracker, false, &a->walk, &a->err);
		if (!a->rc && !a->walk.pages.keeper)
			a->walk.staged = dump_stage_ahead(a->d, a->task, &a->walk.segs);
	}
	(void)sem_post(&a->done);
	return NULL;
}

static void await(sem_t *sem)
{
	while (sem_wait(sem))
		;
}

struct mm_ahead *mm_ahead_begin(struct dump_ctx *d, struct target_task *task, char **maps)
{
	struct dump_tracking *tr = d->tracking;
	struct ckpt_err ignore = { 0 };
	struct mm_ahead *a;
	bool fresh = false;

	/* To make a tracker is to enter the process. */
	if (d->opts->threads < 2 || d->opts->series->descriptors < WORTH_A_THREAD || !tr ||
	    !tr->known || !tr->known(tr, task->pid))
		return NULL;
	a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->d = d;
	a->task = task;
	a->maps = *maps;
	(void)sem_init(&a->looked, 0, 0);
	(void)sem_init(&a->done, 0, 0);
	if (tr->tracker(tr, task, false, &a->tracker, &fresh, &ignore) || !a->tracker || fresh ||
	    quiet_thread(&a->thread, look, a)) {
		(void)sem_destroy(&a->looked);
		(void)sem_destroy(&a->done);
		free(a);
		return NULL;
	}
	*maps = NULL;
	a->next = d->mm_aheads;
	d->mm_aheads = a;
	return a;
}

/* If not, it will not. */
static bool has_begun(struct mm_ahead *a)
{
	int was = OPEN;

	return !atomic_compare_exchange_strong(&a->state, &was, OURS) && was == BEGUN;
}

bool mm_ahead_looks(struct mm_ahead *a, char **ret_maps)
{
	if (!has_begun(a)) {
		*ret_maps = take_ptr(a->maps);
		return false;
	}
	await(&a->looked);
	return a->untouched;
}

void mm_ahead_wait(struct mm_ahead *a)
{
	if (a->waited || !has_begun(a))
		return;
	await(&a->done);
	a->waited = true;
}

int mm_ahead_take(struct mm_ahead *a, struct mm_walk *ret, bool *ret_walked, char **maps,
		  struct ckpt_err *err)
{
	mm_ahead_wait(a);
	*ret = a->walk;
	a->walk = (struct mm_walk) { 0 };
	*ret_walked = !a->rc;
	free(*maps);
	*maps = take_ptr(a->maps);
	if (!a->rc || a->rc == -ESTALE)
		return 0;
	*err = a->err;
	return a->rc;
}

void mm_ahead_settle(struct dump_ctx *d)
{
	for (struct mm_ahead *a = d->mm_aheads; a; a = a->next)
		mm_ahead_wait(a);
}

void mm_ahead_free(struct dump_ctx *d)
{
	while (d->mm_aheads) {
		struct mm_ahead *a = d->mm_aheads;

		d->mm_aheads = a->next;
		(void)pthread_join(a->thread, NULL);
		walk_free(&a->walk);
		free(a->maps);
		(void)sem_destroy(&a->looked);
		(void)sem_destroy(&a->done);
		free(a);
	}
}
