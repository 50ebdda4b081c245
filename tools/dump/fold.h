/* SPDX-License-Identifier: GPL-2.0-only */
/* Merging a checkpoint with its chain in the background, while a series goes on. */
#ifndef CKPT_DUMP_FOLD_H
#define CKPT_DUMP_FOLD_H

#include "image/merge.h"

struct fold;

struct fold_result {
	int rc;
	const struct ckpt_err *err; /* when rc is not 0 */
	const struct image *img;    /* what was merged */
	struct image_source base;   /* what came of it */
	const struct page_moves *moves;
};

/* Begin to merge the checkpoint in @from into the directory @to, packed as @pack says. The chain
 * stays where it is until the fold is done. */
int fold_begin(struct fold **ret, const char *from, const char *to, enum pack_how pack,
	       struct ckpt_err *err) __must_check;
/* Somebody waits for it: it need not keep out of the way any longer. */
void fold_hurry(struct fold *f);
bool fold_is_done(const struct fold *f);
/* Of one that is done; valid until its end. */
const struct fold_result *fold_result(const struct fold *f);
/* One that is not done is cancelled, which leaves nothing. Forgives NULL, returns NULL. */
struct fold *fold_end(struct fold *f);

#endif
