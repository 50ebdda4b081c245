// SPDX-License-Identifier: GPL-2.0-only
/* Address spaces: mappings through their kinds, and which pages go into the image. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kern/pagemap.h"
#include "model/vmaflags.h"

static int oom(struct ckpt_err *err)
{
	return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
}

#define COPY_BYTES_PER_US 4096u /* 4 GB/s: faster than any machine copies into a file */

struct anon_walk {
	struct dump_ctx *d;
	struct dump_pages *pages;
	int mem_fd;
	bool increment;          /* what was not written is in the parent */
	bool backed;             /* a hole shows a file: a page of zeros is content */
	bool frozen;             /* a fork would not inherit it as it is */
	bool keep;               /* the tracker keeps what was written */
	bool unkept;             /* but not this */
	struct tracker *tracker; /* being asked */
	const struct proc_vmas *vmas;
	const Ckpt__Mm *mm;
	size_t at;               /* the mapping in which the last run was */
	struct chain_map parent; /* img NULL: none to look at */
};

static int anon_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct anon_walk *w = arg;
	struct page_segs *segs = &w->d->segs;
	struct page_seg *last = w->pages->nsegs ? &segs->v[segs->n - 1] : NULL;
	struct ckpt_page_run *known;

	w->d->stats.pages_scanned += npages;
	if ((flags & PAGEMAP_GUARD) || ((flags & PAGEMAP_ZERO) && !w->backed)) {
		known = vec_grow((void **)&w->pages->known, &w->pages->known_n,
				 &w->pages->known_cap, sizeof(*known));
		if (!known)
			return -ENOMEM;
		*known = (struct ckpt_page_run) { .vaddr = addr,
						  .npages = (uint32_t)npages,
						  .kind = flags & PAGEMAP_GUARD ? CKPT_RUN_GUARD
										: CKPT_RUN_ZERO };
		return 0;
	}
	if (last && last->addr + (uint64_t)last->npages * CKPT_PAGE == addr &&
	    last->backed == w->backed && last->frozen == w->frozen && last->unkept == w->unkept) {
		last->npages += (uint32_t)npages;
		return 0;
	}
	last = vec_push(segs);
	if (!last)
		return -ENOMEM;
	last->fd = w->mem_fd;
	last->addr = addr;
	last->npages = (uint32_t)npages;
	last->backed = w->backed;
	last->frozen = w->frozen;
	last->unkept = w->unkept;
	w->pages->nsegs++;
	return 0;
}

static int collect_vma(struct dump_ctx *d, struct target_task *task, const struct proc_vma *v,
		       Ckpt__Mm *mm, struct ckpt_err *err)
{
	const struct vma_kind *kind = vma_kind_match(v);
	Ckpt__Vma *vma;
	int rc;

	if (!kind)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "the mapping %s cannot be saved",
				 v->path ? v->path : "(anonymous)");
	rc = kind->check ? kind->check(d, task, v, err) : 0;
	if (rc)
		return rc;
	vma = kind_msg_new(&ckpt__vma__descriptor);
	if (!vma || kind_push(&mm->n_vmas, &mm->vmas, vma) || !(vma->kind = strdup(kind->name)))
		return oom(err);
	vma->start = v->start;
	vma->end = v->end;
	vma->prot = v->prot;
	vma->map = v->shared ? MAP_SHARED : MAP_PRIVATE;
	if (v->flags & PROC_VMF(gd))
		vma->map |= MAP_GROWSDOWN;
	if (v->flags & PROC_VMF(nr))
		vma->map |= MAP_NORESERVE;
	vma->pgoff = v->pgoff;
	vma->flags = vma_flags_from_proc(v->flags);
	if (v->path && !strncmp(v->path, "[anon:", 6)) {
		vma->name = strndup(v->path + 6, strlen(v->path + 6) - 1);
		if (!vma->name)
			return oom(err);
	}
	return kind->dump ? kind->dump(d, task, v, vma, err) : 0;
}

