// SPDX-License-Identifier: GPL-2.0-only
/* State of tasks and threads: what ptrace and /proc tell, and what only the task itself can say. */
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kern/ahead.h"
#include "kern/arch.h"
#include "kern/inject.h"
#include "kern/sharing.h"

#define ARENA_BASE_BYTES (256u << 10)

/* Everything about one thread between asking and answering. */
struct thread_work {
	struct task_facts facts;
	char *status;
	struct ckpt_slot *slot;
	uint64_t (*priv)[TASK_KIND_PRIV_WORDS]; /* one row per registered kind */
	Ckpt__Thread *msg;
	struct arena room; /* its part of the arena: from there to the room's size */
	uint64_t from;
	uint64_t whole;                /* bytes of the whole arena */
	struct doubtful_fds *doubtful; /* of the first thread */
	bool running;
};

/* A process on its way through collect_tasks(). */
struct passage {
	struct target_task *task; /* NULL: nobody */
	Ckpt__Task *msg;
	struct proc_stat stat;
	struct doubtful_fds doubtful;
	struct inject in;
	struct thread_work first;
	uint64_t from; /* where threads may use the arena */
	bool confined; /* by seccomp */
};

/* Three processes are on the way at a time: while one does what it was asked, ckpt has to do with
 * the others. */
#define PASSAGES 3
/* And one for a second thread of a process. */
#define BERTHS (PASSAGES + 1)

static size_t kind_count(void)
{
	size_t n = 0;

	while (task_kinds[n])
		n++;
	return n;
}

static bool kind_applies(const struct task_kind *k, const struct thread_work *w)
{
	return k->scope == SCOPE_THREAD || w->facts.main;
}

static int thread_core(struct thread_work *w, struct ckpt_err *err)
{
	struct target_thread *th = w->facts.thread;
	struct user_regs_struct regs;
	unsigned char *xsave = NULL;
	size_t len = 0;
	int rc;

	thread_image_regs(th, &regs);
	w->msg->tid = th->vtid;
	w->msg->sigmask = th->sigmask;
	w->msg->regs.data = malloc(sizeof(regs));
	if (!w->msg->regs.data)
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	memcpy(w->msg->regs.data, &regs, sizeof(regs));
	w->msg->regs.len = sizeof(regs);
	rc = arch_get_xsave(th->tid, &xsave, &len);
	if (rc)
		return ckpt_fail_errno(err, E_FREEZE, rc,
				       "cannot read the vector registers of thread %d", th->tid);
	w->msg->xsave.data = xsave;
	w->msg->xsave.len = len;
	return 0;
}

static int thread_ask(struct dump_ctx *d, struct thread_work *w, struct ckpt_err *err)
{
	struct steps s;
	int rc = 0;

	w->room.used = w->from;
	steps_init(&s, &w->room);
	for (size_t i = 0; !rc && task_kinds[i]; i++)
		if (task_kinds[i]->ask && kind_applies(task_kinds[i], w))
			rc = task_kinds[i]->ask(d, &w->facts, &s, w->priv[i], err);
	if (w->doubtful)
		dump_fds_ask(w->doubtful, &s);
	if (!rc) {
		w->slot = arena_slot(&w->room);
		if (!w->slot)
			s.failed = -ENOSPC;
		else
			w->slot->arena_len = w->whole;
		rc = steps_commit(&s, w->slot, err);
	}
	steps_free(&s);
	return rc;
}

static int thread_answers(struct dump_ctx *d, const struct inject *in, struct thread_work *w,
			  Ckpt__Task *task, struct ckpt_err *err)
{
	static const uint64_t nothing[TASK_KIND_PRIV_WORDS];

	for (size_t i = 0; task_kinds[i]; i++) {
		const struct task_kind *k = task_kinds[i];
		ProtobufCMessage *m;
		Ckpt__State *st;
		int rc;

		if (!kind_applies(k, w) || (!w->slot && !k->of_ended))
			continue;
		m = kind_msg_new(k->desc);
		if (!m)
			return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
		rc = k->dump(d, &w->facts, in ? &in->arena : NULL, w->slot,
			     w->priv ? w->priv[i] : nothing, m, err);
		st = rc ? NULL : kind_state_new(k->name, m);
		protobuf_c_message_free_unpacked(m, NULL);
		if (rc < 0)
			return ckpt_ctx(err, "thread %d: %s", w->facts.thread->tid, k->name);
		if (rc > 0)
			continue;
		if (!st ||
		    (k->scope == SCOPE_TASK ? kind_push(&task->n_state, &task->state, st)
					    : kind_push(&w->msg->n_state, &w->msg->state, st)))
			return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	}
	return 0;
}

