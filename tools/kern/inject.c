// SPDX-License-Identifier: GPL-2.0-only
#include "kern/inject.h"

#include <elf.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/text.h"
#include "kern/procfs.h"
#include "kern/tramp.h"

#define VDSO_MAX (64u * 1024)

/* Behind the last byte that the segments of the task's vDSO use: where that is, and what is there.
 */
static int find_vdso_tail(struct target_task *task, const char *maps, uint64_t *ret_addr,
			  size_t *ret_room, unsigned char **ret_bytes, struct ckpt_err *err)
{
	auto_free unsigned char *img = NULL;
	uint64_t start = 0, end = 0, tail = 0;
	const Elf64_Ehdr *eh;
	int rc;

	if (!proc_map_find(maps, "[vdso]", &start, &end) || end - start > VDSO_MAX ||
	    end - start < 4096)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "task %d has no vDSO mapping to enter it by", task->pid);
	img = malloc(end - start);
	if (!img)
		return ckpt_oom(err);
	rc = io_pread_full(task->mem_fd, img, end - start, start);
	if (rc)
		return ckpt_fail_errno(err, E_INJECT, rc, "task %d: cannot read its vDSO",
				       task->pid);
	eh = (const Elf64_Ehdr *)img;
	for (int i = 0; i < eh->e_phnum; i++) {
		uint64_t at = eh->e_phoff + (uint64_t)i * sizeof(Elf64_Phdr);
		const Elf64_Phdr *ph = (const Elf64_Phdr *)(img + at);

		if (at + sizeof(*ph) > end - start)
			break;
		if (ph->p_type == PT_LOAD && ph->p_offset + ph->p_filesz > tail)
			tail = ph->p_offset + ph->p_filesz;
	}
	tail = (tail + 15) & ~15ull;
	if (!tail || tail > end - start ||
	    end - start - tail < (size_t)(ckpt_tramp_end - ckpt_tramp))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "task %d: its vDSO has no room behind its code", task->pid);
	*ret_addr = start + tail;
	*ret_room = end - start - tail;
	memmove(img, img + tail, *ret_room);
	*ret_bytes = take_ptr(img);
	return 0;
}

static int target_write(struct target_task *task, const void *buf, size_t len, uint64_t addr)
{
	return io_pwrite_full(task->mem_fd, buf, len, addr);
}

/* What the trampoline ends with: the registers of @th. */
static struct tramp_data tramp_words(const struct inject *in, const struct target_thread *th)
{
	struct user_regs_struct r = th->regs;

	regs_apply_restart(&r);
	return (struct tramp_data) {
		.len = in->arena.size,
		.arena = in->arena.remote,
		.arena_len = in->arena.remote ? in->arena.size : 0,
		.all = ALL_SIGNALS,
		.mask = th->sigmask,
		.flags = r.eflags,
		.rip = r.rip,
		.rsp = r.rsp,
		.rax = r.rax,
		.rbx = r.rbx,
		.rcx = r.rcx,
		.rdx = r.rdx,
		.rsi = r.rsi,
		.rdi = r.rdi,
		.rbp = r.rbp,
		.r8 = r.r8,
		.r9 = r.r9,
		.r10 = r.r10,
		.r11 = r.r11,
		.r12 = r.r12,
		.r13 = r.r13,
		.r14 = r.r14,
		.r15 = r.r15,
	};
}

static int tramp_load(const struct inject *in, const struct target_thread *th)
{
	struct tramp_data d = tramp_words(in, th);

	return target_write(in->task, &d, sizeof(d),
			    in->tramp + (uint64_t)(ckpt_tramp_data - ckpt_tramp));
}

/* Registers for running code of ours: sane flags, no system call to restart. */
static struct user_regs_struct call_regs(const struct target_thread *th, uint64_t rip)
{
	struct user_regs_struct r = th->regs;

	r.eflags = 0x202;
	r.orig_rax = (unsigned long long)-1;
	r.rip = rip;
	return r;
}

/* To the next entry or exit of a system call. */
static int syscall_go(int tid)
{
	return ptrace(PTRACE_SYSCALL, tid, 0, 0) ? -errno : 0;
}