#define RANGE_MAX (1ull << 31) /* pages in one run */

/* The same as in the parent: pages, or (@same) a range of which nobody looked at the pages. */
static int parent_run(struct anon_walk *w, uint64_t addr, uint64_t npages, bool same)
{
	struct ckpt_page_run *known;

	/* Ranges are counted by what the parent has there. */
	if (!same) {
		w->d->stats.pages_scanned += npages;
		w->d->stats.pages_parent += npages;
	}
	while (npages) {
		uint64_t n = npages < RANGE_MAX ? npages : RANGE_MAX;

		known = vec_grow((void **)&w->pages->known, &w->pages->known_n,
				 &w->pages->known_cap, sizeof(*known));
		if (!known)
			return -ENOMEM;
		*known = (struct ckpt_page_run) { .vaddr = addr,
						  .npages = (uint32_t)n,
						  .kind = same ? CKPT_RUN_SAME : CKPT_RUN_PARENT };
		addr += n * CKPT_PAGE;
		npages -= n;
	}
	return 0;
}

/* Tracked pages: what was not written since the parent is there. */
static int tracked_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct anon_walk *w = arg;

	w->unkept = (flags & TRACK_NOW) || !(flags & TRACK_WRITTEN);
	if ((flags & (TRACK_WRITTEN | TRACK_GUARD)) || ((flags & TRACK_ZERO) && !w->backed) ||
	    !w->increment)
		return anon_run(arg, addr, npages,
				(flags & TRACK_ZERO ? PAGEMAP_ZERO : 0) |
					(flags & TRACK_GUARD ? PAGEMAP_GUARD : 0));
	if ((flags & TRACK_SAME) && !w->d->tracking->had)
		return parent_run(w, addr, npages, true);
	while (npages) {
		struct dump_tracking *tr = w->d->tracking;
		bool had = true;
		uint64_t n = tr->had ? tr->had(tr, w->pages->pid, addr, npages, &had) : npages;

		/* A thread that stands still on its way to write a page of a file it has mapped:
		 * the page is its own already, and shown as protected, which was the file's. So the
		 * parent has none, and what is there is to be saved. */
		if (had && w->backed && w->parent.img && !(flags & TRACK_SAME))
			n = chain_has(&w->parent, addr, n, &had);
		/* There may be no pages, or some that cost nothing: nobody looked so far. */
		if (!had && (flags & TRACK_SAME)) {
			int rc = tracker_collect(w->tracker, addr, addr + n * CKPT_PAGE, TRACK_ANON,
						 tracked_run, w);

			if (rc)
				return rc;
		} else if (!had && anon_run(arg, addr, n, 0)) {
			return -ENOMEM;
		}
		if (had && parent_run(w, addr, n, false))
			return -ENOMEM;
		addr += n * CKPT_PAGE;
		npages -= n;
	}
	return 0;
}

/* Program text is hardly ever written, and registered with a userfaultfd it would be paged in more
 * slowly: it is looked at every time. */
bool dump_vma_tracked(const struct proc_vma *v)
{
	if (v->shared || (v->flags & (PROC_VMF(dp) | PROC_VMF(ht))))
		return false;
	return (v->prot & PROT_WRITE) || !(v->prot & PROT_EXEC) || !v->ino;
}

static bool vma_frozen(const struct proc_vma *v)
{
	return v->shared || (v->flags & (PROC_VMF(dc) | PROC_VMF(wf) | PROC_VMF(ht)));
}

static void walk_at(struct anon_walk *w, size_t at)
{
	w->backed = w->mm->vmas[at]->object != 0;
	w->frozen = vma_frozen(&w->vmas->v[at]);
	w->unkept = true;
	w->at = at;
}

