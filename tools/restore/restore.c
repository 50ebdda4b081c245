// SPDX-License-Identifier: GPL-2.0-only
/* The flow of a restore: decode, check, open, plan, build, release. */
#include "restore/restore.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "kern/procfs.h"
#include "kern/target.h"

#define LOOK_US 500000u /* how often to see whether tasks-to-be are alive */

const Ckpt__Inventory *restore_inventory(struct restore_ctx *r)
{
	return r->img->inv;
}

const struct ckpt_restore_opts *restore_opts(const struct restore_ctx *r)
{
	return r->opts;
}

struct ckpt_ui *restore_ui(const struct restore_ctx *r)
{
	return r->ui;
}

bool restore_has_pid(struct restore_ctx *r, int pid)
{
	return image_task(r->img, pid, NULL) != NULL;
}

pid_t restore_root(const struct restore_ctx *r)
{
	return r->root;
}

/* The child never returns into C: it continues in the interpreter on its slot's stack. */
pid_t restore_clone(struct restore_ctx *r, struct ckpt_slot *slot, pid_t want, uint64_t flags)
{
	struct clone_args args = {
		.flags = flags,
		.exit_signal = SIGCHLD,
		.set_tid = (uint64_t)&want,
		.set_tid_size = 1,
	};
	uint64_t entry = arena_entry(&r->arena);
	stack_t none = { .ss_flags = SS_DISABLE };
	pid_t pid;

	/* A task that had none must not inherit ours (a sanitizer has one). */
	(void)sigaltstack(&none, NULL);
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid)
		return pid < 0 ? -errno : pid;
	__asm__ volatile("mov %0, %%rsp\n\tjmp *%1" ::"r"(slot->stack_top), "r"(entry), "D"(slot)
			 : "memory");
	__builtin_unreachable();
}

/* A stand-in that fails never ends, and its parent waits for it. */
static int standin_failure(struct restore_ctx *r, struct ckpt_err *err)
{
	for (size_t i = 0; i < r->births.nstandins; i++) {
		const struct ckpt_slot *slot = r->standins[i];
		const struct ckpt_step *v = arena_local(&r->arena, slot->steps);

		if (slot->state == CKPT_SLOT_FAILED && slot->err != -ECANCELED)
			return ckpt_fail_errno(err, E_RESTORE, slot->err, "stand-in %d: %s",
					       slot->tid, arena_label(&r->arena, &v[slot->pc]));
	}
	return 0;
}

static int slot_failure(struct restore_ctx *r, struct ckpt_err *err)
{
	if (standin_failure(r, err))
		return err->code;
	for (size_t i = 0; i < r->slots.n; i++) {
		const struct ckpt_slot *slot = r->slots.v[i].slot;
		const struct ckpt_step *v = arena_local(&r->arena, slot->steps);
		const char *label;
		uint32_t pc = slot->pc;

		if (slot->state != CKPT_SLOT_FAILED || slot->err == -ECANCELED)
			continue;
		/* The label of the step, or of the group it belongs to. */
		while (pc && !v[pc].label)
			pc--;
		label = arena_label(&r->arena, &v[pc]);
		return ckpt_fail_errno(
			err, E_RESTORE, slot->err, "task %d, thread %d: %s (step %u, call %u)",
			r->slots.v[i].task->pid, slot->tid, label, slot->pc, v[slot->pc].nr);
	}
	return 0;
}

/* The word that counts reports only says when to look: a report is a state, and then a count. */
static bool all_built(const struct restore_ctx *r)
{
	for (size_t i = 0; i < r->slots.n; i++) {
		uint32_t state = __atomic_load_n(&r->slots.v[i].slot->state, __ATOMIC_ACQUIRE);

		if (state != CKPT_SLOT_DONE && state != CKPT_SLOT_GONE)
			return false;
	}
	return true;
}

/* Somebody else may have ended a task-to-be; whoever waits for it would do so for ever. */
static int find_dead(struct restore_ctx *r, struct ckpt_err *err)
{
	for (size_t i = 0; i < r->slots.n; i++) {
		const struct task_slot *ts = &r->slots.v[i];
		uint32_t state = __atomic_load_n(&ts->slot->state, __ATOMIC_ACQUIRE);

		if ((state != CKPT_SLOT_RUNNING && state != CKPT_SLOT_DONE) || !ts->thread ||
		    ts->thread != ts->task->threads[0])
			continue;
		if (!thread_has_ended(ts->task->pid))
			continue;
		if (slot_failure(r, err))
			return err->code;
		return ckpt_fail(err, E_RESTORE, -ECHILD, "task %d was ended while it was built",
				 ts->task->pid);
	}
	return 0;
}

