// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: the results of a scan: the runs that user space gets, and the ranges
 * that were armed. Both grow in address order. When memory is short neither
 * fails: runs are given up as a whole ("everything changed"), and a range that
 * is not known counts as new at the next collect.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "ckpt.h"

void ckpt_runs_free(struct ckpt_runs *runs)
{
	kvfree(runs->r);
	*runs = (struct ckpt_runs){};
}

void ckpt_known_free(struct ckpt_known *known)
{
	kvfree(known->r);
	*known = (struct ckpt_known){};
}

/* Add [start, end), which lies behind all runs so far. May sleep. */
void ckpt_runs_add(struct ckpt_runs *runs, unsigned long start, unsigned long end, u32 state)
{
	u64 pages = (end - start) >> PAGE_SHIFT;
	struct ckpt_run *last = runs->nr ? &runs->r[runs->nr - 1] : NULL;

	if (runs->lost)
		return;
	runs->pages += pages;
	if (last && last->state == state && last->start + ((u64)last->pages << PAGE_SHIFT) == start &&
	    last->pages + pages <= U32_MAX) {
		last->pages += pages;
		return;
	}
	while (pages) {
		u32 part = min_t(u64, pages, U32_MAX);

		if (runs->nr == runs->cap) {
			size_t cap = max_t(size_t, 256, runs->cap * 2);
			struct ckpt_run *r = kvmalloc_array(cap, sizeof(*r), CKPT_GFP_LOCKED);

			if (!r) {
				runs->lost = true;
				return;
			}
			memcpy(r, runs->r, runs->nr * sizeof(*r));
			kvfree(runs->r);
			runs->r = r;
			runs->cap = cap;
		}
		runs->r[runs->nr++] = (struct ckpt_run){ start, part, state };
		start += (unsigned long)part << PAGE_SHIFT;
		pages -= part;
	}
}

/* Add [start, end), which lies behind all ranges so far. */
void ckpt_known_add(struct ckpt_known *known, unsigned long start, unsigned long end)
{
	if (known->nr && known->r[known->nr - 1].end == start) {
		known->r[known->nr - 1].end = end;
		return;
	}
	/* No room: what is not known is new at the next collect, i.e. changed. */
	if (known->nr < known->cap)
		known->r[known->nr++] = (struct ckpt_range){ start, end };
	else
		known->lost = true;
}
