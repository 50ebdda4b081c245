// SPDX-License-Identifier: GPL-2.0-only
#include "dump/mm_ahead.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/standby.h"
#include "kern/inject.h"

struct mm_ahead {
	struct mm_ahead *next;
	struct dump_ctx *d;
	struct target_task *task;
	struct tracker *tracker;
	struct standby_job job;
	bool ours; /* it was not begun */
	sem_t looked;
	bool prepared; /* of a single process, before it was posted */
	char *maps;
	struct mm_walk walk;
	int rc;
	struct ckpt_err err;
};

/* What it needs: the mappings of a process in which a killed ckpt left nothing. */
static bool prepare(struct mm_ahead *a)
{
	struct ckpt_err ignore = { 0 };

	return (a->maps || !proc_read(a->task->pid, "maps", &a->maps, NULL, &ignore)) &&
	       inject_untouched(a->task, a->maps) &&
	       !walk_begin(a->d, a->task, a->maps, &a->walk, &ignore);
}

static void look(void *arg)
{
	struct mm_ahead *a = arg;

	a->prepared = a->prepared || prepare(a);
	(void)sem_post(&a->looked);
	if (!a->prepared)
		return;
	a->rc = walk_pages(a->d, a->task, a->tracker, false, &a->walk, &a->err);
	if (!a->rc && !a->walk.pages.keeper)
		a->walk.staged = dump_stage_ahead(a->d, a->task, &a->walk.segs);
}

static void ahead_free(struct mm_ahead *a)
{
	walk_free(&a->walk);
	free(a->maps);
	(void)sem_destroy(&a->looked);
	free(a);
}

struct mm_ahead *mm_ahead_begin(struct dump_ctx *d, struct target_task *task, char **maps)
{
	struct dump_series *s = d->opts->series;
	struct dump_tracking *tr = d->tracking;
	struct ckpt_err ignore = { 0 };
	bool fresh = false, fails;
	struct mm_ahead *a;

	/* To make a tracker is to enter the process. */
	if (!s || !s->standby || !tr || !tr->known || !tr->known(tr, task->pid))
		return NULL;
	a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->d = d;
	a->task = task;
	a->maps = take_ptr(*maps);
	a->job = (struct standby_job) { .run = look, .arg = a };
	(void)sem_init(&a->looked, 0, 0);
	fails = tr->tracker(tr, task, false, &a->tracker, &fresh, &ignore) || !a->tracker || fresh;
	/* Of one process the pages take longer than all else, and it may be a while until the other
	 * thread has a processor; of several that is busy with the last. */
	if (!fails && d->target.tasks.n == 1) {
		a->prepared = prepare(a);
		fails = !a->prepared;
	}
	if (fails || !standby_post(s->standby, &a->job)) {
		*maps = take_ptr(a->maps);
		ahead_free(a);
		return NULL;
	}
	s->helped = true;
	a->next = d->mm_aheads;
	d->mm_aheads = a;
	return a;
}

/* If not, it will not. */
static bool has_begun(struct mm_ahead *a)
{
	if (!a->ours)
		a->ours = standby_retract(a->d->opts->series->standby, &a->job);
	return !a->ours;
}

bool mm_ahead_looks(struct mm_ahead *a, char **ret_maps)
{
	if (!has_begun(a)) {
		*ret_maps = take_ptr(a->maps);
		return false;
	}
	standby_await(&a->looked);
	return a->prepared;
}

void mm_ahead_wait(struct mm_ahead *a)
{
	if (has_begun(a))
		standby_wait(&a->job);
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
		mm_ahead_wait(a);
		ahead_free(a);
	}
}
