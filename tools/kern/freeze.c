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
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "kern/procfs.h"
#include "kern/target.h"

#define FREEZE_DEADLINE_US 10000000u
/* A thread that runs on another processor stops within microseconds. */
#define LOOKS_AT_ONCE 32

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

bool thread_has_ended(int tid)
{
	struct ckpt_err gone = { 0 };
	struct proc_stat st;

	return proc_stat_read(tid, &st, &gone) || st.state == 'Z' || st.state == 'X';
}

/* Nobody reports a first thread while others that we hold have ended and are not waited for, so a
 * plain wait for it would last for ever when the program is killed: their SIGCHLD wakes us to look.
 */
static pid_t wait_or_see_end(int tid, int *ret_status)
{
	const struct timespec look = { .tv_nsec = 20000000 };
	sigset_t child, old;
	pid_t r;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	(void)pthread_sigmask(SIG_BLOCK, &child, &old);
	for (;;) {
		r = waitpid(tid, ret_status, __WALL | WNOHANG);
		if (r || (sigtimedwait(&child, NULL, &look) < 0 && thread_has_ended(tid)))
			break;
	}
	/* It may have stopped or ended for good between the two. */
	if (!r)
		r = waitpid(tid, ret_status, __WALL | WNOHANG);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int thread_wait(int tid, int *ret_status)
{
	for (;;) {
		pid_t r = waitpid(tid, ret_status, __WALL | WNOHANG);

		if (!r)
			r = wait_or_see_end(tid, ret_status);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return -ESRCH;
		return WIFSTOPPED(*ret_status) ? 0 : -ESRCH;
	}
}

static bool is_event_stop(int status)
{
	return status >> 16 == PTRACE_EVENT_STOP;
}

int thread_pass(int tid, int sig)
{
	return ptrace(PTRACE_INTERRUPT, tid, 0, 0) || ptrace(PTRACE_CONT, tid, 0, sig) ? -errno : 0;
}

int thread_interrupt(int tid)
{
	return ptrace(PTRACE_INTERRUPT, tid, 0, 0) ? -errno : thread_await_stop(tid);
}

int thread_await_stop(int tid)
{
	for (;;) {
		int status, rc = thread_wait(tid, &status);

		if (rc)
			return rc;
		if (is_event_stop(status))
			return 0;
		/* A syscall stop or an event on the way: pass it. A signal cannot be
		 * delivered here: everything is blocked while code of ours runs. */
		rc = thread_pass(tid, 0);
		if (rc)
			return rc;
	}
}

/* Both look-ups begin behind the last hit, *at: lists are asked for in the order in which they were
 * made, so one step is enough as a rule. */
static bool task_known(const struct target *t, int pid, size_t *at)
{
	for (size_t n = t->tasks.n, k = 0; k < n; k++) {
		size_t i = (*at + 1 + k) % n;

		if (t->tasks.v[i].tgid == pid) {
			*at = i;
			return true;
		}
	}
	return false;
}

static bool thread_known(const struct target_task *task, int tid, size_t *at)
{
	for (size_t n = task->threads.n, k = 0; k < n; k++) {
		size_t i = (*at + 1 + k) % n;

		if (task->threads.v[i].tid == tid) {
			*at = i;
			return true;
		}
	}
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

/* Seize one thread, which goes on. -ESRCH: it ended. */
static int thread_seize(int tid)
{
	auto_free char *status = NULL;
	struct ckpt_err ignore = { 0 };
	uint64_t tracer = 0;
	const char *state;
	int rc;

	if (!ptrace(PTRACE_SEIZE, tid, 0, THREAD_OPTIONS))
		return 0;
	rc = -errno;
	if (rc != -EPERM)
		return rc;
	/* It is ours by a clone event, or it is ending, or we may not. */
	if (proc_read(tid, "status", &status, NULL, &ignore))
		return -ESRCH;
	if (proc_field_num(status, "TracerPid", 0, 10, &tracer) && (int)tracer == getpid())
		return 0;
	state = proc_field(status, "State");
	return state && (*state == 'Z' || *state == 'X') ? -ESRCH : rc;
}

/* Wait for the stop of a seized thread, passing clone and fork events: their newborns are
 * found by the next pass over /proc. 0 stopped, -ESRCH ended. */
static int thread_settle(struct target_thread *th)
{
	uint64_t deadline = io_now_us() + FREEZE_DEADLINE_US;
	int status, sig, looks = 0;

	for (;;) {
		pid_t r = waitpid(th->tid, &status, __WALL | WNOHANG);

		if (r < 0 && errno != EINTR)
			return -ESRCH;
		if (r <= 0) {
			if (io_now_us() > deadline) {
				th->settled = true; /* not waited for again */
				return -ETIMEDOUT;
			}
			if (++looks % 64 == 0 && thread_has_ended(th->tid))
				return -ESRCH;
			/* Not yet: give it the processor, if it waits for this one. */
			if (looks < LOOKS_AT_ONCE)
				(void)sched_yield();
			else
				(void)usleep(20);
			continue;
		}
		if (!WIFSTOPPED(status))
			return -ESRCH;
		if (is_event_stop(status)) {
			sig = WSTOPSIG(status);
			th->group_stopped = sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN ||
					    sig == SIGTTOU;
			th->settled = true;
			return thread_read_state(th);
		}
		/* A signal on its way is delivered, so that it is not lost. */
		sig = status >> 16 ? 0 : WSTOPSIG(status);
		if (sig == (SIGTRAP | 0x80))
			sig = 0;
		if (thread_pass(th->tid, sig))
			return -ESRCH;
	}
}

/* Whoever was seized stands still, and they are all that there are: nobody makes another one. */
static bool task_at_rest(const struct target_task *task)
{
	for (size_t i = 0; i < task->threads.n; i++)
		if (!task->threads.v[i].seized || !task->threads.v[i].settled)
			return false;
	return task->threads.n && proc_thread_count(task->tgid) == task->threads.n;
}

static int task_seize_new(struct target *t, size_t at, bool *ret_new, struct ckpt_err *err)
{
	struct proc_pids tids = { 0 };
	struct target_task *task = &t->tasks.v[at];
	size_t first = task->threads.n, hit = first;
	bool any = false;
	int rc = 0;

	if (task_at_rest(task))
		return 0;
	rc = proc_threads(task->tgid, &tids, err);
	if (rc)
		return rc;
	for (size_t i = 0; i < tids.n; i++) {
		struct target_thread *th;

		if (first && thread_known(task, tids.v[i], &hit))
			continue;
		rc = thread_seize(tids.v[i]);
		if (rc == -ESRCH)
			continue;
		if (rc) {
			vec_free(&tids);
			return fail_seize(err, task->tgid, tids.v[i], rc);
		}
		th = vec_push(&task->threads);
		if (!th) {
			vec_free(&tids);
			return ckpt_oom(err);
		}
		th->tid = tids.v[i];
		th->seized = true;
		*ret_new = true;
	}
	vec_free(&tids);
	/* From here on it does not do what it did. One that has ended meanwhile hears nothing. */
	if (!t->frozen_at_us)
		t->frozen_at_us = io_now_us();
	for (size_t i = first; i < task->threads.n; i++)
		(void)ptrace(PTRACE_INTERRUPT, task->threads.v[i].tid, 0, 0);
	for (size_t i = first; i < task->threads.n; i++) {
		rc = thread_settle(&task->threads.v[i]);
		if (rc == -ESRCH) {
			task->threads.v[i].seized = false;
			continue;
		}
		if (rc == -EOPNOTSUPP)
			return ckpt_fail(err, E_UNSUPPORTED, rc,
					 "thread %d waits in a system call that was interrupted "
					 "before, and this kernel does not tell which",
					 task->threads.v[i].tid);
		if (rc && rc != -ETIMEDOUT)
			return ckpt_fail_errno(err, E_FREEZE, rc,
					       "cannot read registers of thread %d",
					       task->threads.v[i].tid);
		if (rc)
			return ckpt_remedy(
				(ckpt_fail(err, E_FREEZE, rc,
					   "thread %d of task %d does not stop within 10 s",
					   task->threads.v[i].tid, task->tgid),
				 err),
				"it waits inside the kernel (vfork or a hung device?): "
				"look at /proc/%d/stack",
				task->threads.v[i].tid);
	}
	for (size_t i = 0; i < task->threads.n; i++)
		any |= task->threads.v[i].seized;
	return any ? 0
		   : ckpt_fail(err, E_TARGET_GONE, -ESRCH,
			       "task %d ended while it was being stopped", task->tgid);
}

static int task_add(struct target *t, int pid, int parent, struct ckpt_err *err)
{
	struct proc_stat st;
	struct target_task *task;
	int live = pid, rc = proc_stat_read(pid, &st, err);

	if (rc)
		return rc;
	if (st.state == 'Z')
		live = proc_live(pid);
	task = vec_push(&t->tasks);
	if (!task)
		return ckpt_oom(err);
	task->pid = live ? live : pid;
	task->tgid = pid;
	task->ppid = st.ppid;
	task->parent = parent;
	task->zombie = !live;
	task->mem_fd = -1;
	if (task->zombie)
		return 0;
	rc = proc_open(live, "mem", O_RDWR, &task->mem_fd, err);
	if (rc)
		t->tasks.n--;
	return rc;
}

/* Drop threads that ended meanwhile. If the first one did, the next stands for the process. */
static void task_compact(struct target_task *task)
{
	size_t n = 0;

	for (size_t i = 0; i < task->threads.n; i++)
		if (task->threads.v[i].seized)
			task->threads.v[n++] = task->threads.v[i];
	task->threads.n = n;
	if (n)
		task->pid = task->threads.v[0].tid;
}

/* Add children of a task whose threads all stand still, so that it makes no more of them. */
static int task_add_children(struct target *t, size_t at, bool known, bool *ret_ended,
			     struct ckpt_err *err)
{
	const struct target_task *task = &t->tasks.v[at];
	struct proc_pids kids = { 0 }, threads = { 0 };
	size_t hit = at;
	int rc = 0;

	for (size_t i = 0; !rc && i < task->threads.n; i++) {
		int *tid = task->threads.v[i].seized ? vec_push(&threads) : NULL;

		if (tid)
			*tid = task->threads.v[i].tid;
		else if (task->threads.v[i].seized)
			rc = ckpt_oom(err);
	}
	if (!rc)
		rc = proc_children(task->tgid, &threads, &kids, err);
	vec_free(&threads);

	for (size_t k = 0; !rc && k < kids.n; k++) {
		struct ckpt_err gone = { 0 };

		if (known && task_known(t, kids.v[k], &hit))
			continue;
		rc = task_add(t, kids.v[k], (int)at, &gone);
		/* It may have ended just now, and its children have moved up behind our back. */
		*ret_ended |= rc || t->tasks.v[t->tasks.n - 1].zombie;
		if (rc && gone.id != E_TARGET_GONE)
			*err = gone;
		else
			rc = 0;
	}
	vec_free(&kids);
	return rc;
}

/* The task ended while it was being stopped. Its parent stands still and cannot reap it, so it is a
 * zombie, unless the parent ignores SIGCHLD: then it is gone, and tree_parents() forgets it. */
static int task_ended(struct target *t, size_t at, struct ckpt_err *err)
{
	struct target_task *task = &t->tasks.v[at];
	struct ckpt_err gone = { 0 };
	struct proc_stat st;

	if (!at)
		return err->code;
	ckpt_err_clear(err);
	task->threads.n = 0;
	task->zombie = true;
	task->pid = task->tgid;
	/* Its last threads may be on their way out; then its exit status is not the final one. */
	for (int i = 0; i < 10000; i++) {
		task->gone = proc_stat_read(task->tgid, &st, &gone) || st.state == 'X';
		if (task->gone || (st.state == 'Z' && st.num_threads == 1))
			break;
		(void)usleep(100);
	}
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
			if (!rc)
				rc = ckpt_fault_fail("freeze.task", E_FREEZE, err);
			if (!rc && !t->tasks.v[i].zombie)
				rc = task_add_children(t, i, known, &ended, err);
		}
		known = true;
	} while (!rc && ended);
	return rc;
}