/* Pages of several mappings, from w->at on: each mapping's to @fn. */
static int split_run(struct anon_walk *w, uint64_t addr, uint64_t npages, unsigned int flags,
		     int (*fn)(void *arg, uint64_t addr, uint64_t npages, unsigned int flags))
{
	const struct proc_vma *v = w->vmas->v;

	while (npages) {
		uint64_t n;
		int rc;

		if (v[w->at].end <= addr) {
			walk_at(w, w->at + 1);
			continue;
		}
		n = (v[w->at].end - addr) / CKPT_PAGE;
		if (n > npages)
			n = npages;
		rc = fn(w, addr, n, flags);
		if (rc)
			return rc;
		addr += n * CKPT_PAGE;
		npages -= n;
	}
	return 0;
}

/* No tracker tells of them. */
static int untracked_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	return split_run(arg, addr, npages, flags, anon_run);
}

static int mixed_one(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct anon_walk *w = arg;

	return tracked_run(w, addr, npages,
			   dump_vma_tracked(&w->vmas->v[w->at]) ? flags : flags | TRACK_WRITTEN);
}

/* It tells of some. */
static int mixed_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	return split_run(arg, addr, npages, flags, mixed_one);
}

/* Anonymous memory that is worth a scan of its own, which need not ask whether a page is a file's
 * and so looks at no page. */
#define LARGE_BYTES (4u << 20)

static bool is_large(const struct proc_vma *v)
{
	return !v->ino && !v->shared && v->end - v->start >= LARGE_BYTES;
}

/* May it have pages that belong to the address space? */
static bool has_pages(const struct proc_vma *v)
{
	return vma_kind_match(v)->private_pages && !v->pristine;
}

/* A scan goes through all mappings that follow, and finds nothing in the gaps between. */
static size_t untracked_group(const struct proc_vmas *vmas, size_t i, bool scans,
			      const struct tracker *t)
{
	size_t end = i + 1;

	if (is_large(&vmas->v[i]))
		return end;
	while (scans && end < vmas->n && has_pages(&vmas->v[end]) && !is_large(&vmas->v[end]) &&
	       !(t && dump_vma_tracked(&vmas->v[end])))
		end++;
	return end;
}

/* The same with those that are tracked and known to be: where a tracker does not mind, one look at
 * a hundred small mappings is as good as one at each. */
static size_t mixed_group(const struct proc_vmas *vmas, size_t i, struct tracker *t)
{
	size_t end = i;

	while (end < vmas->n && has_pages(&vmas->v[end]) && !is_large(&vmas->v[end]) &&
	       !(vmas->v[end].flags & PROC_VMF(ht)) &&
	       (!dump_vma_tracked(&vmas->v[end]) ||
		((vmas->v[end].flags & PROC_VMF(uw)) &&
		 tracker_owns(t, vmas->v[end].start, vmas->v[end].end, vmas->v[end].uffd))))
		end++;
	return end;
}

/* Tracked mappings from @i on that are adjacent and alike: the one behind the last. */
static size_t tracked_group(const struct proc_vmas *vmas, const Ckpt__Mm *mm, size_t i)
{
	size_t end = i + 1;

	for (; end < vmas->n; end++) {
		const struct proc_vma *v = &vmas->v[end];

		if (v->start != vmas->v[end - 1].end || !has_pages(v) || !dump_vma_tracked(v) ||
		    vma_frozen(v) != vma_frozen(&vmas->v[i]) ||
		    !mm->vmas[end]->object != !mm->vmas[i]->object)
			break;
	}
	return end;
}

/* A range that is as it was is looked up in the parent. What was copied ahead is found there as
 * well when such a range has no holes, as with a tracker that protects pages which are there. */
static bool ranges_told(const struct dump_ctx *d, const struct tracker *t)
{
	return !d->pre || (t && t->ops->live);
}

