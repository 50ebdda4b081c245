// SPDX-License-Identifier: GPL-2.0-only
/* Sessions and process groups of the tree: can each process be put into its own again? */
#include <linux/kcmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kern/sharing.h"
#include "model/births.h"

/* Session and group of a task as the innermost pid namespace of the target numbers them; 0: the
 * leader is outside of it. */
static void inner_family(int pid, bool nested, struct birth *x)
{
	auto_free char *status = NULL;
	struct ckpt_err gone = { 0 };
	uint64_t v = 0;

	if (!nested || proc_read(pid, "status", &status, NULL, &gone))
		return;
	for (int n = 0; proc_field_num(status, "NSpgid", n, 10, &v); n++)
		x->pgid = (int)v;
	for (int n = 0; proc_field_num(status, "NSsid", n, 10, &v); n++)
		x->sid = (int)v;
}

/* @outer: the leader's number as ckpt sees it. A number stays taken as long as a session or group
 * has it, so a process of this number is that leader. */
static bool is_lone(const struct births *b, int inner, int outer)
{
	char path[48];

	if (!inner || births_find(b, inner) != BIRTH_NOBODY)
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", outer);
	return access(path, F_OK) != 0;
}

struct outer_ids {
	int sid, pgid;
	int live; /* a thread of it that has not ended, or 0; before the freeze only */
};

static int family_find(struct births *b, const struct outer_ids *ids, struct ckpt_err *err)
{
	struct birth *root = &b->v[0];

	births_index(b);
	for (size_t i = 0; i < b->n; i++) {
		b->v[i].lone_sid = is_lone(b, b->v[i].sid, ids[i].sid);
		b->v[i].lone_pgid = is_lone(b, b->v[i].pgid, ids[i].pgid);
	}
	/* A shell's job: its group is the one that the restorer is in, whoever led it. */
	if (root->sid != root->pid && !root->lone_sid)
		for (size_t i = b->n; i-- > 0;)
			b->v[i].lone_pgid &= b->v[i].pgid != root->pgid;
	return births_plan(b, err);
}

/* Numbers of what it shares: that of the first who has it, behind zero. */
static void family_share(const struct dump_ctx *d, size_t i, struct birth *v)
{
	const struct target_task *t = &d->target.tasks.v[i];

	if (t->files_of != i)
		v[i].files = v[t->files_of].files = (int)t->files_of + 1;
	if (t->fs_of != i)
		v[i].fs = v[t->fs_of].fs = (int)t->fs_of + 1;
}

int dump_family(struct dump_ctx *d, struct ckpt_err *err)
{
	auto_free struct outer_ids *ids = calloc(d->tasks.n + 1, sizeof(*ids));
	struct births b;
	int rc = ids ? births_init(&b, d->tasks.n, err) : ckpt_oom(err);

	if (rc)
		return rc;
	for (size_t i = 0; i < b.n; i++) {
		Ckpt__Task *t = d->tasks.v[i];

		ids[i] = (struct outer_ids) { .sid = t->sid, .pgid = t->pgid };
		b.v[i] = (struct birth) { .pid = t->pid,
					  .ppid = t->ppid,
					  .pgid = t->pgid,
					  .sid = t->sid,
					  .exit_signal = t->exit_signal };
		inner_family(d->target.tasks.v[i].pid, d->target.nested_pids, &b.v[i]);
		family_share(d, i, b.v);
	}
	rc = family_find(&b, ids, err);
	for (size_t i = 0; !rc && i < b.n; i++) {
		Ckpt__Task *t = d->tasks.v[i];

		t->sid = b.v[i].sid;
		t->pgid = b.v[i].pgid;
		t->lone_sid = b.v[i].lone_sid;
		t->lone_pgid = b.v[i].lone_pgid;
	}
	births_free(&b);
	return rc;
}

/* ---- the same before the freeze ---------------------------------------------------------- */

struct family {
	struct {
		struct birth *v;
		size_t n, cap;
	} tasks;
	struct {
		struct outer_ids *v;
		size_t n, cap;
	} ids;
	struct {
		struct family_seen *v;
		size_t n, cap;
	} seen;
	bool changed; /* while it was looked at */
};

struct family *dump_family_new(void)
{
	return calloc(1, sizeof(struct family));
}

