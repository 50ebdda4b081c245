// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stopping a tree with PTRACE_SEIZE + PTRACE_INTERRUPT until nothing new
 * appears. Events on clone and fork attach the newborn, so a tree that creates
 * threads at full rate still comes to rest: each pass leaves fewer that run.
 * Nothing here needs undoing when ckpt dies: the kernel lets tracees go.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/elf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "kern/procfs.h"
#include "kern/target.h"

#define SEIZE_OPTS                                                                                 \
	(PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACESYSGOOD)
#define FREEZE_DEADLINE_US 10000000u

int thread_get_regs(int tid, struct user_regs_struct *ret)
{
	struct iovec iov = { ret, sizeof(*ret) };

	return ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov) ? -errno : 0;
}

int thread_set_regs(int tid, const struct user_regs_struct *regs)
{
	struct user_regs_struct copy = *regs;
	struct iovec iov = { &copy, sizeof(copy) };

	return ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov) ? -errno : 0;
}

int thread_get_sigmask(int tid, uint64_t *ret)
{
	return ptrace(PTRACE_GETSIGMASK, tid, sizeof(*ret), ret) ? -errno : 0;
}

int thread_set_sigmask(int tid, uint64_t mask)
{
	return ptrace(PTRACE_SETSIGMASK, tid, sizeof(mask), &mask) ? -errno : 0;
}

int thread_wait(int tid, int *ret_status)
{
	for (;;) {
		pid_t r = waitpid(tid, ret_status, __WALL);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -ESRCH;
		return WIFSTOPPED(*ret_status) ? 0 : -ESRCH;
	}
}

static bool is_event_stop(int status)
{
	return status >> 16 == PTRACE_EVENT_STOP;
}

int thread_interrupt(int tid)
{
	int status, rc;

	if (ptrace(PTRACE_INTERRUPT, tid, 0, 0))
		return -errno;
	for (;;) {
		rc = thread_wait(tid, &status);
		if (rc)
			return rc;
		if (is_event_stop(status))
			return 0;
		/* A syscall stop or an event on the way: pass it. A signal cannot be
		 * delivered here: everything is blocked while code of ours runs. */
		if (ptrace(PTRACE_CONT, tid, 0, 0))
			return -errno;
	}
}

void regs_apply_restart(struct user_regs_struct *regs)
{
	static const long restart_same[] = { -512 /* SYS */, -513 /* NOINTR */, -514 /* NOHAND */ };
	long ret = (long)regs->rax;

	if ((long)regs->orig_rax < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(restart_same); i++) {
		if (ret != restart_same[i])
			continue;
		regs->rax = regs->orig_rax;
		regs->rip -= 2;
	}
	if (ret == -516 /* ERESTART_RESTARTBLOCK */) {
		regs->rax = 219; /* restart_syscall */
		regs->rip -= 2;
	}
	regs->orig_rax = (unsigned long long)-1;
}

static struct target_task *task_find(struct target *t, int pid)
{
	for (size_t i = 0; i < t->tasks.n; i++)
		if (t->tasks.v[i].pid == pid)
			return &t->tasks.v[i];
	return NULL;
}

/* Index of the thread, or -1. Lists are ascending but for late-comers, so look from the end. */
static bool thread_known(const struct target_task *task, int tid)
{
	for (size_t i = task->threads.n; i-- > 0;)
		if (task->threads.v[i].tid == tid)
			return true;
	return false;
}

static int fail_seize(struct ckpt_err *err, int pid, int tid, int rc)
{
	auto_free char *status = NULL;
	struct ckpt_err ignore = { 0 };
	uint64_t tracer = 0;

	if (rc == -ESRCH)
		return ckpt_fail(err, E_TARGET_GONE, rc, "task %d ended while it was being stopped",
				 pid);
	if (!proc_read(tid, "status", &status, NULL, &ignore) &&
	    proc_field_num(status, "TracerPid", 0, 10, &tracer) && tracer)
		return ckpt_fail(err, E_ALREADY_TRACED, rc, "task %d is traced by process %d", pid,
				 (int)tracer);
	return ckpt_fail_errno(err, E_PERM, rc, "cannot attach to task %d", pid);
}

