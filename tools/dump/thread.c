// SPDX-License-Identifier: GPL-2.0-only
/* State of one thread: what ptrace and /proc tell, and what only it can say. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "dump/collect.h"
#include "kern/arch.h"

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
		return ckpt_oom(err);
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

/* What one kind has to say of the thread. *ret may be NULL: nothing worth saving. */
static int thread_answer(struct dump_ctx *d, const struct inject *in, struct thread_work *w,
			 size_t kind, Ckpt__State **ret, struct ckpt_err *err)
{
	static const uint64_t nothing[TASK_KIND_PRIV_WORDS];
	const struct task_kind *k = task_kinds[kind];
	ProtobufCMessage *m = kind_msg_new(k->desc);
	int rc;

	*ret = NULL;
	if (!m)
		return ckpt_oom(err);
	rc = k->dump(d, &w->facts, in ? &in->arena : NULL, w->slot,
		     w->priv ? w->priv[kind] : nothing, m, err);
	if (rc < 0)
		(void)ckpt_ctx(err, "thread %d: %s", w->facts.thread->tid, k->name);
	if (!rc && !(*ret = kind_state_new(k->name, m)))
		rc = ckpt_oom(err);
	protobuf_c_message_free_unpacked(m, NULL);
	return rc < 0 ? rc : 0;
}

/* The same, as another thread has said it. */
static int thread_repeat(const struct thread_work *w, const char *kind, Ckpt__State **ret,
			 struct ckpt_err *err)
{
	const Ckpt__State *said = kind_state_find(w->like->state, w->like->n_state, kind);

	*ret = said ? kind_state_copy(said) : NULL;
	return *ret || !said ? 0 : ckpt_oom(err);
}

int thread_answers(struct dump_ctx *d, const struct inject *in, struct thread_work *w,
		   Ckpt__Task *task, struct ckpt_err *err)
{
	for (size_t i = 0; task_kinds[i]; i++) {
		const struct task_kind *k = task_kinds[i];
		Ckpt__State *st;
		int rc;

		if (!kind_applies(k, w) ||
		    (!w->slot && !w->like && !w->facts.process && !k->of_ended))
			continue;
		rc = w->like && k->alike ? thread_repeat(w, k->name, &st, err)
					 : thread_answer(d, in, w, i, &st, err);
		if (rc)
			return rc;
		if (st &&
		    (k->scope == SCOPE_TASK ? kind_push(&task->n_state, &task->state, st)
					    : kind_push(&w->msg->n_state, &w->msg->state, st)))
			return ckpt_oom(err);
	}
	return 0;
}

void thread_forget(struct thread_work *w)
{
	free(w->priv);
	free(w->status);
	*w = (struct thread_work) { 0 };
}

static int thread_begin(struct thread_work *w, struct target_task *task,
			const struct proc_stat *stat, size_t at, Ckpt__Task *msg,
			struct ckpt_err *err)
{
	w->facts.task = task;
	w->facts.thread = &task->threads.v[at];
	w->facts.stat = stat;
	w->facts.main = at == 0;
	w->msg = kind_msg_new(&ckpt__thread__descriptor);
	if (!w->msg || kind_push(&msg->n_threads, &msg->threads, w->msg))
		return ckpt_oom(err);
	return thread_core(w, err);
}

int thread_prepare(struct dump_ctx *d, struct thread_work *w, struct target_task *task,
		   const struct proc_stat *stat, size_t at, Ckpt__Task *msg, struct ckpt_err *err)
{
	int rc;

	w->priv = calloc(kind_count() + 1, sizeof(*w->priv));
	if (!w->priv)
		return ckpt_oom(err);
	w->facts = (struct task_facts) { .status = w->status };
	rc = thread_begin(w, task, stat, at, msg, err);
	return rc ? rc : thread_ask(d, w, err);
}

int thread_seen(struct dump_ctx *d, struct thread_work *w, struct target_task *task,
		const struct proc_stat *stat, size_t at, Ckpt__Task *msg, struct ckpt_err *err)
{
	int rc = thread_begin(w, task, stat, at, msg, err);

	return rc ? rc : thread_answers(d, NULL, w, msg, err);
}

int thread_start(struct inject *in, struct thread_work *w, struct ckpt_err *err)
{
	int rc = inject_start(in, w->facts.thread, w->slot, err);

	w->running = !rc;
	return rc;
}

int thread_ended(struct dump_ctx *d, struct target_task *task, const struct proc_stat *stat,
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
		return ckpt_oom(err);
	w.msg->tid = task->vpid;
	w.msg->ended = true;
	w.msg->exit_status = stat->exit_code;
	return thread_answers(d, NULL, &w, msg, err);
}
