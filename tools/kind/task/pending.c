// SPDX-License-Identifier: GPL-2.0-only
/*
 * Signals that were sent and not yet delivered, of the process and of each
 * thread, with their siginfo and in their order. At restore everything is
 * blocked while they are queued again; they are delivered when the program runs.
 */
#include "kind/task/pending.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "kind/task/kinds.h"
#include "task_pending.pb-c.h"

#define SIGINFO_BYTES 128u
_Static_assert(sizeof(siginfo_t) == SIGINFO_BYTES, "siginfo_t as the kernel has it");
#define PENDING_MAX 1000000u
#define PEEK_SHARED 1u

struct queue {
	siginfo_t *v;
	size_t n, cap;
};

static int queue_read(int tid, bool shared, struct queue *q, struct ckpt_err *err)
{
	/* linux/ptrace.h: struct ptrace_peeksiginfo_args */
	struct {
		uint64_t off;
		uint32_t flags;
		int32_t nr;
	} args = { .flags = shared ? PEEK_SHARED : 0, .nr = 64 };
	siginfo_t some[64];

	for (;;) {
		long n = ptrace(PTRACE_PEEKSIGINFO, tid, &args, some);

		if (n < 0)
			return ckpt_fail_errno(err, E_FREEZE, -errno,
					       "cannot read pending signals");
		if (n == 0)
			return 0;
		for (long i = 0; i < n; i++) {
			siginfo_t *si = vec_push(q);

			if (!si)
				return ckpt_oom(err);
			*si = some[i];
		}
		args.off += (uint64_t)n;
	}
}

int pending_find(const struct task_facts *f, int sig, int code, bool *ret, struct ckpt_err *err)
{
	struct queue q = { 0 };
	int rc = queue_read(f->thread->tid, true, &q, err);

	*ret = false;
	for (size_t i = 0; i < q.n; i++)
		*ret |= q.v[i].si_signo == sig && q.v[i].si_code == code;
	vec_free(&q);
	return rc;
}

int ids_compare(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

int pending_timer_ids(const struct task_facts *f, bool threads, int **ret_ids, size_t *ret_n,
		      struct ckpt_err *err)
{
	struct queue q = { 0 };
	int rc = queue_read(f->thread->tid, true, &q, err);
	auto_free int *ids = NULL;
	size_t n = 0;

	for (size_t t = 0; threads && !rc && t < f->task->threads.n; t++)
		rc = queue_read(f->task->threads.v[t].tid, false, &q, err);
	if (!rc && !(ids = malloc((q.n + 1) * sizeof(*ids))))
		rc = ckpt_oom(err);
	for (size_t i = 0; !rc && i < q.n; i++)
		if (q.v[i].si_code == SI_TIMER)
			ids[n++] = q.v[i].si_timerid;
	vec_free(&q);
	if (rc)
		return rc;
	qsort(ids, n, sizeof(*ids), ids_compare);
	*ret_ids = take_ptr(ids);
	*ret_n = n;
	return 0;
}

static bool queue_has(const struct queue *q, int sig)
{
	for (size_t i = 0; i < q->n; i++)
		if (q->v[i].si_signo == sig)
			return true;
	return false;
}

static int pending_save(Ckpt__PendingSignals *m, const siginfo_t *si, struct ckpt_err *err)
{
	ProtobufCBinaryData *b = &m->info[m->n_info];

	b->data = malloc(SIGINFO_BYTES);
	if (!b->data)
		return ckpt_oom(err);
	memcpy(b->data, si, SIGINFO_BYTES);
	b->len = SIGINFO_BYTES;
	m->n_info++;
	return 0;
}

static int pending_dump(const struct task_facts *f, bool shared, void *msg, struct ckpt_err *err)
{
	Ckpt__PendingSignals *m = msg;
	bool seen = f->view && !shared;
	uint64_t set = seen ? f->view->pending : 0;
	struct queue q = { 0 };
	auto_free int *ids = NULL;
	size_t nids = 0;
	int rc;

	if (seen && !set)
		return 1;
	rc = queue_read(f->thread->tid, shared, &q, err);
	/* A signal that was sent when no memory was left has no entry: only its bit is set. */
	if (!seen)
		(void)proc_field_num(f->status, shared ? "ShdPnd" : "SigPnd", 0, 16, &set);
	for (int sig = 1; !rc && sig <= 64; sig++) {
		siginfo_t *si;

		if (!(set >> (sig - 1) & 1) || queue_has(&q, sig))
			continue;
		si = vec_push(&q);
		if (!si)
			rc = ckpt_oom(err);
		else
			si->si_signo = sig;
	}
	if (!rc && q.n) {
		m->info = calloc(q.n, sizeof(*m->info));
		if (!m->info)
			rc = ckpt_oom(err);
	}
	for (size_t i = 0; !rc && i < q.n; i++) {
		bool timer = q.v[i].si_code == SI_TIMER;

		if (timer && !ids)
			rc = timers_ids(f, &ids, &nids, err);
		/* A timer that is there sends its signal again. */
		if (!rc &&
		    !(timer && bsearch(&q.v[i].si_timerid, ids, nids, sizeof(*ids), ids_compare)))
			rc = pending_save(m, &q.v[i], err);
	}
	vec_free(&q);
	return rc ? rc : m->n_info ? 0 : 1;
}

static int shared_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		       const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		       struct ckpt_err *err)
{
	(void)d;
	(void)a;
	(void)slot;
	(void)priv;
	return pending_dump(f, true, msg, err);
}