static int walk_once(struct anon_walk *w, struct tracker *t, const struct proc_vmas *vmas,
		     const Ckpt__Mm *mm, struct pagemap *pm, struct ckpt_err *err)
{
	int rc = t ? tracker_begin(t) : 0;
	uint64_t start = 0, end = 0;
	unsigned int how =
		(t && w->d->tracking->arm ? TRACK_ARM : 0) |
		(w->increment && w->d->parent && ranges_told(w->d, t) ? TRACK_RANGES : 0);

	if (w->increment && w->d->tracking->ranges)
		how |= TRACK_RANGES;
	w->tracker = t;
	w->vmas = vmas;
	w->mm = mm;
	w->parent.img = NULL;
	if (w->increment)
		dump_parent_map(w->d, w->pages->pid, &w->parent);
	w->keep = !rc && t && w->increment && w->d->tracking->arm &&
		  w->d->opts->end == TARGET_RUN && tracker_keeps(t);
	if (w->keep)
		how |= TRACK_KEEP;

	for (size_t i = 0, next, mixed; !rc && i < vmas->n; i = next) {
		const struct proc_vma *v = &vmas->v[i];
		bool tracked = t && dump_vma_tracked(v);

		next = i + 1;
		if (!has_pages(v))
			continue;
		mixed = t && t->ops->mixed ? mixed_group(vmas, i, t) : i;
		if (mixed > next) {
			next = mixed;
			walk_at(w, i);
			start = v->start;
			end = vmas->v[next - 1].end;
			rc = tracker_collect(t, start, end,
					     (how & TRACK_ARM) | TRACK_OURS | TRACK_MIXED,
					     mixed_run, w);
			continue;
		}
		next = tracked ? tracked_group(vmas, mm, i) : untracked_group(vmas, i, pm->scan, t);
		walk_at(w, i);
		start = v->start;
		end = vmas->v[next - 1].end;
		rc = tracked ? tracker_collect(t, start, end, how | (w->backed ? 0 : TRACK_ANON),
					       tracked_run, w)
			     : pagemap_anon(pm, start, end, is_large(v), untracked_run, w);
	}
	if (!rc && t && w->d->tracking->arm)
		rc = tracker_armed(t);
	w->pages->keeper = w->keep ? t : NULL;
	if (rc == -EBUSY)
		return ckpt_fail(
			err, E_UNSUPPORTED, -EOPNOTSUPP,
			"the mapping at %#llx is registered with a userfaultfd of the program",
			(unsigned long long)start);
	if (rc && rc != -ESTALE)
		return ckpt_fail_errno(err, E_MEMORY, rc, "cannot read the page map of %#llx-%#llx",
				       (unsigned long long)start, (unsigned long long)end);
	return rc;
}

static int walk_pages(struct anon_walk *w, struct target_task *task, const struct proc_vmas *vmas,
		      const Ckpt__Mm *mm, struct pagemap *pm, struct ckpt_err *err)
{
	struct dump_tracking *tr = w->d->tracking;
	struct tracker *t = NULL;
	bool fresh = false;
	int rc = 0;

	if (tr)
		rc = tr->tracker(tr, task, false, &t, &fresh, err);
	if (rc)
		return rc;
	w->increment = t && tr->increment && !fresh;
	rc = walk_once(w, t, vmas, mm, pm, err);
	if (rc != -ESTALE || !t)
		return rc;
	/* Another address space than the tracked one: the program was replaced (exec). */
	w->d->segs.n = w->pages->first_seg;
	w->pages->nsegs = w->pages->known_n = 0;
	rc = tr->tracker(tr, task, true, &t, &fresh, err);
	if (rc)
		return rc;
	w->increment = false;
	rc = walk_once(w, t, vmas, mm, pm, err);
	return rc == -ESTALE ? ckpt_fail(err, E_TRACK, rc, "task %d cannot be tracked", task->pid)
			     : rc;
}

int dump_collect_mm(struct dump_ctx *d, struct target_task *task, const char *maps, Ckpt__Task *msg,
		    struct ckpt_err *err)
{
	struct proc_vmas vmas = { 0 };
	struct pagemap pm = { .fd = -1 };
	Ckpt__Mm *mm = kind_msg_new(&ckpt__mm__descriptor);
	Ckpt__Mm **slot = vec_push(&d->mms);
	struct anon_walk walk = { .d = d, .mem_fd = task->mem_fd };
	size_t pages_at;
	int rc;

