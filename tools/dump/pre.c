// SPDX-License-Identifier: GPL-2.0-only
/*
 * Increments copy ahead by themselves where it pays: of a tracker that collects while the program
 * runs, when much was written (live_pays). Then nothing is stopped for it.
 *
 * dump --pre: memory is copied while the program runs, and only what it wrote meanwhile is copied
 * while it stands still. A round asks the trackers what was written, which begins the next epoch in
 * the same act, and copies that into the page file. The trackers are those of the session, or, of a
 * dump without one, our own for as long as the dump takes. A page that is written again is copied
 * again; its first copy stays in the page file and is of no use.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "dump/logged.h"
#include "dump/watch.h"
#include "kern/directio.h"

#define MAX_ROUNDS 4u
#define FEW_PAGES 1024u /* so few that another round gains nothing */

/* Pages of one address space, or of one shared object, as they were copied last, ascending. */
struct pre_task {
	int pid;                     /* 0: of an object */
	struct notes_object *object; /* of which the session knows; its hashes are of these pages */
	int fd;                      /* of that, -1 none */
	struct spans spans;          /* written to it, in this round */
	bool whole;                  /* or all that is there */
	struct tracker own;          /* of a dump without a session */
	struct run_list have;
	struct run_list quiet; /* of this round: zero pages and guards */
	bool lost;             /* something was armed and not told: all of its memory is saved */
};

struct dump_pre {
	struct dump_tracking tracking;
	struct dump_ctx *d;
	struct dump_tracking *session; /* NULL: the trackers are ours */
	const struct track_ops *ops;
	struct {
		struct pre_task **v;
		size_t n, cap;
	} tasks;
	/* The round that is being made. */
	struct pre_task *at;
	int mem_fd;
	bool backed;
	struct page_segs segs;
	VEC(struct pre_task *) owner; /* of each segment */
	struct {
		int *v;
		size_t n, cap;
	} mems;
};

static int oom(struct ckpt_err *err)
{
	return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
}

static struct pre_task *task_find(struct dump_pre *p, int pid)
{
	for (size_t i = 0; i < p->tasks.n; i++)
		if (p->tasks.v[i]->pid == pid)
			return p->tasks.v[i];
	return NULL;
}

static struct pre_task *task_new(struct dump_pre *p, int pid)
{
	struct pre_task *t = calloc(1, sizeof(*t));
	struct pre_task **slot = t ? vec_push(&p->tasks) : NULL;

	if (!slot) {
		free(t);
		return NULL;
	}
	t->pid = pid;
	t->fd = -1;
	t->own = TRACKER_NONE;
	*slot = t;
	return t;
}

static struct pre_task *task_get(struct dump_pre *p, int pid)
{
	struct pre_task *t = task_find(p, pid);

	return t ? t : task_new(p, pid);
}

static struct pre_task *object_find(const struct dump_pre *p, const struct notes_object *o)
{
	for (size_t i = 0; i < p->tasks.n; i++)
		if (p->tasks.v[i]->object == o)
			return p->tasks.v[i];
	return NULL;
}

/* ---- what the dump asks ---------------------------------------------------------------------- */

static int pre_tracker(struct dump_tracking *tr, struct target_task *task, bool again,
		       struct tracker **ret, bool *ret_fresh, struct ckpt_err *err)
{
	struct dump_pre *p = (struct dump_pre *)tr; /* its first member */
	struct pre_task *t = task_find(p, task->pid);

	/* Another address space: what was copied is of the one before. */
	if (t && again)
		vec_free(&t->have);
	if (p->session) {
		int rc = p->session->tracker(p->session, task, again, ret, ret_fresh, err);

		*ret_fresh |= t && t->lost;
		return rc;
	}
	*ret = NULL;
	*ret_fresh = false;
	if (t && !again && t->own.ops)
		*ret = &t->own;
	return 0;
}

static bool pre_known(struct dump_tracking *tr, int pid)
{
	struct dump_tracking *s = ((struct dump_pre *)tr)->session;

	return s && s->known && s->known(s, pid);
}

static void pre_settled(struct dump_tracking *tr, int pid)
{
	struct dump_tracking *s = ((struct dump_pre *)tr)->session;

	if (s && s->settled)
		s->settled(s, pid);
}

