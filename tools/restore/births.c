// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who clones whom (model/births.h), as steps. Between two barriers every process exists and no
 * session or group has been left yet by those who only lent their number:
 *
 *   clones ─ groups are led │ BARRIER_BORN │ groups are joined │ BARRIER_GROUPS │ stand-ins end
 *
 * Stand-ins share the memory of the process that clones them and do nothing with it.
 */
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "restore/restore.h"

#define CLONE_ARGS_SIZE 88 /* CLONE_ARGS_SIZE_VER2: with cgroup */

void restore_plan_clone(struct steps *s, const struct ckpt_slot *slot, int tid, uint64_t flags,
			int exit_signal, const char *label)
{
	struct clone_args args = {
		.flags = flags,
		.exit_signal = (uint64_t)exit_signal,
		.stack = arena_remote(s->arena, slot) + sizeof(*slot),
		.stack_size = CKPT_SLOT_STACK,
		.set_tid_size = 1,
	};

	args.set_tid = steps_data(s, &tid, sizeof(tid));
	(void)steps_add(
		s,
		&(struct ckpt_step) { .op = CKPT_OP_CLONE,
				      .arg = { steps_data(s, &args, sizeof(args)), CLONE_ARGS_SIZE,
					       arena_remote(s->arena, slot) } },
		label);
}

void restore_plan_barrier(struct restore_ctx *r, struct steps *s, uint32_t *word, uint32_t count,
			  const char *label)
{
	(void)steps_add(s,
			&(struct ckpt_step) { .op = CKPT_OP_BARRIER,
					      .arg = { arena_remote(&r->arena, word), count } },
			label);
}

static void plan_reap(struct steps *s, int pid, int flags, const char *label)
{
	(void)steps_call(s, label, SYS_waitid, P_PID, (uint64_t)pid, 0,
			 (uint64_t)(WEXITED | __WALL | flags), 0);
}

/* Those who share get the number of the first of them, behind zero. */
static int births_sharing(struct restore_ctx *r, struct ckpt_err *err)
{
	const struct image *img = r->img;
	struct birth *v = r->births.v;
	auto_free size_t *first = calloc(img->tables.n + 1, sizeof(*first));

	if (!first)
		return ckpt_oom(err);
	births_index(&r->births);
	for (size_t i = 0; i < img->tasks.n; i++) {
		const Ckpt__Task *t = img->tasks.v[i];
		size_t with = t->fs_with ? births_find(&r->births, t->fs_with) : i;

		if (with > i ||
		    (with != i && (img->tasks.v[with]->zombie || img->tasks.v[with]->fs_with)))
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
					 "task %d shares its directories with task %d", t->pid,
					 t->fs_with);
		if (t->zombie)
			continue;
		if (with != i)
			v[i].fs = v[with].fs = (int)with + 1;
		if (first[t->fdtable])
			v[i].files = v[first[t->fdtable] - 1].files = (int)first[t->fdtable];
		else
			first[t->fdtable] = i + 1;
	}
	return 0;
}

int restore_births_find(struct restore_ctx *r, struct ckpt_err *err)
{
	const struct image *img = r->img;
	int rc = births_init(&r->births, img->tasks.n, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < img->tasks.n; i++) {
		const Ckpt__Task *t = img->tasks.v[i];

		if (t->pid <= 0 || t->pgid < 0 || t->sid < 0 || t->exit_signal < 0 ||
		    t->exit_signal > 64)
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
					 "task %d has an impossible session or group", t->pid);
		r->births.v[i] = (struct birth) { .pid = t->pid,
						  .ppid = t->ppid,
						  .pgid = t->pgid,
						  .sid = t->sid,
						  .exit_signal = t->exit_signal,
						  .lone_sid = t->lone_sid && t->sid,
						  .lone_pgid = t->lone_pgid && t->pgid };
	}
	return births_sharing(r, err) ? err->code : births_plan(&r->births, err);
}

int restore_births_slots(struct restore_ctx *r, struct ckpt_err *err)
{
	const struct births *b = &r->births;

	r->standins = calloc(b->nstandins + 1, sizeof(*r->standins));
	r->share_files = calloc(b->n + 1, sizeof(*r->share_files));
	r->share_fs = calloc(b->n + 1, sizeof(*r->share_fs));
	if (!r->standins || !r->share_files || !r->share_fs)
		return ckpt_oom(err);
	r->born = (uint32_t)b->n;
	for (size_t i = 0; i < b->nstandins; i++) {
		struct ckpt_slot *slot = arena_slot(&r->arena);

		if (!slot)
			return ckpt_fail(err, E_NOMEM, -ENOSPC, "the arena is too small");
		slot->tid = b->standins[i].pid;
		r->standins[i] = slot;
		r->born += !b->standins[i].session;
	}
	return 0;
}

