// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which processes exist before the image is known, while the tree still changes
 * at its source. Where a process is born, its parent and its session, cannot be
 * changed later: one that comes to be born in another way is ended again, and
 * made as any other in the end. Only plain children are made early; who needs a
 * stand-in, a helper, or a share in another one's descriptors is not: until the end all have those
 * of ckpt, and what was left once cannot be shared again.
 */
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "restore/mm.h"
#include "restore/warm.h"

/* Does it clone anybody before it begins a session of its own? */
static bool has_old_children(const struct births *b, size_t i)
{
	for (size_t k = b->born_at[i]; k < b->born_at[i + 1]; k++)
		if (b->v[b->born[k]].before_setsid)
			return true;
	return false;
}

/* Can it be cloned by its parent with nothing around it? */
static bool is_plain(const struct birth *x)
{
	return x->how == BIRTH_CHILD && x->standin == BIRTH_NOBODY &&
	       !((x->share | x->leave) & BIRTH_FILES) && !x->files &&
	       (!x->exit_signal || x->exit_signal == SIGCHLD);
}

/* May @w go on as the i-th of the tree, its parent being right? */
static bool fits(const struct warm_follow *f, size_t i, const struct warm_task *w)
{
	const struct birth *x = &f->b->v[i];

	if (f->wish[i] != WARM_WANTED ||
	    (w->led && (x->sid != x->pid || has_old_children(f->b, i))))
		return false;
	if (!w->parent)
		return i == 0;
	return i && is_plain(x) && x->exit_signal == w->exit_signal && x->share == w->share &&
	       f->b->v[x->by].pid == w->parent->pid && x->birth_sid == w->birth_sid;
}

/* The end of one without children: its parent waits for it, so that its number is free again. */
static int end_task(struct restore_ctx *r, struct warm_task *w, struct ckpt_err *err)
{
	struct warm_task *parent = w->parent;
	struct steps s;
	int rc;

	if (kill(w->pid, SIGKILL))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot end task %d", w->pid);
	warm_steps(r, &s);
	(void)steps_call(&s, "wait for a child", SYS_waitid, P_PID, (uint64_t)w->pid, 0,
			 WEXITED | __WALL, 0);
	rc = warm_run(r, parent, &s, err);
	steps_free(&s);
	warm_forget(r, w);
	return rc;
}

/* Those that do not fit any more, and all below them; children first. */
static int drop_others(struct restore_ctx *r, const struct warm_follow *f, struct ckpt_err *err)
{
	__typeof__(r->warm->tasks) *l = &r->warm->tasks;
	auto_free bool *keep = calloc(l->n + 1, sizeof(*keep));
	int rc = 0;

	if (!keep)
		return mm_oom(err);
	for (size_t k = 0; k < l->n; k++) {
		size_t i = births_find(f->b, l->v[k]->pid), p = 0;

		while (l->v[k]->parent && l->v[p] != l->v[k]->parent)
			p++;
		keep[k] = i != BIRTH_NOBODY && fits(f, i, l->v[k]) && (!l->v[k]->parent || keep[p]);
	}
	if (!keep[0])
		return ckpt_fail(
			err, E_RESTORE, -ESTALE,
			"sessions of the program changed while it was moved: task %d would "
			"have to be made anew",
			l->v[0]->pid);
	for (size_t k = l->n; !rc && k-- > 1;) {
		size_t i = births_find(f->b, l->v[k]->pid);

		if (keep[k])
			continue;
		rc = f->gone(f->arg, l->v[k], i != BIRTH_NOBODY && f->wish[i] != WARM_GONE, err);
		if (!rc)
			rc = end_task(r, l->v[k], err);
	}
	return rc;
}

static int begin_session(struct restore_ctx *r, struct warm_task *w, struct ckpt_err *err)
{
	struct steps s;
	int rc;

	warm_steps(r, &s);
	(void)steps_call(&s, "become a session leader", SYS_setsid, 0);
	rc = warm_run(r, w, &s, err);
	steps_free(&s);
	w->led = !rc;
	return rc;
}

