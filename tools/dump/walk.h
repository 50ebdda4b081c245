/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A look through the pages of a frozen address space. Of the dump nothing is changed by it, so
 * another thread of ckpt may do it (mm_ahead.c): what was found is the caller's to add.
 */
#ifndef CKPT_DUMP_WALK_H
#define CKPT_DUMP_WALK_H

#include "dump/dump.h"

struct mm_walk {
	struct proc_vmas vmas;
	struct page_segs segs;    /* the pages to be saved; without their place in the image */
	struct dump_pages pages;  /* the same address space's other runs */
	uint64_t scanned, parent; /* for the statistics: pages */
	uint64_t staged;          /* dump_stage_ahead() */
};

/* The mappings of @task; @maps: the text of its maps. walk_free() in any case. */
int walk_begin(const struct dump_ctx *d, const struct target_task *task, const char *maps,
	       struct mm_walk *ret, struct ckpt_err *err) __must_check;
/* Its pages. @t: its tracker or NULL; @fresh: attached just now. -ESTALE without an error: it has
 * another address space than @t; then it may be walked once more. */
int walk_pages(struct dump_ctx *d, const struct target_task *task, struct tracker *t, bool fresh,
	       struct mm_walk *w, struct ckpt_err *err) __must_check;
void walk_free(struct mm_walk *w);

#endif
