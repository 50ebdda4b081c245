// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copying memory while the program runs. Every task gets a tracker at one short stop; a round asks
 * for the pages written since the round before, which begins their next epoch in the same act, and
 * sends them. What is still written when the program stops for good is the last, small part: the
 * final dump asks the same trackers and names everything else as unchanged.
 */
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/sum.h"
#include "base/vec.h"
#include "kern/directio.h"
#include "kern/procfs.h"
#include "kern/sharing.h"
#include "kern/vmaiter.h"
#include "migrate/delta.h"
#include "migrate/source.h"
#include "migrate/store.h"
#include "migrate/throttle.h"
#include "migrate/tree.h"

#define NEW_BYTES (16u << 20)
#define FIXED_US 20000u  /* of a stop, besides memory */
#define SMALL_PAGES 256u /* so few that another round gains nothing */
#define XOR_EVERY 64u    /* runs between two looks whether differences pay */
#define STUCK_ROUNDS 3u  /* without progress: it does not converge */
#define AGAIN_MAX 4u     /* times that a task is tracked anew */
#define LATE_ROUNDS 3u   /* more, for the sake of processes that came late */

struct round_run {
	uint64_t addr;
	uint32_t npages;
	bool backed;
};

struct round_task {
	struct tracker tracker;
	int pid, tgid, vpid;
	uint64_t start; /* clock ticks since boot: another process may get the number */
	bool lost;      /* all of it will be sent at the end */
	unsigned int again;
	uint64_t space; /* sum of the mappings that were sent last */
	struct proc_vmas vmas;
	struct {
		struct round_run *v;
		size_t n, cap;
	} runs; /* to be sent in this round */
};

struct rounds {
	struct dump_tracking tracking;
	struct source *s;
	const struct track_ops *ops;
	struct store sent;
	struct {
		struct round_task **v;
		size_t n, cap;
	} tasks;
	struct tree tree;      /* as it was at the begin of this round */
	uint64_t tree_sum;     /* of the one that was sent last */
	uint64_t late_bytes;   /* of processes that are not tracked yet */
	unsigned int late;     /* rounds that were made for them */
	bool direct;           /* pages are written that look unwritten: arm at short stops only */
	struct round_task *at; /* the task and the kind of mappings being asked about */
	bool backed;
	uint64_t new_bytes; /* of mappings that are not tracked yet */
	char *buf;          /* MIG_PAGES_MAX pages */
	struct delta_cache *cache;
	bool cache_all;   /* there is room for every page; or only for those sent more than once */
	uint64_t * xor ;  /* MIG_PAGES_MAX pages */
	uint64_t xor_try; /* runs until the next look whether differences pay */
	bool xor_pays;
	struct vma_iter iter;      /* flags of mappings without a look at their pages */
	struct throttle *throttle; /* NULL: it runs at full speed */
};

static int oom(struct ckpt_err *err)
{
	return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
}

static struct round_task *task_find(struct rounds *r, int pid)
{
	for (size_t i = 0; i < r->tasks.n; i++)
		if (r->tasks.v[i]->pid == pid)
			return r->tasks.v[i];
	return NULL;
}

static uint64_t start_of(int pid)
{
	struct ckpt_err gone = { 0 };
	struct proc_stat st;

	return proc_stat_read(pid, &st, &gone) ? 0 : st.start_time;
}

/* For the final dump: what it does not get from here it saves whole. */
static int rounds_tracker(struct dump_tracking *tr, struct target_task *task, bool again,
			  struct tracker **ret, bool *ret_fresh, struct ckpt_err *err)
{
	struct rounds *r = (struct rounds *)tr; /* its first member */
	struct round_task *t = task_find(r, task->pid);

	(void)err;
	*ret = NULL;
	*ret_fresh = false;
	if (!t)
		return 0;
	t->lost |= again || t->start != start_of(t->tgid);
	if (!t->lost)
		*ret = &t->tracker;
	return 0;
}