/* When a child is cloned. Before setsid, when it belongs to its parent's old session. With the
 * parent's memory, when they share pages of it, or when the parent was cloned in that way itself
 * and has nothing else to give. Otherwise while there is no memory to copy. */
static enum birth_time time_of(struct restore_ctx *r, const struct birth *x, const Ckpt__Task *c)
{
	const struct task_slot *by = &r->slots.v[r->first_slot[x->by]];
	const Ckpt__Task *t = by->task;

	if (x->before_setsid)
		return BIRTH_OLD_SESSION;
	if (c->zombie || t->zombie || (x->standin == BIRTH_NOBODY && x->by != x->parent))
		return BIRTH_EARLY;
	if (by->base || restore_mm_shares(r, r->img->mms.v[c->mm - 1], r->img->mms.v[t->mm - 1]))
		return BIRTH_WITH_MEMORY;
	return BIRTH_EARLY;
}

/* A stand-in gives birth to all its siblings at once: as late as one of them needs it. */
static enum birth_time time_of_standin(struct restore_ctx *r, size_t standin)
{
	const struct births *b = &r->births;
	enum birth_time when = BIRTH_OLD_SESSION;

	for (size_t i = 0; i < b->n; i++)
		if (b->v[i].standin == standin) {
			enum birth_time t = time_of(r, &b->v[i], r->img->tasks.v[i]);

			if (t > when)
				when = t;
		}
	return when;
}

static uint64_t share_flags(const struct birth *x)
{
	return (x->share & BIRTH_FILES ? CLONE_FILES : 0) | (x->share & BIRTH_FS ? CLONE_FS : 0);
}

static int standin_commit(struct restore_ctx *r, size_t standin, struct steps *s,
			  struct ckpt_err *err)
{
	int rc;

	(void)steps_call(s, "end of a stand-in", SYS_exit, 0);
	rc = steps_commit(s, r->standins[standin], err);
	steps_free(s);
	return rc;
}

/* The list of a session's stand-in; those that it clones find their memory in @base. */
static int plan_session_standin(struct restore_ctx *r, size_t standin, const Ckpt__Mm *base,
				struct ckpt_err *err)
{
	const struct births *b = &r->births;
	struct steps s;
	char label[64];

	steps_init(&s, &r->arena);
	(void)steps_call(&s, "die with ckpt", SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	(void)steps_call(&s, "stand in for a session leader", SYS_setsid, 0);
	for (size_t i = 0; i < b->n; i++) {
		struct task_slot *who = &r->slots.v[r->first_slot[i]];

		if (b->v[i].standin != standin)
			continue;
		who->base = base;
		(void)snprintf(label, sizeof(label), "clone task %d", b->v[i].pid);
		restore_plan_clone(&s, who->slot, b->v[i].pid, CLONE_PARENT | share_flags(&b->v[i]),
				   0, label);
	}
	return standin_commit(r, standin, &s, err);
}

/* It passes on what any of its siblings-to-be shares with their parent. */
static uint64_t standin_shares(const struct births *b, size_t standin)
{
	uint64_t flags = 0;

	for (size_t i = 0; i < b->n; i++)
		if (b->v[i].standin == standin)
			flags |= share_flags(&b->v[i]);
	return flags;
}

static int plan_standins(struct restore_ctx *r, size_t at, enum birth_time when, struct steps *s,
			 struct ckpt_err *err)
{
	const struct births *b = &r->births;
	const struct task_slot *host = &r->slots.v[r->first_slot[at]];

	for (size_t k = 0; k < b->nstandins; k++) {
		const struct birth_standin *g = &b->standins[k];
		char label[64];
		int rc;

		if (!g->session || g->host != at || time_of_standin(r, k) != when)
			continue;
		rc = plan_session_standin(
			r, k,
			when == BIRTH_WITH_MEMORY ? r->img->mms.v[host->task->mm - 1] : host->base,
			err);
		if (rc)
			return rc;
		(void)snprintf(label, sizeof(label), "clone a stand-in for session %d", g->pid);
		restore_plan_clone(s, r->standins[k], g->pid, CLONE_VM | standin_shares(b, k),
				   g->exit_signal, label);
		plan_reap(s, g->pid, 0, "wait for the stand-in");
	}
	return 0;
}

/* By way of a helper that ends at once; then the child is its adopter's. */
static int plan_orphan(struct restore_ctx *r, struct task_slot *who, const struct birth *x,
		       struct steps *s, struct ckpt_err *err)
{
	struct ckpt_slot *slot = arena_slot(&r->arena);
	int helper = restore_spare_tid(r), rc;
	struct steps own;
	char label[64];