int dump_family_see(struct family *f, int pid, int live, int ppid, const struct proc_stat *st,
		    const char *status)
{
	struct ckpt_err gone = { 0 };
	struct birth *x = vec_push(&f->tasks);
	struct outer_ids *ids = vec_push(&f->ids);
	struct family_seen *seen = vec_push(&f->seen);
	bool nested = false;
	int vpid = status ? proc_status_inner(status, &nested) : 0;

	if (!x || !ids || !seen || !st ||
	    (!vpid && proc_inner_pid(pid, pid, &vpid, &nested, &gone))) {
		f->changed = true;
		return 0;
	}
	*ids = (struct outer_ids) { st->session, st->pgrp, live };
	*x = (struct birth) { .pid = vpid,
			      .ppid = ppid,
			      .pgid = st->pgrp,
			      .sid = st->session,
			      .exit_signal = st->exit_signal };
	*seen = (struct family_seen) {
		.pid = pid, .start = st->start_time, .zombie = !live, .tty = st->tty_nr != 0
	};
	inner_family(pid, nested, x);
	return vpid;
}

static void family_add(struct family *f, int pid, int ppid)
{
	struct ckpt_err gone = { 0 };
	struct proc_pids kids;
	struct proc_stat st;
	int live, vpid;

	if (proc_stat_read(pid, &st, &gone)) {
		(void)dump_family_see(f, pid, 0, ppid, NULL, NULL);
		return;
	}
	live = st.state == 'Z' || st.state == 'X' ? proc_live(pid) : pid;
	vpid = dump_family_see(f, pid, live, ppid, &st, NULL);
	if (!vpid || !live || proc_children(pid, NULL, &kids, &gone))
		return;
	for (size_t i = 0; i < kids.n; i++)
		family_add(f, kids.v[i], vpid);
	vec_free(&kids);
}

static int family_sharing(const struct family *f, const struct task_kins *kins, struct birth *v,
			  struct ckpt_err *err)
{
	size_t n = f->tasks.n;
	auto_free int *pids = calloc(n, sizeof(*pids));
	auto_free size_t *first = calloc(n, sizeof(*first));
	int rc;

	if (!pids || !first)
		return ckpt_oom(err);
	/* What has ended shares nothing: the kernel compares it with nobody. */
	for (size_t i = 0; i < n; i++)
		pids[i] = f->ids.v[i].live;
	rc = sharing_find(pids, n, KCMP_FILES, kins, first, err);
	for (size_t i = 0; !rc && i < n; i++)
		if (first[i] != i)
			v[i].files = v[first[i]].files = (int)first[i] + 1;
	if (!rc)
		rc = sharing_find(pids, n, KCMP_FS, kins, first, err);
	for (size_t i = 0; !rc && i < n; i++)
		if (first[i] != i)
			v[i].fs = v[first[i]].fs = (int)first[i] + 1;
	return rc;
}

static void family_free(struct family *f)
{
	vec_free(&f->tasks);
	vec_free(&f->ids);
	vec_free(&f->seen);
}

/* *@b is planned unless it changed. */
static int family_plan(struct family *f, const struct task_kins *kins, struct births *b,
		       struct ckpt_err *err)
{
	int rc;

	if (f->changed)
		return 0;
	rc = births_init(b, f->tasks.n, err);
	if (rc)
		return rc;
	memcpy(b->v, f->tasks.v, b->n * sizeof(*b->v));
	rc = family_sharing(f, kins, b->v, err);
	return rc ? rc : family_find(b, f->ids.v, err);
}

int dump_family_check(struct family *f, const struct task_kins *kins, struct ckpt_err *err)
{
	struct births b = { 0 };
	int rc = family_plan(f, kins, &b, err);

	births_free(&b);
	return rc;
}

void dump_family_free(struct family *f)
{
	if (f)
		family_free(f);
	free(f);
}

int dump_family_look(int pid, struct births *ret, struct family_seen **ret_seen)
{
	struct ckpt_err err = { 0 };
	struct family f = { 0 };
	struct births b = { 0 };
	int rc;

	family_add(&f, pid, 0);
	rc = family_plan(&f, NULL, &b, &err);
	if (!rc && f.changed)
		rc = -EAGAIN;
	if (rc) {
		births_free(&b);
	} else {
		*ret = b;
		*ret_seen = f.seen.v;
		f.seen.v = NULL;
	}
	family_free(&f);
	return rc;
}

int dump_lone_sid(int pid)
{
	struct ckpt_err gone = { 0 };
	struct birth x = { 0 };
	struct proc_stat st;
	bool nested = false;
	int vpid = 0;
	char path[48];

	if (proc_stat_read(pid, &st, &gone) || proc_inner_pid(pid, pid, &vpid, &nested, &gone))
		return 0;
	x.sid = st.session;
	inner_family(pid, nested, &x);
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", st.session);
	return x.sid && x.sid != vpid && access(path, F_OK) ? x.sid : 0;
}
