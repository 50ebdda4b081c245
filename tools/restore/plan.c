// SPDX-License-Identifier: GPL-2.0-only
/*
 * One step list per task and thread. The order inside a process:
 *
 *   children born before setsid │ setsid │ other children │ address space │
 *   children that share pages of it │ its final protection │
 *   all processes exist ─ groups │ PHASE_MM │ PHASE_FS │ descriptors │ PHASE_TASK │
 *   threads │ PHASE_THREAD │ PHASE_CREDS │ PHASE_LAST │ report
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/vec.h"
#include "kern/arch.h"
#include "kind/fd/lock.h"
#include "kind/fd/pty.h"
#include "kind/task/kinds.h"
#include "restore/restore.h"

static int plan_fds(struct restore_ctx *r, const Ckpt__Task *t, struct steps *s,
		    struct ckpt_err *err)
{
	const Ckpt__FdTable *table = r->img->tables.v[t->fdtable - 1];
	uint32_t next = 0;

	for (size_t i = 0; i < table->n_fds; i++) {
		const Ckpt__Fd *f = table->fds[i];
		int fd, rc = restore_object_fd(r, f->object, &fd, err);

		if (rc)
			return rc;
		if (f->fd > next)
			(void)steps_call(s, NULL, SYS_close_range, next, f->fd - 1, 0);
		if ((uint32_t)fd != f->fd)
			(void)steps_call(s, "put a descriptor in place", SYS_dup3, (uint64_t)fd,
					 f->fd, f->cloexec ? 02000000 : 0);
		else if (!f->cloexec) /* as all of ckpt's own are */
			(void)steps_call(s, "keep a descriptor over exec", SYS_fcntl, f->fd,
					 F_SETFD, 0);
		next = f->fd + 1;
	}
	(void)steps_call(s, "close ckpt's descriptors", SYS_close_range, next, 0xffffffffu, 0);
	return 0;
}

/* Steps of kinds that need the descriptor's number, in the first task that has it. */
static int plan_fd_kinds(struct restore_ctx *r, const Ckpt__Task *t, bool late, bool *seen,
			 struct steps *s, struct ckpt_err *err)
{
	const Ckpt__FdTable *table = r->img->tables.v[t->fdtable - 1];

	for (size_t i = 0; i < table->n_fds; i++) {
		uint32_t id = table->fds[i]->object;
		const Ckpt__Object *obj = restore_object(r, id);
		const struct fd_kind *kind = fd_kind_by_name(obj->state->kind);
		int rc;

		if (late && !(kind->plan && kind->plan_late))
			continue;
		if (!late)
			lock_plan_posix(table->fds[i], s);
		if (!late && !seen[id - 1] && (obj->flags & O_ASYNC) && !(obj->flags & O_PATH))
			/* The signal will name this number. */
			(void)steps_call(s, "O_ASYNC", SYS_fcntl, table->fds[i]->fd, F_SETFL,
					 obj->flags & (O_APPEND | O_NONBLOCK | O_NOATIME |
						       O_DIRECT | O_ASYNC));
		if (!late && !seen[id - 1])
			lock_plan_lease(obj, table->fds[i]->fd, s);
		if (!kind->plan || kind->plan_late != late || (seen[id - 1] && !kind->plan_each)) {
			seen[id - 1] = true;
			continue;
		}
		seen[id - 1] = true;
		rc = kind->plan(r, obj, r->object_msgs[id - 1], (int)table->fds[i]->fd, t, table, s,
				err);
		if (rc)
			return ckpt_ctx(err, "fd %u (%s)", table->fds[i]->fd, kind->name);
	}
	return 0;
}

static int plan_phase(struct restore_ctx *r, const Ckpt__Task *t, const Ckpt__Thread *th,
		      enum task_phase phase, struct steps *s, struct ckpt_err *err)
{
	bool main = th == t->threads[0];

	/* In the registry's order, so that kinds can rely on who comes before them. */
	for (size_t k = 0; task_kinds[k]; k++) {
		const struct task_kind *kind = task_kinds[k];
		bool of_task = kind->scope == SCOPE_TASK;
		size_t n = of_task ? t->n_state : th->n_state;
		Ckpt__State **state = of_task ? t->state : th->state;

		if (kind->phase != phase || (of_task && !main))
			continue;
		for (size_t i = 0; i < n; i++) {
			ProtobufCMessage *m;
			int rc;

			if (strcmp(state[i]->kind, kind->name) != 0)
				continue;
			m = kind_state_unpack(state[i], kind->desc, err);
			if (!m)
				return err->code;
			rc = kind->plan(r, t, th, m, s, err);
			protobuf_c_message_free_unpacked(m, NULL);
			if (rc)
				return ckpt_ctx(err, "thread %d: %s", th->tid, kind->name);
		}
	}
	return 0;
}