/* Wait until every task and thread reported. */
static int wait_built(struct restore_ctx *r, struct ckpt_err *err)
{
	struct ckpt_arena *a = r->arena.base;
	/* Those that wait for us say so by a word of their own. */
	bool hold = r->confined > 0;
	struct timespec tick = { .tv_nsec = hold ? 500000 : 20000000 };
	uint64_t looked = io_now_us();

	for (;;) {
		uint32_t seen = __atomic_load_n(&a->events, __ATOMIC_ACQUIRE);
		int status, rc;

		rc = hold ? restore_hold_confined(r, err) : 0;
		if (rc < 0)
			return rc;
		if (rc > 0) {
			hold = false;
			tick.tv_nsec = 20000000;
		}

		if (slot_failure(r, err))
			return err->code;
		if (seen >= r->slots.n && all_built(r))
			return 0;
		(void)syscall(SYS_futex, &a->events, FUTEX_WAIT, seen, &tick, NULL, 0);
		if (waitpid(r->root, &status, WNOHANG) == r->root) {
			pid_t pid = r->root;

			r->root = 0;
			if (slot_failure(r, err))
				return err->code;
			return ckpt_fail(
				err, E_RESTORE, -ECHILD, "task %d died while it was built (%s %d)",
				pid, WIFSIGNALED(status) ? "signal" : "exit",
				WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		}
		if (io_now_us() - looked > LOOK_US && find_dead(r, err))
			return err->code;
		if (io_now_us() - looked > LOOK_US)
			looked = io_now_us();
	}
}

/* End what was made. Only processes of ours can have these numbers: they were free before, and
 * clone3(set_tid) gave them to our children. */
static void kill_built(struct restore_ctx *r)
{
	guard_end(&r->guard);
	__atomic_store_n(&r->arena.base->abort, 1, __ATOMIC_SEQ_CST);
	/* Newborns that nobody knows yet, and helpers, end by themselves. */
	(void)syscall(SYS_futex, &r->arena.base->owner, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	for (size_t i = r->slots.n; i-- > 0;) {
		const struct task_slot *ts = &r->slots.v[i];

		if (ts->slot->state == CKPT_SLOT_IDLE ||
		    (ts->thread && ts->thread != ts->task->threads[0]))
			continue;
		if (ts->task->pid == r->root || i)
			(void)kill(ts->task->pid, SIGKILL);
	}
	if (r->root > 0)
		(void)kill(r->root, SIGKILL);
	/* As a subreaper we inherit the rest of the tree. */
	while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
		;
	r->root = 0;
}

/* End what was let go of, in part, with what it may have made since: orphans come to us. */
static void kill_released(struct restore_ctx *r)
{
	struct ckpt_err ignore = { 0 };
	struct proc_pids kids;

	guard_end(&r->guard);
	while (!proc_children(getpid(), NULL, &kids, &ignore) && kids.n) {
		for (size_t i = 0; i < kids.n; i++)
			(void)kill(kids.v[i], SIGKILL);
		for (size_t i = 0; i < kids.n; i++)
			while (waitpid(kids.v[i], NULL, __WALL) < 0 && errno == EINTR)
				;
		free(kids.v);
		kids.v = NULL;
	}
	r->root = 0;
}

void restore_newborn_signals(sigset_t *ret_old)
{
	sigset_t all;

	sigfillset(&all);
	sigdelset(&all, SIGCHLD);
	sigprocmask(SIG_BLOCK, &all, ret_old);
}

int restore_build(struct restore_ctx *r, struct ckpt_err *err)
{
	const Ckpt__Task *root = r->img->tasks.v[0];
	sigset_t old;
	int rc;

	restore_newborn_signals(&old);
	rc = r->root;
	if (r->warm)
		restore_warm_go(r);
	else if (r->init)
		restore_init_go(r);
	else
		rc = restore_birth_root(r, r->slots.v[0].slot, root->pid,
					root->lone_sid && root->sid != root->pid ? root->sid : 0, 0,
					err);
	if (rc < 0) {
		kill_built(r);
		sigprocmask(SIG_SETMASK, &old, NULL);
		return rc;
	}
	r->root = rc;
	rc = ckpt_fault_fail("restore.cloned", E_RESTORE, err);
	if (!rc)
		rc = wait_built(r, err);
	if (!rc && (rc = ckpt_fault("restore.built")))
		rc = ckpt_fail_errno(err, E_RESTORE, rc, "fault point restore.built");
	if (!rc)
		rc = restore_objects_finish(r, err);
	if (!rc)
		rc = ckpt_fault_fail("restore.finished", E_RESTORE, err);
	if (!rc)
		rc = restore_take(r, err);
	if (rc)
		kill_built(r);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return rc;
}

static void plan_line(void *arg, const char *text)
{
	ui_note(arg, 0, "%s", text);
}

static void raise_nofile(void)
{
	struct rlimit rl;

	if (!getrlimit(RLIMIT_NOFILE, &rl) && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
}

int restore_begin(struct restore_ctx *r, const struct ckpt_restore_opts *opts, struct ckpt_ui *ui,
		  struct ckpt_err *err)
{
	memset(r, 0, sizeof(*r));
	r->netlock.fd = -1;
	r->opts = opts;
	r->ui = ui;
	r->img = calloc(1, sizeof(*r->img));
	if (!r->img)
		return ckpt_oom(err);
	r->img->dir_fd = -1;
	raise_nofile();
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	return 0;
}

int restore_plan_image(struct restore_ctx *r, struct ckpt_err *err)
{
	int rc = 0;

	/* restore_warm_settle() has found them already. */
	if (!r->births.n)
		rc = restore_births_find(r, err);
	if (!rc && !r->opts->plan_only)
		rc = restore_check_image(r, NULL, NULL, err);
	if (!rc)
		rc = ckpt_fault_fail("restore.checked", E_RESTORE, err);
	if (!rc)
		rc = restore_objects_open(r, err);
	if (!rc)
		rc = ckpt_fault_fail("restore.opened", E_RESTORE, err);
	if (!rc)
		rc = restore_runs_read(r, err);
	if (!rc)
		rc = restore_vdso_check(r, err);
	if (!rc)
		rc = r->arena_map ? restore_arena_check(r, err) : restore_arena_map(r, err);
	if (!rc && !r->opts->plan_only)
		rc = restore_clocks_make(r, err);
	if (!rc)
		rc = restore_plan(r, err);
	return rc;
}

void restore_drop(struct restore_ctx *r)
{
	kill_built(r);
}

void restore_end(struct restore_ctx *r)
{
	guard_end(&r->guard);
	restore_warm_free(r);
	restore_births_free(r);
	restore_arena_unmap(r);
	restore_objects_close(r);
	restore_early_free(r);
	restore_net_free(r);
	if (r->timens_fd)
		(void)close(r->timens_fd);
	r->timens_fd = 0;
	restore_runs_free(r);
	vec_free(&r->slots);
	free(r->first_slot);
	if (r->img)
		image_free(r->img);
	free(r->img);
	r->img = NULL;
}

#define GUARD_TRIES 8 /* somebody may take a number between the look and the clone */

static int build_guarded(struct restore_ctx *r, struct ckpt_err *err)
{
	int rc = -EEXIST;

	for (int i = 0; i < GUARD_TRIES && rc == -EEXIST; i++) {
		int tid = restore_spare_tid(r);

		rc = r->init ? guard_start_sibling(&r->guard, tid, r->maker_fd)
			     : guard_start(&r->guard, tid);
	}
	return rc ? ckpt_fail_errno(err, E_RESTORE, rc, "cannot start a helper")
		  : restore_build(r, err);
}

int restore_whole(struct restore_ctx *r, struct ckpt_err *err)
{
	int rc = restore_plan_image(r, err);

	if (!rc)
		rc = build_guarded(r, err);
	if (!rc && (rc = restore_let_go(r, err)))
		kill_released(r);
	return rc;
}

int ckpt_restore(const struct ckpt_restore_opts *opts, struct ckpt_ui *ui,
		 struct restore_result *ret, struct ckpt_err *err)
{
	struct restore_ctx r;
	uint64_t begin = io_now_us();
	int rc = restore_begin(&r, opts, ui, err);

	if (!rc)
		rc = image_read(r.img, opts->dir, err);
	if (!rc && !opts->plan_only)
		rc = image_unpack(r.img, (int)sysconf(_SC_NPROCESSORS_ONLN), err);
	if (!rc && opts->plan_only)
		rc = restore_plan_image(&r, err);
	if (!rc && opts->plan_only)
		restore_plan_print(&r, plan_line, ui);
	else if (!rc && r.img->inv->namespaces && r.img->inv->namespaces->pid)
		rc = restore_as_init(&r, ret, err);
	else if (!rc && !(rc = restore_whole(&r, err)))
		ret->pid = ret->wait_for = r.root;
	if (!rc)
		ret->total_us = io_now_us() - begin;
	restore_end(&r);
	return rc;
}
