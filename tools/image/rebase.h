/* SPDX-License-Identifier: GPL-2.0-only */
/* Letting an increment lean on another checkpoint that holds the same pages. */
#ifndef CKPT_IMAGE_REBASE_H
#define CKPT_IMAGE_REBASE_H

#include "image/reader.h"
#include "image/writer.h"

/* Where the pages of a chain are after it was merged. */
struct page_moves {
	struct page_move {
		uint64_t from; /* as the runs of the increment that was merged say */
		uint64_t to;   /* in the page file of the new one */
		uint64_t npages;
	} * v;
	size_t n, cap;
};
/* 0 or -ENOMEM. */
int page_moves_add(struct page_moves *m, uint64_t from, uint64_t to, uint64_t npages);
/* Once all were added. */
void page_moves_sort(struct page_moves *m);

/* Everything of an image that is not its pages. */
int image_put_state(struct image_writer *w, struct image *img, struct ckpt_err *err) __must_check;

/*
 * Write to the new or empty directory @path the same as @img, an increment in the same file system:
 * pages of the chain of @was, one of its ancestors, are looked for where @moves says, in @base.
 * No page is copied: the new one shares the page file of @img. Errors leave nothing.
 */
int image_rebase(struct image *img, const struct image *was, const struct image_source *base,
		 const struct page_moves *moves, const char *path, struct ckpt_ui *ui,
		 unsigned char ret_id[static 16], struct ckpt_err *err) __must_check;

#endif