/* The runs of @l that end behind @addr begin here. */
static size_t run_at(const struct run_list *l, uint64_t addr)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (l->v[mid].vaddr + (uint64_t)l->v[mid].npages * CKPT_PAGE <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* How many of @npages from @addr are alike, and whether they were copied. */
static uint64_t alike(const struct run_list *l, uint64_t addr, uint64_t npages, bool *ret_have,
		      const struct ckpt_page_run **ret_run)
{
	size_t i = run_at(l, addr);

	*ret_run = i < l->n ? &l->v[i] : NULL;
	return run_alike(*ret_run, addr, npages, ret_have);
}

/* Of an increment, the parent has the rest. */
static uint64_t pre_had(struct dump_tracking *tr, int pid, uint64_t addr, uint64_t npages,
			bool *ret_had)
{
	struct dump_pre *p = (struct dump_pre *)tr;
	const struct pre_task *t = task_find(p, pid);
	const struct ckpt_page_run *r;

	*ret_had = true;
	if (p->session && p->session->increment)
		return npages;
	*ret_had = false;
	return t ? alike(&t->have, addr, npages, ret_had, &r) : npages;
}

int dump_pre_resolve(const struct dump_pre *p, const struct dump_pages *pages, uint64_t addr,
		     uint64_t npages, struct run_list *ret, uint64_t *ret_left)
{
	const struct pre_task *t = !p                ? NULL
				   : pages->mm       ? task_find((struct dump_pre *)p, pages->pid)
				   : pages->known_as ? object_find(p, pages->known_as)
						     : NULL;
	const struct ckpt_page_run *r = NULL;
	bool have = false;
	uint64_t n = t ? alike(&t->have, addr, npages, &have, &r) : npages;
	struct ckpt_page_run run;

	if (!have) {
		*ret_left = n;
		return 0;
	}
	run = *r;
	if (run.kind == CKPT_RUN_DATA)
		run.off += addr - r->vaddr;
	run.vaddr = addr;
	run.npages = (uint32_t)n;
	*ret_left = 0;
	return run_list_add(ret, &run) ? -ENOMEM : (int)(n > INT32_MAX ? INT32_MAX : n);
}

/* ---- a round --------------------------------------------------------------------------------- */

static int note_quiet(struct pre_task *t, uint64_t addr, uint64_t npages, unsigned int flags)
{
	while (npages) {
		uint32_t n = npages > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)npages;
		struct ckpt_page_run r = { .vaddr = addr,
					   .npages = n,
					   .kind = flags & TRACK_GUARD ? CKPT_RUN_GUARD
								       : CKPT_RUN_ZERO };

		if (run_list_add(&t->quiet, &r))
			return -ENOMEM;
		addr += (uint64_t)n * CKPT_PAGE;
		npages -= n;
	}
	return 0;
}

static int note_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct dump_pre *p = arg;

	if (!(flags & TRACK_WRITTEN))
		return 0;
	/* Nothing to copy, but not what the parent has there. */
	if ((flags & TRACK_GUARD) || ((flags & TRACK_ZERO) && !p->backed))
		return note_quiet(p->at, addr, npages, flags);
	while (npages) {
		uint32_t n = npages > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)npages;
		struct page_seg *s = vec_push(&p->segs);
		struct pre_task **owner = s ? vec_push(&p->owner) : NULL;

		if (!owner)
			return -ENOMEM;
		*owner = p->at;
		*s = (struct page_seg) { .fd = p->mem_fd,
					 .addr = addr,
					 .npages = n,
					 .moving = true,
					 .backed = p->backed };
		addr += (uint64_t)n * CKPT_PAGE;
		npages -= n;
	}
	return 0;
}

static bool wanted(const struct proc_vma *v)
{
	const struct vma_kind *kind = vma_kind_match(v);

	return kind && kind->private_pages && dump_vma_tracked(v);
}