	who->adopted = arena_alloc(&r->arena, sizeof(*who->adopted));
	if (!slot || !who->adopted)
		return ckpt_fail(err, E_NOMEM, -ENOSPC, "the arena is too small");
	if (!helper)
		return ckpt_fail(err, E_RESTORE, -EAGAIN, "there is no free pid for a helper");
	(void)snprintf(label, sizeof(label), "clone task %d", x->pid);
	steps_init(&own, &r->arena);
	(void)steps_call(&own, "die with ckpt", SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	restore_plan_clone(&own, who->slot, x->pid, share_flags(x), x->exit_signal, label);
	(void)steps_call(&own, "end of a helper", SYS_exit, 0);
	rc = steps_commit(&own, slot, err);
	steps_free(&own);
	restore_plan_clone(s, slot, helper, CLONE_VM | share_flags(x), 0, "clone a helper");
	plan_reap(s, helper, 0, "wait for the helper");
	restore_plan_barrier(r, s, who->adopted, 2, "wait until it is adopted");
	return rc;
}

int restore_plan_births(struct restore_ctx *r, size_t at, enum birth_time when, struct steps *s,
			struct ckpt_err *err)
{
	const struct births *b = &r->births;
	const struct task_slot *by = &r->slots.v[r->first_slot[at]];
	int rc = b->nstandins ? plan_standins(r, at, when, s, err) : 0;

