// SPDX-License-Identifier: GPL-2.0-only
/* Address spaces: mappings through their kinds, and which pages go into the image. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "dump/mm_ahead.h"
#include "dump/walk.h"
#include "dump/watch.h"
#include "model/vmaflags.h"

#define COPY_BYTES_PER_US 4096u /* 4 GB/s: faster than any machine copies into a file */

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
		return ckpt_oom(err);
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
			return ckpt_oom(err);
	}
	rc = kind->dump ? kind->dump(d, task, v, vma, err) : 0;
	if (!rc && dump_watch_map(d, task, v))
		rc = ckpt_oom(err);
	return rc;
}

/* The tracker of a task whose memory was replaced (exec) knows another address space: with one
 * that knows this, once more. */
static int walk_tracked(struct dump_ctx *d, struct target_task *task, struct mm_walk *w,
			struct ckpt_err *err)
{
	struct dump_tracking *tr = d->tracking;
	struct tracker *t = NULL;
	bool fresh = false, again = false;
	int rc;

	do {
		rc = tr ? tr->tracker(tr, task, again, &t, &fresh, err) : 0;
		if (rc)
			return rc;
		rc = walk_pages(d, task, t, fresh, w, err);
		if (rc != -ESTALE || !t)
			return rc;
		again = !again;
	} while (again);
	return ckpt_fail(err, E_TRACK, rc, "task %d cannot be tracked", task->pid);
}

/* What was found of address space @mm into the dump. 0 or -ENOMEM. */
static int add_walk(struct dump_ctx *d, uint32_t mm, struct mm_walk *w)
{
	struct dump_pages *pages = vec_push(&d->pages);

	if (!pages)
		return -ENOMEM;
	*pages = w->pages;
	w->pages.known = NULL;
	pages->mm = mm;
	pages->first_seg = d->segs.n;
	pages->nsegs = w->segs.n;
	d->stats.pages_scanned += w->scanned;
	d->stats.pages_parent += w->parent;
	d->stage_ahead += w->staged;
	for (size_t i = 0; i < w->segs.n; i++) {
		struct page_seg *s = vec_push(&d->segs);

		if (!s)
			return -ENOMEM;
		*s = w->segs.v[i];
	}
	return 0;
}

int dump_collect_mm(struct dump_ctx *d, struct target_task *task, char **maps,
		    struct mm_ahead *ahead, Ckpt__Task *msg, struct ckpt_err *err)
{
	Ckpt__Mm *mm = kind_msg_new(&ckpt__mm__descriptor);
	Ckpt__Mm **slot = vec_push(&d->mms);
	struct mm_walk walk = { 0 };
	bool walked = false;
	int rc;

	if (!mm || !slot)
		return ckpt_oom(err);
	*slot = mm;
	mm->id = (uint32_t)d->mms.n;
	msg->mm = mm->id;
	rc = ahead ? mm_ahead_take(ahead, &walk, &walked, maps, err)
		   : walk_begin(d, task, *maps, &walk, err);
	/* Objects with pages of their own must not come between the segments of this mm: kinds
	 * are asked first. */
	for (size_t i = 0; !rc && i < walk.vmas.n; i++) {
		rc = collect_vma(d, task, &walk.vmas.v[i], mm, err);
		if (rc)
			(void)ckpt_ctx(err, "mapping %#llx-%#llx",
				       (unsigned long long)walk.vmas.v[i].start,
				       (unsigned long long)walk.vmas.v[i].end);
	}
	if (walked)
		ui_note(d->ui, 2, "task %d: its memory was looked at meanwhile", task->pid);
	else if (!rc)
		rc = walk_tracked(d, task, &walk, err);
	if (!rc && add_walk(d, mm->id, &walk))
		rc = ckpt_oom(err);
	walk_free(&walk);
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
	int rc = lists ? 0 : ckpt_oom(err);

	for (size_t i = 0; !rc && i < d->pages.n; i++)
		if (list_runs(d, &d->pages.v[i], &lists[i]))
			rc = ckpt_oom(err);
	if (!rc && (d->parent || d->pre))
		rc = dump_resolve_parent(d, lists, err);
	for (size_t i = 0; !rc && i < d->pages.n; i++)
		rc = put_runs(d, &d->pages.v[i], &lists[i], err);
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
			return ckpt_oom(err);
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