	if (!mm || !slot)
		return oom(err);
	*slot = mm;
	mm->id = (uint32_t)d->mms.n;
	msg->mm = mm->id;
	rc = proc_vmas_parse(task->pid, &d->iters.vma, maps, &vmas, err);
	if (!rc && (rc = pagemap_open(&pm, task->pid)))
		(void)ckpt_fail_errno(err, E_MEMORY, rc, "cannot open /proc/%d/pagemap", task->pid);
	/* Objects with pages of their own must not come between the segments of this mm: kinds
	 * are asked first, pages are walked in a second pass. */
	for (size_t i = 0; !rc && i < vmas.n; i++) {
		rc = collect_vma(d, task, &vmas.v[i], mm, err);
		if (rc)
			(void)ckpt_ctx(err, "mapping %#llx-%#llx",
				       (unsigned long long)vmas.v[i].start,
				       (unsigned long long)vmas.v[i].end);
	}
	if (!rc && !vec_push(&d->pages))
		rc = oom(err);
	pages_at = d->pages.n - 1;
	if (!rc) {
		walk.pages = &d->pages.v[pages_at];
		walk.pages->mm = mm->id;
		walk.pages->pid = task->pid;
		walk.pages->fd = -1;
		walk.pages->first_seg = d->segs.n;
	}
	if (!rc)
		rc = walk_pages(&walk, task, &vmas, mm, &pm, err);
	pagemap_close(&pm);
	proc_vmas_free(&vmas);
	return rc;
}

static int run_cmp(const void *a, const void *b)
{
	const struct ckpt_page_run *x = a, *y = b;

	return x->vaddr < y->vaddr ? -1 : x->vaddr > y->vaddr;
}

static bool is_zero(const unsigned char *zero, uint64_t page)
{
	return zero[page / 8] & (1u << (page % 8));
}

/* The runs of one address space or object, now that zero pages are known. 0 or -ENOMEM. */
static int list_runs(struct dump_ctx *d, const struct dump_pages *p, struct run_list *ret)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < p->known_n; i++)
		rc = run_list_add(ret, &p->known[i]);
	for (size_t i = p->first_seg; !rc && i < p->first_seg + p->nsegs; i++) {
		const struct page_seg *s = &d->segs.v[i];
		const unsigned char *zero = d->copied[s->later].zero;
		uint64_t first = (s->off - d->copied[s->later].base) / CKPT_PAGE;

		for (uint32_t k = 0, n; !rc && k < s->npages; k += n) {
			bool z = is_zero(zero, first + k);
			/* What is zero lies in a hole of the page file, and can be read from there.
			 */
			bool elide = z && !s->backed;
			struct ckpt_page_run r = { .vaddr = s->addr + (uint64_t)k * CKPT_PAGE,
						   .off = elide ? 0
								: s->off + (uint64_t)k * CKPT_PAGE,
						   .kind = elide ? CKPT_RUN_ZERO : CKPT_RUN_DATA };

			for (n = 1; k + n < s->npages && is_zero(zero, first + k + n) == z; n++)
				;
			r.npages = n;
			d->stats.pages_zero += z ? n : 0;
			rc = run_list_add(ret, &r);
		}
	}
	if (!rc && p->known_n && ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), run_cmp);
	return rc;
}

static int put_runs(struct dump_ctx *d, const struct dump_pages *p, const struct run_list *l,
		    struct ckpt_err *err)
{
	int rc = 0;

	for (size_t at = 0; !rc && at < l->n;) {
		Ckpt__PageMap m = CKPT__PAGE_MAP__INIT;
		size_t take = l->n - at > 65536 ? 65536 : l->n - at;

		m.mm = p->mm;
		m.object = p->object;
		m.runs.data = (uint8_t *)(l->v + at);
		m.runs.len = take * sizeof(*l->v);
		rc = image_put(&d->writer, CKPT_REC_PAGEMAP, &m.base, err);
		at += take;
	}
	return rc;
}