/* Seize one thread and ask it to stop; it is waited for later. -ESRCH: it ended. */
static int thread_seize(int tid)
{
	if (ptrace(PTRACE_SEIZE, tid, 0, SEIZE_OPTS))
		return -errno;
	if (ptrace(PTRACE_INTERRUPT, tid, 0, 0))
		return -errno;
	return 0;
}

/* Wait for the stop of a seized thread, passing clone and fork events: their newborns are
 * found by the next pass over /proc. 0 stopped, -ESRCH ended. */
static int thread_settle(struct target_thread *th)
{
	uint64_t deadline = io_now_us() + FREEZE_DEADLINE_US;
	int status, sig;

	for (;;) {
		pid_t r = waitpid(th->tid, &status, __WALL | WNOHANG);

		if (r < 0 && errno != EINTR)
			return -ESRCH;
		if (r <= 0) {
			if (io_now_us() > deadline)
				return -ETIMEDOUT;
			/* Not yet: give it the processor. */
			usleep(20);
			continue;
		}
		if (!WIFSTOPPED(status))
			return -ESRCH;
		if (is_event_stop(status)) {
			sig = WSTOPSIG(status);
			th->group_stopped = sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN ||
					    sig == SIGTTOU;
			return 0;
		}
		/* A signal on its way is delivered, so that it is not lost. */
		sig = status >> 16 ? 0 : WSTOPSIG(status);
		if (sig == (SIGTRAP | 0x80))
			sig = 0;
		if (ptrace(PTRACE_CONT, th->tid, 0, sig))
			return -ESRCH;
	}
}

static int task_seize_new(struct target *t, size_t at, bool *ret_new, struct ckpt_err *err)
{
	struct proc_pids tids = { 0 };
	struct target_task *task = &t->tasks.v[at];
	size_t first = task->threads.n;
	int rc = proc_threads(task->pid, &tids, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < tids.n; i++) {
		struct target_thread *th;

		/* Threads of earlier passes are a prefix of the list mostly: test cheaply. */
		if (first && thread_known(task, tids.v[i]))
			continue;
		rc = thread_seize(tids.v[i]);
		/* Already ours by a clone event: only the stop is to be waited for. */
		if (rc == -EPERM && task->threads.n) {
			struct proc_stat st;
			auto_free char *status = NULL;
			struct ckpt_err ignore = { 0 };
			uint64_t tracer = 0;

			if (!proc_read(tids.v[i], "status", &status, NULL, &ignore) &&
			    proc_field_num(status, "TracerPid", 0, 10, &tracer) &&
			    (int)tracer == getpid())
				rc = ptrace(PTRACE_INTERRUPT, tids.v[i], 0, 0) ? -errno : 0;
			else if (proc_stat_read(tids.v[i], &st, &ignore) || st.state == 'Z' ||
				 st.state == 'X')
				rc = -ESRCH;
		}
		if (rc == -ESRCH && i > 0)
			continue;
		if (rc) {
			vec_free(&tids);
			return fail_seize(err, task->pid, task->pid, rc);
		}
		th = vec_push(&task->threads);
		if (!th) {
			vec_free(&tids);
			return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
		}
		th->tid = tids.v[i];
		th->seized = true;
		*ret_new = true;
	}
	vec_free(&tids);
	for (size_t i = first; i < task->threads.n; i++) {
		rc = thread_settle(&task->threads.v[i]);
		if (rc == -ESRCH && i > 0) {
			task->threads.v[i].seized = false;
			continue;
		}
		if (rc == -ESRCH)
			return ckpt_fail(err, E_TARGET_GONE, rc,
					 "task %d ended while it was being stopped", task->pid);
		if (rc)
			return ckpt_remedy(
				(ckpt_fail(err, E_FREEZE, rc,
					   "thread %d of task %d does not stop within 10 s",
					   task->threads.v[i].tid, task->pid),
				 err),
				"it waits inside the kernel (vfork or a hung device?): "
				"look at /proc/%d/stack",
				task->threads.v[i].tid);
	}
	return 0;
}