/* Its memory is to begin empty, unless it is an heir: but for the arena and the parked mappings. */
static int first_list(struct restore_ctx *r, struct warm_task *w, struct steps *s,
		      struct ckpt_err *err)
{
	uint64_t end = r->parked.area + r->parked.area_len;

	(void)steps_call(s, "die with ckpt", SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	if (!w->heir) {
		(void)steps_call(s, "leave the parent's memory", SYS_munmap, 0, r->arena.remote);
		(void)steps_call(s, "leave the parent's memory", SYS_munmap, end,
				 ARCH_TASK_SIZE - end);
	}
	return steps_commit(s, w->slot, err);
}

/* @parent clones it. Not to succeed is no error: the end will tell why. */
static int give_birth(struct restore_ctx *r, struct warm_task *parent, const struct birth *x,
		      bool heir, struct ckpt_err *err)
{
	struct warm_task *w = warm_new(r, x->pid, parent, err);
	struct steps first, s;
	uint32_t at;
	int rc;

	if (!w)
		return err->code;
	w->exit_signal = x->exit_signal;
	w->birth_sid = x->birth_sid;
	w->share = x->share;
	w->heir = w->unsettled = heir;
	rc = heir ? warm_mm_copy(&w->mm, &parent->mm) : 0;
	if (rc)
		return mm_oom(err);
	warm_steps(r, &first);
	rc = first_list(r, w, &first, err);
	steps_free(&first);
	if (rc)
		return rc;
	steps_init(&s, &r->arena);
	restore_plan_clone(&s, w->slot, x->pid, CLONE_FILES | (x->share & BIRTH_FS ? CLONE_FS : 0),
			   x->exit_signal, "clone a child");
	at = (uint32_t)s.n - 1;
	if (!s.failed)
		s.v[at].flags |= CKPT_STEP_MAY_FAIL;
	rc = warm_run(r, parent, &s, err);
	steps_free(&s);
	if (rc)
		return rc;
	if (slot_ret(&r->arena, parent->slot, at) < 0) {
		warm_forget(r, w);
		return 0;
	}
	return warm_born(r, w, err);
}

static int grow_one(struct restore_ctx *r, const struct warm_follow *f, size_t i,
		    struct ckpt_err *err)
{
	const struct birth *x = &f->b->v[i];
	struct warm_task *parent;

	if (f->wish[i] != WARM_WANTED || !is_plain(x) || restore_warm_find(r, x->pid) ||
	    !kill(x->pid, 0))
		return 0;
	parent = restore_warm_find(r, f->b->v[x->by].pid);
	if (!parent)
		return 0;
	/* Into its parent's own session: its parent has to lead it. */
	if (!x->before_setsid && f->b->v[x->by].sid == f->b->v[x->by].pid && !parent->led) {
		if (has_old_children(f->b, x->by))
			return 0;
		if (begin_session(r, parent, err))
			return err->code;
	}
	return give_birth(r, parent, x, f->heir_of && f->heir_of[i] == parent->pid, err);
}

int restore_warm_follow(struct restore_ctx *r, const struct warm_follow *f, struct ckpt_err *err)
{
	int rc = drop_others(r, f, err);

	for (size_t k = 1; f->grow && !rc && k < f->b->n; k++)
		rc = grow_one(r, f, f->b->order[k], err);
	return rc;
}

int restore_warm_settle(struct restore_ctx *r,
			int (*gone)(void *arg, const struct warm_task *w, bool lives,
				    struct ckpt_err *err),
			void *arg, struct ckpt_err *err)
{
	auto_free enum warm_wish *wish = calloc(r->img->tasks.n + 1, sizeof(*wish));
	struct warm_follow f = { .b = &r->births, .wish = wish, .gone = gone, .arg = arg };

	if (!wish)
		return mm_oom(err);
	/* What comes from now on comes as any other write, and the program's mappings are as it
	 * had them. No page is looked at for that. */
	for (size_t i = 0; i < r->warm->tasks.n; i++)
		warm_uffd_close(r->warm->tasks.v[i]);
	if (restore_births_find(r, err))
		return err->code;
	for (size_t i = 0; i < r->img->tasks.n; i++)
		wish[i] = r->img->tasks.v[i]->zombie ? WARM_GONE : WARM_WANTED;
	return restore_warm_follow(r, &f, err);
}
