/* SPDX-License-Identifier: GPL-2.0-only */
/* Folding the chain of an increment into one checkpoint that needs no other. */
#ifndef CKPT_IMAGE_MERGE_H
#define CKPT_IMAGE_MERGE_H

#include <stdatomic.h>

#include "image/reader.h"
#include "image/rebase.h"

struct image_merge_how {
	enum pack_how pack; /* the new page file */
	int threads;
	/* Another thread sets it: the merge ends soon, -ECANCELED. May be NULL. */
	const atomic_bool *cancel;
	struct page_moves *moves; /* where the pages went; may be NULL */
};

struct image_merged {
	unsigned char id[16]; /* content id of the new checkpoint */
	uint64_t pages;       /* that hold data */
	uint64_t bytes;       /* of records and pages */
	uint64_t pages_bytes; /* length of its page file, before it was packed */
};

/*
 * Write to the new or empty directory @path what @img is, with all its pages. Its page file is
 * packed as @how says. Every page that is copied was compared with its checksum before. Errors
 * leave nothing: E_IMAGE_DIR, E_IMAGE_WRITE, E_IMAGE_CORRUPT.
 */
int image_merge(struct image *img, const char *path, const struct image_merge_how *how,
		struct ckpt_ui *ui, struct image_merged *ret, struct ckpt_err *err) __must_check;

#endif
