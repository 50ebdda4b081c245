// SPDX-License-Identifier: GPL-2.0-only
/* State of tasks: who shares what with whom, and what each of them and its threads have. */
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "dump/collect.h"
#include "dump/mm_ahead.h"
#include "kern/sharing.h"

#define ARENA_BASE_BYTES (256u << 10)

/* Who shares descriptors and directories with whom. Memory, and with it signal handlers, the image
 * cannot express. */
static int collect_sharing(struct dump_ctx *d, struct ckpt_err *err)
{
	auto_task_kins struct task_kins kins = { 0 };
	size_t n = 0, all = d->target.tasks.n;
	auto_free int *pids = calloc(all + 1, sizeof(*pids));
	auto_free size_t *at = calloc(all + 1, sizeof(*at)),
			 *first = calloc(all + 1, sizeof(*first));
	struct target_task *v = d->target.tasks.v;
	int rc;

	if (!pids || !at || !first)
		return ckpt_oom(err);
	for (size_t i = 0; i < all; i++) {
		v[i].files_of = v[i].fs_of = i;
		if (v[i].zombie)
			continue;
		pids[n] = v[i].pid;
		at[n++] = i;
	}
	if (n < 2)
		return 0;
	/* Where it cannot be read, each is asked. */
	if (d->iters.kin_fd >= 0 && task_iter_read(d->iters.kin_fd, &kins))
		kins.n = 0;
	rc = sharing_find(pids, n, KCMP_VM, &kins, first, err);
	for (size_t i = 0; !rc && i < n; i++)
		if (first[i] != i)
			rc = dump_refuse_vm(v[at[i]].tgid, v[at[first[i]]].tgid, err);
	if (!rc)
		rc = sharing_find(pids, n, KCMP_FILES, &kins, first, err);
	for (size_t i = 0; !rc && i < n; i++)
		v[at[i]].files_of = at[first[i]];
	if (!rc)
		rc = sharing_find(pids, n, KCMP_FS, &kins, first, err);
	for (size_t i = 0; !rc && i < n; i++)
		v[at[i]].fs_of = at[first[i]];
	return rc;
}

/* What the first thread was asked is done: ask the others, and send it out again. */
static int passage_asked(struct dump_ctx *d, struct passage *p, struct ckpt_err *err)
{
	struct thread_work *w = &p->first;
	int rc = inject_back(&p->in, w->facts.thread, w->slot, err);

	if (!rc)
		rc = thread_answers(d, &p->in, w, p->msg, err);
	if (!rc)
		dump_fds_answer(&p->doubtful, &p->in.arena, w->slot);
	if (!rc && p->task->threads.n > 1)
		rc = dump_collect_crowd(d, p, err);
	if (!rc && p->viewed)
		told_learn(d, p);
	if (!rc)
		rc = ckpt_fault_fail("inject.asked", E_INJECT, err);
	return rc ? rc : inject_leave(&p->in, err);
}

/* The arena is there: ask the first thread. */
static int passage_ask(struct dump_ctx *d, struct passage *p, struct ckpt_err *err)
{
	int rc = inject_ready(&p->in, err);

	if (rc)
		return rc;
	p->from = p->in.arena.used;
	p->first.room = p->in.arena;
	p->first.from = p->from;
	p->first.whole = p->in.arena.size;
	p->first.doubtful = &p->doubtful;
	rc = thread_prepare(d, &p->first, p->task, &p->stat, 0, p->msg, err);
	return rc ? rc : thread_start(&p->in, &p->first, err);
}

static void passage_forget(struct passage *p)
{
	thread_forget(&p->first);
	vec_free(&p->doubtful);
	free(p->views.v);
	free(p->maps);
	*p = (struct passage) { 0 };
}

