// SPDX-License-Identifier: GPL-2.0-only
/*
 * mlockall(MCL_FUTURE): no file tells of it, so a page is mapped and looked at.
 * Of a locked mapping msync(MS_INVALIDATE) says EBUSY; its page is there at
 * once, unless it is locked on fault only. Mappings that are locked already
 * are flags of theirs (model/vmaflags.h).
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kind/task/kinds.h"
#include "task_memory.pb-c.h"

#define PAGE 4096u
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif

enum { ASK_MAP, ASK_SYNC, ASK_THERE };

static uint32_t try_at(struct steps *s, uint32_t nr, uint32_t map, uint64_t third)
{
	return steps_add(s,
			 &(struct ckpt_step) { .op = CKPT_OP_SYSCALL,
					       .flags = CKPT_STEP_MAY_FAIL,
					       .nr = nr,
					       .refs = 1,
					       .arg = { map, PAGE, third } },
			 "ask for mlockall");
}

static int memlock_ask(struct dump_ctx *d, const struct task_facts *f, struct steps *s,
		       uint64_t *priv, struct ckpt_err *err)
{
	unsigned char *there;
	uint64_t at = steps_room(s, 1, &there);
	uint32_t map;

	(void)d;
	(void)f;
	(void)err;
	map = steps_try(s, "ask for mlockall", SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0);
	priv[ASK_MAP] = map;
	priv[ASK_SYNC] = try_at(s, SYS_msync, map, MS_INVALIDATE);
	(void)try_at(s, SYS_mincore, map, at);
	(void)try_at(s, SYS_munmap, map, 0);
	priv[ASK_THERE] = (uint64_t)there;
	return 0;
}

static int memlock_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
			const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
			struct ckpt_err *err)
{
	Ckpt__TaskMemlock *m = msg;
	int64_t map;

	(void)d;
	(void)err;
	/* proc_view_plain() */
	if (f->process)
		return 1;
	map = slot_ret(a, slot, (uint32_t)priv[ASK_MAP]);
	/* Only memory that would be locked can be too much for RLIMIT_MEMLOCK. */
	if (map == -EAGAIN)
		m->future = true;
	else if (slot_ret(a, slot, (uint32_t)priv[ASK_SYNC]) == -EBUSY)
		m->future = true;
	m->onfault = m->future && map > 0 && !(*(const unsigned char *)priv[ASK_THERE] & 1);
	return m->future ? 0 : 1;
}

static int memlock_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
			const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__TaskMemlock *m = msg;

	(void)r;
	(void)task;
	(void)thread;
	(void)err;
	(void)steps_call(s, "mlockall", SYS_mlockall,
			 (uint64_t)(MCL_FUTURE | (m->onfault ? MCL_ONFAULT : 0)));
	return 0;
}

const struct task_kind task_kind_memlock = {
	.name = "memlock",
	.desc = &ckpt__task_memlock__descriptor,
	.scope = SCOPE_TASK,
	.phase = PHASE_TASK,
	.ask = memlock_ask,
	.dump = memlock_dump,
	.plan = memlock_plan,
};
