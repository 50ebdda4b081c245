// SPDX-License-Identifier: GPL-2.0-only
/*
 * The interpreter that runs inside other programs: no libc, no data section,
 * no vector registers. It owns nothing but the arena it is given; what to do is
 * decided by ckpt, which writes the steps. See step.h.
 */
#include <asm-generic/mman-common.h>
#include <asm/unistd.h>
#include <linux/errno.h>
#include <linux/futex.h>
#include <stdbool.h>

#include "blob/step.h"

#define HIDDEN __attribute__((visibility("hidden")))

/* entry.S */
HIDDEN long blob_syscall(uint64_t nr, const uint64_t *arg);
HIDDEN long blob_clone(uint64_t args, uint64_t size, uint64_t slot);
HIDDEN void blob_main(struct ckpt_slot *slot);

static long call(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	const uint64_t arg[6] = { a, b, c, d, 0, 0 };

	return blob_syscall(nr, arg);
}

static void wake(uint32_t *word)
{
	(void)call(__NR_futex, (uint64_t)word, FUTEX_WAKE, 0x7fffffff, 0);
}

static void sleep_on(uint32_t *word, uint32_t seen)
{
	(void)call(__NR_futex, (uint64_t)word, FUTEX_WAIT, seen, 0);
}

static void report(struct ckpt_arena *arena, struct ckpt_slot *slot, uint32_t state)
{
	__atomic_store_n(&slot->state, state, __ATOMIC_RELEASE);
	wake(&slot->state);
	(void)__atomic_add_fetch(&arena->events, 1, __ATOMIC_SEQ_CST);
	wake(&arena->events);
}

static int owner_gone(struct ckpt_arena *arena)
{
	uint32_t seen = __atomic_load_n(&arena->owner, __ATOMIC_ACQUIRE);

	return !(seen & FUTEX_TID_MASK) || (seen & FUTEX_OWNER_DIED);
}

/* Returns 0 when the word reached the value, -ECANCELED when all shall stop. Who was to wake us may
 * die, so look up now and then. */
static long await(struct ckpt_arena *arena, uint32_t *word, uint32_t value)
{
	const int64_t tick[2] = { 0, 500000000 };

	for (;;) {
		uint32_t seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);

		if (seen >= value)
			return 0;
		if (__atomic_load_n(&arena->abort, __ATOMIC_ACQUIRE) || owner_gone(arena))
			return -ECANCELED;
		(void)call(__NR_futex, (uint64_t)word, FUTEX_WAIT, seen, (uint64_t)tick);
	}
}

/* The owner may die without a word: look at it every few milliseconds. */
static long lend(struct ckpt_arena *arena, uint32_t *word)
{
	const int64_t tick[2] = { 0, 5000000 };

	__atomic_store_n(word, CKPT_LENT, __ATOMIC_RELEASE);
	wake(word);
	while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != CKPT_TAKEN && !owner_gone(arena))
		(void)call(__NR_futex, (uint64_t)word, FUTEX_WAIT, CKPT_LENT, (uint64_t)tick);
	return 0;
}

/* The number of a thread is free a moment after whoever waits for its process was told. */
static long clone_patiently(uint64_t args, uint64_t size, uint64_t slot)
{
	const int64_t tick[2] = { 0, 1000000 };
	long ret;

	for (int i = 0; (ret = blob_clone(args, size, slot)) == -EEXIST && i < 200; i++)
		(void)call(__NR_nanosleep, (uint64_t)tick, 0, 0, 0);
	return ret;
}

