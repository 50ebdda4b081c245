// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pages of an address space as restore needs them: one ascending list in
 * which a page that is saved with another address space shows where its data
 * is and whose it is. Two address spaces share a page when both owner and
 * address are the same.
 */
#include <stdbool.h>
#include <stdlib.h>

#include "base/vec.h"
#include "restore/restore.h"

static int add(struct mm_runs *l, const struct mm_run *run)
{
	struct mm_run *last = l->n ? &l->v[l->n - 1] : NULL;
	uint64_t len = last ? last->end - last->start : 0;

	if (last && last->end == run->start && last->kind == run->kind &&
	    last->owner == run->owner &&
	    (run->kind != CKPT_RUN_DATA || last->off + len == run->off)) {
		last->end = run->end;
		return 0;
	}
	last = vec_push(l);
	if (!last)
		return -ENOMEM;
	*last = *run;
	return 0;
}

size_t mm_runs_find(const struct mm_runs *l, uint64_t addr)
{
	size_t low = 0, high = l->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (l->v[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* What @from has in [start, end), which must be all there. */
static int add_shared(struct mm_runs *l, const struct mm_runs *from, uint64_t start, uint64_t end)
{
	for (size_t i = mm_runs_find(from, start); start < end; i++) {
		struct mm_run piece;
		int rc;

		if (i >= from->n || from->v[i].start > start)
			return -EBADMSG;
		piece = from->v[i];
		piece.off += start - piece.start;
		piece.start = start;
		if (piece.end > end)
			piece.end = end;
		rc = add(l, &piece);
		if (rc)
			return rc;
		start = piece.end;
	}
	return 0;
}

static int add_run(struct restore_ctx *r, struct mm_runs *l, uint32_t mm,
		   const struct ckpt_page_run *run)
{
	uint64_t end = run->vaddr + (uint64_t)run->npages * CKPT_PAGE;
	struct mm_run own = { run->vaddr, end, run->off, run->kind, mm };

	if (run->kind == CKPT_RUN_SHARED)
		return add_shared(l, &r->runs[run->off - 1], run->vaddr, end);
	return add(l, &own);
}

int restore_runs_read(struct restore_ctx *r, struct ckpt_err *err)
{
	/* Behind those of the image: what tasks have that exist already. */
	size_t n = r->img->mms.n + (r->warm ? r->warm->tasks.n : 0) + 1;
	int rc = 0;

	r->runs = calloc(n, sizeof(*r->runs));
	r->mm_prot = calloc(n, sizeof(*r->mm_prot));
	if (!r->runs || !r->mm_prot)
		return ckpt_oom(err);
	/* Sharing points to earlier address spaces only: the reader checked it. */
	for (uint32_t mm = 1; !rc && mm <= r->img->mms.n; mm++) {
		struct image_maps maps = image_maps_of_mm(r->img, mm);

		for (size_t i = 0; !rc && i < maps.n; i++) {
			const struct ckpt_page_run *run = (const void *)maps.v[i]->runs.data;

			for (size_t k = 0; !rc && k < maps.v[i]->runs.len / sizeof(*run); k++)
				rc = add_run(r, &r->runs[mm - 1], mm, &run[k]);
		}
	}
	if (rc == -EBADMSG)
		return ckpt_fail(err, E_IMAGE_CORRUPT, rc, "a shared page is in no address space");
	return rc ? ckpt_oom(err) : 0;
}

void restore_runs_free(struct restore_ctx *r)
{
	for (size_t i = 0; r->runs && i < r->img->mms.n; i++)
		vec_free(&r->runs[i]);
	for (size_t i = 0; r->mm_prot && i < r->img->mms.n; i++)
		free(r->mm_prot[i]);
	free(r->runs);
	free(r->mm_prot);
	r->runs = NULL;
	r->mm_prot = NULL;
}

bool restore_mm_shares(struct restore_ctx *r, const Ckpt__Mm *a, const Ckpt__Mm *b)
{
	const struct mm_runs *x = &r->runs[a->id - 1], *y = &r->runs[b->id - 1];

	for (size_t i = 0; i < x->n; i++) {
		size_t k;

		if (x->v[i].kind != CKPT_RUN_DATA || x->v[i].owner == a->id)
			continue;
		k = mm_runs_find(y, x->v[i].start);
		for (; k < y->n && y->v[k].start < x->v[i].end; k++)
			if (y->v[k].kind == CKPT_RUN_DATA && y->v[k].owner == x->v[i].owner &&
			    y->v[k].off - y->v[k].start == x->v[i].off - x->v[i].start)
				return true;
	}
	return false;
}