/* A thread that was killed while we held it is ours to reap, or its parent never hears of its end.
 * The first thread comes last: it is reported when it is the only one. */
static void task_release(struct target *t, struct target_task *task)
{
	int status;

	for (size_t k = task->threads.n; k-- > 0;) {
		struct target_thread *th = &task->threads.v[k];

		/* Whoever goes on may take the processor from us at once. */
		t->thawed_at_us = io_now_us();
		/* When the freeze failed half-way, what its stop interrupted is to be made good. */
		if (th->seized && !th->settled)
			(void)thread_settle(th);
		if (th->seized && ptrace(PTRACE_DETACH, th->tid, 0, 0) && errno == ESRCH)
			while (!thread_wait(th->tid, &status))
				(void)ptrace(PTRACE_DETACH, th->tid, 0, 0);
		th->seized = false;
	}
}

struct pid_at {
	int pid;
	size_t at;
};

static int pid_at_compare(const void *a, const void *b)
{
	int x = ((const struct pid_at *)a)->pid, y = ((const struct pid_at *)b)->pid;

	return (x > y) - (x < y);
}

/* Parents may have changed while the tree came to rest: set them by what is true now, and drop what
 * is no longer below the root. Keeps the order, so parents stay before children. */
static int tree_parents(struct target *t, struct ckpt_err *err)
{
	struct pid_at *known = calloc(t->tasks.n, sizeof(*known)), key = { 0 };
	size_t total = t->tasks.n, n = 0;

	if (!known)
		return ckpt_oom(err);
	for (size_t i = 0; i < total; i++)
		known[i] = (struct pid_at) { t->tasks.v[i].tgid, i };
	qsort(known, total, sizeof(*known), pid_at_compare);
	for (size_t i = 1; i < total; i++) {
		struct target_task *task = &t->tasks.v[i];
		struct ckpt_err gone = { 0 };
		struct proc_stat st;
		const struct pid_at *parent = NULL;

		if (!task->gone && !proc_stat_read(task->tgid, &st, &gone)) {
			task->stat = st;
			key.pid = task->ppid = st.ppid;
			parent = bsearch(&key, known, total, sizeof(*known), pid_at_compare);
		}
		if (parent && parent->at < i && !t->tasks.v[parent->at].gone) {
			task->parent = (int)parent->at;
			continue;
		}
		task->gone = true;
		task_release(t, task);
	}
	/* Close the gaps; known[] now maps old places to new ones. */
	for (size_t i = 0; i < total; i++) {
		struct target_task *task = &t->tasks.v[i];

		known[i].at = n;
		if (task->gone) {
			if (task->mem_fd >= 0)
				(void)close(task->mem_fd);
			free(task->status);
			vec_free(&task->threads);
			continue;
		}
		if (task->parent >= 0)
			task->parent = (int)known[task->parent].at;
		if (n != i)
			t->tasks.v[n] = *task;
		n++;
	}
	t->tasks.n = n;
	free(known);
	return 0;
}