/* Of what the tracker calls unwritten: did it go out as it is? */
static uint64_t rounds_had(struct dump_tracking *tr, int pid, uint64_t addr, uint64_t npages,
			   bool *ret_had)
{
	struct rounds *r = (struct rounds *)tr;
	const struct round_task *t = task_find(r, pid);

	*ret_had = false;
	return t ? store_had(&r->sent, (uint32_t)t->vpid, addr, npages, ret_had) : npages;
}

static int note_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct rounds *r = arg;

	/* Zero pages and guards cost nothing at the end. */
	if ((flags & TRACK_GUARD) || ((flags & TRACK_ZERO) && !r->backed))
		return 0;
	if (!(flags & TRACK_WRITTEN)) {
		store_see(&r->sent, (uint32_t)r->at->vpid, addr, npages);
		return 0;
	}
	while (npages) {
		uint32_t n = npages > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)npages;
		struct round_run *run = vec_push(&r->at->runs);

		if (!run)
			return -ENOMEM;
		*run = (struct round_run) { addr, n, r->backed };
		addr += (uint64_t)n * CKPT_PAGE;
		npages -= n;
	}
	return 0;
}

static bool wanted(const struct proc_vma *v)
{
	const struct vma_kind *kind = vma_kind_match(v);

	return v->start < v->end && kind && kind->private_pages && dump_vma_tracked(v);
}

/* Need the tracker not be told of it at a stop first? */
static bool known(const struct rounds *r, const struct proc_vma *v)
{
	return r->ops->finds_new || (v->flags & PROC_VMF(uw));
}

/* A program that runs may move a mapping while they are read, from one page of text to the next:
 * each address belongs to the first one that has it. */
static void vmas_clip(struct proc_vmas *vmas)
{
	uint64_t last = 0;

	for (size_t i = 0; i < vmas->n; i++) {
		struct proc_vma *v = &vmas->v[i];

		if (v->start < last)
			v->start = last;
		if (v->end < v->start)
			v->end = v->start; /* nothing is left of it */
		last = v->end;
	}
}

/* Behind the last of the adjacent mappings from the i-th on that are asked about in one go. */
static size_t group_end(const struct rounds *r, const struct round_task *t, size_t i, bool frozen)
{
	const struct proc_vma *v = t->vmas.v;
	size_t next = i + 1;

	while (next < t->vmas.n && v[next].start == v[next - 1].end && wanted(&v[next]) &&
	       (frozen || known(r, &v[next])) && !v[next].ino == !v[i].ino)
		next++;
	return next;
}

/*
 * Written pages of one task, and the begin of its next epoch. While it runs, only of what is
 * tracked already: mappings may change under our eyes. What fails then, and what is new, was not
 * seen: the final dump sends it.
 */
static int collect_task(struct rounds *r, struct round_task *t, bool frozen)
{
	struct ckpt_err gone = { 0 };
	int rc = tracker_begin(&t->tracker);

	r->at = t;
	t->runs.n = 0;
	proc_vmas_free(&t->vmas);
	store_see_none(&r->sent, (uint32_t)t->vpid);
	if (!rc)
		rc = proc_vmas_read(t->pid, &r->iter, &t->vmas, &gone);
	vmas_clip(&t->vmas);
	for (size_t i = 0, next; !rc && i < t->vmas.n; i = next) {
		const struct proc_vma *v = &t->vmas.v[i];

		next = i + 1;
		if (!wanted(v))
			continue;
		if (!known(r, v))
			r->new_bytes += v->end - v->start;
		if (!frozen && !known(r, v))
			continue;
		next = group_end(r, t, i, frozen);
		r->backed = v->ino != 0;
		rc = tracker_collect(&t->tracker, v->start, t->vmas.v[next - 1].end,
				     TRACK_ARM | (r->backed ? 0 : TRACK_ANON) |
					     (frozen ? 0 : TRACK_KNOWN),
				     note_run, r);
		if (!frozen && rc && rc != -ESTALE && rc != -ENOMEM)
			rc = 0;
	}
	if (!rc)
		rc = tracker_armed(&t->tracker);
	store_forget_unseen(&r->sent, (uint32_t)t->vpid);
	return rc;
}

