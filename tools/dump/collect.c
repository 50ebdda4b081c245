// SPDX-License-Identifier: GPL-2.0-only
/* State of tasks and threads: what ptrace and /proc tell, and what only the task itself can say. */
#include <fcntl.h>
#include <linux/kcmp.h>
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
	uint64_t whole; /* bytes of the whole arena */
	bool running;
};

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

int dump_facts_status(int pid, int tid, char **ret, struct ckpt_err *err)
{
	char name[64];

	(void)snprintf(name, sizeof(name), "task/%d/status", tid);
	return proc_read(pid, name, ret, NULL, err);
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
	if (w->facts.main)
		dump_fds_ask(d, &s);
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
	rc = dump_facts_status(task->pid, w->facts.thread->tid, &w->status, err);
	w->facts.status = w->status;
	if (!rc)
		rc = thread_core(w, err);
	return rc ? rc : thread_ask(d, w, err);
}

static int thread_start(struct inject *in, struct thread_work *w, struct ckpt_err *err)
{
	int rc = inject_start(in, w->facts.thread, w->slot, err);

	w->running = !rc;
	return rc;
}

/* Let the list of @w come to its end; meanwhile prepare the next thread in @next, if there is one.
 */
static int thread_finish(struct dump_ctx *d, struct inject *in, struct thread_work *w,
			 struct thread_work *next, size_t next_at, Ckpt__Task *msg,
			 struct ckpt_err *err)
{
	struct ckpt_err back_err = { 0 };
	int done = inject_done(w->facts.thread, w->slot), rc = 0, back;

	if (next)
		rc = thread_prepare(d, next, w->facts.task, w->facts.stat, next_at, msg, err);
	back = inject_back(in, w->facts.thread, w->slot, done, &back_err);
	w->running = false;
	if (!rc && back) {
		*err = back_err;
		rc = back;
	}
	return rc;
}

