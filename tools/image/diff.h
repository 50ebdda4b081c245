/* SPDX-License-Identifier: GPL-2.0-only */
/* Comparing the pages of two checkpoints. */
#ifndef CKPT_IMAGE_DIFF_H
#define CKPT_IMAGE_DIFF_H

#include "image/reader.h"

struct image_diff {
	uint64_t same;    /* pages with equal contents */
	uint64_t changed; /* pages with other contents */
	uint64_t added;   /* only in the second */
	uint64_t dropped; /* only in the first */
	uint64_t read;    /* pages that had to be read to know */
};

/*
 * Compare the pages of address space @amm of @a with those of @bmm of @b, which may be 0 for none.
 * Pages that lie at the same place of the same checkpoint are not read. @changed, if not NULL, is
 * called for runs of pages that are not the same, ascending. E_IMAGE_CORRUPT, E_NOMEM.
 */
int image_diff_mm(const struct image *a, uint32_t amm, const struct image *b, uint32_t bmm,
		  void (*changed)(void *arg, uint64_t addr, uint64_t npages), void *arg,
		  struct image_diff *ret, struct ckpt_err *err) __must_check;

#endif
