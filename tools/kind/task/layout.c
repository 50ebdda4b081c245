// SPDX-License-Identifier: GPL-2.0-only
/* Where code, heap, stack, arguments and environment are, and the program file. */
#include <fcntl.h>
#include <linux/prctl.h>
#include <string.h>
#include <sys/syscall.h>

#include "kind/task/kinds.h"
#include "task_layout.pb-c.h"

static int layout_ask(struct dump_ctx *d, const struct task_facts *f, struct steps *s,
		      uint64_t *priv, struct ckpt_err *err)
{
	(void)d;
	(void)f;
	(void)err;
	priv[0] = steps_call(s, "brk", SYS_brk, 0);
	return 0;
}

static int layout_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		       const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		       struct ckpt_err *err)
{
	const struct proc_stat *st = f->stat;
	Ckpt__TaskLayout *m = msg;
	char *auxv = NULL;
	size_t len = 0;
	int rc;

	m->start_code = st->start_code;
	m->end_code = st->end_code;
	m->start_data = st->start_data;
	m->end_data = st->end_data;
	m->start_brk = st->start_brk;
	m->brk = f->process ? f->process->brk : (uint64_t)slot_ret(a, slot, (uint32_t)priv[0]);
	m->start_stack = st->start_stack;
	m->arg_start = st->arg_start;
	m->arg_end = st->arg_end;
	m->env_start = st->env_start;
	m->env_end = st->env_end;
	rc = proc_read(f->task->pid, "auxv", &auxv, &len, err);
	if (rc)
		return rc;
	m->auxv.data = (uint8_t *)auxv;
	m->auxv.len = len;
	return dump_object_link(d, f->task->pid, "exe", O_RDONLY, &m->exe, err);
}

static int layout_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		       const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__TaskLayout *m = msg;
	struct prctl_mm_map map = {
		.start_code = m->start_code,
		.end_code = m->end_code,
		.start_data = m->start_data,
		.end_data = m->end_data,
		.start_brk = m->start_brk,
		.brk = m->brk,
		.start_stack = m->start_stack,
		.arg_start = m->arg_start,
		.arg_end = m->arg_end,
		.env_start = m->env_start,
		.env_end = m->env_end,
	};
	int fd, rc = restore_object_fd(r, m->exe, &fd, err);

	(void)task;
	(void)thread;
	if (rc)
		return rc;
	if (m->auxv.len > 1024)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "an auxiliary vector of %zu bytes",
				 m->auxv.len);
	map.exe_fd = (uint32_t)fd;
	map.auxv = (void *)steps_data(s, m->auxv.data, m->auxv.len);
	map.auxv_size = (uint32_t)m->auxv.len;
	(void)steps_call(s, "set the memory layout (PR_SET_MM_MAP)", SYS_prctl, PR_SET_MM,
			 PR_SET_MM_MAP, steps_data(s, &map, sizeof(map)), sizeof(map));
	return 0;
}

const struct task_kind task_kind_layout = {
	.name = "layout",
	.desc = &ckpt__task_layout__descriptor,
	.scope = SCOPE_TASK,
	.phase = PHASE_MM,
	.ask = layout_ask,
	.dump = layout_dump,
	.plan = layout_plan,
};