static int collect_one(struct dump_pre *p, struct tracker *t, int pid)
{
	struct ckpt_err gone = { 0 };
	struct proc_vmas vmas = { 0 };
	int rc = tracker_begin(t);

	if (!rc)
		rc = proc_vmas_read(pid, &p->d->iters.vma, &vmas, &gone);
	for (size_t i = 0, next; !rc && i < vmas.n; i = next) {
		const struct proc_vma *v = &vmas.v[i];

		next = i + 1;
		if (!wanted(v))
			continue;
		while (next < vmas.n && vmas.v[next].start == vmas.v[next - 1].end &&
		       wanted(&vmas.v[next]) && !vmas.v[next].ino == !v->ino)
			next++;
		p->backed = v->ino != 0;
		rc = tracker_collect(t, v->start, vmas.v[next - 1].end,
				     TRACK_ARM | (p->backed ? 0 : TRACK_ANON), note_run, p);
	}
	if (!rc)
		rc = tracker_armed(t);
	proc_vmas_free(&vmas);
	return rc;
}

/* ---- shared memory that is watched ------------------------------------------------------------
 */

/* What the session knows of the memory that @v shows, if the trackers tell of it as long as nobody
 * does what they cannot tell of (watch.h); NULL otherwise. */
static struct notes_object *watched_object(const struct dump_pre *p, const struct proc_vma *v)
{
	struct notes *n = dump_watch_notes(p->d);
	struct notes_object *o;

	if (!n || !n->objects.n || !watch_may(v))
		return NULL;
	o = (struct notes_object *)notes_find(n, false, makedev(v->dev_major, v->dev_minor),
					      v->ino);
	return o && o->watched ? o : NULL;
}

/* With a descriptor of it, through the mapping [start, end) of process @pid. NULL: none. */
static struct pre_task *object_get(struct dump_pre *p, struct notes_object *o, int pid,
				   uint64_t start, uint64_t end)
{
	struct pre_task *t = object_find(p, o);

	if (!t && !(t = task_new(p, 0)))
		return NULL;
	t->object = o;
	if (t->fd < 0)
		t->fd = proc_map_open(pid, start, end, O_RDONLY);
	return t->fd < 0 ? NULL : t;
}

/* Begin an epoch of the mapping @v, and note what was written in the last. Whatever fails, contents
 * tell in the end. */
static int shared_collect(struct dump_pre *p, struct tracker *t, const struct proc_vma *v)
{
	struct notes_object *o = watched_object(p, v);
	struct pre_task *of = o ? object_get(p, o, t->pid, v->start, v->end) : NULL;
	int rc;

	if (!o)
		return 0;
	rc = of ? spans_find(t, v->start, v->end, v->pgoff, o->pages, TRACK_ARM | TRACK_KNOWN,
			     &of->spans)
		: -ESTALE;
	o->watched &= !rc;
	return rc == -ENOMEM ? rc : 0;
}

static int map_list(const struct dump_pre *p, struct watch_maps *maps, struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < maps->target->tasks.n; i++) {
		const struct target_task *task = &maps->target->tasks.v[i];
		struct proc_vmas vmas = { 0 };

		if (!task->zombie)
			rc = proc_vmas_read(task->pid, &p->d->iters.vma, &vmas, err);
		for (size_t k = 0; !rc && k < vmas.n; k++) {
			const struct proc_vma *v = &vmas.v[k];

			if (watch_may(v) && watch_maps_add(maps, task->pid, i, v))
				rc = oom(err);
		}
		proc_vmas_free(&vmas);
	}
	return rc;
}

/* One that shows @o. */
static const struct watch_map *map_of(const struct watch_maps *maps, const struct notes_object *o)
{
	for (size_t i = 0; i < maps->n; i++)
		if (maps->v[i].ino == o->ino && maps->v[i].dev == o->dev)
			return &maps->v[i];
	return NULL;
}

static struct pre_task *object_of(struct dump_pre *p, const struct watch_maps *maps,
				  struct notes_object *o)
{
	const struct watch_map *m = map_of(maps, o);

	return m ? object_get(p, o, m->pid, m->start, m->end) : NULL;
}

/* All of @o is to be copied, and is watched from here on. */
static int begin_object(struct dump_pre *p, const struct watch_maps *maps, struct notes_object *o,
			struct ckpt_err *err)
{
	struct notes *n = dump_watch_notes(p->d);
	struct pre_task *of = object_of(p, maps, o);
	int rc;

