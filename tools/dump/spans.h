/* SPDX-License-Identifier: GPL-2.0-only */
/* Which pages of a shared object were written, as the trackers of those tell who have it mapped. */
#ifndef CKPT_DUMP_SPANS_H
#define CKPT_DUMP_SPANS_H

#include <stddef.h>
#include <stdint.h>

#include "track/track.h"

/* Pages of an object. */
struct spans {
	struct span {
		uint64_t first, end;
	} * v;
	size_t n, cap;
};
/* Append what @t has written to its mapping [start, end) of an object of @pages, which begins at
 * byte @pgoff of it; @how is that of tracker_shared(). 0 or -errno. */
int spans_find(struct tracker *t, uint64_t start, uint64_t end, uint64_t pgoff, uint64_t pages,
	       unsigned int how, struct spans *ret);
/* Ascending, without overlaps. */
void spans_join(struct spans *s);

/* The same of several mappings, by two threads where they are large. */
struct search {
	uint64_t pages;   /* of the object */
	unsigned int how; /* TRACK_KNOWN is among it when anything is armed */
	uint64_t bytes;
	struct {
		struct piece {
			struct tracker *t;
			uint64_t start, end, pgoff;
		} * v;
		size_t n, cap;
	} pieces;
};
int search_add(struct search *s, struct tracker *t, uint64_t start, uint64_t end, uint64_t pgoff);
/* What it finds, joined. 0 or -errno; then something may be armed and not told. */
int search_run(struct search *s, int threads, struct spans *ret);
void search_free(struct search *s);

#endif
