// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that several address spaces of the tree share copy-on-write since a fork: found by their
 * page frame, saved once. A run CKPT_RUN_SHARED names the address space that holds the page at the
 * same address. Only pages that the kernel calls mapped more than once are looked at; without
 * CAP_SYS_ADMIN it hides the frames, and then every page is saved for each.
 *
 * An increment saves all pages of a process that was born since its parent, and few of those it was
 * forked from: what both still share is found at that one, too.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kern/pagemap.h"

/* Open addressing, at most half full. */
struct cow_slot {
	uint64_t frame; /* 0: free */
	uint64_t addr;
	uint32_t mm;
};

struct cow_table {
	struct cow_slot *v;
	size_t n, cap; /* cap is a power of two */
};

static size_t cow_place(const struct cow_table *t, uint64_t frame)
{
	size_t i = (size_t)((frame * 0x9e3779b97f4a7c15ull) >> 20) & (t->cap - 1);

	while (t->v[i].frame && t->v[i].frame != frame)
		i = (i + 1) & (t->cap - 1);
	return i;
}

static int cow_grow(struct cow_table *t)
{
	struct cow_table more = { .cap = t->cap ? t->cap * 2 : 4096, .n = t->n };

	if (t->n * 2 < t->cap)
		return 0;
	more.v = calloc(more.cap, sizeof(*more.v));
	if (!more.v)
		return -ENOMEM;
	for (size_t i = 0; i < t->cap; i++)
		if (t->v[i].frame)
			more.v[cow_place(&more, t->v[i].frame)] = t->v[i];
	free(t->v);
	*t = more;
	return 0;
}

/* The address space that the one being walked was forked from. */
struct cow_source {
	const struct dump_pages *pages; /* NULL: none, or none that the parent image has */
	struct pagemap pm;
	struct chain_map had; /* what that has of it */
};

struct cow_walk {
	struct dump_ctx *d;
	struct cow_table table;
	struct page_segs out;
	struct dump_pages *pages;
	struct cow_source from;
	uint64_t shared;
};

static int put_seg(struct cow_walk *w, const struct page_seg *s, uint64_t addr, uint64_t npages)
{
	struct page_seg *last = w->pages->nsegs ? &w->out.v[w->out.n - 1] : NULL;

	if (last && last->fd == s->fd && last->backed == s->backed && last->frozen == s->frozen &&
	    last->unkept == s->unkept && last->addr + (uint64_t)last->npages * CKPT_PAGE == addr) {
		last->npages += (uint32_t)npages;
		return 0;
	}
	last = vec_push(&w->out);
	if (!last)
		return -ENOMEM;
	*last = *s;
	last->addr = addr;
	last->npages = (uint32_t)npages;
	w->pages->nsegs++;
	return 0;
}

static int put_shared(struct cow_walk *w, uint64_t addr, uint32_t mm)
{
	struct ckpt_page_run *last =
		w->pages->known_n ? &w->pages->known[w->pages->known_n - 1] : NULL;

	w->shared++;
	if (last && last->kind == CKPT_RUN_SHARED && last->off == mm &&
	    last->vaddr + (uint64_t)last->npages * CKPT_PAGE == addr) {
		last->npages++;
		return 0;
	}
	last = vec_grow((void **)&w->pages->known, &w->pages->known_n, &w->pages->known_cap,
			sizeof(*last));
	if (!last)
		return -ENOMEM;
	*last = (struct ckpt_page_run) {
		.vaddr = addr, .off = mm, .npages = 1, .kind = CKPT_RUN_SHARED
	};
	return 0;
}

/* The page that it was forked with: it is in the image of both, saved now or in the parent. */
static bool still_shared(struct cow_walk *w, uint64_t addr, uint64_t frame, uint64_t of_source)
{
	bool had = false;

	if (!of_source || frame != of_source)
		return false;
	(void)chain_has(&w->from.had, addr, 1, &had);
	return had;
}

