// SPDX-License-Identifier: GPL-2.0-only
/*
 * The threads of a process behind the first. What the kernel's own record of a thread holds need
 * not be asked; what it does not hold, another thread with the same record has said. The others are
 * sent in, two at a time.
 */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/vec.h"
#include "dump/collect.h"
#include "kern/ahead.h"

/* A way into the process, by which its threads go one after another: while one runs what it is
 * asked, the next is prepared in the other half of the arena. */
struct lane {
	struct inject *in;
	uint64_t from; /* where threads may use its arena */
	struct thread_work w[2];
};

/* Two threads are inside at a time: what ckpt does for one is the time that the other takes. */
#define LANES 2u
/* Threads that differ in what the kernel's record does not tell are few; with more, the rest is
 * asked. */
#define ASKED_MAX 32u

/* A thread that has said everything, and what the kernel's record of it holds. */
struct asked {
	const struct thread_view *view;
	const Ckpt__Thread *msg;
};

/* The threads behind the first. */
struct crowd {
	struct target_task *task;
	const struct proc_stat *stat;
	Ckpt__Task *msg;
	struct lane lane[LANES];
	unsigned int lanes;
	struct inject second;
	size_t sent; /* how many of them were sent in */
	int *tids;
	struct status_ahead *ahead;
	struct thread_views views;
	struct asked asked[ASKED_MAX];
	size_t asked_n;
};

static void crowd_has_asked(struct crowd *c, int tid, const Ckpt__Thread *msg)
{
	const struct thread_view *view = thread_view_find(&c->views, tid);

	if (view && c->asked_n < ASKED_MAX)
		c->asked[c->asked_n++] = (struct asked) { view, msg };
}

bool thread_views_alike(const struct thread_view *a, const struct thread_view *b)
{
	for (size_t i = 0; task_kinds[i]; i++)
		if (task_kinds[i]->alike && !task_kinds[i]->alike(a, b))
			return false;
	return true;
}

/* Who has said what this one would say; NULL: it must be asked itself. */
static const Ckpt__Thread *crowd_like(const struct crowd *c, const struct thread_view *view)
{
	for (size_t i = 0; view && i < c->asked_n; i++)
		if (thread_views_alike(c->asked[i].view, view))
			return c->asked[i].msg;
	return NULL;
}

/* The lower or upper half of the lane's arena. */
static void thread_room(struct thread_work *w, const struct lane *l, bool upper)
{
	uint64_t middle = l->from + ((l->in->arena.size - l->from) / 2 & ~15ull);

	w->room = l->in->arena;
	w->whole = l->in->arena.size;
	w->from = upper ? middle : l->from;
	if (!upper)
		w->room.size = middle;
}

static int crowd_begin(struct dump_ctx *d, struct crowd *c, struct passage *p, struct ckpt_err *err)
{
	size_t n = p->task->threads.n;
	struct ckpt_err alone = { 0 };

	*c = (struct crowd) { .task = p->task, .stat = &p->stat, .msg = p->msg, .lanes = 1 };
	c->tids = calloc(n, sizeof(*c->tids));
	if (!c->tids)
		return ckpt_oom(err);
	for (size_t i = 0; i < n; i++)
		c->tids[i] = p->task->threads.v[i].tid;
	c->lane[0].in = &p->in;
	c->lane[0].from = p->from;
	if (d->iters.threads.prog_fd >= 0 &&
	    !thread_iter_read(&d->iters.threads, p->task->tgid, n, &c->views)) {
		crowd_has_asked(c, c->tids[0], p->first.msg);
		return 0;
	}
	c->ahead = status_ahead_begin(p->task->pid, c->tids, n);
	if (n < CROWD_MIN || p->confined || !d->berths.at)
		return 0;
	/* What stands against a second way in is no harm to the first. */
	if (!inject_beside(&c->second, &p->in, arena_berth(&d->berths, PASSAGES), &alone)) {
		c->lane[1].in = &c->second;
		c->lane[1].from = c->second.arena.used;
		c->lanes = 2;
	}
	return 0;
}