/* It is as it was: look at its memory. */
static int passage_end(struct dump_ctx *d, struct passage *p, uint64_t *lap, struct ckpt_err *err)
{
	/* Read before the arena was there; it is gone again. */
	auto_free char *maps = take_ptr(p->in.maps);
	int rc = inject_gone(&p->in, err);

	d->stats.threads_us += dump_lap(lap);
	if (!rc)
		rc = ckpt_fault_fail("dump.threads", E_FREEZE, err);
	if (!rc)
		rc = dump_collect_mm(d, p->task, &maps, p->ahead, p->msg, err);
	d->stats.maps_us += dump_lap(lap);
	return rc;
}

/* The same of one in which nothing need run. */
static int passage_told(struct dump_ctx *d, struct passage *p, uint64_t *lap, struct ckpt_err *err)
{
	int rc = told_threads(d, p, err);

	d->stats.threads_us += dump_lap(lap);
	if (!rc)
		rc = ckpt_fault_fail("dump.threads", E_FREEZE, err);
	if (!rc)
		rc = dump_collect_mm(d, p->task, &p->maps, p->ahead, p->msg, err);
	if (!rc)
		told_keep(d, p);
	d->stats.maps_us += dump_lap(lap);
	return rc;
}

/* The freeze has read these two when all stood still; not of the root, and what has ended may have
 * been on its way out. */
static int passage_stat(struct passage *p, const struct target_task *task, struct ckpt_err *err)
{
	p->stat = task->stat;
	return task->stat.pid && !task->zombie && !task_headless(task)
		       ? 0
		       : proc_stat_read(task->tgid, &p->stat, err);
}

static int passage_status(struct passage *p, struct target_task *task, struct ckpt_err *err)
{
	int tid = task->threads.v[0].tid;

	if (tid == task->tgid && task->status) {
		p->first.status = take_ptr(task->status);
		return 0;
	}
	return proc_thread_status(task->pid, tid, &p->first.status, err);
}

/* What /proc tells of a process; then it is on the way, unless it has ended. */
static int passage_begin(struct dump_ctx *d, struct passage *p, size_t at, struct ckpt_err *err)
{
	struct target_task *task = &d->target.tasks.v[at];
	Ckpt__Task *msg = kind_msg_new(&ckpt__task__descriptor);
	Ckpt__Task **slot = vec_push(&d->tasks);
	uint64_t seccomp = 0;
	int rc;

	if (!msg || !slot)
		return ckpt_oom(err);
	*slot = msg;
	rc = passage_stat(p, task, err);
	if (rc)
		return rc;
	msg->pid = task->vpid;
	msg->ppid = task->parent < 0 ? 0 : d->target.tasks.v[task->parent].vpid;
	msg->pgid = p->stat.pgrp;
	msg->sid = p->stat.session;
	msg->exit_signal = p->stat.exit_signal;
	msg->zombie = task->zombie;
	if (task->zombie) {
		msg->exit_status = p->stat.exit_code;
		return 0;
	}
	p->task = task;
	p->msg = msg;
	msg->stopped = task->threads.v[0].group_stopped;
	d->stats.threads += task->threads.n;
	d->stats.faults += p->stat.faults;
	if (task->fs_of != at)
		msg->fs_with = d->target.tasks.v[task->fs_of].vpid;
	if (task_headless(task)) {
		rc = thread_ended(d, task, &p->stat, msg, err);
		if (!rc)
			rc = proc_stat_read(task->pid, &p->stat, err);
	}
	if (!rc)
		rc = passage_status(p, task, err);
	/* Should ckpt die, it may not be allowed to clean up: the shorter it is inside, the better.
	 */
	if (!rc)
		p->confined = proc_field_num(p->first.status, "Seccomp", 0, 10, &seccomp) &&
			      seccomp != SECCOMP_MODE_DISABLED;
	if (!rc)
		told_look(d, p);
	if (!rc && task->files_of != at)
		msg->fdtable = d->tasks.v[task->files_of]->fdtable;
	else if (!rc)
		rc = dump_collect_fds(d, task, msg, &p->doubtful, err);
	if (!rc)
		rc = ckpt_fault_fail("dump.descriptors", E_FREEZE, err);
	return rc;
}

static int passage_enter(const struct dump_ctx *d, struct passage *p, unsigned int berth,
			 struct ckpt_err *err)
{
	size_t room = p->doubtful.n * sizeof(struct ckpt_step);

