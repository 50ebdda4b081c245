// SPDX-License-Identifier: GPL-2.0-only
/*
 * The last stage: every thread waits in the interpreter. Take all of them by
 * ptrace, give each its registers, take the arena out of every process, let go.
 * Until it lets go PTRACE_O_EXITKILL ends everything if whoever traces dies.
 *
 * Letting go is many calls. So that a kill in between leaves no part of a tree, not ckpt traces but
 * a guard: it dies with ckpt until it begins to let go, and goes on without it from there. When the
 * guard is killed, ckpt ends what there is.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "kern/arch.h"
#include "kern/procfs.h"
#include "kern/target.h"
#include "restore/restore.h"

#define SEIZE_OPTS (PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD)

static int fail_thread(struct ckpt_err *err, const struct task_slot *ts, int rc, const char *what)
{
	return ckpt_fail_errno(err, E_RESTORE, rc, "thread %d: cannot %s", ts->slot->tid, what);
}

struct tracing {
	struct restore_ctx *r;
	struct ckpt_err *err;
	int (*fn)(struct restore_ctx *r, struct ckpt_err *err);
};

static int trace_guarded(void *arg)
{
	struct tracing *t = arg;

	return t->fn(t->r, t->err);
}

/* Run @fn in the process that traces. */
static int trace(struct restore_ctx *r, int (*fn)(struct restore_ctx *r, struct ckpt_err *err),
		 struct ckpt_err *err)
{
	struct tracing t = { r, err, fn };
	int rc = r->guard.pid ? guard_call(&r->guard, trace_guarded, &t) : fn(r, err);

	if (rc < 0 && !err->code)
		return ckpt_fail(err, E_RESTORE, rc, "the helper of ckpt that holds them died");
	return rc;
}

static int hold_confined(struct restore_ctx *r, struct ckpt_err *err)
{
	uint32_t *word = r->barrier[BARRIER_HELD];

	for (size_t i = 0; i < r->slots.n; i++) {
		struct task_slot *ts = &r->slots.v[i];

		if (ts->confined &&
		    ptrace(PTRACE_SEIZE, ts->slot->tid, 0, SEIZE_OPTS | PTRACE_O_SUSPEND_SECCOMP))
			return fail_thread(err, ts, -errno,
					   "hold it while its seccomp filters are set");
	}
	(void)__atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
	(void)syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	return 1;
}

int restore_hold_confined(struct restore_ctx *r, struct ckpt_err *err)
{
	if (__atomic_load_n(r->barrier[BARRIER_HELD], __ATOMIC_ACQUIRE) < r->confined)
		return 0;
	return trace(r, hold_confined, err);
}

static int seize_all(struct restore_ctx *r, struct ckpt_err *err)
{
	for (size_t i = 0; i < r->slots.n; i++) {
		struct task_slot *ts = &r->slots.v[i];

		if (!ts->thread)
			continue;
		if ((!ts->confined && ptrace(PTRACE_SEIZE, ts->slot->tid, 0, SEIZE_OPTS)) ||
		    ptrace(PTRACE_INTERRUPT, ts->slot->tid, 0, 0))
			return fail_thread(err, ts, -errno, "take hold of it");
	}
	for (size_t i = 0; i < r->slots.n; i++) {
		struct task_slot *ts = &r->slots.v[i];
		int status, rc;

		if (!ts->thread)
			continue;
		rc = thread_wait(ts->slot->tid, &status);
		if (rc)
			return fail_thread(err, ts, rc, "stop it");
	}
	return 0;
}