/* @of_source: the frame that the address space has there which it was forked from, or 0. */
static int cow_page(struct cow_walk *w, const struct page_seg *s, uint64_t addr, uint64_t frame,
		    uint64_t of_source)
{
	struct cow_slot *slot;
	int rc;

	if (!frame)
		return put_seg(w, s, addr, 1);
	rc = cow_grow(&w->table);
	if (rc)
		return rc;
	slot = &w->table.v[cow_place(&w->table, frame)];
	if (slot->frame && slot->addr == addr && slot->mm != w->pages->mm)
		return put_shared(w, addr, slot->mm);
	if (still_shared(w, addr, frame, of_source))
		return put_shared(w, addr, w->from.pages->mm);
	if (!slot->frame) {
		*slot = (struct cow_slot) { .frame = frame, .addr = addr, .mm = w->pages->mm };
		w->table.n++;
	}
	return put_seg(w, s, addr, 1);
}

static int cow_mm(struct cow_walk *w, struct pagemap *pm, const struct page_segs *segs,
		  size_t first, size_t n)
{
	enum { BATCH = 512 };
	uint64_t frames[BATCH], of_source[BATCH] = { 0 };
	int rc = 0;

	for (size_t i = first; !rc && i < first + n; i++) {
		const struct page_seg *s = &segs->v[i];

		for (uint64_t at = 0; !rc && at < s->npages;) {
			uint64_t take = s->npages - at > BATCH ? BATCH : s->npages - at;

			rc = pagemap_shared_frames(pm, s->addr + at * CKPT_PAGE, take, frames);
			if (!rc && w->from.pages)
				rc = pagemap_shared_frames(&w->from.pm, s->addr + at * CKPT_PAGE,
							   take, of_source);
			for (uint64_t k = 0; !rc && k < take; k++)
				rc = cow_page(w, s, s->addr + (at + k) * CKPT_PAGE, frames[k],
					      of_source[k]);
			at += take;
		}
	}
	return rc;
}

/* Whom the @at-th was forked from, if it was since the parent image. 0 or -errno. */
static int source_open(struct cow_walk *w, size_t at)
{
	struct dump_ctx *d = w->d;
	const struct target_task *tasks = d->target.tasks.v;
	struct chain_map own;
	int source = 0;

	w->from = (struct cow_source) { .pm.fd = -1 };
	dump_parent_map(d, d->pages.v[at].pid, &own);
	if (!d->parent || own.img)
		return 0;
	for (size_t i = 0; i < d->target.tasks.n; i++)
		if (tasks[i].pid == d->pages.v[at].pid && tasks[i].parent >= 0)
			source = tasks[tasks[i].parent].pid;
	for (size_t i = 0; i < at; i++)
		if (d->pages.v[i].mm && d->pages.v[i].pid == source)
			w->from.pages = &d->pages.v[i];
	if (!w->from.pages)
		return 0;
	dump_parent_map(d, source, &w->from.had);
	if (!w->from.had.img) {
		w->from.pages = NULL;
		return 0;
	}
	return pagemap_open(&w->from.pm, source);
}

int dump_share_pages(struct dump_ctx *d, struct ckpt_err *err)
{
	struct cow_walk w = { .d = d, .from.pm.fd = -1 };
	int rc = 0;

	if (d->mms.n < 2)
		return 0;
	for (size_t i = 0; !rc && i < d->pages.n; i++) {
		struct dump_pages *p = &d->pages.v[i];
		size_t first = p->first_seg, n = p->nsegs;
		struct pagemap pm;

		w.pages = p;
		p->first_seg = w.out.n;
		p->nsegs = 0;
		if (!p->mm) {
			for (size_t k = first; !rc && k < first + n; k++) {
				struct page_seg *s = vec_push(&w.out);

				rc = s ? 0 : -ENOMEM;
				if (s)
					*s = d->segs.v[k];
				p->nsegs++;
			}
			continue;
		}
		rc = pagemap_open(&pm, p->pid);
		if (!rc)
			rc = source_open(&w, i);
		if (!rc)
			rc = cow_mm(&w, &pm, &d->segs, first, n);
		pagemap_close(&w.from.pm);
		pagemap_close(&pm);
	}
	free(w.table.v);
	if (rc) {
		free(w.out.v);
		return ckpt_fail_errno(err, E_MEMORY, rc,
				       "cannot find the pages that processes share");
	}
	free(d->segs.v);
	d->segs = w.out;
	d->stats.pages_shared = w.shared;
	return 0;
}
