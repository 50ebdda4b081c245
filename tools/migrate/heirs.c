// SPDX-License-Identifier: GPL-2.0-only
/*
 * Children that begin with their parent's memory. What both share since the fork is sent once, and
 * is one page for both at the peer as well, if the child is born there when its parent has it. So a
 * child with much of that waits for the round after the one that sends its parent's memory.
 *
 * Then a page is the same for both if it is one page frame and neither has written to it since the
 * trackers were asked in the round before: so long it has been what the peer has of the parent. The
 * frames are looked at before the trackers are asked again, so that these know of each write until
 * then.
 */
#include <stdlib.h>

#include "base/vec.h"
#include "kern/pagemap.h"
#include "migrate/rounds.h"

#define WORTH_PAGES 256u /* shared: so many are worth another round */
#define WAIT_ROUNDS 8u   /* in all, by one waiting for the other */
#define SAME_RUNS 16384u /* in a frame */
#define LOOK_PAGES 512u  /* at once */

static bool waits(const struct round_task *t)
{
	return t->heir_of && !t->due;
}

void heirs_forget(struct round_task *t)
{
	t->heir_of = NULL;
	t->due = t->sent = false;
	vec_free(&t->first);
	vec_free(&t->same);
}

/* ---- lists of pages ------------------------------------------------------------------------- */

static uint64_t run_end(const struct round_run *r)
{
	return r->addr + (uint64_t)r->npages * CKPT_PAGE;
}

static int push(struct round_runs *l, uint64_t start, uint64_t end, bool backed)
{
	struct round_run *last = l->n ? &l->v[l->n - 1] : NULL;

	if (start >= end)
		return 0;
	if (last && last->backed == backed && run_end(last) == start &&
	    (end - last->addr) / CKPT_PAGE <= UINT32_MAX) {
		last->npages = (uint32_t)((end - last->addr) / CKPT_PAGE);
		return 0;
	}
	last = vec_push(l);
	if (!last)
		return -ENOMEM;
	*last = (struct round_run) { start, (uint32_t)((end - start) / CKPT_PAGE), backed };
	return 0;
}

/* @a becomes what is in either. */
static int unite(struct round_runs *a, const struct round_runs *b)
{
	struct round_runs out = { 0 };
	uint64_t done = 0;
	size_t i = 0, k = 0;
	int rc = 0;

	while (!rc && (i < a->n || k < b->n)) {
		const struct round_run *x = k == b->n || (i < a->n && a->v[i].addr <= b->v[k].addr)
						    ? &a->v[i++]
						    : &b->v[k++];

		rc = push(&out, x->addr > done ? x->addr : done, run_end(x), x->backed);
		if (run_end(x) > done)
			done = run_end(x);
	}
	vec_free(a);
	*a = out;
	return rc;
}

/* @a loses what is in @b. */
static int subtract(struct round_runs *a, const struct round_runs *b)
{
	struct round_runs out = { 0 };
	size_t k = 0;
	int rc = 0;

	for (size_t i = 0; !rc && i < a->n; i++) {
		uint64_t at = a->v[i].addr, end = run_end(&a->v[i]);

		while (k < b->n && run_end(&b->v[k]) <= at)
			k++;
		for (size_t n = k; !rc && n < b->n && b->v[n].addr < end; n++) {
			rc = push(&out, at, b->v[n].addr, a->v[i].backed);
			if (run_end(&b->v[n]) > at)
				at = run_end(&b->v[n]);
		}
		if (!rc)
			rc = push(&out, at, end, a->v[i].backed);
	}
	vec_free(a);
	*a = out;
	return rc;
}

/* @a loses what the peer does not have of @t. */
static int only_sent(const struct rounds *r, struct round_runs *a, const struct round_task *t)
{
	struct round_runs out = { 0 };
	int rc = 0;

	for (size_t i = 0; !rc && i < a->n; i++) {
		const struct round_run *x = &a->v[i];

		for (uint64_t at = x->addr, n; !rc && at < run_end(x); at += n * CKPT_PAGE) {
			bool had = false;

			n = store_had(&r->sent, (uint32_t)t->vpid, at,
				      (run_end(x) - at) / CKPT_PAGE, &had);
			if (had)
				rc = push(&out, at, at + n * CKPT_PAGE, x->backed);
		}
	}
	vec_free(a);
	*a = out;
	return rc;
}