static int task_inner_pid(struct target_task *task, bool *ret_nested, struct ckpt_err *err)
{
	int rc = proc_thread_status(task->tgid, task->tgid, &task->status, err);

	if (rc)
		return rc;
	task->vpid = proc_status_inner(task->status, ret_nested);
	return task->vpid ? 0
			  : ckpt_fail(err, E_KERNEL, -ENOSYS, "/proc/%d/status has no NSpid",
				      task->tgid);
}

int target_freeze(struct target *t, int pid, struct ckpt_err *err)
{
	int rc;

	/* Our short sleeps are to be short. */
	(void)prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
	rc = task_add(t, pid, -1, err);
	t->frozen_at_us = 0;
	if (!rc && t->tasks.v[0].zombie)
		rc = ckpt_fail(err, E_TARGET_GONE, -ESRCH, "task %d has just ended", pid);
	if (!rc)
		rc = tree_settle(t, err);
	if (!rc)
		rc = tree_parents(t, err);
	for (size_t i = 0; !rc && i < t->tasks.n; i++) {
		struct target_task *task = &t->tasks.v[i];
		bool nested = false;

		task_compact(task);
		rc = task_inner_pid(task, &nested, err);
		t->nested_pids |= nested;
		for (size_t k = 0; !rc && k < task->threads.n; k++) {
			struct target_thread *th = &task->threads.v[k];

			th->vtid = th->tid;
			if (nested)
				rc = proc_inner_pid(task->pid, th->tid, &th->vtid, NULL, err);
		}
	}
	if (!t->frozen_at_us)
		t->frozen_at_us = io_now_us();
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
	/* The init of a pid namespace ends behind all that is in it, so the root comes last. */
	for (size_t i = t->tasks.n; i-- > 0;) {
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
		task_release(t, task);
	}
}

void target_free(struct target *t)
{
	for (size_t i = 0; i < t->tasks.n; i++) {
		if (t->tasks.v[i].mem_fd >= 0)
			(void)close(t->tasks.v[i].mem_fd);
		free(t->tasks.v[i].status);
		vec_free(&t->tasks.v[i].threads);
	}
	vec_free(&t->tasks);
}
