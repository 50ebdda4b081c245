// SPDX-License-Identifier: GPL-2.0-only
/* Which pages of an address space go into the image, and which the parent has. */
#include "dump/walk.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/vec.h"
#include "dump/dump.h"
#include "kern/pagemap.h"

struct anon_walk {
	struct dump_ctx *d; /* is not changed */
	struct mm_walk *ret;
	int mem_fd;
	bool increment;          /* what was not written is in the parent */
	bool backed;             /* a hole shows a file: a page of zeros is content */
	bool frozen;             /* a fork would not inherit it as it is */
	bool keep;               /* the tracker keeps what was written */
	bool unkept;             /* but not this */
	struct tracker *tracker; /* being asked */
	size_t at;               /* the mapping in which the last run was */
	struct chain_map parent; /* img NULL: none to look at */
};

static int anon_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct anon_walk *w = arg;
	struct page_segs *segs = &w->ret->segs;
	struct dump_pages *pages = &w->ret->pages;
	struct page_seg *last = segs->n ? &segs->v[segs->n - 1] : NULL;
	struct ckpt_page_run *known;

	w->ret->scanned += npages;
	if ((flags & PAGEMAP_GUARD) || ((flags & PAGEMAP_ZERO) && !w->backed)) {
		known = vec_grow((void **)&pages->known, &pages->known_n, &pages->known_cap,
				 sizeof(*known));
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
	return 0;
}

#define RANGE_MAX (1ull << 31) /* pages in one run */

/* The same as in the parent: pages, or (@same) a range of which nobody looked at the pages. */
static int parent_run(struct anon_walk *w, uint64_t addr, uint64_t npages, bool same)
{
	struct dump_pages *pages = &w->ret->pages;
	struct ckpt_page_run *known;

	/* Ranges are counted by what the parent has there. */
	if (!same) {
		w->ret->scanned += npages;
		w->ret->parent += npages;
	}
	while (npages) {
		uint64_t n = npages < RANGE_MAX ? npages : RANGE_MAX;

		known = vec_grow((void **)&pages->known, &pages->known_n, &pages->known_cap,
				 sizeof(*known));
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
		uint64_t n = tr->had ? tr->had(tr, w->ret->pages.pid, addr, npages, &had) : npages;

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

static bool is_backed(const struct proc_vma *v)
{
	return vma_kind_match(v)->backed;
}

static void walk_at(struct anon_walk *w, size_t at)
{
	const struct proc_vma *v = &w->ret->vmas.v[at];

	w->backed = is_backed(v);
	w->frozen = vma_frozen(v);
	w->unkept = true;
	w->at = at;
}

/* Pages of several mappings, from w->at on: each mapping's to @fn. */
static int split_run(struct anon_walk *w, uint64_t addr, uint64_t npages, unsigned int flags,
		     int (*fn)(void *arg, uint64_t addr, uint64_t npages, unsigned int flags))
{
	const struct proc_vma *v = w->ret->vmas.v;

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
			   dump_vma_tracked(&w->ret->vmas.v[w->at]) ? flags
								    : flags | TRACK_WRITTEN);
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
static size_t tracked_group(const struct proc_vmas *vmas, size_t i)
{
	size_t end = i + 1;

	for (; end < vmas->n; end++) {
		const struct proc_vma *v = &vmas->v[end];

		if (v->start != vmas->v[end - 1].end || !has_pages(v) || !dump_vma_tracked(v) ||
		    vma_frozen(v) != vma_frozen(&vmas->v[i]) ||
		    is_backed(v) != is_backed(&vmas->v[i]))
			break;
	}
	return end;
}

/* A range that is as it was is looked up in the parent. When pages were copied ahead, it is as it
 * was then: what was dropped between the parent and that is a hole, which the parent knows nothing
 * of. */
static bool ranges_told(const struct dump_ctx *d, const struct tracker *t)
{
	return !d->pre || (t && t->ops->solid);
}

/* Nothing of them need be registered. */
static bool is_registered(const struct proc_vmas *vmas, size_t i, size_t end,
			  const struct tracker *t)
{
	while (i < end && (vmas->v[i].flags & PROC_VMF(uw)) && tracker_shows(t, vmas->v[i].uffd))
		i++;
	return i == end;
}

static int walk_all(struct anon_walk *w, struct tracker *t, struct pagemap *pm,
		    struct ckpt_err *err)
{
	const struct proc_vmas *vmas = &w->ret->vmas;
	int rc = t ? tracker_begin(t) : 0;
	uint64_t start = 0, end = 0;
	unsigned int how =
		(t && w->d->tracking->arm ? TRACK_ARM : 0) |
		(w->increment && w->d->parent && ranges_told(w->d, t) ? TRACK_RANGES : 0);

	if (w->increment && w->d->tracking->ranges)
		how |= TRACK_RANGES;
	w->tracker = t;
	w->parent.img = NULL;
	if (w->increment)
		dump_parent_map(w->d, w->ret->pages.pid, &w->parent);
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
		next = tracked ? tracked_group(vmas, i) : untracked_group(vmas, i, pm->scan, t);
		walk_at(w, i);
		start = v->start;
		end = vmas->v[next - 1].end;
		rc = tracked ? tracker_collect(
				       t, start, end,
				       how | (w->backed ? 0 : TRACK_ANON) |
					       (is_registered(vmas, i, next, t) ? TRACK_OURS : 0),
				       tracked_run, w)
			     : pagemap_anon(pm, start, end, is_large(v), untracked_run, w);
	}
	if (!rc && t && w->d->tracking->arm)
		rc = tracker_armed(t);
	w->ret->pages.keeper = w->keep ? t : NULL;
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

int walk_begin(const struct dump_ctx *d, const struct target_task *task, const char *maps,
	       struct mm_walk *ret, struct ckpt_err *err)
{
	*ret = (struct mm_walk) { .pages = { .pid = task->pid, .fd = -1 } };
	return proc_vmas_parse(task->pid, &d->iters.vma, maps, &ret->vmas, err);
}

int walk_pages(struct dump_ctx *d, const struct target_task *task, struct tracker *t, bool fresh,
	       struct mm_walk *w, struct ckpt_err *err)
{
	struct anon_walk walk = { .d = d, .ret = w, .mem_fd = task->mem_fd };
	struct pagemap pm = { .fd = -1 };
	int rc = pagemap_open(&pm, task->pid);

	w->segs.n = w->pages.known_n = 0;
	w->scanned = w->parent = 0;
	if (rc)
		return ckpt_fail_errno(err, E_MEMORY, rc, "cannot open /proc/%d/pagemap",
				       task->pid);
	walk.increment = t && d->tracking->increment && !fresh;
	rc = walk_all(&walk, t, &pm, err);
	pagemap_close(&pm);
	return rc;
}

void walk_free(struct mm_walk *w)
{
	proc_vmas_free(&w->vmas);
	vec_free(&w->segs);
	free(w->pages.known);
	*w = (struct mm_walk) { 0 };
}