	if (!of)
		return 0;
	rc = watch_from_here(p->d, maps, n, (uint32_t)(o - n->objects.v), false, err);
	of->whole = !rc && o->watched;
	of->spans.n = 0;
	/* Of what was copied some may be holes now, which are not copied. */
	vec_free(&of->have);
	if (!rc && notes_forget(n, o))
		rc = ckpt_fail_errno(err, E_LIMIT, -errno, "cannot forget what was copied");
	return rc;
}

/* Of a tree that stands still, and was looked at: what is to be copied of its shared memory. Where
 * it is not certain what was written since the parent, contents tell in the end. */
static int shared_stopped(struct dump_pre *p, const struct target *t, struct ckpt_err *err)
{
	struct dump_ctx *d = p->d;
	struct notes *n = dump_watch_notes(d);
	struct watch_maps maps = { .target = t };
	int rc = 0;

	if (!n || d->iters.mm.stamp_fd < 0 || (d->parent && !n->objects.n))
		return 0;
	rc = map_list(p, &maps, err);
	/* What a first checkpoint is to watch. */
	if (!rc && !n->objects.n &&
	    (watch_find(&d->iters.mm, &maps, n) || (n->objects.n && notes_make_hashes(n))))
		rc = oom(err);
	for (size_t i = 0; !rc && i < n->objects.n; i++) {
		struct notes_object *o = &n->objects.v[i];
		struct pre_task *of = dump_watch_quiet(d, o) ? object_of(p, &maps, o) : NULL;

		if (of && watch_written(d, &maps, n, o, true, &of->spans))
			continue;
		o->watched = false;
		if (!d->parent)
			rc = begin_object(p, &maps, o, err);
	}
	watch_stamp(d, n);
	vec_free(&maps);
	return rc;
}

/* What is in the file, if all of it is to be copied. */
static int add_whole(struct pre_task *t)
{
	off_t data = 0, hole;

	t->whole = false;
	while ((data = lseek(t->fd, data, SEEK_DATA)) >= 0) {
		struct span *s = vec_push(&t->spans);

		hole = lseek(t->fd, data, SEEK_HOLE);
		if (!s || hole < 0)
			return -ENOMEM;
		*s = (struct span) { (uint64_t)data / CKPT_PAGE,
				     ((uint64_t)hole + CKPT_PAGE - 1) / CKPT_PAGE };
		if (s->end > t->object->pages)
			s->end = t->object->pages;
		data = hole;
	}
	return 0;
}

/* Behind the last mapping: what is to be copied. The hashes are of what is read. */
static int shared_segments(struct dump_pre *p)
{
	for (size_t i = 0; i < p->tasks.n; i++) {
		struct pre_task *t = p->tasks.v[i];

		if (t->whole && add_whole(t))
			return -ENOMEM;
		spans_join(&t->spans);
		for (size_t k = 0; k < t->spans.n; k++) {
			const struct span *s = &t->spans.v[k];

			for (uint64_t at = s->first, n; at < s->end; at += n) {
				struct page_seg *seg = vec_push(&p->segs);
				struct pre_task **owner = seg ? vec_push(&p->owner) : NULL;

				if (!owner)
					return -ENOMEM;
				n = s->end - at < UINT32_MAX / 2 ? s->end - at : UINT32_MAX / 2;
				*owner = t;
				*seg = (struct page_seg) {
					.fd = t->fd,
					.addr = at * CKPT_PAGE,
					.npages = (uint32_t)n,
					.moving = true,
					.is_file = true,
					.hash = notes_hash_at(dump_watch_notes(p->d), t->object, at)
				};
			}
		}
		t->spans.n = 0;
	}
	return 0;
}

/* The tracker of a task; an own one is attached at the first stop. NULL: it is copied as a whole.
 */
static int tracker_of(struct dump_pre *p, struct pre_task *t, struct target_task *task,
		      struct tracker **ret, struct ckpt_err *err)
{
	bool fresh;

	if (p->session)
		return p->session->tracker(p->session, task, false, ret, &fresh, err);
	if (!t->own.ops) {
		int rc = tracker_attach(&t->own, p->ops, task, err);

		if (rc)
			return rc;
	}
	*ret = &t->own;
	return 0;
}

