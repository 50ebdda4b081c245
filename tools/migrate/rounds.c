// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copying memory while the program runs, in rounds, until what is left is small. That is the last
 * part: the final dump asks the same trackers and names everything else as unchanged.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "kern/procfs.h"
#include "migrate/pump.h"
#include "migrate/rounds.h"

#define FIXED_US 20000u  /* of a stop, besides memory */
#define PAGE_US 10u      /* of a stop: to find a page, save it and put it in its place */
#define FINE_US 3000u    /* of a stop: not worth another round */
#define FINE_ROUNDS 4u   /* that only make a stop shorter which is short enough */
#define SMALL_PAGES 256u /* so few that another round gains nothing */
#define STUCK_ROUNDS 3u  /* without progress: it does not converge */
#define LATE_ROUNDS 3u   /* more, for the sake of processes that came late */

/* For the final dump: what it does not get from here it saves whole. */
static int rounds_tracker(struct dump_tracking *tr, struct target_task *task, bool again,
			  struct tracker **ret, bool *ret_fresh, struct ckpt_err *err)
{
	struct rounds *r = (struct rounds *)tr; /* its first member */
	struct round_task *t = rounds_task(r, task->pid);

	(void)err;
	*ret = NULL;
	*ret_fresh = false;
	if (!t)
		return 0;
	t->lost |= again || t->start != rounds_start_of(t->tgid);
	if (!t->lost)
		*ret = &t->tracker;
	return 0;
}

/* Of what the tracker calls unwritten: did it go out as it is? */
static uint64_t rounds_had(struct dump_tracking *tr, int pid, uint64_t addr, uint64_t npages,
			   bool *ret_had)
{
	struct rounds *r = (struct rounds *)tr;
	const struct round_task *t = rounds_task(r, pid);

	*ret_had = false;
	return t ? store_had(&r->sent, (uint32_t)t->vpid, addr, npages, ret_had) : npages;
}

static uint32_t rounds_object(struct dump_tracking *tr, const char *kind, uint64_t dev,
			      uint64_t ino)
{
	return shares_number(&((struct rounds *)tr)->shares, kind, dev, ino);
}

static const unsigned char *rounds_object_hash(struct dump_tracking *tr, uint32_t number,
					       uint64_t addr)
{
	return shares_hash(&((struct rounds *)tr)->shares, number, addr);
}

static uint64_t rounds_object_had(struct dump_tracking *tr, uint32_t number, uint64_t addr,
				  uint64_t npages, bool *ret_had)
{
	return shares_had(&((struct rounds *)tr)->shares, number, addr, npages, ret_had);
}

static uint64_t rounds_dug(struct dump_tracking *tr)
{
	return watched_dug(&((struct rounds *)tr)->watched);
}

static uint64_t space_sum(const struct proc_vmas *vmas)
{
	uint64_t sum = 1;

	for (size_t i = 0; i < vmas->n; i++) {
		const struct proc_vma *p = &vmas->v[i];
		const uint64_t now[] = {
			sum, p->start, p->end, p->prot, p->flags, p->shared, p->ino
		};

		sum = XXH3_64bits(now, sizeof(now));
	}
	return sum;
}

/* Where the task's memory is, for a peer that builds it meanwhile. 0 or -errno of the link. */
static int send_space(struct rounds *r, const struct round_task *t)
{
	const struct proc_vmas *vmas = &t->vmas;
	Ckpt__Mm mm = CKPT__MM__INIT;
	Ckpt__Vma *all = calloc(vmas->n + 1, sizeof(*all));
	Ckpt__Vma **v = calloc(vmas->n + 1, sizeof(*v));
	int rc = -ENOMEM;

	mm.id = (uint32_t)t->vpid;
	mm.vmas = v;
	for (size_t i = 0; all && v && i < vmas->n; i++) {
		const struct proc_vma *p = &vmas->v[i];
		const struct vma_kind *kind = vma_kind_match(p);

		if (p->start >= 1ull << 47) /* vsyscall */
			break;
		if (p->start == p->end)
			continue;
		ckpt__vma__init(&all[i]);
		all[i].start = p->start;
		all[i].end = p->end;
		all[i].prot = p->prot;
		all[i].map = (p->shared ? MAP_SHARED : MAP_PRIVATE) |
			     (p->flags & PROC_VMF(gd) ? MAP_GROWSDOWN : 0) |
			     (p->flags & PROC_VMF(nr) ? MAP_NORESERVE : 0);
		all[i].kind = (char *)(kind ? kind->name : "");
		v[mm.n_vmas++] = &all[i];
	}
	if (all && v)
		rc = wire_send_msg(&r->s->link, MIG_SPACE, &mm.base);
	free(all);
	free(v);
	return rc;
}