static int private_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
			const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
			struct ckpt_err *err)
{
	(void)d;
	(void)a;
	(void)slot;
	(void)priv;
	return pending_dump(f, false, msg, err);
}

/* ---- restore ---------------------------------------------------------------------------- */

static int pending_plan(const Ckpt__Task *task, const Ckpt__Thread *thread, bool shared,
			const Ckpt__PendingSignals *m, struct steps *s, struct ckpt_err *err)
{
	if (m->n_info > PENDING_MAX)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "%zu pending signals of thread %d",
				 m->n_info, thread->tid);
	for (size_t i = 0; i < m->n_info; i++) {
		siginfo_t si;
		uint64_t at;

		if (m->info[i].len != SIGINFO_BYTES)
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
					 "a pending signal of thread %d", thread->tid);
		memcpy(&si, m->info[i].data, SIGINFO_BYTES);
		if (si.si_signo < 1 || si.si_signo > 64)
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
					 "pending signal %d of thread %d", si.si_signo,
					 thread->tid);
		at = steps_data(s, &si, sizeof(si));
		if (shared)
			(void)steps_call(s, "rt_sigqueueinfo", SYS_rt_sigqueueinfo,
					 (uint64_t)task->pid, (uint64_t)si.si_signo, at);
		else
			(void)steps_call(s, "rt_tgsigqueueinfo", SYS_rt_tgsigqueueinfo,
					 (uint64_t)task->pid, (uint64_t)thread->tid,
					 (uint64_t)si.si_signo, at);
	}
	return 0;
}

static int shared_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		       const void *msg, struct steps *s, struct ckpt_err *err)
{
	(void)r;
	return pending_plan(task, thread, true, msg, s, err);
}

static int private_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
			const void *msg, struct steps *s, struct ckpt_err *err)
{
	(void)r;
	return pending_plan(task, thread, false, msg, s, err);
}

const struct task_kind task_kind_pending_shared = {
	.name = "pending-shared",
	.desc = &ckpt__pending_signals__descriptor,
	.scope = SCOPE_TASK,
	.phase = PHASE_LAST,
	.dump = shared_dump,
	.plan = shared_plan,
};

const struct task_kind task_kind_pending = {
	.name = "pending",
	.desc = &ckpt__pending_signals__descriptor,
	.scope = SCOPE_THREAD,
	.phase = PHASE_LAST,
	.dump = private_dump,
	.plan = private_plan,
};