static int collect_task(struct dump_pre *p, struct target_task *task, struct ckpt_err *err)
{
	struct pre_task *t = task_get(p, task->pid);
	struct tracker *tracker = NULL;
	int *fd = t ? vec_push(&p->mems) : NULL;
	int rc;

	if (!fd)
		return oom(err);
	*fd = p->mem_fd = dup(task->mem_fd);
	if (p->mem_fd < 0)
		return ckpt_fail_errno(err, E_LIMIT, -errno, "cannot keep a descriptor");
	rc = tracker_of(p, t, task, &tracker, err);
	if (rc || !tracker)
		return rc;
	p->at = t;
	rc = collect_one(p, tracker, task->pid);
	/* Another address space than the tracked one: the dump begins anew. */
	if (!rc || rc == -ESTALE)
		return 0;
	return ckpt_fail_errno(err, E_TRACK, rc, "what task %d writes cannot be tracked",
			       task->pid);
}

static int collect_stopped(struct dump_pre *p, struct ckpt_err *err)
{
	struct dump_ctx *d = p->d;
	struct target t = { .ui = d->ui };
	uint64_t us;
	int rc = target_freeze(&t, d->opts->pid, err);

	if (rc) {
		target_free(&t);
		return rc;
	}
	dump_watch_look(d, &t);
	for (size_t i = 0; !rc && i < t.tasks.n; i++)
		if (!t.tasks.v[i].zombie)
			rc = collect_task(p, &t.tasks.v[i], err);
	if (!rc)
		rc = shared_stopped(p, &t, err);
	target_thaw(&t, TARGET_RUN);
	us = io_now_us() - t.frozen_at_us;
	target_free(&t);
	if (us > d->stats.pre_pause_us)
		d->stats.pre_pause_us = us;
	return rc;
}

/* [r->vaddr, …) was copied anew: what was there before is of no use. */
static int have_put(struct run_list *l, struct run_list *fresh)
{
	struct run_list out = { 0 };
	size_t i = 0, k = 0;
	int rc = 0;

	while (!rc && (i < l->n || k < fresh->n)) {
		struct ckpt_page_run r;
		uint64_t end, cut;

		if (i == l->n || (k < fresh->n && fresh->v[k].vaddr <= l->v[i].vaddr)) {
			const struct ckpt_page_run *f = &fresh->v[k++];

			rc = run_list_add(&out, f);
			end = f->vaddr + (uint64_t)f->npages * CKPT_PAGE;
			for (; i < l->n && l->v[i].vaddr < end; i++) {
				uint64_t l_end =
					l->v[i].vaddr + (uint64_t)l->v[i].npages * CKPT_PAGE;

				if (l_end <= end)
					continue;
				cut = end - l->v[i].vaddr;
				l->v[i].vaddr = end;
				l->v[i].npages -= (uint32_t)(cut / CKPT_PAGE);
				if (l->v[i].kind == CKPT_RUN_DATA)
					l->v[i].off += cut;
				break;
			}
			continue;
		}
		r = l->v[i];
		end = r.vaddr + (uint64_t)r.npages * CKPT_PAGE;
		if (k < fresh->n && fresh->v[k].vaddr < end) {
			cut = fresh->v[k].vaddr - r.vaddr;
			r.npages = (uint32_t)(cut / CKPT_PAGE);
			l->v[i].vaddr += cut;
			l->v[i].npages -= r.npages;
			if (l->v[i].kind == CKPT_RUN_DATA)
				l->v[i].off += cut;
		} else {
			i++;
		}
		rc = run_list_add(&out, &r);
	}
	vec_free(l);
	*l = out;
	return rc;
}