/* ---- which pages are one for both ----------------------------------------------------------- */

/* Of @from, into @ret (or NULL). How many, as soon as there are @enough; or -errno. */
static int64_t same_frames(const struct round_task *t, const struct round_task *parent,
			   const struct round_runs *from, struct round_runs *ret, uint64_t enough)
{
	uint64_t ours[LOOK_PAGES], theirs[LOOK_PAGES];
	struct pagemap a = { .fd = -1 }, b = { .fd = -1 };
	int64_t same = 0;
	int rc = pagemap_open(&a, t->pid);

	if (!rc)
		rc = pagemap_open(&b, parent->pid);
	for (size_t i = 0; !rc && i < from->n && (uint64_t)same < enough; i++) {
		const struct round_run *x = &from->v[i];

		for (uint64_t at = 0, n; !rc && at < x->npages; at += n) {
			uint64_t addr = x->addr + at * CKPT_PAGE;

			n = x->npages - at < LOOK_PAGES ? x->npages - at : LOOK_PAGES;
			rc = pagemap_shared_frames(&a, addr, n, ours);
			if (!rc)
				rc = pagemap_shared_frames(&b, addr, n, theirs);
			for (uint64_t k = 0; !rc && k < n; k++, addr += CKPT_PAGE) {
				if (!ours[k] || ours[k] != theirs[k])
					continue;
				same++;
				if (ret)
					rc = push(ret, addr, addr + CKPT_PAGE, x->backed);
			}
		}
	}
	pagemap_close(&a);
	pagemap_close(&b);
	return rc ? rc : same;
}

void heirs_look(struct rounds *r)
{
	for (size_t i = 0; i < r->tasks.n; i++) {
		struct round_task *t = r->tasks.v[i];

		t->same.n = 0;
		/* What is not found out is sent. */
		if (waits(t) && t->heir_of->sent && !t->heir_of->lost && !t->lost &&
		    same_frames(t, t->heir_of, &t->first, &t->same, UINT64_MAX) < 0)
			t->same.n = 0;
	}
}

/* Whose memory it will find at its birth at the peer; NULL: nobody's who is tracked. */
static struct round_task *bearer(const struct rounds *r, const struct round_task *t)
{
	const struct births *b = &r->tree.births;

	for (size_t i = 0; i < b->n; i++) {
		const struct family_seen *seen = &r->tree.seen[i];

		if (seen->pid != t->tgid || seen->start != t->start || b->v[i].by == BIRTH_NOBODY)
			continue;
		seen = &r->tree.seen[b->v[i].by];
		for (size_t k = 0; k < r->tasks.n; k++)
			if (r->tasks.v[k]->tgid == seen->pid && r->tasks.v[k]->start == seen->start)
				return r->tasks.v[k];
	}
	return NULL;
}

/* A task whose first pass would be this one. */
static void begin_to_wait(struct rounds *r, struct round_task *t)
{
	struct round_task *parent = bearer(r, t);

	if (!parent || parent == t || parent->lost ||
	    same_frames(t, parent, &t->runs, NULL, WORTH_PAGES) < (int64_t)WORTH_PAGES)
		return;
	t->heir_of = parent;
	vec_free(&t->first);
	t->first = t->runs;
	t->runs = (struct round_runs) { 0 };
}

/* Its parent's memory is there: what is left of its own goes out in this round. */
static int come_due(struct rounds *r, struct round_task *t)
{
	int rc = subtract(&t->same, &t->runs);

	if (!rc)
		rc = subtract(&t->same, &t->heir_of->runs);
	if (!rc)
		rc = only_sent(r, &t->same, t->heir_of);
	if (!rc)
		rc = subtract(&t->first, &t->same);
	if (!rc)
		rc = unite(&t->runs, &t->first);
	t->due = !rc;
	return rc;
}