/* What changed of the processes and of where their memory is. 0 or -errno of the link. */
static int send_places(struct rounds *r)
{
	auto_free struct tree_wish *wish = calloc(r->tree.births.n + 1, sizeof(*wish));
	uint64_t sum;
	int rc = 0;

	if (!wish)
		return -ENOMEM;
	heirs_wish(r, wish);
	sum = tree_sum(&r->tree, wish);
	if (r->tree.births.n && sum != r->tree_sum) {
		rc = tree_send(&r->tree, wish, &r->s->link);
		r->tree_sum = sum;
		/* Who is made by it knows nothing yet. */
		for (size_t i = 0; i < r->tasks.n; i++)
			r->tasks.v[i]->space = 0;
	}
	for (size_t i = 0; !rc && i < r->tasks.n; i++) {
		struct round_task *t = r->tasks.v[i];

		sum = t->lost ? t->space : space_sum(&t->vmas);
		if (sum != t->space)
			rc = send_space(r, t);
		t->space = sum;
	}
	return rc;
}

/* What they share: who has it mapped, or only open. 0 or -errno of the link. */
static int send_shares(struct rounds *r)
{
	/* What is written from here on the trackers tell. */
	int rc = watched_arm(r);

	if (!rc)
		rc = shares_begin(&r->shares, r->s, &r->watched);

	for (size_t i = 0; !rc && i < r->tasks.n; i++)
		rc = shares_mapped(&r->shares, r->tasks.v[i]->pid, &r->tasks.v[i]->vmas);
	for (size_t i = 0; !rc && i < r->tree.births.n; i++)
		if (!r->tree.seen[i].zombie)
			rc = shares_open(&r->shares, r->tree.seen[i].pid);
	r->tracking.seed = r->shares.seed;
	return rc ? rc : shares_end(&r->shares);
}

/* Which processes are there, and how much memory have those that nobody tracks? */
void rounds_look(struct rounds *r)
{
	r->late_bytes = 0;
	tree_look(&r->tree, r->s->opts->pid);
	for (size_t i = 0; i < r->tree.births.n; i++) {
		const struct family_seen *seen = &r->tree.seen[i];
		const struct round_task *t = NULL;

		for (size_t k = 0; !t && k < r->tasks.n; k++)
			if (r->tasks.v[k]->tgid == seen->pid)
				t = r->tasks.v[k];
		if (!seen->zombie &&
		    (!t || t->start != seen->start || (t->lost && t->again < ROUNDS_AGAIN_MAX)))
			r->late_bytes += tree_memory(seen->pid);
	}
}

/* The first pass is everything there is. What does not fit into the cache would only push itself
 * out again; then it begins with what is written. */
static void cache_plan(struct rounds *r, uint32_t number)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < r->tasks.n; i++)
		for (size_t k = 0; k < r->tasks.v[i]->runs.n; k++)
			pages += r->tasks.v[i]->runs.v[k].npages;
	r->cache_all = number > 1 || pages <= delta_pages(r->cache);
}

/* The peer had other pages than we thought: the last dump sends them whole. */
static void take_lost(struct rounds *r, const Ckpt__MigRound *back)
{
	for (size_t i = 0; i < back->n_lost; i++) {
		const Ckpt__MigRun *l = back->lost[i];

		if (l->npages > MIG_PAGES_MAX)
			continue;

		store_forget(&r->sent, l->pid, l->addr, l->npages);
		for (uint32_t k = 0; k < l->npages; k++)
			delta_drop(r->cache, l->pid, l->addr + (uint64_t)k * CKPT_PAGE);
	}
}

/* One pass over all tasks; all of it is kept over there when it returns. */
static int round_once(struct rounds *r, uint32_t number, struct migrate_event *e,
		      struct ckpt_err *err)
{
	Ckpt__MigRound m = CKPT__MIG_ROUND__INIT, *back;
	struct source *s = r->s;
	uint64_t begin = io_now_us(), pages = s->res->pages, zero = s->res->zero_pages;
	uint64_t sent = s->link.sent;
	int rc = 0;