static bool thread_confined(const Ckpt__Thread *th)
{
	for (size_t i = 0; i < th->n_state; i++)
		if (!strcmp(th->state[i]->kind, task_kind_seccomp.name))
			return true;
	return false;
}

static int plan_thread(struct restore_ctx *r, const Ckpt__Task *t, const Ckpt__Thread *th,
		       struct steps *s, struct ckpt_err *err)
{
	int rc = plan_phase(r, t, th, PHASE_THREAD, s, err);

	/* Its filters come into force one step later: ckpt must hold it by then. */
	if (thread_confined(th))
		(void)steps_add(s,
				&(struct ckpt_step) {
					.op = CKPT_OP_BARRIER,
					.arg = { arena_remote(&r->arena, r->barrier[BARRIER_HELD]),
						 r->confined + 1 } },
				"wait until ckpt holds every confined thread");
	if (!rc)
		rc = plan_phase(r, t, th, PHASE_CREDS, s, err);
	return rc ? rc : plan_phase(r, t, th, PHASE_LAST, s, err);
}

/* The root still runs in a copy of ckpt: leave all of it but the arena and the parked mappings. */
void restore_plan_leave(struct restore_ctx *r, struct steps *s)
{
	uint64_t arena = r->arena.remote, area_end = r->parked.area + r->parked.area_len;

	(void)steps_try(s, "unregister ckpt's rseq", SYS_rseq,
			(uint64_t)__builtin_thread_pointer() + (uint64_t)__rseq_offset, 32, 1,
			RSEQ_SIG);
	for (size_t i = 0; i < r->parked.n; i++)
		(void)steps_call(s, "park the vDSO", SYS_mremap, r->parked.v[i].from,
				 r->parked.v[i].len, r->parked.v[i].len,
				 MREMAP_MAYMOVE | MREMAP_FIXED, r->parked.v[i].at);
	(void)steps_call(s, "leave ckpt's memory", SYS_munmap, 0, arena);
	(void)steps_call(s, "leave ckpt's memory", SYS_munmap, area_end, ARCH_TASK_SIZE - area_end);
}

/* Until here SIGCHLD of zombies-to-be was to be dropped; from here on handlers may be in place. */
static void plan_block_signals(struct steps *s)
{
	const uint64_t all = ~0ull;

	(void)steps_call(s, "block every signal", SYS_rt_sigprocmask, SIG_BLOCK,
			 steps_data(s, &all, sizeof(all)), 0, sizeof(all));
}

/* It left ckpt's memory long ago, and shared its descriptors until now. */
static void plan_warm(struct steps *s)
{
	(void)steps_call(s, "have descriptors of its own", SYS_unshare, CLONE_FILES);
	(void)steps_try(s, "huge pages again", SYS_prctl, PR_SET_THP_DISABLE, 0);
}

/* Wait for the others with whom it shares descriptors, or directories: whoever comes first in the
 * image then makes them what they were. Returns whether that is this one. */
static bool plan_shared(struct restore_ctx *r, size_t at, unsigned int what, struct steps *s)
{
	const struct birth *v = r->births.v;
	uint32_t **words = what == BIRTH_FILES ? r->share_files : r->share_fs, n = 0;
	int key = what == BIRTH_FILES ? v[at].files : v[at].fs;

	if (!key)
		return true;
	for (size_t i = (size_t)key - 1; i < r->births.n; i++)
		n += (what == BIRTH_FILES ? v[i].files : v[i].fs) == key;
	if (!words[key])
		words[key] = arena_alloc(&r->arena, sizeof(uint32_t));
	if (words[key])
		restore_plan_barrier(r, s, words[key], n,
				     what == BIRTH_FILES ? "wait for those who share descriptors"
							 : "wait for those who share directories");
	else
		s->failed = -ENOSPC;
	return (size_t)key == at + 1;
}

static int plan_process(struct restore_ctx *r, size_t at, bool *seen, struct steps *s,
			struct ckpt_err *err)
{
	const Ckpt__Task *t = r->img->tasks.v[at];
	const Ckpt__Mm *mm = r->img->mms.v[t->mm - 1];
	const struct warm_task *warm = r->slots.v[r->first_slot[at]].warm;
	bool own_files;
	int rc;