static int settle(struct rounds *r, struct round_task *t, bool more)
{
	int rc = 0;

	if (t->lost) {
		heirs_forget(t);
	} else if (!t->heir_of) {
		if (!t->sent)
			t->shared = tree_shares(t->pid);
		if (!t->sent && t->shared && more)
			begin_to_wait(r, t);
	} else if (t->heir_of->sent && !t->heir_of->lost && !r->direct) {
		rc = come_due(r, t);
	} else if (more && !t->heir_of->lost) {
		rc = unite(&t->first, &t->runs);
		t->runs.n = 0;
	} else {
		rc = unite(&t->runs, &t->first);
		heirs_forget(t);
	}
	return rc;
}

int heirs_settle(struct rounds *r, bool more)
{
	int rc = 0;

	/* Pages that were pinned are written without a trace. */
	more = more && !r->direct && r->waited < WAIT_ROUNDS;
	r->fresh_pages = 0;
	for (size_t i = 0; !rc && i < r->tasks.n; i++)
		rc = settle(r, r->tasks.v[i], more);
	for (size_t i = 0; i < r->tasks.n; i++) {
		const struct round_task *t = r->tasks.v[i];

		for (size_t k = 0; !t->sent && !t->lost && k < t->runs.n; k++)
			r->fresh_pages += t->runs.v[k].npages;
	}
	return rc;
}

bool heirs_wait(const struct rounds *r)
{
	for (size_t i = 0; i < r->tasks.n; i++)
		if (waits(r->tasks.v[i]))
			return true;
	return false;
}

void heirs_sent(struct rounds *r)
{
	for (size_t i = 0; i < r->tasks.n; i++) {
		struct round_task *t = r->tasks.v[i];

		if (t->lost || waits(t))
			continue;
		heirs_forget(t);
		t->sent = true;
	}
	r->waited += heirs_wait(r);
}

void heirs_wish(const struct rounds *r, struct tree_wish *ret)
{
	for (size_t i = 0; i < r->tree.births.n; i++) {
		const struct birth *x = &r->tree.births.v[i];

		for (size_t k = 0; k < r->tasks.n; k++) {
			const struct round_task *t = r->tasks.v[k];

			if (t->tgid != r->tree.seen[i].pid)
				continue;
			ret[i].late = waits(t);
			if (t->due && x->by != BIRTH_NOBODY &&
			    r->tree.births.v[x->by].pid == t->heir_of->vpid)
				ret[i].heir_of = t->heir_of->vpid;
		}
	}
}

/* ---- to the peer ---------------------------------------------------------------------------- */

static int send_some(struct rounds *r, const struct round_task *t, const struct round_run *v,
		     size_t n)
{
	Ckpt__MigRun *all = calloc(n + 1, sizeof(*all)), **at = calloc(n + 1, sizeof(*at));
	Ckpt__MigSame m = CKPT__MIG_SAME__INIT;
	struct ckpt_err oom = { 0 };
	int rc = all && at ? 0 : -ENOMEM;

	for (size_t i = 0; !rc && i < n; i++) {
		ckpt__mig_run__init(&all[i]);
		all[i].addr = v[i].addr;
		all[i].npages = v[i].npages;
		at[i] = &all[i];
		r->s->res->saved_same += (uint64_t)v[i].npages * CKPT_PAGE;
		if (store_note(&r->sent, (uint32_t)t->vpid, v[i].addr, v[i].npages, &oom))
			rc = -ENOMEM;
	}
	m.pid = t->vpid;
	m.of = t->heir_of->vpid;
	m.runs = at;
	m.n_runs = n;
	if (!rc)
		rc = wire_send_msg(&r->s->link, MIG_SAME, &m.base);
	free(all);
	free(at);
	return rc;
}

int heirs_send(struct rounds *r)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < r->tasks.n; i++) {
		const struct round_task *t = r->tasks.v[i];

		for (size_t k = 0; !rc && t->due && k < t->same.n; k += SAME_RUNS)
			rc = send_some(r, t, &t->same.v[k],
				       t->same.n - k < SAME_RUNS ? t->same.n - k : SAME_RUNS);
	}
	return rc;
}