	rounds_look(r);
	heirs_look(r);
	rc = rounds_collect(r, number, err);
	if (rc)
		return rc;
	if (heirs_settle(r, number < s->opts->max_rounds))
		return ckpt_oom(err);
	cache_plan(r, number);
	rc = send_places(r);
	if (!rc)
		rc = heirs_send(r);
	if (!rc)
		rc = rounds_send_pages(r);
	if (!rc)
		rc = send_shares(r);
	m.round = number;
	m.pages = s->res->pages - pages;
	m.bytes = s->link.sent - sent;
	if (!rc)
		rc = wire_send_msg(&s->link, MIG_ROUND, &m.base);
	if (rc)
		return wire_fail(&s->link, &s->buf, rc, err);
	back = wire_expect(&s->link, &s->buf, MIG_ROUND, &ckpt__mig_round__descriptor, err);
	if (!back)
		return err->code;
	take_lost(r, back);
	ckpt__mig_round__free_unpacked(back, NULL);
	heirs_sent(r);
	*e = (struct migrate_event) { .what = "round",
				      .round = number,
				      .pages = m.pages,
				      .zero_pages = s->res->zero_pages - zero,
				      .bytes = m.bytes,
				      .us = io_now_us() - begin };
	e->us += !e->us;
	/* To look at what is shared takes the link no time. */
	e->link_us = e->us > r->shares.us ? e->us - r->shares.us : 1;
	e->shared_us = r->shares.stop_us;
	e->link_bytes_s = e->bytes * 1000000 / e->link_us;
	return 0;
}

static int no_convergence(struct rounds *r, const struct migrate_event *e, struct ckpt_err *err)
{
	if (r->s->opts->diverge != DIVERGE_FAIL)
		return 0;
	if (e->shared_us > e->downtime_us / 2)
		(void)ckpt_fail(err, E_PEER, -ETIME,
				"it would stand still for %llu ms, %llu of them for a look at its "
				"shared memory",
				(unsigned long long)e->downtime_us / 1000,
				(unsigned long long)e->shared_us / 1000);
	else
		(void)ckpt_fail(err, E_PEER, -ETIME,
				"it would stand still for %llu ms: it writes %llu MB/s, the link "
				"carries %llu MB/s",
				(unsigned long long)e->downtime_us / 1000,
				(unsigned long long)e->write_bytes_s / 1000000,
				(unsigned long long)e->link_bytes_s / 1000000);
	return ckpt_remedy(err, "let it stand still longer with --max-downtime, or stop it anyway "
				"with --on-diverge stop");
}

/* Half of what it had left. False when it is not to be slowed down, or no more. */
static bool slow_down(struct rounds *r, const struct migrate_event *e)
{
	struct migrate_event told = *e;
	uint32_t now = throttle_get(r->throttle);

	if (r->s->opts->diverge != DIVERGE_THROTTLE || now >= THROTTLE_MAX)
		return false;
	if (!r->throttle)
		r->throttle = throttle_start(r->s->opts->pid, r->s->ui);
	if (!r->throttle)
		return false;
	throttle_set(r->throttle, (100 + now) / 2);
	told.what = "throttled";
	told.throttle = throttle_get(r->throttle);
	source_event(r->s, &told);
	return true;
}

/* How long what is written in the time of this round adds to the stop. */
static uint64_t left_us(const struct migrate_event *e)
{
	uint64_t bytes = e->write_bytes_s * e->us / 1000000;
	uint64_t link = e->link_bytes_s ? bytes * 1000000 / e->link_bytes_s : 0;
	uint64_t work = bytes / CKPT_PAGE * PAGE_US;

	return link > work ? link : work;
}