static int syscall_await(int tid)
{
	for (;;) {
		int status, rc = thread_wait(tid, &status);

		if (rc)
			return rc;
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			return 0;
		if (!(status >> 16) && WSTOPSIG(status) == SIGSEGV)
			return -EFAULT;
		rc = syscall_go(tid);
		if (rc)
			return rc;
	}
}

/*
 * Give a thread other registers and another mask. The kernel knows no call that does both, and ckpt
 * may die between two: so there is a place in the trampoline where either mask is right, and from
 * which it finds back.
 */
static int thread_switch(struct inject *in, const struct target_thread *th,
			 const struct user_regs_struct *regs, uint64_t mask)
{
	struct user_regs_struct safe =
		call_regs(th, in->tramp + (uint64_t)(ckpt_tramp_safe - ckpt_tramp));
	int rc;

	/* It has our registers and mask already, and others of ours to come. */
	if (in->inside == th->tid && mask == ALL_SIGNALS)
		return thread_set_regs(th->tid, regs);
	rc = thread_set_regs(th->tid, &safe);
	(void)ckpt_fault("inject.safe");
	if (!rc)
		rc = thread_set_sigmask(th->tid, mask);
	(void)ckpt_fault("inject.masked");
	if (!rc)
		rc = thread_set_regs(th->tid, regs);
	if (!rc)
		in->inside = mask == ALL_SIGNALS ? th->tid : 0;
	return rc;
}

/* Of the system call that it stopped in or behind. */
static int syscall_result(int tid, int64_t *ret)
{
	struct user_regs_struct r;
	int rc = thread_get_regs(tid, &r);

	if (!rc)
		*ret = (int64_t)r.rax;
	return rc;
}

/* Put the thread back where it was, by a stop from which the kernel restarts what it interrupted.
 */
static int thread_put_back(struct inject *in, struct target_thread *th, bool at_event_stop)
{
	int rc = 0;

	if (!at_event_stop) {
		if (ptrace(PTRACE_INTERRUPT, th->tid, 0, 0) || ptrace(PTRACE_CONT, th->tid, 0, 0))
			return -errno;
		rc = thread_interrupt(th->tid);
	}
	return rc ? rc : thread_switch(in, th, &th->regs, th->sigmask);
}

