// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which pages a round sends. Every task gets a tracker at one short stop; a round asks for the
 * pages written since the round before, which begins their next epoch in the same act.
 */
#include <linux/kcmp.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "kern/directio.h"
#include "kern/procfs.h"
#include "kern/sharing.h"
#include "migrate/rounds.h"

struct round_task *rounds_task(const struct rounds *r, int pid)
{
	for (size_t i = 0; i < r->tasks.n; i++)
		if (r->tasks.v[i]->pid == pid)
			return r->tasks.v[i];
	return NULL;
}

uint64_t rounds_start_of(int pid)
{
	struct ckpt_err gone = { 0 };
	struct proc_stat st;

	return proc_stat_read(pid, &st, &gone) ? 0 : st.start_time;
}

static int note_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct rounds *r = arg;

	/* Zero pages and guards cost nothing at the end. */
	if ((flags & TRACK_GUARD) || ((flags & TRACK_ZERO) && !r->backed))
		return 0;
	if (!(flags & TRACK_WRITTEN)) {
		store_see(&r->sent, (uint32_t)r->at->vpid, addr, npages);
		return 0;
	}
	while (npages) {
		uint32_t n = npages > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)npages;
		struct round_run *run = vec_push(&r->at->runs);

		if (!run)
			return -ENOMEM;
		*run = (struct round_run) { addr, n, r->backed };
		addr += (uint64_t)n * CKPT_PAGE;
		npages -= n;
	}
	return 0;
}

static bool wanted(const struct proc_vma *v)
{
	const struct vma_kind *kind = vma_kind_match(v);

	return v->start < v->end && kind && kind->private_pages && dump_vma_tracked(v);
}

/* Need the tracker not be told of it at a stop first? */
static bool known(const struct rounds *r, const struct proc_vma *v)
{
	return r->ops->finds_new || (v->flags & PROC_VMF(uw));
}

/* A program that runs may move a mapping while they are read, from one page of text to the next:
 * each address belongs to the first one that has it. */
static void vmas_clip(struct proc_vmas *vmas)
{
	uint64_t last = 0;

	for (size_t i = 0; i < vmas->n; i++) {
		struct proc_vma *v = &vmas->v[i];

		if (v->start < last)
			v->start = last;
		if (v->end < v->start)
			v->end = v->start; /* nothing is left of it */
		last = v->end;
	}
}

/* Behind the last of the adjacent mappings from the i-th on that are asked about in one go. */
static size_t group_end(const struct rounds *r, const struct round_task *t, size_t i, bool frozen)
{
	const struct proc_vma *v = t->vmas.v;
	size_t next = i + 1;

	while (next < t->vmas.n && v[next].start == v[next - 1].end && wanted(&v[next]) &&
	       (frozen || known(r, &v[next])) && !v[next].ino == !v[i].ino)
		next++;
	return next;
}

/*
 * Written pages of one task, and the begin of its next epoch. While it runs, only of what is
 * tracked already: mappings may change under our eyes. What fails then, and what is new, was not
 * seen: the final dump sends it.
 */
static int collect_task(struct rounds *r, struct round_task *t, bool frozen)
{
	struct ckpt_err gone = { 0 };
	int rc = tracker_begin(&t->tracker);

	r->at = t;
	t->runs.n = 0;
	proc_vmas_free(&t->vmas);
	store_see_none(&r->sent, (uint32_t)t->vpid);
	if (!rc)
		rc = proc_vmas_read(t->pid, &r->s->series.iters.vma, &t->vmas, &gone);
	vmas_clip(&t->vmas);
	for (size_t i = 0, next; !rc && i < t->vmas.n; i = next) {
		const struct proc_vma *v = &t->vmas.v[i];

		next = i + 1;
		if (!wanted(v))
			continue;
		if (!known(r, v))
			r->new_bytes += v->end - v->start;
		if (!frozen && !known(r, v))
			continue;
		next = group_end(r, t, i, frozen);
		r->backed = v->ino != 0;
		rc = tracker_collect(&t->tracker, v->start, t->vmas.v[next - 1].end,
				     TRACK_ARM | (r->backed ? 0 : TRACK_ANON) |
					     (frozen ? 0 : TRACK_KNOWN),
				     note_run, r);
		if (!frozen && rc && rc != -ESTALE && rc != -ENOMEM)
			rc = 0;
	}
	if (!rc)
		rc = tracker_armed(&t->tracker);
	store_forget_unseen(&r->sent, (uint32_t)t->vpid);
	return rc;
}

/* Begin to track it, or begin anew: nothing of what was sent counts. */
static void task_attach(struct rounds *r, struct round_task *t, struct target_task *task)
{
	struct ckpt_err why = { 0 };

	tracker_detach(&t->tracker);
	heirs_forget(t);
	store_forget_task(&r->sent, (uint32_t)task->vpid);
	t->pid = task->pid;
	t->tgid = task->tgid;
	t->vpid = task->vpid;
	t->start = rounds_start_of(task->tgid);
	t->again++;
	t->lost = tracker_attach(&t->tracker, r->ops, task, &why) != 0;
	if (t->lost)
		ui_note(r->s->ui, 1, "task %d is copied when it stands still: %s", task->pid,
			why.msg);
}