	restore_plan_birth(r, at, s);
	if (!t->ppid || warm)
		restore_plan_clocks(r, s);
	if (warm)
		plan_warm(s);
	else if (!t->ppid && r->init)
		(void)steps_call(s, "have descriptors of its own", SYS_unshare, CLONE_FILES);
	else if (!t->ppid)
		restore_plan_leave(r, s);
	rc = restore_plan_births(r, at, BIRTH_OLD_SESSION, s, err);
	if (rc)
		return rc;
	if (t->sid == t->pid) {
		if (!warm || !warm->led)
			(void)steps_call(s, "become a session leader", SYS_setsid, 0);
		pty_plan_session(r, t, s);
	}
	rc = restore_plan_births(r, at, BIRTH_EARLY, s, err);
	if (!rc)
		rc = restore_plan_mm(r, mm, r->slots.v[r->first_slot[at]].base, s, err);
	if (!rc)
		rc = restore_plan_births(r, at, BIRTH_WITH_MEMORY, s, err);
	if (!rc)
		rc = restore_finish_mm(r, mm, s, err);
	if (rc)
		return rc;
	if (r->parked.area_len && !r->parked.stay)
		(void)steps_call(s, "leave the parking area", SYS_munmap, r->parked.area,
				 r->parked.area_len);
	rc = restore_plan_groups(r, at, s, err);
	if (rc)
		return rc;
	if (t->sid == t->pid)
		pty_plan_group(r, t, s);
	rc = plan_phase(r, t, t->threads[0], PHASE_MM, s, err);
	if (plan_shared(r, at, BIRTH_FS, s) && !rc)
		rc = plan_phase(r, t, t->threads[0], PHASE_FS, s, err);
	own_files = plan_shared(r, at, BIRTH_FILES, s);
	if (!rc && own_files)
		rc = plan_fds(r, t, s, err);
	restore_plan_barrier(r, s, r->barrier[BARRIER_OBJECTS], r->procs,
			     "wait until all descriptors are in place");
	if (!rc && own_files)
		rc = plan_fd_kinds(r, t, false, seen, s, err);
	plan_block_signals(s);
	if (!rc)
		rc = plan_phase(r, t, t->threads[0], PHASE_TASK, s, err);
	for (size_t i = 1; !rc && i < t->n_threads; i++) {
		struct task_slot *who = &r->slots.v[r->first_slot[at] + i];
		char label[64];

		(void)snprintf(label, sizeof(label), "clone thread %d", t->threads[i]->tid);
		restore_plan_clone(s, who->slot, t->threads[i]->tid,
				   CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
					   CLONE_THREAD | CLONE_SYSVSEM,
				   0, label);
	}
	if (!rc && own_files)
		rc = plan_fd_kinds(r, t, true, seen, s, err);
	(void)steps_try(s, "no longer die with ckpt", SYS_prctl, PR_SET_PDEATHSIG, 0);
	return rc ? rc : plan_thread(r, t, t->threads[0], s, err);
}

static int plan_zombie(struct restore_ctx *r, size_t at, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__Task *t = r->img->tasks.v[at];
	int st = t->exit_status, rc;

	restore_plan_birth(r, at, s);
	if (t->sid == t->pid)
		(void)steps_call(s, "become a session leader", SYS_setsid, 0);
	rc = restore_plan_births(r, at, BIRTH_EARLY, s, err);
	if (!rc)
		rc = restore_plan_groups(r, at, s, err);
	if (rc)
		return rc;
	(void)steps_try(s, "no core dump", SYS_prctl, PR_SET_DUMPABLE, 0);
	if (WIFSIGNALED(st)) {
		const uint64_t action[4] = { 0 }, set = 1ull << (WTERMSIG(st) - 1);

		(void)steps_try(s, "no handler", SYS_rt_sigaction, (uint64_t)WTERMSIG(st),
				steps_data(s, action, sizeof(action)), 0, sizeof(set));
		(void)steps_call(s, "let the signal in", SYS_rt_sigprocmask, SIG_UNBLOCK,
				 steps_data(s, &set, sizeof(set)), 0, sizeof(set));
	}
	(void)steps_add(
		s,
		&(struct ckpt_step) { .op = CKPT_OP_EXIT,
				      .arg = { (uint64_t)WEXITSTATUS(st), (uint64_t)t->pid,
					       WIFSIGNALED(st) ? (uint64_t)WTERMSIG(st) : 0 } },
		"end as a zombie");
	return 0;
}