static int map_arena(struct inject *in)
{
	uint64_t addr = in->arena.remote, size = in->arena.size;
	auto_fd fd = proc_map_open(in->task->pid, addr, addr + size, O_RDWR);
	void *map;

	if (fd < 0)
		return fd;
	map = mmap(in->berth, size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | (in->berth ? MAP_FIXED : 0), fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	in->map = map;
	return 0;
}

static void unmap_arena(struct inject *in)
{
	if (in->map && in->berth)
		arena_berth_clear(in->map, in->arena.size);
	else if (in->map)
		(void)munmap(in->map, in->arena.size);
	in->map = NULL;
}

static void tramp_restore(struct inject *in)
{
	if (in->saved)
		(void)target_write(in->task, in->saved, in->tramp_len, in->tramp);
	free(in->saved);
	in->saved = NULL;
}

static void inject_free(struct inject *in)
{
	unmap_arena(in);
	free(in->maps);
	in->maps = NULL;
	in->state = INJECT_OUT;
}

/* The next arena of a ckpt that was killed, from *@at on, the text of maps. False: there is no
 * other.
 */
static bool next_stale(const struct target_task *task, const char *maps, const char **at,
		       uint64_t *ret_start, uint64_t *ret_end)
{
	for (const char *p = *at; p && (p = strstr(p, " rwxs ")); p++) {
		const char *line = p;
		struct ckpt_arena head;
		int len = 0;

		while (line > maps && line[-1] != '\n')
			line--;
		if (text_scan(line, "%lx-%lx%n", ret_start, ret_end, &len) != 2 ||
		    line + len != p || io_pread_full(task->mem_fd, &head, sizeof(head), *ret_start))
			continue;
		if (head.magic != CKPT_ARENA_MAGIC || head.size != *ret_end - *ret_start)
			continue;
		*at = p + 1;
		return true;
	}
	return false;
}

/* A ckpt that was killed between two threads of a process had nobody in the arena to unmap it. It
 * harms nobody, but it is ours: the next dump takes it away. */
static int drop_stale(struct inject *in, const char *maps, struct ckpt_err *err)
{
	const char *at = maps;
	struct ckpt_slot *slot;
	uint64_t start, end;
	struct steps s;
	int rc = 0;

	steps_init(&s, &in->arena);
	while (next_stale(in->task, maps, &at, &start, &end))
		if (start != in->arena.remote)
			(void)steps_call(&s, "unmap what a killed ckpt left", SYS_munmap, start,
					 end - start);
	if (s.n) {
		slot = arena_slot(&in->arena);
		rc = slot ? steps_commit(&s, slot, err)
			  : ckpt_fail(err, E_NOMEM, -ENOSPC, "the arena is full");
		if (!rc)
			rc = inject_run(in, &in->task->threads.v[0], slot, err);
	}
	steps_free(&s);
	return rc;
}

bool inject_untouched(struct target_task *task, const char *maps)
{
	auto_free unsigned char *bytes = NULL;
	struct ckpt_err ignore = { 0 };
	const char *at = maps;
	uint64_t tail, start, end;
	size_t room;

	return !next_stale(task, maps, &at, &start, &end) &&
	       !find_vdso_tail(task, maps, &tail, &room, &bytes, &ignore) &&
	       !tramp_any(task, tail, bytes, room);
}

static struct target_thread *first_thread(const struct inject *in)
{
	return &in->task->threads.v[0];
}

static int write_tramp(struct inject *in)
{
	unsigned char code[256 + sizeof(struct tramp_data)];
	struct tramp_data words = tramp_words(in, first_thread(in));

	if (in->tramp_len > sizeof(code))
		return -E2BIG;
	memcpy(code, ckpt_tramp, in->tramp_len);
	memcpy(code + (ckpt_tramp_data - ckpt_tramp), &words, sizeof(words));
	return target_write(in->task, code, in->tramp_len, in->tramp);
}

static int fail_map(const struct inject *in, int rc, struct ckpt_err *err)
{
	return ckpt_fail_errno(err, E_INJECT, rc, "task %d: cannot map %llu KiB in it",
			       in->task->pid, (unsigned long long)(in->arena.size >> 10));
}

/* What was begun and did not get as far as an arena: the task as it was. */
static int fail_begin(struct inject *in, int rc, struct ckpt_err *err)
{
	(void)thread_put_back(in, first_thread(in), false);
	tramp_restore(in);
	inject_free(in);
	return fail_map(in, rc, err);
}

/* @first: who is inside already; NULL: nobody. */
static int enter(struct inject *in, struct target_task *task, uint64_t size, void *berth,
		 const struct inject *first, struct ckpt_err *err)
{
	auto_free unsigned char *bytes = NULL;
	struct target_thread *th = &task->threads.v[0];
	struct user_regs_struct r;
	uint64_t tail = 0;
	size_t room = 0;
	int rc;

	memset(in, 0, sizeof(*in));
	in->task = task;
	in->arena.size = size;
	in->berth = size <= ARENA_BERTH_MAX ? berth : NULL;
	rc = first ? 0 : proc_read(task->pid, "maps", &in->maps, NULL, err);
	if (!rc)
		rc = find_vdso_tail(task, first ? first->maps : in->maps, &tail, &room, &bytes,
				    err);
	if (!rc)
		rc = tramp_place(task, tail, bytes, room, &in->tramp, err);
	if (!rc && first && in->tramp == first->tramp)
		rc = ckpt_fail(err, E_INJECT, -ENOSPC, "task %d: its vDSO has no room for two",
			       task->pid);
	if (rc) {
		inject_free(in);
		return rc;
	}
	in->tramp_len = (size_t)(ckpt_tramp_end - ckpt_tramp);
	in->saved = malloc(in->tramp_len);
	if (!in->saved) {
		inject_free(in);
		return ckpt_oom(err);
	}
	memcpy(in->saved, bytes + (in->tramp - tail), in->tramp_len);
	rc = write_tramp(in);
	if (rc) {
		tramp_restore(in);
		inject_free(in);
		return ckpt_fail_errno(err, E_INJECT, rc, "task %d: cannot write to its vDSO",
				       task->pid);
	}
	r = call_regs(th, in->tramp);
	r.rax = SYS_mmap;
	r.rdi = 0;
	r.rsi = size;
	r.rdx = PROT_READ | PROT_WRITE | PROT_EXEC;
	r.r10 = MAP_SHARED | MAP_ANONYMOUS;
	r.r8 = (unsigned long long)-1;
	r.r9 = 0;
	rc = ckpt_fault("inject.mmap");
	if (!rc)
		rc = thread_switch(in, th, &r, ALL_SIGNALS);
	if (!rc)
		rc = syscall_go(th->tid);
	if (rc)
		return fail_begin(in, rc, err);
	in->state = INJECT_ENTERING;
	return 0;
}

int inject_enter(struct inject *in, struct target_task *task, uint64_t size, void *berth,
		 struct ckpt_err *err)
{
	return enter(in, task, size, berth, NULL, err);
}

int inject_entered(struct inject *in, struct ckpt_err *err)
{
	int tid = first_thread(in)->tid, rc = syscall_await(tid);

	if (!rc)
		rc = syscall_go(tid);
	if (rc)
		return fail_begin(in, rc, err);
	in->state = INJECT_MAPPING;
	return 0;
}

static int wait_mapped(struct inject *in)
{
	int tid = first_thread(in)->tid, rc = syscall_await(tid);
	int64_t addr = 0;

	if (!rc)
		rc = syscall_result(tid, &addr);
	if (!rc && addr < 0 && addr > -4096)
		rc = (int)addr;
	if (rc)
		return rc;
	in->arena.remote = (uint64_t)addr;
	in->state = INJECT_IN;
	return 0;
}

int inject_ready(struct inject *in, struct ckpt_err *err)
{
	int rc = wait_mapped(in);

	if (rc)
		return fail_begin(in, rc, err);
	rc = map_arena(in);
	if (rc) {
		inject_quit(in);
		return fail_map(in, rc, err);
	}
	arena_init(&in->arena, in->map, in->arena.remote, in->arena.size);
	rc = arena_own(&in->arena, in->berth != NULL, err);
	if (!rc)
		rc = drop_stale(in, in->maps, err);
	if (rc)
		inject_quit(in);
	return rc;
}

int inject_begin(struct inject *in, struct target_task *task, uint64_t size, struct ckpt_err *err)
{
	int rc = inject_enter(in, task, size, NULL, err);

	if (!rc)
		rc = inject_entered(in, err);
	return rc ? rc : inject_ready(in, err);
}

int inject_beside(struct inject *in, const struct inject *first, void *berth, struct ckpt_err *err)
{
	int rc = enter(in, first->task, first->arena.size, berth, first, err);

	if (!rc)
		rc = inject_entered(in, err);
	if (!rc)
		rc = inject_ready(in, err);
	if (rc)
		return rc;
	/* Whoever is inside unmaps the arena if ckpt dies: that is from now on another thread. */
	rc = thread_put_back(in, first_thread(in), false);
	if (rc)
		inject_quit(in);
	return rc ? fail_map(in, rc, err) : 0;
}

/* Wait until the slot's state is final. The interpreter wakes us; a dead target does not, nor one
 * that stops on the way, as every thread of a stopped program does at first. */
static int slot_wait(struct ckpt_slot *slot, int tid, const uint32_t *lent)
{
	struct timespec tick = { .tv_nsec = 50000000 };
	bool looked = false;
	uint32_t state;

	for (int spins = 0;; spins++) {
		int status;

		state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
		if (state >= CKPT_SLOT_DONE)
			return 0;
		if (lent && __atomic_load_n(lent, __ATOMIC_ACQUIRE) == CKPT_LENT)
			return 1;
		if (spins < 200) {
			/* Most lists take a few microseconds. */
			(void)sched_yield();
			continue;
		}
		if (looked)
			(void)syscall(SYS_futex, lent ? lent : &slot->state, FUTEX_WAIT,
				      lent ? 0 : state, &tick, NULL, 0);
		if (waitpid(tid, &status, __WALL | WNOHANG) == tid) {
			if (!WIFSTOPPED(status))
				return -ESRCH;
			if (!(status >> 16) &&
			    (WSTOPSIG(status) == SIGSEGV || WSTOPSIG(status) == SIGILL ||
			     WSTOPSIG(status) == SIGBUS || WSTOPSIG(status) == SIGSYS))
				return -EFAULT;
			(void)ptrace(PTRACE_CONT, tid, 0, 0);
		} else if (looked && thread_has_ended(tid)) {
			return -ESRCH;
		}
		looked = true;
	}
}

/* A list that lends: what inject_run_lending() was given, and what came of it. */
struct lending {
	uint32_t *word;
	int (*take)(void *arg);
	void *arg;
	int taken;
};

static int wait_plain(void *arg, struct ckpt_slot *slot, int tid)
{
	(void)arg;
	return slot_wait(slot, tid, NULL);
}

static int wait_lending(void *arg, struct ckpt_slot *slot, int tid)
{
	struct lending *l = arg;
	int rc = slot_wait(slot, tid, l->word);

	if (rc != 1)
		return rc;
	l->taken = l->take(l->arg);
	__atomic_store_n(l->word, CKPT_TAKEN, __ATOMIC_RELEASE);
	(void)syscall(SYS_futex, l->word, FUTEX_WAKE, 1, NULL, NULL, 0);
	return slot_wait(slot, tid, NULL);
}

int inject_run(struct inject *in, struct target_thread *th, struct ckpt_slot *slot,
	       struct ckpt_err *err)
{
	return inject_run_wait(in, th, slot, wait_plain, NULL, err);
}

int inject_run_lending(struct inject *in, struct target_thread *th, struct ckpt_slot *slot,
		       uint32_t *word, int (*take)(void *arg), void *arg, struct ckpt_err *err)
{
	struct lending l = { word, take, arg, 0 };
	int rc = inject_run_wait(in, th, slot, wait_lending, &l, err);

	return rc ? rc : l.taken;
}

static int fail_run(const struct target_thread *th, int rc, struct ckpt_err *err)
{
	return ckpt_fail_errno(err, E_INJECT, rc, "thread %d: cannot run code in it", th->tid);
}

static int run_start(struct inject *in, struct target_thread *th, struct ckpt_slot *slot)
{
	struct user_regs_struct r;
	int rc = tramp_load(in, th);

	slot->leave = in->tramp + (uint64_t)(ckpt_tramp_leave - ckpt_tramp);
	r = call_regs(th, arena_entry(&in->arena));
	r.rdi = arena_remote(&in->arena, slot);
	r.rsp = slot->stack_top;
	if (!rc)
		rc = thread_switch(in, th, &r, ALL_SIGNALS);
	if (!rc)
		rc = ckpt_fault("inject.run");
	if (!rc && ptrace(PTRACE_CONT, th->tid, 0, 0))
		rc = -errno;
	/* It has not run: it is still in the stop that it was found in, or in that behind the
	 * mapping of the arena, from which it leaves as ever. */
	if (rc && in->inside != first_thread(in)->tid)
		(void)thread_put_back(in, th, true);
	if (!rc) {
		in->state = INJECT_RUNNING;
		in->th = th;
		in->slot = slot;
	}
	return rc;
}

int inject_start(struct inject *in, struct target_thread *th, struct ckpt_slot *slot,
		 struct ckpt_err *err)
{
	int rc = run_start(in, th, slot);

	return rc ? fail_run(th, rc, err) : 0;
}

/* The list of the thread has ended: stop it. */
static int halt(struct inject *in, const struct target_thread *th, int rc)
{
	if (!rc && ptrace(PTRACE_INTERRUPT, th->tid, 0, 0))
		rc = -errno;
	in->state = INJECT_HALTING;
	in->done = rc;
	return rc;
}

int inject_done(struct inject *in, struct target_thread *th, struct ckpt_slot *slot)
{
	return halt(in, th, slot_wait(slot, th->tid, NULL));
}

int inject_back(struct inject *in, struct target_thread *th, struct ckpt_slot *slot,
		struct ckpt_err *err)
{
	const struct ckpt_step *steps;
	int rc = in->done ? in->done : thread_await_stop(th->tid);
	uint32_t pc;

	in->state = INJECT_IN;
	/* Of a process that has no other thread the first may stay inside until all is done. */
	if ((!rc && in->task->threads.n > 1) || rc == -EFAULT) {
		int back = thread_put_back(in, th, true);

		rc = rc ? rc : back;
	}
	if (rc)
		return fail_run(th, rc, err);
	if (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) != CKPT_SLOT_FAILED)
		return 0;
	pc = __atomic_load_n(&slot->pc, __ATOMIC_RELAXED);
	steps = pc < UINT32_MAX ? arena_steps(&in->arena, slot, pc + 1) : NULL;
	return ckpt_fail_errno(err, E_INJECT, slot->err, "thread %d: %s", th->tid,
			       steps ? arena_label(&in->arena, &steps[pc]) : "a step");
}