/* Who runs in @l, if anybody, is to stop. */
static void lane_halt(struct lane *l)
{
	if (l->in->state == INJECT_RUNNING)
		(void)inject_done(l->in, l->in->th, l->in->slot);
}

/* The same, and wait for it. */
static int lane_back(struct lane *l, struct thread_work *w, struct ckpt_err *err)
{
	if (!w->running)
		return 0;
	lane_halt(l);
	w->running = false;
	return inject_back(l->in, w->facts.thread, w->slot, err);
}

/* Thread @at takes the place of the one before it in its lane. */
static int crowd_send(struct dump_ctx *d, struct crowd *c, size_t at, struct ckpt_err *err)
{
	struct lane *l = &c->lane[c->sent % c->lanes];
	struct lane *next = &c->lane[(c->sent + 1) % c->lanes];
	bool upper = c->sent++ / c->lanes % 2;
	struct thread_work *now = &l->w[upper], *last = &l->w[!upper];
	struct ckpt_err late = { 0 };
	int rc, end;

	thread_room(now, l, upper);
	lane_halt(l);
	rc = status_ahead_take(c->ahead, c->task->pid, at, c->tids[at], &now->status, err);
	if (!rc)
		rc = thread_prepare(d, now, c->task, c->stat, at, c->msg, err);
	end = lane_back(l, last, &late);
	if (!rc && end) {
		*err = late;
		rc = end;
	}
	if (!rc)
		rc = thread_start(l->in, now, err);
	if (!rc && last->slot && c->lanes > 1)
		rc = ckpt_fault_fail("inject.two", E_INJECT, err);
	/* Who comes next has had the time of all this: until it is due, it can stop. */
	if (!rc && next != l)
		lane_halt(next);
	if (!rc && last->slot)
		rc = thread_answers(d, l->in, last, c->msg, err);
	if (!rc && last->slot)
		crowd_has_asked(c, last->facts.thread->tid, last->msg);
	thread_forget(last);
	return rc;
}

static int crowd_step(struct dump_ctx *d, struct crowd *c, size_t at, struct ckpt_err *err)
{
	struct thread_work w = { .facts.view = thread_view_find(&c->views, c->tids[at]) };

	w.like = crowd_like(c, w.facts.view);
	return w.like ? thread_seen(d, &w, c->task, c->stat, at, c->msg, err)
		      : crowd_send(d, c, at, err);
}

/* The last ones, and those that are inside when something has failed. */
static int crowd_end(struct dump_ctx *d, struct crowd *c, int rc, struct ckpt_err *err)
{
	for (unsigned int i = 0; i < c->lanes; i++) {
		struct lane *l = &c->lane[i];

		for (unsigned int k = 0; k < ARRAY_SIZE(l->w); k++) {
			struct ckpt_err late = { 0 };
			bool ran = l->w[k].running;
			int end = lane_back(l, &l->w[k], &late);

			if (ran && !rc && !end)
				end = thread_answers(d, l->in, &l->w[k], c->msg, &late);
			if (!rc && end) {
				*err = late;
				rc = end;
			}
			thread_forget(&l->w[k]);
		}
	}
	status_ahead_end(c->ahead);
	if (!rc && c->views.n)
		ui_note(d->ui, 2,
			"task %d: of %zu threads %zu were asked, the kernel tells of the rest",
			c->task->pid, c->task->threads.n, c->sent + 1);
	if (c->lanes > 1 && !rc)
		return inject_end(&c->second, err);
	if (c->lanes > 1)
		inject_quit(&c->second);
	return rc;
}

int dump_collect_crowd(struct dump_ctx *d, struct passage *p, struct ckpt_err *err)
{
	struct crowd c;
	int rc = crowd_begin(d, &c, p, err);

	for (size_t i = 1; !rc && i < p->task->threads.n; i++)
		rc = crowd_step(d, &c, i, err);
	rc = crowd_end(d, &c, rc, err);
	free(c.tids);
	free(c.views.v);
	return rc;
}