	for (size_t k = b->born_at[at]; !rc && k < b->born_at[at + 1]; k++) {
		const struct birth *x = &b->v[b->born[k]];
		const Ckpt__Task *c = r->img->tasks.v[b->born[k]];
		struct task_slot *who = &r->slots.v[r->first_slot[b->born[k]]];
		char label[64];

		if (who->warm || x->standin != BIRTH_NOBODY || time_of(r, x, c) != when)
			continue;
		who->base = when == BIRTH_WITH_MEMORY ? r->img->mms.v[by->task->mm - 1] : by->base;
		(void)snprintf(label, sizeof(label), "clone task %d", c->pid);
		if (x->how == BIRTH_ORPHAN)
			rc = plan_orphan(r, who, x, s, err);
		else
			restore_plan_clone(s, who->slot, c->pid,
					   share_flags(x) |
						   (x->how == BIRTH_SIBLING ? CLONE_PARENT : 0),
					   x->how == BIRTH_SIBLING ? 0 : c->exit_signal, label);
	}
	return rc;
}

/* The first steps of a process. */
void restore_plan_birth(struct restore_ctx *r, size_t at, struct steps *s)
{
	const struct task_slot *who = &r->slots.v[r->first_slot[at]];

	/* The end of the helper that cloned it is not that of its parent. */
	if (who->adopted)
		restore_plan_barrier(r, s, who->adopted, 2, "wait until it is adopted");
	(void)steps_call(s, "die with ckpt", SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	if (r->births.v[at].adopts)
		(void)steps_call(s, "adopt", SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
}

static int plan_group_standin(struct restore_ctx *r, size_t standin, struct steps *s,
			      struct ckpt_err *err)
{
	int pid = r->births.standins[standin].pid;
	struct steps own;
	char label[64];

	(void)snprintf(label, sizeof(label), "clone a stand-in for process group %d", pid);
	restore_plan_clone(s, r->standins[standin], pid, CLONE_VM, 0, label);
	steps_init(&own, &r->arena);
	(void)steps_call(&own, "die with ckpt", SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	(void)steps_call(&own, "stand in for a group leader", SYS_setpgid, 0, 0);
	restore_plan_barrier(r, &own, r->barrier[BARRIER_BORN], r->born,
			     "wait until every process exists");
	restore_plan_barrier(r, &own, r->barrier[BARRIER_GROUPS], r->born,
			     "wait until every group exists");
	return standin_commit(r, standin, &own, err);
}

int restore_plan_groups(struct restore_ctx *r, size_t at, struct steps *s, struct ckpt_err *err)
{
	const struct births *b = &r->births;
	const struct birth *x = &b->v[at];
	const Ckpt__Task *t = r->img->tasks.v[at];
	bool known = births_find(b, t->pgid) != BIRTH_NOBODY;
	int rc = 0;

	/* All it clones exists: what it shared for their sake only, it may leave. */
	if (x->leave)
		(void)steps_call(s, "have descriptors or directories of its own", SYS_unshare,
				 (x->leave & BIRTH_FILES ? CLONE_FILES : 0) |
					 (x->leave & BIRTH_FS ? CLONE_FS : 0));
	if ((t->pgid == t->pid || x->lends_group) && t->sid != t->pid)
		(void)steps_call(s, "become a group leader", SYS_setpgid, 0, 0);
	for (size_t k = 0; !rc && k < b->nstandins; k++) {
		known |= b->standins[k].pid == t->pgid;
		if (!b->standins[k].session && b->standins[k].host == at)
			rc = plan_group_standin(r, k, s, err);
	}
	restore_plan_barrier(r, s, r->barrier[BARRIER_BORN], r->born,
			     "wait until every process exists");
	if (t->pgid != t->pid && known && !x->lends_group)
		(void)steps_call(s, "join its process group", SYS_setpgid, 0, (uint64_t)t->pgid);
	restore_plan_barrier(r, s, r->barrier[BARRIER_GROUPS], r->born,
			     "wait until every group exists");
	if (t->pgid != t->pid && x->lends_group)
		(void)steps_call(s, "join its process group", SYS_setpgid, 0, (uint64_t)t->pgid);
	for (size_t k = 0; k < b->nstandins; k++)
		if (!b->standins[k].session && b->standins[k].host == at)
			plan_reap(s, b->standins[k].pid, 0, "wait for the stand-in");
	if (x->adopts)
		(void)steps_call(s, "adopt no longer", SYS_prctl, PR_SET_CHILD_SUBREAPER, 0);
	for (uint32_t k = r->img->child_at[at]; k < r->img->child_at[at + 1]; k++)
		if (r->img->tasks.v[r->img->child[k]]->zombie)
			plan_reap(s, r->img->tasks.v[r->img->child[k]]->pid, WNOWAIT,
				  "wait until a zombie has ended");
	return rc;
}

/* Wait for the end of a stand-in that is ckpt's child, or for its failure. */
static int await_standin(struct restore_ctx *r, const struct ckpt_slot *slot, pid_t pid,
			 struct ckpt_err *err)
{
	const struct ckpt_step *v = arena_local(&r->arena, slot->steps);
	const struct timespec tick = { .tv_nsec = 200000 };
	int status, rc = 0;

	while (waitpid(pid, &status, WNOHANG | __WALL) != pid) {
		if (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == CKPT_SLOT_FAILED) {
			rc = ckpt_fail_errno(err, E_RESTORE, slot->err, "stand-in %d: %s", pid,
					     arena_label(&r->arena, &v[slot->pc]));
			(void)kill(pid, SIGKILL);
			(void)waitpid(pid, NULL, __WALL);
			return rc;
		}
		(void)nanosleep(&tick, NULL);
	}
	return WIFEXITED(status) && !WEXITSTATUS(status)
		       ? 0
		       : ckpt_fail(err, E_RESTORE, -ECHILD, "stand-in %d died", pid);
}

int restore_birth_root(struct restore_ctx *r, struct ckpt_slot *slot, int pid, int lone_sid,
		       uint64_t flags, struct ckpt_err *err)
{
	struct ckpt_slot *own;
	struct steps s;
	int rc;

	if (!lone_sid) {
		rc = restore_clone(r, slot, pid, flags);
		return rc > 0 ? rc
			      : ckpt_fail_errno(err, E_RESTORE, rc, "cannot clone task %d", pid);
	}
	own = arena_slot(&r->arena);
	if (!own)
		return ckpt_fail(err, E_NOMEM, -ENOSPC, "the arena is too small");
	steps_init(&s, &r->arena);
	(void)steps_call(&s, "die with ckpt", SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	(void)steps_call(&s, "stand in for a session leader", SYS_setsid, 0);
	restore_plan_clone(&s, slot, pid, CLONE_PARENT | flags, 0, "clone the root task");
	(void)steps_call(&s, "end of a stand-in", SYS_exit, 0);
	rc = steps_commit(&s, own, err);
	steps_free(&s);
	if (rc)
		return rc;
	rc = restore_clone(r, own, lone_sid, flags);
	if (rc < 0)
		return ckpt_fail_errno(err, E_RESTORE, rc, "cannot clone a stand-in for session %d",
				       lone_sid);
	rc = await_standin(r, own, rc, err);
	return rc ? rc : pid;
}

void restore_births_free(struct restore_ctx *r)
{
	births_free(&r->births);
	free(r->standins);
	free(r->share_files);
	free(r->share_fs);
	r->standins = NULL;
	r->share_files = r->share_fs = NULL;
}