int inject_run_wait(struct inject *in, struct target_thread *th, struct ckpt_slot *slot,
		    int (*wait)(void *arg, struct ckpt_slot *slot, int tid), void *arg,
		    struct ckpt_err *err)
{
	int rc = run_start(in, th, slot);

	if (rc)
		return fail_run(th, rc, err);
	(void)halt(in, th, wait(arg, slot, th->tid));
	return inject_back(in, th, slot, err);
}

static int fail_end(struct inject *in, int rc, struct ckpt_err *err)
{
	tramp_restore(in);
	inject_free(in);
	return ckpt_fail_errno(err, E_INJECT, rc, "task %d: cannot take the arena out",
			       in->task->pid);
}

int inject_leave(struct inject *in, struct ckpt_err *err)
{
	struct target_thread *th = first_thread(in);
	struct user_regs_struct r =
		call_regs(th, in->tramp + (uint64_t)(ckpt_tramp_leave - ckpt_tramp));
	int rc = 0;

	arena_disown(&in->arena);
	r.rdi = in->arena.remote;
	r.rsi = in->arena.size;
	if (in->inside != th->tid)
		rc = tramp_load(in, th);
	if (!rc)
		rc = thread_switch(in, th, &r, ALL_SIGNALS);
	if (!rc)
		rc = syscall_go(th->tid);
	if (rc)
		return fail_end(in, rc, err);
	in->state = INJECT_LEAVING;
	return 0;
}