/* Copy what the round found, and note where it is. */
static int copy_round(struct dump_pre *p, uint64_t *ret_pages, struct ckpt_err *err)
{
	struct dump_ctx *d = p->d;
	uint64_t base = d->writer.pages_bytes, written = 0;
	unsigned char *zero = NULL;
	int rc;

	*ret_pages = 0;
	for (size_t i = 0; i < p->tasks.n; i++) {
		struct pre_task *t = p->tasks.v[i];

		if (t->quiet.n && have_put(&t->have, &t->quiet))
			return oom(err);
		t->quiet.n = 0;
	}
	if (!p->segs.n)
		return 0;
	rc = image_pages_write(&d->writer, &p->segs, d->opts->threads, &zero, &written, err);
	for (size_t i = 0, n; !rc && i < p->segs.n; i = n) {
		struct run_list fresh = { 0 };

		for (n = i; !rc && n < p->segs.n && p->owner.v[n] == p->owner.v[i]; n++) {
			const struct page_seg *s = &p->segs.v[n];
			uint64_t first = (s->off - base) / CKPT_PAGE;

			*ret_pages += s->npages;
			for (uint32_t k = 0; !rc && k < s->npages; k++) {
				bool z = zero[(first + k) / 8] & (1u << ((first + k) % 8)) &&
					 !s->backed;
				struct ckpt_page_run r = {
					.vaddr = s->addr + (uint64_t)k * CKPT_PAGE,
					.off = z ? 0 : s->off + (uint64_t)k * CKPT_PAGE,
					.npages = 1,
					.kind = z ? CKPT_RUN_ZERO : CKPT_RUN_DATA
				};

				rc = run_list_add(&fresh, &r) ? oom(err) : 0;
			}
		}
		if (!rc && have_put(&p->owner.v[i]->have, &fresh))
			rc = oom(err);
		vec_free(&fresh);
	}
	free(zero);
	d->stats.pages_pre += *ret_pages;
	d->stats.pages_written += written;
	return rc;
}

static void round_clear(struct dump_pre *p)
{
	for (size_t i = 0; i < p->mems.n; i++)
		if (p->mems.v[i] >= 0)
			(void)close(p->mems.v[i]);
	p->mems.n = p->segs.n = p->owner.n = 0;
}

static int rounds(struct dump_pre *p, struct ckpt_err *err)
{
	uint64_t last = UINT64_MAX, pages = 0;
	int rc = 0;

	for (unsigned int i = 0; !rc && i < MAX_ROUNDS; i++) {
		rc = collect_stopped(p, err);
		if (!rc && shared_segments(p))
			rc = oom(err);
		if (!rc)
			rc = copy_round(p, &pages, err);
		round_clear(p);
		if (!rc)
			rc = ckpt_fault_fail("track.pre", E_MEMORY, err);
		p->d->stats.pre_rounds++;
		/* Nothing is gained by copying the same pages again. */
		if (pages <= FEW_PAGES || pages > last / 2)
			break;
		last = pages;
	}
	return rc;
}

/* ---- rounds that stop nothing ---------------------------------------------------------------- */

#define LIVE_MIN 1024u /* pages: fewer are copied under the freeze in the time of a scan or two */
#define LIVE_RESIDENT 2048u /* a program with fewer pages is not looked at */
#define LIVE_PAGE_NS 2500u  /* what it takes to find, copy and arm a page, roughly */
#define LIVE_SHARE 2u       /* the pass may last half the time since the parent */
#define LIVE_WAIT 15u       /* increments without, at most, when it was of no use */
#define LIVE_LOOK_US 1000u  /* between two looks whether it still writes */

/* Anonymous mappings that a tracker looks after, which are adjacent: where they end, or 0. */
static size_t live_group(const struct proc_vmas *vmas, size_t i)
{
	if (!wanted(&vmas->v[i]) || vmas->v[i].ino)
		return 0;
	for (i++; i < vmas->n && vmas->v[i].start == vmas->v[i - 1].end; i++)
		if (!wanted(&vmas->v[i]) || vmas->v[i].ino)
			break;
	return i;
}

struct live {
	struct dump_pre *p;
	uint64_t pages; /* counted */
	bool direct;
};

static int add_pages(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	uint64_t *pages = arg;

	(void)addr;
	(void)flags;
	*pages += npages;
	return 0;
}

static int live_count(void *arg, struct tracker *t)
{
	struct live *l = arg;
	struct ckpt_err gone = { 0 };
	struct proc_vmas vmas = { 0 };
	int rc = tracker_begin(t);

	l->direct = l->direct || directio_possible(t->pid);
	if (!rc)
		rc = proc_vmas_read(t->pid, &l->p->d->iters.vma, &vmas, &gone);
	for (size_t i = 0, next; !rc && i < vmas.n; i = next) {
		next = live_group(&vmas, i);
		/* What is new is for the freeze. */
		if (next)
			(void)tracker_count(t, vmas.v[i].start, vmas.v[next - 1].end, &l->pages);
		else
			next = i + 1;
		if (watched_object(l->p, &vmas.v[i]))
			(void)tracker_shared(t, vmas.v[i].start, vmas.v[i].end, 0, add_pages,
					     &l->pages);
	}
	proc_vmas_free(&vmas);
	return 0;
}