static int make_slots(struct restore_ctx *r, struct ckpt_err *err)
{
	r->first_slot = calloc(r->img->tasks.n, sizeof(*r->first_slot));
	if (!r->first_slot)
		return ckpt_oom(err);
	for (size_t i = 0; i < r->img->tasks.n; i++) {
		Ckpt__Task *t = r->img->tasks.v[i];
		size_t n = t->zombie ? 1 : t->n_threads;

		r->procs += !t->zombie;
		r->first_slot[i] = r->slots.n;
		for (size_t k = 0; k < n; k++) {
			struct task_slot *ts = vec_push(&r->slots);

			if (!ts)
				return ckpt_oom(err);
			ts->task = t;
			ts->index = i;
			ts->thread = t->zombie ? NULL : t->threads[k];
			ts->confined = ts->thread && thread_confined(ts->thread);
			r->confined += ts->confined;
			ts->warm = ts->thread && !k ? restore_warm_find(r, t->pid) : NULL;
			if (ts->warm)
				ts->base = &ts->warm->mm;
			ts->slot = ts->warm              ? ts->warm->slot
				   : r->init && !i && !k ? r->init
							 : arena_slot(&r->arena);
			if (!ts->slot)
				return ckpt_fail(err, E_NOMEM, -ENOSPC, "the arena is too small");
			ts->slot->tid = ts->thread ? ts->thread->tid : t->pid;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(r->barrier); i++)
		r->barrier[i] = arena_alloc(&r->arena, sizeof(uint32_t));
	return restore_births_slots(r, err);
}

static int plan_slot(struct restore_ctx *r, const struct task_slot *ts, bool *seen,
		     struct ckpt_err *err)
{
	struct steps s;
	int rc;

	steps_init(&s, &r->arena);
	if (ts->task->zombie)
		rc = plan_zombie(r, ts->index, &s, err);
	else if (ts->thread == ts->task->threads[0])
		rc = plan_process(r, ts->index, seen, &s, err);
	else
		rc = plan_thread(r, ts->task, ts->thread, &s, err);
	if (!rc)
		rc = steps_commit(&s, ts->slot, err);
	steps_free(&s);
	return rc ? ckpt_ctx(err, "task %d", ts->task->pid) : 0;
}

int restore_plan(struct restore_ctx *r, struct ckpt_err *err)
{
	bool *seen = calloc(r->img->objects.n + 1, sizeof(*seen));
	int rc = seen ? make_slots(r, err) : ckpt_oom(err);

	/* Their numbers are behind those of the image; restore_runs_read() has room for them. */
	if (!rc && r->warm)
		rc = restore_warm_base(r, err);

	/* Whoever clones comes first: its children inherit what it has by then. */
	for (size_t i = 0; !rc && i < r->births.n; i++) {
		size_t at = r->births.order[i];
		const Ckpt__Task *t = r->img->tasks.v[at];
		size_t n = t->zombie ? 1 : t->n_threads;

		for (size_t k = 0; !rc && k < n; k++)
			rc = plan_slot(r, &r->slots.v[r->first_slot[at] + k], seen, err);
	}
	free(seen);
	return rc;
}

void restore_plan_print(struct restore_ctx *r, void (*line)(void *arg, const char *text), void *arg)
{
	static const char *const ops[] = { "end",   "syscall",     "clone", "read",
					   "copy",  "barrier",     "await", "exit",
					   "check", "exit-thread", "fill",  "join" };
	char buf[256];

	for (size_t i = 0; i < r->slots.n; i++) {
		const struct ckpt_slot *slot = r->slots.v[i].slot;
		const struct ckpt_step *v = arena_local(&r->arena, slot->steps);

		(void)snprintf(buf, sizeof(buf), "task %d, thread %d: %u steps",
			       r->slots.v[i].task->pid, slot->tid, slot->nsteps);
		line(arg, buf);
		for (uint32_t k = 0; k < slot->nsteps; k++) {
			const struct ckpt_step *s = &v[k];

			if (s->op == CKPT_OP_SYSCALL)
				(void)snprintf(buf, sizeof(buf),
					       "  %4u syscall %-4u %#llx %#llx %#llx %#llx  %s", k,
					       s->nr, (unsigned long long)s->arg[0],
					       (unsigned long long)s->arg[1],
					       (unsigned long long)s->arg[2],
					       (unsigned long long)s->arg[3],
					       arena_label(&r->arena, s));
			else
				(void)snprintf(
					buf, sizeof(buf), "  %4u %-12s %#llx %#llx %#llx  %s", k,
					s->op < ARRAY_SIZE(ops) ? ops[s->op] : "?",
					(unsigned long long)s->arg[0],
					(unsigned long long)s->arg[1],
					(unsigned long long)s->arg[2], arena_label(&r->arena, s));
			line(arg, buf);
		}
	}
}