int inject_left(struct inject *in, struct ckpt_err *err)
{
	int tid = first_thread(in)->tid, rc = syscall_await(tid);

	/* From the entry on to the stop that was asked for, which is behind the exit. */
	if (!rc)
		rc = thread_pass(tid, 0);
	if (rc)
		return fail_end(in, rc, err);
	in->state = INJECT_UNMAPPING;
	return 0;
}

int inject_gone(struct inject *in, struct ckpt_err *err)
{
	struct target_thread *th = first_thread(in);
	int rc = thread_await_stop(th->tid);
	int64_t ret = 0;

	if (!rc)
		rc = syscall_result(th->tid, &ret);
	if (!rc)
		rc = ret < 0 ? (int)ret : 0;
	/* What is mapped there from now on is not ours. */
	in->arena.remote = 0;
	if (!rc)
		rc = tramp_load(in, th);
	if (!rc)
		rc = thread_put_back(in, th, true);
	if (rc)
		return fail_end(in, rc, err);
	tramp_restore(in);
	inject_free(in);
	return 0;
}

int inject_end(struct inject *in, struct ckpt_err *err)
{
	int rc = inject_leave(in, err);

	if (!rc)
		rc = inject_left(in, err);
	return rc ? rc : inject_gone(in, err);
}

void inject_quit(struct inject *in)
{
	struct ckpt_err ignore = { 0 };
	int rc = 0;

	if (in->state == INJECT_ENTERING)
		rc = inject_entered(in, &ignore);
	if (in->state == INJECT_MAPPING && (rc = wait_mapped(in)))
		(void)fail_begin(in, rc, &ignore);
	if (in->state == INJECT_RUNNING)
		(void)inject_done(in, in->th, in->slot);
	if (in->state == INJECT_HALTING)
		rc = inject_back(in, in->th, in->slot, &ignore);
	if (in->state == INJECT_IN)
		rc = inject_leave(in, &ignore);
	if (in->state == INJECT_LEAVING)
		rc = inject_left(in, &ignore);
	if (in->state == INJECT_UNMAPPING)
		rc = inject_gone(in, &ignore);
	(void)rc; /* whatever it is, the next part knows how far it came */
	inject_free(in);
}
