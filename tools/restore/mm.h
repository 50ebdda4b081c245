/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files that build an address space share: mm.c, inherit.c, fill.c. */
#ifndef CKPT_RESTORE_MM_H
#define CKPT_RESTORE_MM_H

#include "blob/step.h"
#include "kern/arch.h"
#include "restore/restore.h"

/* r->mm_prot: the protection of a mapping before restore_finish_mm(); this: not its final one,
 * or not the same everywhere. */
#define MM_PROT_OTHER (~0u)

int mm_oom(struct ckpt_err *err);
/* The kernel's own mappings: never mapped, only moved. */
bool mm_special(const Ckpt__Vma *v);
/* Steps that map [start, end) of mapping @at, writable when it is to be filled. */
int mm_map(struct restore_ctx *r, const Ckpt__Mm *mm, size_t at, uint64_t start, uint64_t end,
	   struct steps *s, struct ckpt_err *err) __must_check;

/* Is @base what a task has that was made before the image was known (warm.c)? */
bool mm_is_warm(const struct restore_ctx *r, const Ckpt__Mm *base);

/* inherit.c: @mm begins as a copy of @base and keeps what is the same. */
bool mm_same_specials(const Ckpt__Mm *a, const Ckpt__Mm *b);
int mm_inherit(struct restore_ctx *r, const Ckpt__Mm *mm, const Ckpt__Mm *base, struct steps *s,
	       struct ckpt_err *err) __must_check;

/* fill.c: memory to be read from the page file. */
struct mm_parts {
	struct ckpt_fill_part *v;
	size_t n, cap;
	uint64_t bytes;
};
struct mm_fill {
	struct mm_parts whole; /* in huge pages that are complete */
	struct mm_parts rest;
	struct {
		struct {
			uint64_t start, end;
			bool rest; /* some of its pages are in no complete huge page */
		} * v;
		size_t n, cap;
	} huge; /* mappings that want huge pages */
};
/* 0 or -ENOMEM */
int mm_fill_add(struct mm_fill *f, uint64_t start, uint64_t end, uint64_t off);
int mm_fill_data(struct mm_fill *f, const struct mm_runs *runs, uint64_t start, uint64_t end);
/* All data of a mapping that was just made. */
int mm_fill_vma(struct mm_fill *f, const struct mm_runs *runs, const Ckpt__Vma *v);
int mm_fill_plan(struct restore_ctx *r, struct mm_fill *f, struct steps *s,
		 struct ckpt_err *err) __must_check;
void mm_fill_free(struct mm_fill *f);

#endif