static int task_add(struct target *t, int pid, int parent, struct ckpt_err *err)
{
	struct proc_stat st;
	struct target_task *task;
	int rc = proc_stat_read(pid, &st, err);

	if (rc)
		return rc;
	task = vec_push(&t->tasks);
	if (!task)
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	task->pid = pid;
	task->ppid = st.ppid;
	task->parent = parent;
	task->zombie = st.state == 'Z';
	task->mem_fd = -1;
	if (task->zombie)
		return 0;
	return proc_open(pid, "mem", O_RDWR, &task->mem_fd, err);
}

/* Drop threads that ended meanwhile. */
static void task_compact(struct target_task *task)
{
	size_t n = 0;

	for (size_t i = 0; i < task->threads.n; i++)
		if (task->threads.v[i].seized)
			task->threads.v[n++] = task->threads.v[i];
	task->threads.n = n;
}

/* Add children of a task whose threads all stand still, so that it makes no more of them. */
static int task_add_children(struct target *t, size_t at, bool known, struct ckpt_err *err)
{
	struct proc_pids kids = { 0 };
	int rc = proc_children(t->tasks.v[at].pid, &kids, err);

	for (size_t k = 0; !rc && k < kids.n; k++) {
		struct ckpt_err gone = { 0 };

		if (known && task_find(t, kids.v[k]))
			continue;
		rc = task_add(t, kids.v[k], (int)at, &gone);
		if (rc && gone.id != E_TARGET_GONE)
			*err = gone;
		else
			rc = 0;
	}
	vec_free(&kids);
	return rc;
}

/* The task ended while it was being stopped. Its parent stands still and cannot reap it, so it is a
 * zombie, unless the parent ignores SIGCHLD: then it is gone, and tree_compact() forgets it. */
static int task_ended(struct target *t, size_t at, struct ckpt_err *err)
{
	struct target_task *task = &t->tasks.v[at];
	struct ckpt_err gone = { 0 };
	struct proc_stat st;

	if (!at)
		return err->code;
	ckpt_err_clear(err);
	for (size_t i = 0; i < task->threads.n; i++)
		task->threads.v[i].seized = false;
	task->threads.n = 0;
	task->zombie = true;
	task->gone = proc_stat_read(task->pid, &st, &gone) || st.state == 'X';
	return 0;
}

static int task_settle(struct target *t, size_t at, uint64_t deadline, bool *ret_ended,
		       struct ckpt_err *err)
{
	bool again = !t->tasks.v[at].zombie;

	while (again) {
		again = false;
		if (task_seize_new(t, at, &again, err)) {
			*ret_ended = err->id == E_TARGET_GONE;
			return *ret_ended ? task_ended(t, at, err) : err->code;
		}
		if (again && io_now_us() > deadline)
			return ckpt_fail(err, E_FREEZE, -ETIMEDOUT,
					 "the tree grows faster than it can be stopped");
	}
	return 0;
}

/* Task by task, parents first: a task that stands still makes no more threads or children. Only a
 * task that ends meanwhile changes what was read already (its children move up), so then all is
 * looked through once more. */
static int tree_settle(struct target *t, struct ckpt_err *err)
{
	uint64_t deadline = io_now_us() + FREEZE_DEADLINE_US;
	bool ended, known = false;
	int rc = 0;

	do {
		ended = false;
		for (size_t i = 0; !rc && i < t->tasks.n; i++) {
			bool one_ended = false;

			rc = task_settle(t, i, deadline, &one_ended, err);
			ended |= one_ended;
			if (!rc && !t->tasks.v[i].zombie)
				rc = task_add_children(t, i, known, err);
		}
		known = true;
	} while (!rc && ended);
	return rc;
}