/* Begin to track it, or begin anew: nothing of what was sent counts. */
static void task_attach(struct rounds *r, struct round_task *t, struct target_task *task)
{
	struct ckpt_err why = { 0 };

	tracker_detach(&t->tracker);
	store_forget_task(&r->sent, (uint32_t)task->vpid);
	t->pid = task->pid;
	t->tgid = task->tgid;
	t->vpid = task->vpid;
	t->start = start_of(task->tgid);
	t->again++;
	t->lost = tracker_attach(&t->tracker, r->ops, task, &why) != 0;
	if (t->lost)
		ui_note(r->s->ui, 1, "task %d is copied when it stands still: %s", task->pid,
			why.msg);
}

static int note_nothing(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	(void)arg;
	(void)addr;
	(void)npages;
	(void)flags;
	return 0;
}

/* Every mapping is tracked from now on. Its pages are looked at and armed when the task runs on. */
static int track_mappings(struct rounds *r, struct round_task *t)
{
	struct ckpt_err gone = { 0 };
	int rc = tracker_begin(&t->tracker);

	proc_vmas_free(&t->vmas);
	if (!rc)
		rc = proc_vmas_read(t->pid, &r->iter, &t->vmas, &gone);
	for (size_t i = 0, next; !rc && i < t->vmas.n; i = next) {
		next = i + 1;
		if (!wanted(&t->vmas.v[i]))
			continue;
		next = group_end(r, t, i, true);
		if (!r->ops->finds_new)
			rc = tracker_collect(&t->tracker, t->vmas.v[i].start,
					     t->vmas.v[next - 1].end, TRACK_ARM | TRACK_NEW,
					     note_nothing, NULL);
	}
	return rc;
}

static struct round_task *task_new(struct rounds *r, struct target_task *task, struct ckpt_err *err)
{
	struct round_task *t = calloc(1, sizeof(*t));
	struct round_task **slot = t ? vec_push(&r->tasks) : NULL;

	if (!slot) {
		free(t);
		(void)oom(err);
		return NULL;
	}
	*slot = t;
	t->tracker.fd = t->tracker.pagemap_fd = -1;
	task_attach(r, t, task);
	return t;
}

/* A child born by vfork that has not come to its exec: its memory is its parent's, and two who ask
 * what was written would take it from each other. */
static bool borrows(const struct target *target, const struct target_task *task)
{
	return task->parent >= 0 &&
	       sharing_same(task->pid, target->tasks.v[task->parent].pid, KCMP_VM);
}

static int collect_one(struct rounds *r, struct target_task *task, bool look, struct ckpt_err *err)
{
	struct round_task *t = task_find(r, task->pid);

	if (!t)
		t = task_new(r, task, err);
	else if (t->start != start_of(task->tgid) || (t->lost && t->again < AGAIN_MAX))
		task_attach(r, t, task);
	if (!t)
		return err->code;
	if (!t->lost)
		t->lost = (look ? collect_task(r, t, true) : track_mappings(r, t)) != 0;
	return 0;
}

/* One short stop: every task gets its tracker, and every mapping is tracked. @look: its pages are
 * asked about as well, which takes the longer the more there are. */
static int collect_stopped(struct rounds *r, bool look, struct ckpt_err *err)
{
	struct target target = { .ui = r->s->ui };
	int rc = target_freeze(&target, r->s->opts->pid, err);
	bool frozen = !rc;

	for (size_t i = 0; !rc && i < target.tasks.n; i++) {
		struct target_task *task = &target.tasks.v[i];

		if (!task->zombie && !borrows(&target, task))
			rc = collect_one(r, task, look, err);
	}
	if (frozen)
		target_thaw(&target, TARGET_RUN);
	target_free(&target);
	return rc;
}

