// SPDX-License-Identifier: GPL-2.0-only
/*
 * Seccomp of each thread: strict mode, or its filters from the oldest on. ckpt
 * holds the thread by ptrace with PTRACE_O_SUSPEND_SECCOMP while foreign code
 * runs in it, at dump (restart.c) as at restore (BARRIER_HELD in plan.c), so the
 * filters see the program's own calls only.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "kind/task/kinds.h"
#include "task_seccomp.pb-c.h"

#define FILTERS_MAX 4096u
#define FLAG_LOG 2u

static uint64_t seccomp_mode(const struct task_facts *f)
{
	uint64_t mode = 0;

	if (f->view)
		return f->view->seccomp;
	(void)proc_field_num(f->status, "Seccomp", 0, 10, &mode);
	return mode;
}

/* The kernel lets nobody who is confined itself look at or suspend the filters of others. */
static int seccomp_check(struct dump_ctx *d, const struct task_facts *f, struct ckpt_err *err)
{
	(void)d;
	if (seccomp_mode(f) == SECCOMP_MODE_DISABLED ||
	    prctl(PR_GET_SECCOMP) == SECCOMP_MODE_DISABLED)
		return 0;
	(void)ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
			"thread %d is confined by seccomp, and so is ckpt itself", f->thread->tid);
	return ckpt_remedy(err, "run ckpt outside of the container that confines it");
}

static bool seccomp_alike(const struct thread_view *a, const struct thread_view *b)
{
	return a->seccomp == SECCOMP_MODE_DISABLED && b->seccomp == SECCOMP_MODE_DISABLED;
}

/* One filter; 1 when there are no more. */
static int filter_read(int tid, uint64_t at, Ckpt__ThreadSeccomp *m, struct ckpt_err *err)
{
	struct seccomp_metadata {
		uint64_t off, flags;
	} meta = { .off = at };
	Ckpt__SeccompFilter *x;
	long n = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, at, NULL);

	if (n < 0 && errno == ENOENT)
		return 1;
	if (n < 0)
		return ckpt_fail_errno(err, E_UNSUPPORTED, -errno,
				       "cannot read seccomp filter %llu of thread %d",
				       (unsigned long long)at, tid);
	x = kind_msg_new(&ckpt__seccomp_filter__descriptor);
	if (!x || kind_push(&m->n_filters, &m->filters, x)) {
		free(x);
		return ckpt_oom(err);
	}
	x->code.len = (size_t)n * sizeof(struct sock_filter);
	x->code.data = malloc(x->code.len + 1);
	if (!x->code.data)
		return ckpt_oom(err);
	if (ptrace(PTRACE_SECCOMP_GET_FILTER, tid, at, x->code.data) != n ||
	    ptrace(PTRACE_SECCOMP_GET_METADATA, tid, sizeof(meta), &meta) < 0)
		return ckpt_fail_errno(err, E_UNSUPPORTED, -errno,
				       "cannot read seccomp filter %llu of thread %d",
				       (unsigned long long)at, tid);
	x->flags = (uint32_t)meta.flags;
	return 0;
}

static int seccomp_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
			const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
			struct ckpt_err *err)
{
	Ckpt__ThreadSeccomp *m = msg;
	uint64_t mode = seccomp_mode(f);
	int rc = 0;

	(void)d;
	(void)a;
	(void)slot;
	(void)priv;
	if (mode == SECCOMP_MODE_DISABLED)
		return 1;
	m->mode = (uint32_t)mode;
	if (mode == SECCOMP_MODE_STRICT)
		return 0;
	if (mode != SECCOMP_MODE_FILTER)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "seccomp mode %u of thread %d",
				 m->mode, f->thread->tid);
	for (uint64_t i = 0; !rc && i < FILTERS_MAX; i++)
		rc = filter_read(f->thread->tid, i, m, err);
	return rc < 0 ? rc : 0;
}

static int seccomp_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
			const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__ThreadSeccomp *m = msg;

	(void)r;
	(void)task;
	if (m->n_filters > FILTERS_MAX)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "%zu seccomp filters of thread %d",
				 m->n_filters, thread->tid);
	if (m->mode == SECCOMP_MODE_STRICT)
		(void)steps_call(s, "seccomp (strict)", SYS_seccomp, SECCOMP_SET_MODE_STRICT);
	for (size_t i = 0; i < m->n_filters; i++) {
		const Ckpt__SeccompFilter *x = m->filters[i];
		size_t n = x->code.len / sizeof(struct sock_filter);
		struct {
			uint16_t len, pad[3];
			uint64_t code;
		} prog = { .len = (uint16_t)n };

		if (!n || n > BPF_MAXINSNS || x->code.len % sizeof(struct sock_filter) ||
		    x->flags & ~FLAG_LOG)
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
					 "seccomp filter %zu of thread %d", i, thread->tid);
		prog.code = steps_data(s, x->code.data, x->code.len);
		(void)steps_call(s, "seccomp (filter)", SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				 x->flags, steps_data(s, &prog, sizeof(prog)));
	}
	return 0;
}

const struct task_kind task_kind_seccomp = {
	.name = "seccomp",
	.desc = &ckpt__thread_seccomp__descriptor,
	.scope = SCOPE_THREAD,
	.phase = PHASE_CREDS,
	.check = seccomp_check,
	.alike = seccomp_alike,
	.dump = seccomp_dump,
	.plan = seccomp_plan,
};