static int loop(struct rounds *r, struct ckpt_err *err)
{
	const struct migrate_opts *o = r->s->opts;
	uint64_t before = 0, armed = io_now_us();
	uint32_t stuck = 0, fine = 0;

	for (uint32_t n = 1; n <= o->max_rounds; n++) {
		uint64_t began = io_now_us(), written, left;
		struct migrate_event e;
		int rc = round_once(r, n, &e, err);

		if (!rc && (rc = ckpt_fault("migrate.round")))
			rc = ckpt_fail_errno(err, E_PEER, rc, "fault point migrate.round");
		if (rc)
			return rc;
		r->s->res->rounds = n;
		/* The first pass of a process is everything there is; the second one says what is
		 * written. */
		written = e.pages > r->fresh_pages ? e.pages - r->fresh_pages : 0;
		if (n > 1)
			e.write_bytes_s = written * CKPT_PAGE * 1000000 / (began - armed + 1);
		armed = began;
		left = left_us(&e);
		e.downtime_us = FIXED_US + e.shared_us + left;
		e.throttle = throttle_get(r->throttle);
		source_event(r->s, &e);
		rounds_look(r);
		if ((r->late_bytes > ROUNDS_NEW_BYTES && r->late++ < LATE_ROUNDS) || heirs_wait(r))
			continue;
		/* So much less was written meanwhile that another one makes the stop shorter. */
		if (n > 1 && n < o->max_rounds && left > FINE_US && left < e.pages * PAGE_US / 2 &&
		    fine++ < FINE_ROUNDS)
			continue;
		if (e.pages <= SMALL_PAGES || (n > 1 && e.downtime_us <= o->max_downtime_us))
			return 0;
		stuck = n > 2 && written >= before - before / 8 ? stuck + 1 : 0;
		before = written;
		if ((stuck >= STUCK_ROUNDS || (stuck && r->throttle)) && n < o->max_rounds &&
		    slow_down(r, &e))
			stuck = 0;
		if (stuck >= STUCK_ROUNDS || n == o->max_rounds)
			return no_convergence(r, &e, err);
	}
	return 0;
}

int rounds_run(struct source *s, struct ckpt_err *err)
{
	struct ckpt_err why = { 0 };
	const struct track_ops *ops = track_choose(s->opts->tracker, true, &why);
	struct rounds *r;
	int rc;

	if (!ops) {
		*err = why;
		return err->code;
	}
	s->res->tracker = ops->name;
	if (!ops->live || ops == &track_none || !s->opts->max_rounds)
		return 0; /* all of it is sent while the program stands still */
	r = calloc(1, sizeof(*r));
	if (!r)
		return ckpt_oom(err);
	s->rounds = r;
	r->s = s;
	r->ops = ops;
	r->sent.fd = -1;
	if (s->series.iters.vma.prog_fd < 0)
		(void)vma_iter_open(&s->series.iters.vma, &s->series.iters.types);
	if (ops->share)
		dump_iters_mm(&s->series.iters);
	btf_free(&s->series.iters.types);
	watched_begin(&r->watched, &s->series.iters.mm);
	r->tracking.tracker = rounds_tracker;
	r->tracking.had = rounds_had;
	r->tracking.object = rounds_object;
	r->tracking.object_hash = rounds_object_hash;
	r->tracking.object_had = rounds_object_had;
	r->tracking.watched = &r->watched.notes;
	r->tracking.dug = rounds_dug;
	r->tracking.increment = true;
	r->tracking.ranges = ops->nests;
	r->buf = aligned_alloc(CKPT_PAGE, (size_t)PUMP_PARCELS * MIG_PAGES_MAX * CKPT_PAGE);
	r->xor = malloc((size_t)MIG_PAGES_MAX * CKPT_PAGE);
	r->cache = delta_open(s->opts->delta_cache);
	r->xor_pays = true;
	rc = r->buf && r->xor ? 0 : ckpt_oom(err);
	if (!rc)
		rc = loop(r, err);
	throttle_stop(r->throttle);
	r->throttle = NULL;
	return rc;
}

struct dump_tracking *rounds_tracking(struct source *s)
{
	return s->rounds ? &s->rounds->tracking : NULL;
}

void rounds_end(struct source *s)
{
	struct rounds *r = s->rounds;

	if (!r)
		return;
	for (size_t i = 0; i < r->tasks.n; i++) {
		tracker_detach(&r->tasks.v[i]->tracker);
		proc_vmas_free(&r->tasks.v[i]->vmas);
		heirs_forget(r->tasks.v[i]);
		vec_free(&r->tasks.v[i]->runs);
		free(r->tasks.v[i]);
	}
	vec_free(&r->tasks);
	shares_free(&r->shares);
	watched_end(&r->watched);
	tree_free(&r->tree);
	store_close(&r->sent);
	delta_close(r->cache);
	free(r->xor);
	free(r->buf);
	free(r);
	s->rounds = NULL;
}