/* Write protects what it reports; a task of which that fails half-way is saved as a whole. */
static int live_collect(void *arg, struct tracker *t)
{
	struct dump_pre *p = ((struct live *)arg)->p;
	struct ckpt_err gone = { 0 };
	struct proc_vmas vmas = { 0 };
	struct pre_task *task = task_get(p, t->pid);
	int *fd = task ? vec_push(&p->mems) : NULL;
	char path[48];
	int rc = fd ? tracker_begin(t) : -ENOMEM;

	if (rc)
		return rc == -ENOMEM ? rc : 0;
	(void)snprintf(path, sizeof(path), "/proc/%d/mem", t->pid);
	*fd = p->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (p->mem_fd < 0 || proc_vmas_read(t->pid, &p->d->iters.vma, &vmas, &gone)) {
		proc_vmas_free(&vmas);
		return 0;
	}
	p->at = task;
	p->backed = false;
	for (size_t i = 0, next; !rc && i < vmas.n; i = next) {
		uint64_t ignore = 0, start = vmas.v[i].start, end;

		next = live_group(&vmas, i);
		if (!next) {
			next = i + 1;
			rc = shared_collect(p, t, &vmas.v[i]);
			continue;
		}
		end = vmas.v[next - 1].end;
		/* All of it is tracked, for this fails where a part is not. */
		if (tracker_count(t, start, end, &ignore) || !ignore)
			continue;
		rc = tracker_collect(t, start, end,
				     TRACK_ARM | TRACK_KNOWN | TRACK_ANON | TRACK_WRITES, note_run,
				     p);
	}
	/* Somebody opened such a file meanwhile: a device may write where it is armed. */
	if (directio_possible(t->pid)) {
		for (size_t i = 0; i < vmas.n; i++) {
			struct notes_object *o = watched_object(p, &vmas.v[i]);

			if (o)
				o->watched = false;
		}
		task->lost = true;
	}
	proc_vmas_free(&vmas);
	if (!rc)
		rc = tracker_armed(t);
	task->lost |= rc != 0;
	return rc == -ENOMEM ? rc : 0;
}

/* After once one, then three, seven and so on. */
static uint64_t live_wait(uint64_t useless)
{
	return useless < 4 ? (1u << useless) - 1 : LIVE_WAIT;
}

/* Is this increment such that copying ahead can pay at all? Costs next to nothing. */
static bool live_may(struct dump_ctx *d)
{
	const Ckpt__Stats *was = d->parent ? d->parent->inv->stats : NULL;
	const struct dump_tracking *tr = d->tracking;
	auto_free char *text = NULL;
	struct ckpt_err ignore = { 0 };
	unsigned long long resident = 0;

	if (d->opts->no_pre || d->opts->end != TARGET_RUN || !was || !tr || !tr->increment ||
	    !tr->each || !tr->arm)
		return false;
	/* It was of no use lately: what was copied was written again. */
	d->stats.pre_wait = was->pre_wait ? was->pre_wait - 1 : 0;
	d->stats.pre_useless = was->pre_useless;
	if (was->pages_pre && was->pages_dirty <= was->pages_pre / 2)
		d->stats.pre_useless = 0;
	else if (was->pages_pre)
		d->stats.pre_wait = live_wait(++d->stats.pre_useless);
	/* In a series one is like the one before. */
	if (d->opts->series && d->opts->series->made &&
	    was->pages_dirty + was->pages_pre < LIVE_MIN * 3 / 4)
		return false;
	return !d->stats.pre_wait && !dump_log_few(d, LIVE_MIN) &&
	       !proc_read(d->opts->pid, "statm", &text, NULL, &ignore) &&
	       sscanf(text, "%*u %llu", &resident) == 1 && resident >= LIVE_RESIDENT;
}

static int live_look(struct dump_pre *p, struct live *ret)
{
	*ret = (struct live) { .p = p };
	return p->session->each(p->session, false, live_count, ret);
}

/* @pages came to be written in @ns: could they be copied in a part of that? */
static bool live_outruns(uint64_t pages, uint64_t ns)
{
	return pages * LIVE_PAGE_NS * LIVE_SHARE <= ns;
}