static int collect_frozen(struct rounds *r, bool look, struct ckpt_err *err)
{
	int rc;

	throttle_pause(r->throttle);
	rc = collect_stopped(r, look, err);
	throttle_resume(r->throttle);
	return rc;
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

static bool is_zero(const char *page)
{
	const uint64_t *p = (const uint64_t *)page;

	if (p[0] | p[CKPT_PAGE / 8 - 1])
		return false;
	for (size_t i = 0; i < CKPT_PAGE / 8; i += 4)
		if (p[i] | p[i + 1] | p[i + 2] | p[i + 3])
			return false;
	return true;
}

/* How many of the @n pages from @p on differ little from what was sent last; the differences are in
 * r->xor. A page more than half of which is new is sent whole. */
static uint32_t delta_run(struct rounds *r, uint32_t pid, uint64_t addr, const char *p, uint32_t n)
{
	uint32_t k = 0;

	for (; k < n; k++) {
		size_t at = (size_t)k * CKPT_PAGE;
		const void *base = delta_find(r->cache, pid, addr + at);

		if (!base || delta_xor(r->xor +at / sizeof(*r->xor), p + at, base) > CKPT_PAGE / 16)
			break;
	}
	return k;
}

static void cache_update(struct rounds *r, uint32_t pid, uint64_t addr, const char *p, uint32_t n)
{
	if (!r->cache || !r->cache_all)
		return;
	for (uint32_t k = 0; k < n; k++)
		delta_keep(r->cache, pid, addr + (uint64_t)k * CKPT_PAGE,
			   p + (size_t)k * CKPT_PAGE);
}

/* Pages with contents, as differences where that is less. */
static int send_changed(struct rounds *r, uint32_t pid, uint64_t addr, const char *p, uint32_t n)
{
	bool look = r->cache && (r->xor_pays || !(r->xor_try++ % XOR_EVERY));
	uint32_t at = 0, whole = 0; /* pages before @at that go out as they are */
	int rc = 0;

	while (!rc && at < n) {
		const char *q = p + (size_t)at * CKPT_PAGE;
		uint32_t k =
			look ? delta_run(r, pid, addr + (uint64_t)at * CKPT_PAGE, q, n - at) : 0;

		if (k && whole)
			rc = source_send_pages(r->s, pid, addr + (uint64_t)(at - whole) * CKPT_PAGE,
					       q - (size_t)whole * CKPT_PAGE, whole);
		if (k && !rc) {
			whole = 0;
			rc = source_send_delta(r->s, pid, addr + (uint64_t)at * CKPT_PAGE, r->xor,
					       sum_bytes(q, (size_t)k * CKPT_PAGE), k);
			r->xor_pays = rc == 0;
			look = look && r->xor_pays;
		}
		if (!k || rc == 1) {
			rc = 0;
			k += !k;
			whole += k;
		}
		at += k;
	}
	if (!rc && whole)
		rc = source_send_pages(r->s, pid, addr + (uint64_t)(n - whole) * CKPT_PAGE,
				       p + (size_t)(n - whole) * CKPT_PAGE, whole);
	cache_update(r, pid, addr, p, n);
	return rc;
}

static int send_zeros(struct rounds *r, uint32_t pid, uint64_t addr, uint32_t n)
{
	for (uint32_t k = 0; r->cache && k < n; k++)
		delta_drop(r->cache, pid, addr + (uint64_t)k * CKPT_PAGE);
	return source_send_pages(r->s, pid, addr, NULL, n);
}

/* Zero pages need no bytes, but where a hole shows a file they are content. */
static int send_block(struct rounds *r, const struct round_task *t, uint64_t addr, uint32_t n,
		      bool backed)
{
	struct ckpt_err oom_err = { 0 };
	uint32_t at = 0;

	while (at < n) {
		const char *p = r->buf + (size_t)at * CKPT_PAGE;
		bool zero = !backed && is_zero(p);
		uint32_t k = 1;
		int rc;

		while (at + k < n &&
		       (!backed && is_zero(r->buf + (size_t)(at + k) * CKPT_PAGE)) == zero)
			k++;
		rc = zero ? send_zeros(r, (uint32_t)t->vpid, addr + (uint64_t)at * CKPT_PAGE, k)
			  : send_changed(r, (uint32_t)t->vpid, addr + (uint64_t)at * CKPT_PAGE, p,
					 k);
		if (rc)
			return rc;
		if (store_note(&r->sent, (uint32_t)t->vpid, addr + (uint64_t)at * CKPT_PAGE, k,
			       &oom_err))
			return -ENOMEM;
		at += k;
	}
	return 0;
}

/* What may not be read by the program itself can be read through its file. */
static ssize_t read_memory(int pid, int mem, void *buf, size_t len, uint64_t addr)
{
	struct iovec to = { buf, len }, from = { (void *)(uintptr_t)addr, len };
	ssize_t n = process_vm_readv(pid, &to, 1, &from, 1, 0);

	return n >= (ssize_t)CKPT_PAGE ? n : pread(mem, buf, len, (off_t)addr);
}

static int send_run(struct rounds *r, const struct round_task *t, int mem,
		    const struct round_run *run)
{
	uint64_t addr = run->addr;
	uint32_t left = run->npages;

	while (left) {
		uint32_t n = left < MIG_PAGES_MAX ? left : MIG_PAGES_MAX;
		ssize_t got = read_memory(t->pid, mem, r->buf, (size_t)n * CKPT_PAGE, addr);
		uint32_t pages = got > 0 ? (uint32_t)((size_t)got / CKPT_PAGE) : 0;
		int rc = pages ? send_block(r, t, addr, pages, run->backed) : 0;

		if (rc)
			return rc;
		/* A page that went away meanwhile: were it to come back, it would be written. */
		if (!pages)
			pages = 1;
		addr += (uint64_t)pages * CKPT_PAGE;
		left -= pages;
	}
	return 0;
}

static int send_task(struct rounds *r, const struct round_task *t)
{
	struct ckpt_err gone = { 0 };
	auto_fd mem = -1;
	int rc = 0;

	if (proc_open(t->pid, "mem", O_RDONLY, &mem, &gone))
		return 0;
	for (size_t i = 0; !rc && i < t->runs.n; i++)
		rc = send_run(r, t, mem, &t->runs.v[i]);
	return rc;
}

/* What changed of the processes and of where their memory is. 0 or -errno of the link. */
static int send_places(struct rounds *r)
{
	uint64_t sum = tree_sum(&r->tree);
	int rc = 0;

	if (r->tree.births.n && sum != r->tree_sum) {
		rc = tree_send(&r->tree, &r->s->link);
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

/* Which processes are there, and how much memory have those that nobody tracks? */
static void look(struct rounds *r)
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
		    (!t || t->start != seen->start || (t->lost && t->again < AGAIN_MAX)))
			r->late_bytes += tree_memory(seen->pid);
	}
}