static long read_all(uint64_t fd, uint64_t addr, uint64_t len, uint64_t off)
{
	while (len) {
		long n = call(__NR_pread64, fd, addr, len, off);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return n;
		if (n == 0)
			return -ENODATA;
		addr += (uint64_t)n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* Take parts until none is left, then wait for those that others took. */
static long fill(struct ckpt_arena *arena, struct ckpt_fill *job)
{
	const struct ckpt_fill_part *part = (const struct ckpt_fill_part *)job->parts;
	const int32_t *fds = (const int32_t *)job->fds;

	for (;;) {
		uint32_t i = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
		long err;

		if (i >= job->count)
			break;
		/* All pages in one go cost less than a fault for each. It may not be able to. */
		(void)call(__NR_madvise, part[i].addr, part[i].len, MADV_POPULATE_WRITE, 0);
		err = read_all((uint64_t)fds[part[i].off >> 48], part[i].addr, part[i].len,
			       part[i].off & 0xffffffffffffull);
		if (err)
			__atomic_store_n(&job->err, (int32_t)err, __ATOMIC_RELAXED);
		if (__atomic_add_fetch(&job->done, 1, __ATOMIC_SEQ_CST) == job->count)
			wake(&job->done);
	}
	if (await(arena, &job->done, job->count))
		return -ECANCELED;
	return __atomic_load_n(&job->err, __ATOMIC_RELAXED);
}

static long run_step(struct ckpt_arena *arena, struct ckpt_slot *slot, struct ckpt_step *s)
{
	const struct ckpt_step *all = (const struct ckpt_step *)slot->steps;
	uint64_t arg[6];

	for (int i = 0; i < 6; i++)
		arg[i] = (s->refs & (1u << i)) ? (uint64_t)all[s->arg[i]].ret : s->arg[i];

	if (s->op == CKPT_OP_SYSCALL) {
		long ret = blob_syscall(s->nr, arg);

		if (ret >= 0 && (s->flags & CKPT_STEP_EXPECT) && ret != s->want)
			ret = -EPROTO;
		return ret;
	}
	if (s->op == CKPT_OP_READ)
		return read_all(arg[0], arg[1], arg[2], arg[3]);
	if (s->op == CKPT_OP_COPY) {
		volatile unsigned char *to = (volatile unsigned char *)arg[0];
		const unsigned char *from = (const unsigned char *)arg[1];

		for (uint64_t i = 0; i < arg[2]; i++)
			to[i] = from[i];
		return 0;
	}
	if (s->op == CKPT_OP_CLONE)
		return clone_patiently(arg[0], arg[1], arg[2]);
	if (s->op == CKPT_OP_BARRIER) {
		uint32_t *word = (uint32_t *)arg[0];

		if (__atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST) >= arg[1])
			wake(word);
		return await(arena, word, (uint32_t)arg[1]);
	}
	if (s->op == CKPT_OP_AWAIT)
		return await(arena, (uint32_t *)arg[0], (uint32_t)arg[1]);
	if (s->op == CKPT_OP_FILL)
		return fill(arena, (struct ckpt_fill *)arg[0]);
	if (s->op == CKPT_OP_JOIN) {
		uint32_t *word = (uint32_t *)arg[0], seen;

		while ((seen = __atomic_load_n(word, __ATOMIC_ACQUIRE)))
			sleep_on(word, seen);
		return 0;
	}
	if (s->op == CKPT_OP_CHECK)
		return all[arg[0]].ret == (int64_t)arg[1] ? 0 : -EPROTO;
	if (s->op == CKPT_OP_LEND)
		return lend(arena, (uint32_t *)arg[0]);
	if (s->op == CKPT_OP_EXIT) {
		report(arena, slot, CKPT_SLOT_GONE);
		if (arg[2])
			(void)call(__NR_kill, arg[1], arg[2], 0, 0);
		(void)call(__NR_exit_group, arg[0], 0, 0, 0);
	}
	if (s->op == CKPT_OP_EXIT_THREAD) {
		report(arena, slot, CKPT_SLOT_GONE);
		(void)call(__NR_exit, 0, 0, 0, 0);
	}
	return -ENOSYS;
}

/* Run the slot's list. Returns whether all of it was done. */
static bool run_list(struct ckpt_arena *arena, struct ckpt_slot *slot)
{
	struct ckpt_step *steps = (struct ckpt_step *)slot->steps;

	__atomic_store_n(&slot->state, CKPT_SLOT_RUNNING, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < slot->nsteps; i++) {
		struct ckpt_step *s = &steps[i];

		if (s->op == CKPT_OP_END)
			break;
		slot->pc = i;
		s->ret = run_step(arena, slot, s);
		if (s->ret < 0 && !(s->flags & CKPT_STEP_MAY_FAIL)) {
			slot->err = (int32_t)s->ret;
			return false;
		}
	}
	return true;
}

/* Wait for another list; false when the owner is dead. PR_SET_PDEATHSIG is quicker than the tick,
 * but not yet there in the first moments. */
static bool next_list(struct ckpt_arena *arena, struct ckpt_slot *slot)
{
	const int64_t tick[2] = { 1, 0 };

	for (;;) {
		uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

		if (state == CKPT_SLOT_NEXT)
			return true;
		if (owner_gone(arena))
			return false;
		(void)call(__NR_futex, (uint64_t)&slot->state, FUTEX_WAIT, state, (uint64_t)tick);
	}
}

/*
 * Wait for the end of the owner, or until it gives up. The kernel wakes one of all that wait, who
 * wakes the others; at a restore PR_SET_PDEATHSIG may end that one before it did, so there everyone
 * looks up now and then. Not at dump: a wait with a timeout that is interrupted takes the place of
 * the call that the kernel is to restart for the program.
 */
static void await_owner_end(struct ckpt_arena *arena, const struct ckpt_slot *slot)
{
	const int64_t tick[2] = { 0, 500000000 };

	for (;;) {
		uint32_t seen = __atomic_load_n(&arena->owner, __ATOMIC_ACQUIRE);

		if (owner_gone(arena) ||
		    (!slot->leave && __atomic_load_n(&arena->abort, __ATOMIC_ACQUIRE))) {
			wake(&arena->owner);
			return;
		}
		if (!(seen & FUTEX_WAITERS)) {
			uint32_t want = seen;

			if (!__atomic_compare_exchange_n(&arena->owner, &want, seen | FUTEX_WAITERS,
							 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
				continue;
			seen |= FUTEX_WAITERS;
		}
		(void)call(__NR_futex, (uint64_t)&arena->owner, FUTEX_WAIT, seen,
			   slot->leave ? 0 : (uint64_t)tick);
	}
}

/* Run the slot's lists, report, and wait for the owner: at dump it stops us by ptrace and puts
 * our registers back. When the owner is dead or lets go, return: entry.S then leaves for good. */
HIDDEN void blob_main(struct ckpt_slot *slot)
{
	struct ckpt_arena *arena = (struct ckpt_arena *)slot->arena;

	for (;;) {
		bool done = run_list(arena, slot);
		bool again = done && __atomic_load_n(&slot->again, __ATOMIC_ACQUIRE);

		report(arena, slot, done ? CKPT_SLOT_DONE : CKPT_SLOT_FAILED);
		if (!again)
			break;
		if (!next_list(arena, slot))
			return;
	}
	await_owner_end(arena, slot);
}