/* Copying what was written takes a while, in which about as much of it is written again as before
 * in such a time; or as now, if it has come to rest. */
static bool live_pays(struct dump_pre *p, const struct live *l)
{
	uint64_t now = dump_clock_ns(CLOCK_REALTIME), was = p->d->parent->inv->created_ns, begin;
	struct live again;

	if (l->direct || l->pages < LIVE_MIN)
		return false;
	if (live_outruns(l->pages, now > was ? now - was : 0))
		return true;
	begin = io_now_us();
	(void)usleep(LIVE_LOOK_US);
	(void)live_look(p, &again);
	return again.pages >= l->pages &&
	       live_outruns(again.pages - l->pages, (io_now_us() - begin) * 1000);
}

static int live_rounds(struct dump_pre *p, struct ckpt_err *err)
{
	struct dump_ctx *d = p->d;
	uint64_t last = UINT64_MAX, copied;
	int rc = 0;

	for (unsigned int i = 0; !rc && i < MAX_ROUNDS; i++) {
		struct live l;

		(void)live_look(p, &l);
		if (l.pages > last / 2 || !live_pays(p, &l))
			break;
		rc = p->session->each(p->session, true, live_collect, &l) || shared_segments(p)
			     ? oom(err)
			     : 0;
		if (!rc)
			rc = copy_round(p, &copied, err);
		round_clear(p);
		if (!rc)
			rc = ckpt_fault_fail("track.pre", E_MEMORY, err);
		d->stats.pre_rounds++;
		last = l.pages;
	}
	return rc;
}

static struct dump_pre *pre_new(struct dump_ctx *d)
{
	struct dump_pre *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	d->pre = p;
	p->d = d;
	p->session = d->tracking;
	p->tracking.tracker = pre_tracker;
	p->tracking.known = pre_known;
	p->tracking.settled = pre_settled;
	p->tracking.had = pre_had;
	p->tracking.increment = true;
	p->tracking.arm = d->tracking && d->tracking->arm;
	return p;
}

static int live_begin(struct dump_ctx *d, struct ckpt_err *err)
{
	uint64_t at = io_now_us();
	struct dump_pre *p = pre_new(d);
	int rc = p ? live_rounds(p, err) : oom(err);

	if (!rc && !d->stats.pre_rounds) {
		dump_pre_end(d);
		return 0;
	}
	if (p)
		d->tracking = &p->tracking;
	d->stats.pre_us = io_now_us() - at;
	return rc;
}

int dump_pre_begin(struct dump_ctx *d, struct ckpt_err *err)
{
	uint64_t at = io_now_us();
	struct dump_pre *p;
	int rc;

	if (!d->opts->pre)
		return live_may(d) ? live_begin(d, err) : 0;
	p = pre_new(d);
	if (!p)
		return oom(err);
	d->pre_armed = true;
	p->ops = d->tracking ? NULL : track_choose(d->opts->tracker, false, err);
	if (!d->tracking && !p->ops)
		return err->code;
	if (p->ops == &track_none || (d->stats.tracker && !strcmp(d->stats.tracker, "none")))
		return ckpt_fail(err, E_TRACK, -EOPNOTSUPP,
				 "nothing can be copied ahead: this kernel cannot track writes");
	if (p->ops)
		d->stats.tracker = (char *)p->ops->name;
	rc = rounds(p, err);
	d->tracking = &p->tracking;
	d->stats.pre_us = io_now_us() - at;
	return rc;
}

void dump_pre_end(struct dump_ctx *d)
{
	struct dump_pre *p = d->pre;

	if (!p)
		return;
	d->pre = NULL;
	d->tracking = p->session;
	round_clear(p);
	for (size_t i = 0; i < p->tasks.n; i++) {
		tracker_detach(&p->tasks.v[i]->own);
		if (p->tasks.v[i]->fd >= 0)
			(void)close(p->tasks.v[i]->fd);
		vec_free(&p->tasks.v[i]->spans);
		vec_free(&p->tasks.v[i]->have);
		vec_free(&p->tasks.v[i]->quiet);
		free(p->tasks.v[i]);
	}
	vec_free(&p->tasks);
	vec_free(&p->segs);
	vec_free(&p->owner);
	vec_free(&p->mems);
	free(p);
}