/* Any "syscall" instruction of the process's vDSO. */
static int find_syscall(const struct restore_ctx *r, const Ckpt__Task *t, int pid, uint64_t *ret)
{
	const Ckpt__Mm *mm = r->img->mms.v[t->mm - 1];
	unsigned char buf[32768];
	char path[64];
	int fd, rc = -ENOENT;

	for (size_t i = 0; i < mm->n_vmas; i++) {
		const Ckpt__Vma *v = mm->vmas[i];
		size_t len = v->end - v->start;

		if (strcmp(v->kind, "vdso") != 0)
			continue;
		if (len > sizeof(buf))
			len = sizeof(buf);
		(void)snprintf(path, sizeof(path), "/proc/%d/mem", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		rc = io_pread_full(fd, buf, len, v->start);
		(void)close(fd);
		for (size_t k = 0; !rc && k + 1 < len; k++) {
			if (buf[k] != 0x0f || buf[k + 1] != 0x05)
				continue;
			*ret = v->start + k;
			return 0;
		}
		return rc ? rc : -ENOENT;
	}
	return rc;
}

/* A first thread that has ended before the others: it is to end again, with nothing let in before.
 */
static int set_end(struct restore_ctx *r, struct task_slot *ts, struct ckpt_err *err)
{
	struct user_regs_struct regs;
	uint64_t at = 0;
	int tid = ts->slot->tid, rc = find_syscall(r, ts->task, tid, &at);

	if (rc)
		return fail_thread(err, ts, rc, "find a system call instruction in its vDSO");
	rc = thread_get_regs(tid, &regs);
	regs.rip = at;
	regs.rax = SYS_exit;
	regs.rdi = (uint64_t)WEXITSTATUS(ts->thread->exit_status);
	regs.orig_rax = (unsigned long long)-1;
	if (!rc)
		rc = thread_set_regs(tid, &regs);
	if (!rc)
		rc = thread_set_sigmask(tid, ~0ull);
	return rc ? fail_thread(err, ts, rc, "let it end") : 0;
}

static int set_registers(struct restore_ctx *r, struct task_slot *ts, struct ckpt_err *err)
{
	const Ckpt__Thread *th = ts->thread;
	struct user_regs_struct regs;
	int rc;

	if (th->ended)
		return set_end(r, ts, err);
	memcpy(&regs, th->regs.data, sizeof(regs));
	if (th->xsave.len != arch_xsave_bytes())
		return ckpt_fail(
			err, E_CPU, -EOPNOTSUPP,
			"the register area of the image has %zu bytes, that of this CPU %zu",
			th->xsave.len, arch_xsave_bytes());
	rc = arch_set_xsave(ts->slot->tid, th->xsave.data, th->xsave.len);
	if (rc)
		return fail_thread(err, ts, rc, "set its vector registers");
	rc = thread_set_regs(ts->slot->tid, &regs);
	if (rc)
		return fail_thread(err, ts, rc, "set its registers");
	rc = thread_set_sigmask(ts->slot->tid, th->sigmask);
	return rc ? fail_thread(err, ts, rc, "set its signal mask") : 0;
}

/* Unmap the arena in the main thread, which is then the only one not yet set. */
static int drop_arena(struct restore_ctx *r, struct task_slot *ts, struct ckpt_err *err)
{
	struct user_regs_struct regs;
	uint64_t at = 0;
	int tid = ts->slot->tid, status, rc = find_syscall(r, ts->task, tid, &at);

	if (rc)
		return fail_thread(err, ts, rc, "find a system call instruction in its vDSO");
	rc = thread_get_regs(tid, &regs);
	if (rc)
		return fail_thread(err, ts, rc, "read its registers");
	regs.rip = at;
	regs.rax = SYS_munmap;
	regs.rdi = r->arena.remote;
	regs.rsi = r->arena.size;
	regs.orig_rax = (unsigned long long)-1;
	rc = thread_set_regs(tid, &regs);
	for (int stops = 0; !rc && stops < 2; stops++) {
		if (ptrace(PTRACE_SYSCALL, tid, 0, 0))
			rc = -errno;
		else
			rc = thread_wait(tid, &status);
		if (!rc && WSTOPSIG(status) != (SIGTRAP | 0x80))
			rc = -EINTR;
	}
	if (!rc)
		rc = thread_get_regs(tid, &regs);
	if (!rc && regs.rax)
		rc = (int)regs.rax;
	return rc ? fail_thread(err, ts, rc, "unmap the arena") : 0;
}

static int take(struct restore_ctx *r, struct ckpt_err *err)
{
	int rc = seize_all(r, err);

	if (!rc)
		rc = ckpt_fault_fail("restore.seized", E_RESTORE, err);
	/* Main threads last: they unmap what the others still stand on. */
	for (size_t i = 0; !rc && i < r->slots.n; i++) {
		struct task_slot *ts = &r->slots.v[i];

		if (ts->thread && ts->thread != ts->task->threads[0])
			rc = set_registers(r, ts, err);
	}
	for (size_t i = 0; !rc && i < r->slots.n; i++) {
		struct task_slot *ts = &r->slots.v[i];

		if (!ts->thread || ts->thread != ts->task->threads[0])
			continue;
		rc = drop_arena(r, ts, err);
		if (!rc)
			rc = ckpt_fault_fail("restore.unmapped", E_RESTORE, err);
		if (!rc)
			rc = set_registers(r, ts, err);
	}
	if (!rc && (rc = ckpt_fault("restore.release")))
		rc = ckpt_fail_errno(err, E_RESTORE, rc, "fault point restore.release");
	return rc;
}

int restore_take(struct restore_ctx *r, struct ckpt_err *err)
{
	return trace(r, take, err);
}

static int stays_stopped(const struct restore_ctx *r, const struct task_slot *ts)
{
	return ts->task->stopped || r->opts->leave_stopped;
}

/* A signal takes until the thread runs; nothing depends on it but the order, so no error. */
static void await_state(int tid, char state)
{
	struct ckpt_err ignore = { 0 };
	struct proc_stat st;

	for (int i = 0; i < 10000 && !proc_stat_read(tid, &st, &ignore) && st.state != state; i++)
		(void)usleep(100);
}

void restore_release(struct restore_ctx *r)
{
	restore_net_open(r);
	/* The program shall not see an end of a pipe that only ckpt still holds. */
	restore_objects_close(r);
	for (size_t i = 0; i < r->slots.n; i++)
		if (r->slots.v[i].thread && r->slots.v[i].thread->ended)
			(void)ptrace(PTRACE_DETACH, r->slots.v[i].slot->tid, 0, 0);
	for (size_t i = 0; i < r->slots.n; i++)
		if (r->slots.v[i].thread && r->slots.v[i].thread->ended)
			await_state(r->slots.v[i].slot->tid, 'Z');
	/* Whole. From here on it lives without us. What is to stay stopped is let go first, so that
	 * no one who runs finds it otherwise. */
	for (int stopped = 1; stopped >= 0; stopped--) {
		for (size_t i = 0; i < r->slots.n; i++) {
			struct task_slot *ts = &r->slots.v[i];

			if (!ts->thread || stays_stopped(r, ts) != stopped)
				continue;
			if (stopped && ts->thread == ts->task->threads[0])
				(void)kill(ts->slot->tid, SIGSTOP);
			(void)ptrace(PTRACE_DETACH, ts->slot->tid, 0, 0);
			(void)ckpt_fault("restore.letting_go");
		}
		for (size_t i = 0; stopped && i < r->slots.n; i++)
			if (r->slots.v[i].thread && !r->slots.v[i].thread->ended &&
			    stays_stopped(r, &r->slots.v[i]))
				await_state(r->slots.v[i].slot->tid, 'T');
	}
}

static int release_guarded(struct restore_ctx *r, struct ckpt_err *err)
{
	int rc = guard_survive(&r->guard);

	if (rc)
		return ckpt_fail_errno(err, E_RESTORE, rc, "cannot outlive ckpt");
	rc = ckpt_fault_fail("restore.decided", E_RESTORE, err);
	if (!rc)
		restore_release(r);
	return rc;
}

int restore_let_go(struct restore_ctx *r, struct ckpt_err *err)
{
	return trace(r, release_guarded, err);
}