static void thread_forget(struct thread_work *w)
{
	free(w->priv);
	free(w->status);
	*w = (struct thread_work) { 0 };
}

/* What is known of a thread without running anything in it, and the list of what it is asked. */
static int thread_prepare(struct dump_ctx *d, struct thread_work *w, struct target_task *task,
			  const struct proc_stat *stat, size_t at, Ckpt__Task *msg,
			  struct ckpt_err *err)
{
	int rc;

	w->facts = (struct task_facts) {
		.task = task, .thread = &task->threads.v[at], .stat = stat, .main = at == 0
	};
	w->msg = kind_msg_new(&ckpt__thread__descriptor);
	w->priv = calloc(kind_count() + 1, sizeof(*w->priv));
	if (!w->msg || !w->priv || kind_push(&msg->n_threads, &msg->threads, w->msg))
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	w->facts.status = w->status;
	rc = thread_core(w, err);
	return rc ? rc : thread_ask(d, w, err);
}

static int thread_start(struct inject *in, struct thread_work *w, struct ckpt_err *err)
{
	int rc = inject_start(in, w->facts.thread, w->slot, err);

	w->running = !rc;
	return rc;
}

/* The first thread has ended while others go on: its number stays, and what can be seen of it. */
static int collect_ended(struct dump_ctx *d, struct target_task *task, const struct proc_stat *stat,
			 Ckpt__Task *msg, struct ckpt_err *err)
{
	struct target_thread th = { .tid = task->tgid, .vtid = task->vpid };
	struct thread_work w = { .facts = { .task = task, .thread = &th, .stat = stat } };
	auto_free char *status = NULL;
	int rc = proc_thread_status(task->pid, task->tgid, &status, err);

	if (rc)
		return rc;
	w.facts.status = w.status = status;
	w.msg = kind_msg_new(&ckpt__thread__descriptor);
	if (!w.msg || kind_push(&msg->n_threads, &msg->threads, w.msg))
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	w.msg->tid = task->vpid;
	w.msg->ended = true;
	w.msg->exit_status = stat->exit_code;
	return thread_answers(d, NULL, &w, msg, err);
}

/* A way into the process, by which its threads go one after another: while one runs what it is
 * asked, the next is prepared in the other half of the arena. */
struct lane {
	struct inject *in;
	uint64_t from; /* where threads may use its arena */
	struct thread_work w[2];
};

/* Two threads are inside at a time: what ckpt does for one is the time that the other takes. */
#define LANES 2u
/* For fewer a second way in takes longer than it saves. */
#define CROWD_MIN 8u

/* The threads behind the first. */
struct crowd {
	struct target_task *task;
	const struct proc_stat *stat;
	Ckpt__Task *msg;
	struct lane lane[LANES];
	unsigned int lanes;
	struct inject second;
	int *tids;
	struct status_ahead *ahead;
};

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
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++)
		c->tids[i] = p->task->threads.v[i].tid;
	c->ahead = status_ahead_begin(p->task->pid, c->tids, n);
	c->lane[0].in = &p->in;
	c->lane[0].from = p->from;
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
static int crowd_step(struct dump_ctx *d, struct crowd *c, size_t at, struct ckpt_err *err)
{
	struct lane *l = &c->lane[at % c->lanes];
	struct lane *next = &c->lane[(at + 1) % c->lanes];
	bool upper = at / c->lanes % 2;
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
	thread_forget(last);
	return rc;
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
	if (c->lanes > 1 && !rc)
		return inject_end(&c->second, err);
	if (c->lanes > 1)
		inject_quit(&c->second);
	return rc;
}

static int collect_others(struct dump_ctx *d, struct passage *p, struct ckpt_err *err)
{
	struct crowd c;
	int rc = crowd_begin(d, &c, p, err);

	for (size_t i = 1; !rc && i < p->task->threads.n; i++)
		rc = crowd_step(d, &c, i, err);
	rc = crowd_end(d, &c, rc, err);
	free(c.tids);
	return rc;
}

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
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
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
	if (d->kin_fd >= 0 && task_iter_read(d->kin_fd, &kins))
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
		rc = collect_others(d, p, err);
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
		rc = dump_collect_mm(d, p->task, maps, p->msg, err);
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
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
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
		rc = collect_ended(d, task, &p->stat, msg, err);
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
	return rc;
}

int dump_collect_tasks(struct dump_ctx *d, struct ckpt_err *err)
{
	if (collect_sharing(d, err) || collect_all(d, err) || dump_family(d, err))
		return err->code;
	return dump_collect_fds_late(d, err);
}