/*
 * While a device may be writing into pages that it was given before they are armed, nobody may arm
 * them. A task that stands still has no read(2) under way.
 */
static bool direct_io(struct rounds *r)
{
	for (size_t i = 0; !r->direct && i < r->tasks.n; i++)
		r->direct = directio_possible(r->tasks.v[i]->pid);
	return r->direct;
}

static void collect_running(struct rounds *r)
{
	for (size_t i = 0; i < r->tasks.n; i++)
		/* exec, exit: at the end all of it is sent. */
		if (!r->tasks.v[i]->lost)
			r->tasks.v[i]->lost = collect_task(r, r->tasks.v[i], false) != 0;
	/* It opened such a file meanwhile. */
	for (size_t i = 0; direct_io(r) && i < r->tasks.n; i++)
		r->tasks.v[i]->lost = true;
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

/* What was written since the round before, and the begin of the next epoch. */
static int collect(struct rounds *r, uint32_t number, struct ckpt_err *err)
{
	/* New mappings and processes are worth a short stop when they are large. */
	bool stop = number == 1 || r->new_bytes + r->late_bytes > NEW_BYTES;
	int rc = 0;

	r->new_bytes = 0;
	if (stop) {
		rc = collect_frozen(r, false, err);
		look(r);
	}
	if (!rc && direct_io(r))
		rc = collect_frozen(r, true, err);
	else if (!rc)
		collect_running(r);
	return rc;
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

	look(r);
	rc = collect(r, number, err);
	if (rc)
		return rc;
	cache_plan(r, number);
	rc = send_places(r);
	for (size_t i = 0; !rc && i < r->tasks.n; i++)
		if (!r->tasks.v[i]->lost)
			rc = send_task(r, r->tasks.v[i]);
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
	*e = (struct migrate_event) { .what = "round",
				      .round = number,
				      .pages = m.pages,
				      .zero_pages = s->res->zero_pages - zero,
				      .bytes = m.bytes,
				      .us = io_now_us() - begin };
	e->us += !e->us;
	e->link_bytes_s = e->bytes * 1000000 / e->us;
	return 0;
}

static int no_convergence(struct rounds *r, const struct migrate_event *e, struct ckpt_err *err)
{
	if (r->s->opts->diverge != DIVERGE_FAIL)
		return 0;
	(void)ckpt_fail(err, E_PEER, -ETIME,
			"the program writes %llu MB/s, the link carries %llu MB/s",
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

static int loop(struct rounds *r, struct ckpt_err *err)
{
	const struct migrate_opts *o = r->s->opts;
	uint64_t before = 0, armed = io_now_us();
	uint32_t stuck = 0;

	for (uint32_t n = 1; n <= o->max_rounds; n++) {
		uint64_t began = io_now_us();
		struct migrate_event e;
		int rc = round_once(r, n, &e, err);

		if (!rc && (rc = ckpt_fault("migrate.round")))
			rc = ckpt_fail_errno(err, E_PEER, rc, "fault point migrate.round");
		if (rc)
			return rc;
		r->s->res->rounds = n;
		/* The first pass is everything there is; the second one says what is written. */
		if (n > 1)
			e.write_bytes_s = e.pages * CKPT_PAGE * 1000000 / (began - armed + 1);
		armed = began;
		e.downtime_us = FIXED_US;
		if (n > 1 && e.link_bytes_s)
			e.downtime_us += e.write_bytes_s * e.us / e.link_bytes_s;
		e.throttle = throttle_get(r->throttle);
		source_event(r->s, &e);
		look(r);
		if (r->late_bytes > NEW_BYTES && r->late++ < LATE_ROUNDS)
			continue;
		if (e.pages <= SMALL_PAGES || (n > 1 && e.downtime_us <= o->max_downtime_us))
			return 0;
		stuck = n > 2 && e.pages >= before - before / 8 ? stuck + 1 : 0;
		before = e.pages;
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
		return oom(err);
	s->rounds = r;
	r->s = s;
	r->ops = ops;
	r->sent.fd = -1;
	(void)vma_iter_open(&r->iter);
	r->tracking.tracker = rounds_tracker;
	r->tracking.had = rounds_had;
	r->tracking.increment = true;
	r->buf = aligned_alloc(CKPT_PAGE, (size_t)MIG_PAGES_MAX * CKPT_PAGE);
	r->xor = malloc((size_t)MIG_PAGES_MAX * CKPT_PAGE);
	r->cache = delta_open(s->opts->delta_cache);
	r->xor_pays = true;
	rc = r->buf && r->xor ? 0 : oom(err);
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
		vec_free(&r->tasks.v[i]->runs);
		free(r->tasks.v[i]);
	}
	vec_free(&r->tasks);
	tree_free(&r->tree);
	vma_iter_close(&r->iter);
	store_close(&r->sent);
	delta_close(r->cache);
	free(r->xor);
	free(r->buf);
	free(r);
	s->rounds = NULL;
}