int dump_put_pagemaps(struct dump_ctx *d, struct ckpt_err *err)
{
	struct run_list *lists = calloc(d->pages.n + 1, sizeof(*lists));
	int rc = lists ? 0 : oom(err);

	for (size_t i = 0; !rc && i < d->pages.n; i++)
		if (list_runs(d, &d->pages.v[i], &lists[i]))
			rc = oom(err);
	if (!rc && (d->parent || d->pre))
		rc = dump_resolve_parent(d, lists, err);
	for (size_t i = 0; !rc && i < d->pages.n; i++)
		rc = put_runs(d, &d->pages.v[i], &lists[i], err);
	if (!rc)
		rc = dump_put_hashes(d, err);
	for (size_t i = 0; lists && i < d->pages.n; i++)
		vec_free(&lists[i]);
	free(lists);
	return rc;
}

/* Copy the segments that are to be read now or @later. */
static int write_part(struct dump_ctx *d, bool later, struct ckpt_err *err)
{
	struct page_segs part = { 0 };
	size_t at = 0;
	uint64_t written = 0;
	int rc, threads = d->opts->threads;

	for (size_t i = 0; i < d->segs.n; i++) {
		struct page_seg *s = d->segs.v[i].later == later ? vec_push(&part) : NULL;

		if (s) {
			d->stats.pages_dirty += d->segs.v[i].npages;
			d->stats.pages_later += later ? d->segs.v[i].npages : 0;
		}
		if (s)
			*s = d->segs.v[i];
		else if (d->segs.v[i].later == later)
			return oom(err);
	}
	d->copied[later].base = d->writer.pages_bytes;
	/* A single file takes one writer at a time, and the program runs again: it has more use for
	 * a processor. */
	if (later && d->stats.pages_later * CKPT_PAGE <= CKPT_STRIPE_BYTES)
		threads = 1;
	rc = image_pages_write(&d->writer, &part, threads, &d->copied[later].zero, &written, err);
	for (size_t i = 0; !rc && i < d->segs.n; i++)
		if (d->segs.v[i].later == later)
			d->segs.v[i].off = part.v[at++].off;
	vec_free(&part);
	d->stats.pages_written += written;
	return rc;
}

/* How long it takes at least to copy what is to be copied while all stand still. */
static uint64_t copy_us(const struct dump_ctx *d)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < d->segs.n; i++)
		pages += d->segs.v[i].later ? 0 : d->segs.v[i].npages;
	return pages * CKPT_PAGE / COPY_BYTES_PER_US;
}

int dump_write_pages(struct dump_ctx *d, struct ckpt_err *err)
{
	uint64_t lap = io_now_us();
	int rc = dump_share_pages(d, err);

	d->stats.snapshot_us = dump_lap(&lap);
	if (!rc)
		rc = dump_compare_objects(d, err);
	d->stats.compare_us = dump_lap(&lap);
	if (!rc)
		rc = dump_take_snapshots(d, err);
	d->stats.snapshot_us += dump_lap(&lap);
	if (!rc)
		rc = dump_in_time(d, copy_us(d), err);
	if (!rc)
		rc = dump_stage_pages(d, err);
	if (!rc)
		rc = write_part(d, false, err);
	d->stats.copy_us = dump_lap(&lap);
	return rc;
}

int dump_write_pages_later(struct dump_ctx *d, struct ckpt_err *err)
{
	int rc = 0;

	if (d->snapshots.n || d->staged)
		rc = write_part(d, true, err);
	/* They end while the image is completed; dump_end() waits for them. */
	for (size_t i = 0; i < d->snapshots.n; i++)
		snapshot_kill(&d->snapshots.v[i]);
	d->stats.bytes_pages = d->stats.pages_written * CKPT_PAGE;
	return rc;
}
