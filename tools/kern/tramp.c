// SPDX-License-Identifier: GPL-2.0-only
/* Threads that a killed ckpt left on their way out of its code. */
#include "kern/tramp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "blob/step.h"

#define OUT_DEADLINE_US 5000000u

/* A trampoline that was left, and the arena that went with it; of size 0 when that is gone. */
struct stale {
	uint64_t at, arena, arena_size;
	struct tramp_data data;
};

static bool is_within(uint64_t rip, uint64_t start, uint64_t size)
{
	return rip >= start && rip - start < size;
}

/* Is what lies at @at, and reads as @bytes, a trampoline? */
static bool stale_read(const struct target_task *task, uint64_t at, const unsigned char *bytes,
		       struct stale *ret)
{
	size_t len = (size_t)(ckpt_tramp_data - ckpt_tramp);
	struct ckpt_arena head;

	*ret = (struct stale) { .at = at };
	if (memcmp(bytes, ckpt_tramp, len) != 0)
		return false;
	memcpy(&ret->data, bytes + len, sizeof(ret->data));
	/* Something else may be mapped there by now. */
	if (ret->data.arena_len &&
	    !io_pread_full(task->mem_fd, &head, sizeof(head), ret->data.arena) &&
	    head.magic == CKPT_ARENA_MAGIC && head.size == ret->data.arena_len) {
		ret->arena = ret->data.arena;
		ret->arena_size = ret->data.arena_len;
	}
	return true;
}

/* Step on until nothing but registers and mask are left to be put back. A list in the arena comes
 * to its end first, as it does without us. */
static int lead_out(struct target_thread *th, const struct stale *s)
{
	uint64_t end = s->at + (uint64_t)(ckpt_tramp_unmapped - ckpt_tramp);
	uint64_t deadline = io_now_us() + OUT_DEADLINE_US;
	uint64_t rip = th->regs.rip;
	int rc = thread_set_sigmask(th->tid, ALL_SIGNALS);

	while (!rc && !(rip >= end && is_within(rip, s->at, TRAMP_SIZE))) {
		bool in_arena = is_within(rip, s->arena, s->arena_size);
		struct user_regs_struct regs = { 0 };
		int status;

		if (!in_arena && !is_within(rip, s->at, TRAMP_SIZE))
			return -EFAULT;
		if (io_now_us() > deadline)
			return -ETIMEDOUT;
		if (ptrace(in_arena ? PTRACE_SYSCALL : PTRACE_SINGLESTEP, th->tid, 0, 0))
			return -errno;
		rc = thread_wait(th->tid, &status);
		if (!rc && !(status >> 16) && WSTOPSIG(status) == SIGSEGV)
			rc = -EFAULT;
		if (!rc)
			rc = thread_get_regs(th->tid, &regs);
		rip = regs.rip;
	}
	/* To a stop like that of any other thread. */
	if (!rc)
		rc = thread_pass(th->tid, 0);
	return rc ? rc : thread_await_stop(th->tid);
}

static void take_over(struct target_thread *th, const struct tramp_data *d)
{
	struct user_regs_struct *r = &th->regs;

	th->restarts = 0;
	th->sigmask = d->mask;
	r->orig_rax = (unsigned long long)-1;
	r->eflags = d->flags;
	r->rip = d->rip;
	r->rsp = d->rsp;
	r->rax = d->rax;
	r->rbx = d->rbx;
	r->rcx = d->rcx;
	r->rdx = d->rdx;
	r->rsi = d->rsi;
	r->rdi = d->rdi;
	r->rbp = d->rbp;
	r->r8 = d->r8;
	r->r9 = d->r9;
	r->r10 = d->r10;
	r->r11 = d->r11;
	r->r12 = d->r12;
	r->r13 = d->r13;
	r->r14 = d->r14;
	r->r15 = d->r15;
}

static int rescue(struct target_task *task, const struct stale *s, struct ckpt_err *err)
{
	for (size_t i = 0; i < task->threads.n; i++) {
		struct target_thread *th = &task->threads.v[i];
		int rc;

		if (!is_within(th->regs.rip, s->at, TRAMP_SIZE) &&
		    !is_within(th->regs.rip, s->arena, s->arena_size))
			continue;
		rc = lead_out(th, s);
		if (!rc) {
			take_over(th, &s->data);
			rc = thread_read_restarted(th);
		}
		if (rc)
			return ckpt_remedy(
				(ckpt_fail_errno(err, E_FREEZE, rc,
						 "thread %d does not leave the code of a "
						 "ckpt that was killed",
						 th->tid),
				 err),
				"try again");
	}
	return 0;
}

bool tramp_any(const struct target_task *task, uint64_t tail, const unsigned char *bytes,
	       size_t room)
{
	uint64_t step = (TRAMP_SIZE + 15) & ~15ull;
	struct stale s;

	for (uint64_t at = tail; at + TRAMP_SIZE <= tail + room; at += step)
		if (stale_read(task, at, bytes + (at - tail), &s))
			return true;
	return false;
}

int tramp_place(struct target_task *task, uint64_t tail, const unsigned char *bytes, size_t room,
		uint64_t *ret_addr, struct ckpt_err *err)
{
	uint64_t step = (TRAMP_SIZE + 15) & ~15ull;

	*ret_addr = 0;
	for (uint64_t at = tail; at + TRAMP_SIZE <= tail + room; at += step) {
		struct stale s;

		if (stale_read(task, at, bytes + (at - tail), &s)) {
			int rc = rescue(task, &s, err);

			if (rc)
				return rc;
		} else if (!*ret_addr) {
			*ret_addr = at;
		}
	}
	/* Killed as often as there are places: the first is the one that was left longest ago. */
	if (!*ret_addr)
		*ret_addr = tail;
	return 0;
}