/* Every mapping is tracked from now on. Its pages are looked at and armed when the task runs on. */
static int track_mappings(struct rounds *r, struct round_task *t)
{
	struct ckpt_err gone = { 0 };
	int rc = tracker_begin(&t->tracker);

	proc_vmas_free(&t->vmas);
	if (!rc)
		rc = proc_vmas_read(t->pid, &r->s->series.iters.vma, &t->vmas, &gone);
	for (size_t i = 0, next; !rc && i < t->vmas.n; i = next) {
		next = i + 1;
		if (!wanted(&t->vmas.v[i]))
			continue;
		next = group_end(r, t, i, true);
		if (!r->ops->finds_new)
			rc = tracker_collect(&t->tracker, t->vmas.v[i].start,
					     t->vmas.v[next - 1].end, TRACK_ARM | TRACK_NEW,
					     track_ignore, NULL);
	}
	return rc;
}

static struct round_task *task_new(struct rounds *r, struct target_task *task, struct ckpt_err *err)
{
	struct round_task *t = calloc(1, sizeof(*t));
	struct round_task **slot = t ? vec_push(&r->tasks) : NULL;

	if (!slot) {
		free(t);
		(void)ckpt_oom(err);
		return NULL;
	}
	*slot = t;
	t->tracker = TRACKER_NONE;
	task_attach(r, t, task);
	return t;
}

/* A child born by vfork that has not come to its exec: its memory is its parent's, and two who ask
 * what was written would take it from each other. */
static bool borrows(const struct target *target, const struct target_task *task)
{
	return task->parent >= 0 &&
	       sharing_same(task->pid, target->tasks.v[task->parent].pid, KCMP_VM);
}

static int collect_one(struct rounds *r, struct target_task *task, bool look, struct ckpt_err *err)
{
	struct round_task *t = rounds_task(r, task->pid);

	if (!t)
		t = task_new(r, task, err);
	else if (t->start != rounds_start_of(task->tgid) ||
		 (t->lost && t->again < ROUNDS_AGAIN_MAX))
		task_attach(r, t, task);
	if (!t)
		return err->code;
	if (!t->lost)
		t->lost = (look ? collect_task(r, t, true) : track_mappings(r, t)) != 0;
	watched_task(r, t, task);
	return 0;
}

/* One short stop: every task gets its tracker, and every mapping is tracked. @look: its pages are
 * asked about as well, which takes the longer the more there are. */
static int collect_stopped(struct rounds *r, bool look, struct ckpt_err *err)
{
	struct target target = { .ui = r->s->ui };
	int rc = target_freeze(&target, r->s->opts->pid, err);
	bool frozen = !rc;

	for (size_t i = 0; !rc && i < target.tasks.n; i++) {
		struct target_task *task = &target.tasks.v[i];

		if (!task->zombie && !borrows(&target, task))
			rc = collect_one(r, task, look, err);
	}
	if (frozen) {
		watched_stopped(&r->watched);
		target_thaw(&target, TARGET_RUN);
	}
	target_free(&target);
	return rc;
}

static int collect_frozen(struct rounds *r, bool look, struct ckpt_err *err)
{
	int rc;

	throttle_pause(r->throttle);
	rc = collect_stopped(r, look, err);
	throttle_resume(r->throttle);
	return rc;
}

/* Nothing is to be found out of one that has ended, and nothing depends on it. */
static bool lives(const struct round_task *t)
{
	struct ckpt_err gone = { 0 };
	struct proc_stat st;

	if (proc_stat_read(t->tgid, &st, &gone) || st.start_time != t->start)
		return false;
	/* Its first thread may have ended alone. */
	return (st.state != 'Z' && st.state != 'X') || st.num_threads > 1;
}

/*
 * While a device may be writing into pages that it was given before they are armed, nobody may arm
 * them. A task that stands still has no read(2) under way.
 */
bool rounds_direct(struct rounds *r)
{
	for (size_t i = 0; !r->direct && i < r->tasks.n; i++)
		r->direct = directio_possible(r->tasks.v[i]->pid) && lives(r->tasks.v[i]);
	return r->direct;
}

static void collect_running(struct rounds *r)
{
	for (size_t i = 0; i < r->tasks.n; i++)
		/* exec, exit: at the end all of it is sent. */
		if (!r->tasks.v[i]->lost)
			r->tasks.v[i]->lost = collect_task(r, r->tasks.v[i], false) != 0;
	/* It opened such a file meanwhile. */
	for (size_t i = 0; rounds_direct(r) && i < r->tasks.n; i++)
		r->tasks.v[i]->lost = true;
}

/* What was written since the round before, and the begin of the next epoch. */
int rounds_collect(struct rounds *r, uint32_t number, struct ckpt_err *err)
{
	/* New mappings and processes are worth a short stop when they are large. */
	bool stop = number == 1 || r->new_bytes + r->late_bytes > ROUNDS_NEW_BYTES;
	int rc = 0;

	r->new_bytes = 0;
	if (stop) {
		rc = collect_frozen(r, false, err);
		rounds_look(r);
	}
	if (!rc && rounds_direct(r))
		rc = collect_frozen(r, true, err);
	else if (!rc)
		collect_running(r);
	return rc;
}