	if (!p->task)
		return 0;
	return inject_enter(&p->in, p->task, ARENA_BASE_BYTES + ((room + 4095) & ~4095ull),
			    arena_berth(&d->berths, berth), err);
}

/*
 * A step of three processes: one that begins, the one before, and the one before that. Whoever runs
 * does so while ckpt has to do with another: the waits are for what happened meanwhile.
 */
static int collect_step(struct dump_ctx *d, struct passage *now, struct passage *last,
			struct passage *oldest, uint64_t *lap, struct ckpt_err *err)
{
	int rc = 0;

	if (last->task)
		(void)inject_done(&last->in, last->first.facts.thread, last->first.slot);
	if (oldest->task && passage_end(d, oldest, lap, err))
		return ckpt_ctx(err, "task %d", oldest->task->pid);
	passage_forget(oldest);
	if (now->task)
		rc = inject_entered(&now->in, err);
	if (rc)
		return ckpt_ctx(err, "task %d", now->task->pid);
	if (last->task && passage_asked(d, last, err))
		return ckpt_ctx(err, "task %d", last->task->pid);
	if (now->task && passage_ask(d, now, err))
		return ckpt_ctx(err, "task %d", now->task->pid);
	if (last->task)
		rc = inject_left(&last->in, err);
	d->stats.threads_us += dump_lap(lap);
	return rc ? ckpt_ctx(err, "task %d", last->task->pid) : 0;
}

/* Nobody new until these two have ended. */
static int collect_rest(struct dump_ctx *d, struct passage *last, struct passage *oldest,
			uint64_t *lap, struct ckpt_err *err)
{
	struct passage none = { 0 };
	int rc = collect_step(d, &none, last, oldest, lap, err);

	return rc ? rc : collect_step(d, &none, &none, last, lap, err);
}

static int collect_all(struct dump_ctx *d, struct ckpt_err *err)
{
	struct passage p[PASSAGES] = { 0 };
	size_t n = d->target.tasks.n;
	uint64_t lap = io_now_us();
	int rc = 0;

	if (n > 1 || d->target.tasks.v[0].threads.n >= CROWD_MIN)
		arena_berths_make(&d->berths, BERTHS);
	for (size_t i = 0; !rc && i < n; i++) {
		struct passage *now = &p[i % PASSAGES], *last = &p[(i + 2) % PASSAGES],
			       *oldest = &p[(i + 1) % PASSAGES];
		bool alone = !d->berths.at;

		rc = dump_in_time(d, 0, err);
		if (!rc && passage_begin(d, now, i, err))
			rc = ckpt_ctx(err, "task %d", d->target.tasks.v[i].pid);
		d->stats.fds_us += dump_lap(&lap);
		if (!rc && now->task && told_enough(now)) {
			rc = collect_rest(d, last, oldest, &lap, err);
			if (!rc && passage_told(d, now, &lap, err))
				rc = ckpt_ctx(err, "task %d", d->target.tasks.v[i].pid);
			passage_forget(now);
			continue;
		}
		alone |= now->confined;
		if (!rc && alone)
			rc = collect_rest(d, last, oldest, &lap, err);
		if (!rc && passage_enter(d, now, (unsigned int)(i % PASSAGES), err))
			rc = ckpt_ctx(err, "task %d", d->target.tasks.v[i].pid);
		if (!rc)
			rc = collect_step(d, now, last, oldest, &lap, err);
		if (!rc && (alone || i + 1 == n))
			rc = collect_rest(d, now, last, &lap, err);
	}
	for (unsigned int i = 0; i < PASSAGES; i++) {
		inject_quit(&p[i].in);
		passage_forget(&p[i]);
	}
	arena_berths_free(&d->berths);
	mm_ahead_settle(d);
	return rc;
}

int dump_collect_tasks(struct dump_ctx *d, struct ckpt_err *err)
{
	if (collect_sharing(d, err) || collect_all(d, err) || dump_family(d, err))
		return err->code;
	return dump_objects_late(d, err);
}
