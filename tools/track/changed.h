/* SPDX-License-Identifier: GPL-2.0-only */
/* Where in protected memory something was written, for the back end that protects it. */
#ifndef CKPT_TRACK_CHANGED_H
#define CKPT_TRACK_CHANGED_H

#include <stddef.h>
#include <stdint.h>

#include "track/track.h"

/* Of this kernel, in tracker.facts. */
enum {
	FACT_ASKED = 1,
	FACT_HOLES_TOLD = 2,  /* a scan for what is written finds memory without a page table */
	FACT_MOVED_CLEAN = 4, /* pages that leave a registered mapping lose their protection */
};

/* Ascending. */
struct areas {
	struct area {
		uint64_t start, end;
	} * v;
	size_t n, cap;
};

/*
 * Where pages of [start, end), anonymous memory that is registered, are not protected, or not there
 * (which may be what they were before), near ones together. *ret is added to; vec_free() in any
 * case. 0, -errno, or -ESTALE: not all of it is registered. The task stands still.
 */
int changed_find(struct tracker *t, uint64_t start, uint64_t end, struct areas *ret);
/* Parts of [start, end) that have no page table, where it is known that an entry of a table is not
 * empty: the first one of each tells. 0, -errno or what @hole returned. */
int changed_holes(struct tracker *t, uint64_t start, uint64_t end,
		  int (*hole)(void *arg, uint64_t start, uint64_t end), void *arg);
/* Call @part for all of [start, end) of which it is not known that nothing was written to it. What
 * it returned, if that is not 0. */
int changed_told(const struct tracker *t, uint64_t start, uint64_t end,
		 int (*part)(void *arg, uint64_t start, uint64_t end), void *arg);

#endif
