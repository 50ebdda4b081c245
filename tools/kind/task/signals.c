// SPDX-License-Identifier: GPL-2.0-only
/* Signal handlers and alternate stacks. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kind/task/kinds.h"
#include "task_basic.pb-c.h"

#define NSIG_KERNEL PROC_VIEW_SIGNALS

static int sigaction_ask(struct dump_ctx *d, const struct task_facts *f, struct steps *s,
			 uint64_t *priv, struct ckpt_err *err)
{
	struct proc_view_action *local;
	uint64_t room = steps_room(s, sizeof(*local) * NSIG_KERNEL, &local);

	(void)d;
	(void)err;
	(void)f;
	priv[0] = (uint64_t)local;
	/* All of them: a default action may still have flags and a mask. */
	for (int sig = 1; sig <= (int)NSIG_KERNEL; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			(void)steps_call(s, "read a signal handler", SYS_rt_sigaction,
					 (uint64_t)sig, 0,
					 room + (uint64_t)(sig - 1) * sizeof(*local), 8);
	return 0;
}

static int sigaction_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
			  const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
			  struct ckpt_err *err)
{
	const struct proc_view_action *k =
		f->process ? f->process->action : (const struct proc_view_action *)priv[0];
	Ckpt__TaskSigaction *m = msg;

	(void)d;
	(void)f;
	(void)a;
	(void)slot;
	for (uint32_t sig = 1; sig <= NSIG_KERNEL; sig++) {
		const struct proc_view_action *sa = &k[sig - 1];
		Ckpt__SigAction *x;

		if (!sa->handler && !sa->flags && !sa->mask)
			continue;
		x = kind_msg_new(&ckpt__sig_action__descriptor);
		if (!x || kind_push(&m->n_actions, &m->actions, x))
			return ckpt_oom(err);
		x->sig = sig;
		x->handler = sa->handler;
		x->flags = sa->flags;
		x->restorer = sa->restorer;
		x->mask = sa->mask;
	}
	return 0;
}

static int sigaction_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
			  const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__TaskSigaction *m = msg;
	const struct proc_view_action none = { 0 };
	uint64_t seen = 0;

	(void)r;
	(void)task;
	(void)thread;
	for (size_t i = 0; i < m->n_actions; i++) {
		const Ckpt__SigAction *x = m->actions[i];
		struct proc_view_action sa = { x->handler, x->flags, x->restorer, x->mask };

		if (x->sig < 1 || x->sig > NSIG_KERNEL)
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "a handler for signal %u",
					 x->sig);
		seen |= 1ull << (x->sig - 1);
		(void)steps_call(s, "set a signal handler", SYS_rt_sigaction, x->sig,
				 steps_data(s, &sa, sizeof(sa)), 0, 8);
	}
	/* What ckpt handles or ignores was inherited. */
	for (uint64_t sig = 1; sig <= NSIG_KERNEL; sig++) {
		struct proc_view_action own = { 0 };

		if (seen >> (sig - 1) & 1 || sig == SIGKILL || sig == SIGSTOP ||
		    syscall(SYS_rt_sigaction, sig, NULL, &own, 8) || !own.handler)
			continue;
		(void)steps_call(s, "reset a signal handler", SYS_rt_sigaction, sig,
				 steps_data(s, &none, sizeof(none)), 0, 8);
	}
	return 0;
}

const struct task_kind task_kind_sigaction = {
	.name = "sigaction",
	.desc = &ckpt__task_sigaction__descriptor,
	.scope = SCOPE_TASK,
	.phase = PHASE_TASK,
	.ask = sigaction_ask,
	.dump = sigaction_dump,
	.plan = sigaction_plan,
};

static int altstack_ask(struct dump_ctx *d, const struct task_facts *f, struct steps *s,
			uint64_t *priv, struct ckpt_err *err)
{
	stack_t *local;
	uint64_t room = steps_room(s, sizeof(*local), &local);

	(void)d;
	(void)f;
	(void)err;
	priv[0] = (uint64_t)local;
	(void)steps_call(s, "read the alternate signal stack", SYS_sigaltstack, 0, room);
	return 0;
}

/* The kernel's SS_FLAG_BITS: what it keeps of the flags (SS_AUTODISARM). */
#define SS_KEPT_FLAGS (1u << 31)

static int altstack_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
			 const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
			 struct ckpt_err *err)
{
	const struct thread_view *v = f->view;
	const stack_t seen = {
		.ss_sp = v ? (void *)v->altstack_sp : NULL,
		.ss_flags = v ? (int)(v->altstack_flags & SS_KEPT_FLAGS) |
					    (v->altstack_bytes ? 0 : SS_DISABLE)
			      : 0,
		.ss_size = v ? v->altstack_bytes : 0,
	};
	const stack_t *ss = v ? &seen : (const stack_t *)priv[0];
	Ckpt__ThreadAltstack *m = msg;

	(void)d;
	(void)a;
	(void)slot;
	(void)err;
	m->sp = (uint64_t)ss->ss_sp;
	m->flags = (uint32_t)ss->ss_flags & ~(uint32_t)SS_ONSTACK;
	m->bytes = ss->ss_size;
	return ss->ss_flags & SS_DISABLE ? 1 : 0;
}

static int altstack_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
			 const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__ThreadAltstack *m = msg;
	stack_t ss = { .ss_sp = (void *)m->sp, .ss_flags = (int)m->flags, .ss_size = m->bytes };

	(void)r;
	(void)task;
	(void)thread;
	(void)err;
	(void)steps_call(s, "set the alternate signal stack", SYS_sigaltstack,
			 steps_data(s, &ss, sizeof(ss)), 0);
	return 0;
}

const struct task_kind task_kind_altstack = {
	.name = "altstack",
	.desc = &ckpt__thread_altstack__descriptor,
	.scope = SCOPE_THREAD,
	.phase = PHASE_THREAD,
	.ask = altstack_ask,
	.dump = altstack_dump,
	.plan = altstack_plan,
};
