// SPDX-License-Identifier: GPL-2.0-only
/* What a thread told the kernel about itself: name, clear_child_tid, robust list, rseq. */
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kind/task/kinds.h"
#include "task_basic.pb-c.h"

#define COMM_LEN 16 /* TASK_COMM_LEN */

static int comm_ask(struct dump_ctx *d, const struct task_facts *f, struct steps *s, uint64_t *priv,
		    struct ckpt_err *err)
{
	char *local;
	uint64_t room = steps_room(s, COMM_LEN, &local);

	(void)d;
	(void)f;
	(void)err;
	priv[0] = (uint64_t)local;
	(void)steps_call(s, "read the thread's name", SYS_prctl, PR_GET_NAME, room);
	return 0;
}

static int comm_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		     const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		     struct ckpt_err *err)
{
	const char *name = f->view ? f->view->comm : (const char *)priv[0];
	Ckpt__ThreadComm *m = msg;
	auto_free char *text = NULL;
	char path[48];

	(void)d;
	(void)a;
	if (!slot && !f->view) {
		int rc;

		(void)snprintf(path, sizeof(path), "task/%d/comm", f->thread->tid);
		rc = proc_read(f->task->pid, path, &text, NULL, err);
		if (rc)
			return rc;
		if (*text)
			text[strlen(text) - 1] = 0; /* the newline */
		name = text;
	}
	m->name.len = strnlen(name, COMM_LEN);
	m->name.data = (uint8_t *)strndup(name, COMM_LEN);
	return m->name.data ? 0 : ckpt_oom(err);
}

static int comm_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		     const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__ThreadComm *m = msg;
	char name[COMM_LEN] = "";

	(void)r;
	(void)task;
	(void)thread;
	(void)err;
	memcpy(name, m->name.data, m->name.len < COMM_LEN - 1 ? m->name.len : COMM_LEN - 1);
	(void)steps_call(s, "set the thread's name", SYS_prctl, PR_SET_NAME, steps_str(s, name));
	return 0;
}

const struct task_kind task_kind_comm = {
	.name = "comm",
	.desc = &ckpt__thread_comm__descriptor,
	.scope = SCOPE_THREAD,
	.phase = PHASE_THREAD,
	.ask = comm_ask,
	.dump = comm_dump,
	.of_ended = true,
	.plan = comm_plan,
};

static int ids_ask(struct dump_ctx *d, const struct task_facts *f, struct steps *s, uint64_t *priv,
		   struct ckpt_err *err)
{
	uint64_t *local;
	uint64_t room = steps_room(s, sizeof(*local), &local);

	(void)d;
	(void)f;
	(void)err;
	priv[0] = (uint64_t)local;
	(void)steps_call(s, "read clear_child_tid", SYS_prctl, PR_GET_TID_ADDRESS, room);
	return 0;
}

static int ids_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		    const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		    struct ckpt_err *err)
{
	const struct thread_rseq *rseq = &f->thread->rseq;
	Ckpt__ThreadIds *m = msg;
	void *head = NULL;
	size_t len = 0;

	(void)d;
	(void)a;
	(void)slot;
	m->clear_child_tid = f->view ? f->view->clear_child_tid : *(const uint64_t *)priv[0];
	if (syscall(SYS_get_robust_list, f->thread->tid, &head, &len))
		return ckpt_fail_errno(err, E_FREEZE, -errno, "cannot read the robust list");
	m->robust_list = (uint64_t)head;
	m->robust_len = len;
	m->rseq = rseq->pointer;
	m->rseq_len = rseq->size;
	m->rseq_flags = rseq->flags;
	m->rseq_sig = rseq->signature;
	return 0;
}

static int ids_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		    const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__ThreadIds *m = msg;

	(void)r;
	(void)task;
	(void)thread;
	(void)err;
	(void)steps_call(s, "set clear_child_tid", SYS_set_tid_address, m->clear_child_tid);
	if (m->robust_list)
		(void)steps_call(s, "set the robust list", SYS_set_robust_list, m->robust_list,
				 m->robust_len);
	if (m->rseq)
		(void)steps_call(s, "register rseq", SYS_rseq, m->rseq, m->rseq_len, m->rseq_flags,
				 m->rseq_sig);
	return 0;
}

const struct task_kind task_kind_thread_ids = {
	.name = "thread-ids",
	.desc = &ckpt__thread_ids__descriptor,
	.scope = SCOPE_THREAD,
	.phase = PHASE_THREAD,
	.ask = ids_ask,
	.dump = ids_dump,
	.plan = ids_plan,
};