/* Drop tasks that were gone before they could be stopped; indexes of parents move along. */
static void tree_compact(struct target *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->tasks.n; i++) {
		if (t->tasks.v[i].gone) {
			if (t->tasks.v[i].mem_fd >= 0)
				(void)close(t->tasks.v[i].mem_fd);
			vec_free(&t->tasks.v[i].threads);
			for (size_t k = 0; k < t->tasks.n; k++)
				if (t->tasks.v[k].parent > (int)n)
					t->tasks.v[k].parent--;
			continue;
		}
		t->tasks.v[n++] = t->tasks.v[i];
	}
	t->tasks.n = n;
}

int target_freeze(struct target *t, int pid, struct ckpt_err *err)
{
	int rc;

	t->frozen_at_us = io_now_us();
	rc = task_add(t, pid, -1, err);
	if (!rc)
		rc = tree_settle(t, err);
	if (!rc)
		tree_compact(t);
	for (size_t i = 0; !rc && i < t->tasks.n; i++) {
		struct target_task *task = &t->tasks.v[i];
		bool nested = false;

		task_compact(task);
		rc = proc_inner_pid(task->pid, task->pid, &task->vpid, &nested, err);
		t->nested_pids |= nested;
		for (size_t k = 0; !rc && k < task->threads.n; k++) {
			struct target_thread *th = &task->threads.v[k];

			th->vtid = th->tid;
			if (nested)
				rc = proc_inner_pid(task->pid, th->tid, &th->vtid, NULL, err);
			if (!rc && ((rc = thread_get_regs(th->tid, &th->regs)) ||
				    (rc = thread_get_sigmask(th->tid, &th->sigmask))))
				ckpt_fail_errno(err, E_FREEZE, rc,
						"cannot read registers of thread %d", th->tid);
		}
	}
	if (rc)
		target_thaw(t, TARGET_RUN);
	return rc;
}

/* SIGKILL to all before any is let go, so that none sees another die; then wait, so that
 * nothing of the tree runs or holds memory when we return. */
static void target_kill(struct target *t)
{
	int status;

	for (size_t i = 0; i < t->tasks.n; i++)
		if (!t->tasks.v[i].zombie)
			(void)kill(t->tasks.v[i].pid, SIGKILL);
	for (size_t i = 0; i < t->tasks.n; i++) {
		struct target_task *task = &t->tasks.v[i];

		/* The main thread reports last. */
		for (size_t k = task->threads.n; k-- > 0;)
			while (task->threads.v[k].seized &&
			       !thread_wait(task->threads.v[k].tid, &status))
				(void)ptrace(PTRACE_CONT, task->threads.v[k].tid, 0, 0);
	}
}

void target_thaw(struct target *t, enum target_end how)
{
	if (how == TARGET_KILL) {
		target_kill(t);
		return;
	}
	for (size_t i = t->tasks.n; i-- > 0;) {
		struct target_task *task = &t->tasks.v[i];

		if (how == TARGET_STOP && !task->zombie)
			(void)kill(task->pid, SIGSTOP);
		for (size_t k = 0; k < task->threads.n; k++) {
			if (!task->threads.v[k].seized)
				continue;
			(void)ptrace(PTRACE_DETACH, task->threads.v[k].tid, 0, 0);
			task->threads.v[k].seized = false;
		}
	}
}

void target_free(struct target *t)
{
	for (size_t i = 0; i < t->tasks.n; i++) {
		if (t->tasks.v[i].mem_fd >= 0)
			(void)close(t->tasks.v[i].mem_fd);
		vec_free(&t->tasks.v[i].threads);
	}
	vec_free(&t->tasks);
}