/* The first thread has ended while others go on: its number stays, and what can be seen of it. */
static int collect_ended(struct dump_ctx *d, struct target_task *task, const struct proc_stat *stat,
			 Ckpt__Task *msg, struct ckpt_err *err)
{
	struct target_thread th = { .tid = task->tgid, .vtid = task->vpid };
	struct thread_work w = { .facts = { .task = task, .thread = &th, .stat = stat } };
	auto_free char *status = NULL;
	int rc = dump_facts_status(task->pid, task->tgid, &status, err);

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

/* Thread @at of the process gets the lower or upper half of the arena behind @from. */
static void thread_room(struct thread_work *w, const struct inject *in, uint64_t from, size_t at)
{
	uint64_t middle = from + ((in->arena.size - from) / 2 & ~15ull);

	w->room = in->arena;
	w->whole = in->arena.size;
	w->from = at % 2 ? from : middle;
	if (at % 2)
		w->room.size = middle;
}

/* The threads behind the first. One at a time runs what it is asked, but ckpt does not wait for it
 * idly: meanwhile it takes the answers of the one before and prepares the next. */
static int collect_others(struct dump_ctx *d, struct inject *in, struct target_task *task,
			  const struct proc_stat *stat, uint64_t from, Ckpt__Task *msg,
			  struct ckpt_err *err)
{
	struct thread_work w[2] = { 0 };
	size_t n = task->threads.n;
	int rc;

	thread_room(&w[1], in, from, 1);
	rc = thread_prepare(d, &w[1], task, stat, 1, msg, err);
	for (size_t i = 1; !rc && i < n; i++) {
		struct thread_work *now = &w[i % 2], *other = &w[(i + 1) % 2];
		struct ckpt_err late = { 0 };
		int end;

		rc = thread_start(in, now, err);
		if (!rc && i > 1)
			rc = thread_answers(d, in, other, msg, err);
		thread_forget(other);
		thread_room(other, in, from, i + 1);
		if (!now->running)
			break;
		end = thread_finish(d, in, now, !rc && i + 1 < n ? other : NULL, i + 1, msg, &late);
		if (!rc && end) {
			*err = late;
			rc = end;
		}
		if (!rc && i + 1 == n)
			rc = thread_answers(d, in, now, msg, err);
	}
	thread_forget(&w[0]);
	thread_forget(&w[1]);
	return rc;
}

static int collect_first(struct dump_ctx *d, struct inject *in, struct target_task *task,
			 const struct proc_stat *stat, Ckpt__Task *msg, struct ckpt_err *err)
{
	struct thread_work w = { .room = in->arena,
				 .from = in->arena.used,
				 .whole = in->arena.size };
	int rc = thread_prepare(d, &w, task, stat, 0, msg, err);

	if (!rc)
		rc = thread_start(in, &w, err);
	if (!rc)
		rc = thread_finish(d, in, &w, NULL, 0, msg, err);
	if (!rc)
		rc = thread_answers(d, in, &w, msg, err);
	if (!rc)
		dump_fds_answer(d, &in->arena, w.slot);
	thread_forget(&w);
	return rc;
}

static int collect_threads(struct dump_ctx *d, struct target_task *task,
			   const struct proc_stat *stat, Ckpt__Task *msg, struct ckpt_err *err)
{
	struct inject in;
	size_t room = d->doubtful.n * sizeof(struct ckpt_step);
	int rc = inject_begin(&in, task, ARENA_BASE_BYTES + ((room + 4095) & ~4095ull), err), end;
	struct ckpt_err end_err = { 0 };
	uint64_t from;

	if (rc)
		return rc;
	from = in.arena.used;
	rc = collect_first(d, &in, task, stat, msg, err);
	if (!rc && task->threads.n > 1)
		rc = collect_others(d, &in, task, stat, from, msg, err);
	if (!rc)
		rc = ckpt_fault_fail("inject.asked", E_INJECT, err);
	end = inject_end(&in, &end_err);
	if (!rc && end) {
		*err = end_err;
		rc = end;
	}
	return rc;
}

/* Who shares descriptors and directories with whom. Memory, and with it signal handlers, the image
 * cannot express. */
static int collect_sharing(struct dump_ctx *d, struct ckpt_err *err)
{
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
	rc = sharing_find(pids, n, KCMP_VM, first, err);
	for (size_t i = 0; !rc && i < n; i++)
		if (first[i] != i)
			rc = dump_refuse_vm(v[at[i]].tgid, v[at[first[i]]].tgid, err);
	if (!rc)
		rc = sharing_find(pids, n, KCMP_FILES, first, err);
	for (size_t i = 0; !rc && i < n; i++)
		v[at[i]].files_of = at[first[i]];
	if (!rc)
		rc = sharing_find(pids, n, KCMP_FS, first, err);
	for (size_t i = 0; !rc && i < n; i++)
		v[at[i]].fs_of = at[first[i]];
	return rc;
}

static int collect_task(struct dump_ctx *d, size_t at, struct ckpt_err *err)
{
	struct target_task *task = &d->target.tasks.v[at];
	Ckpt__Task *msg = kind_msg_new(&ckpt__task__descriptor);
	Ckpt__Task **slot = vec_push(&d->tasks);
	uint64_t lap = io_now_us();
	struct proc_stat stat;
	int rc;

	if (!msg || !slot)
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	*slot = msg;
	rc = proc_stat_read(task->tgid, &stat, err);
	if (rc)
		return rc;
	msg->pid = task->vpid;
	msg->ppid = task->parent < 0 ? 0 : d->target.tasks.v[task->parent].vpid;
	msg->pgid = stat.pgrp;
	msg->sid = stat.session;
	msg->exit_signal = stat.exit_signal;
	msg->zombie = task->zombie;
	if (task->zombie) {
		msg->exit_status = stat.exit_code;
		return 0;
	}
	msg->stopped = task->threads.v[0].group_stopped;
	d->stats.threads += task->threads.n;
	d->stats.faults += stat.faults;
	if (task->fs_of != at)
		msg->fs_with = d->target.tasks.v[task->fs_of].vpid;
	rc = 0;
	if (task_headless(task)) {
		rc = collect_ended(d, task, &stat, msg, err);
		if (!rc)
			rc = proc_stat_read(task->pid, &stat, err);
	}
	if (!rc && task->files_of != at)
		msg->fdtable = d->tasks.v[task->files_of]->fdtable;
	else if (!rc)
		rc = dump_collect_fds(d, task, msg, err);
	d->stats.fds_us += dump_lap(&lap);
	if (!rc)
		rc = ckpt_fault_fail("dump.descriptors", E_FREEZE, err);
	if (!rc)
		rc = collect_threads(d, task, &stat, msg, err);
	d->stats.threads_us += dump_lap(&lap);
	if (!rc)
		rc = ckpt_fault_fail("dump.threads", E_FREEZE, err);
	if (!rc)
		rc = dump_collect_mm(d, task, msg, err);
	d->stats.maps_us += dump_lap(&lap);
	return rc;
}

int dump_collect_tasks(struct dump_ctx *d, struct ckpt_err *err)
{
	if (collect_sharing(d, err))
		return err->code;
	for (size_t i = 0; i < d->target.tasks.n; i++)
		if (dump_in_time(d, 0, err) || collect_task(d, i, err))
			return ckpt_ctx(err, "task %d", d->target.tasks.v[i].pid);
	if (dump_family(d, err))
		return err->code;
	return dump_collect_fds_late(d, err);
}
