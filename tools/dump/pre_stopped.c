// SPDX-License-Identifier: GPL-2.0-only
/*
 * Rounds of dump --pre: the tree stands still for a moment, in which its trackers tell what was
 * written, and runs while that is copied.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "dump/pre.h"
#include "dump/watch.h"

#define FEW_PAGES 1024u /* so few that another round gains nothing */

static int collect_one(struct dump_pre *p, struct tracker *t, int pid)
{
	struct ckpt_err gone = { 0 };
	struct proc_vmas vmas = { 0 };
	int rc = tracker_begin(t);

	if (!rc)
		rc = proc_vmas_read(pid, &p->d->iters.vma, &vmas, &gone);
	for (size_t i = 0, next; !rc && i < vmas.n; i = next) {
		const struct proc_vma *v = &vmas.v[i];

		next = i + 1;
		if (!pre_wanted(v))
			continue;
		while (next < vmas.n && vmas.v[next].start == vmas.v[next - 1].end &&
		       pre_wanted(&vmas.v[next]) && !vmas.v[next].ino == !v->ino)
			next++;
		p->backed = v->ino != 0;
		rc = tracker_collect(t, v->start, vmas.v[next - 1].end,
				     TRACK_ARM | (p->backed ? 0 : TRACK_ANON), pre_note_run, p);
	}
	if (!rc)
		rc = tracker_armed(t);
	proc_vmas_free(&vmas);
	return rc;
}

/* The tracker of a task; an own one is attached at the first stop. NULL: it is copied as a whole.
 */
static int tracker_of(struct dump_pre *p, struct pre_task *t, struct target_task *task,
		      struct tracker **ret, struct ckpt_err *err)
{
	bool fresh;

	if (p->session)
		return p->session->tracker(p->session, task, false, ret, &fresh, err);
	if (!t->own.ops) {
		int rc = tracker_attach(&t->own, p->ops, task, err);

		if (rc)
			return rc;
	}
	*ret = &t->own;
	return 0;
}

static int collect_task(struct dump_pre *p, struct target_task *task, struct ckpt_err *err)
{
	struct pre_task *t = pre_task_get(p, task->pid);
	struct tracker *tracker = NULL;
	int *fd = t ? vec_push(&p->mems) : NULL;
	int rc;

	if (!fd)
		return ckpt_oom(err);
	*fd = p->mem_fd = dup(task->mem_fd);
	if (p->mem_fd < 0)
		return ckpt_fail_errno(err, E_LIMIT, -errno, "cannot keep a descriptor");
	rc = tracker_of(p, t, task, &tracker, err);
	if (rc || !tracker)
		return rc;
	p->at = t;
	rc = collect_one(p, tracker, task->pid);
	/* Another address space than the tracked one: the dump begins anew. */
	if (!rc || rc == -ESTALE)
		return 0;
	return ckpt_fail_errno(err, E_TRACK, rc, "what task %d writes cannot be tracked",
			       task->pid);
}

static int collect_stopped(struct dump_pre *p, struct ckpt_err *err)
{
	struct dump_ctx *d = p->d;
	struct target t = { .ui = d->ui };
	uint64_t us;
	int rc = target_freeze(&t, d->opts->pid, err);

	if (rc) {
		target_free(&t);
		return rc;
	}
	dump_watch_look(d, &t);
	for (size_t i = 0; !rc && i < t.tasks.n; i++)
		if (!t.tasks.v[i].zombie)
			rc = collect_task(p, &t.tasks.v[i], err);
	if (!rc)
		rc = pre_shared_stopped(p, &t, err);
	target_thaw(&t, TARGET_RUN);
	us = io_now_us() - t.frozen_at_us;
	target_free(&t);
	if (us > d->stats.pre_pause_us)
		d->stats.pre_pause_us = us;
	return rc;
}

int pre_rounds_stopped(struct dump_pre *p, struct ckpt_err *err)
{
	uint64_t last = UINT64_MAX, pages = 0;
	int rc = 0;

	for (unsigned int i = 0; !rc && i < PRE_MAX_ROUNDS; i++) {
		rc = collect_stopped(p, err);
		if (!rc && pre_shared_segments(p))
			rc = ckpt_oom(err);
		if (!rc)
			rc = pre_copy(p, &pages, err);
		pre_round_clear(p);
		if (!rc)
			rc = ckpt_fault_fail("track.pre", E_MEMORY, err);
		p->d->stats.pre_rounds++;
		/* Nothing is gained by copying the same pages again. */
		if (pages <= FEW_PAGES || pages > last / 2)
			break;
		last = pages;
	}
	return rc;
}
