/* SPDX-License-Identifier: GPL-2.0-only */
/* Comparing pages with their checksums when they are read, and only those that are. */
#ifndef CKPT_IMAGE_CHECK_H
#define CKPT_IMAGE_CHECK_H

#include "image/reader.h"

/* The page file of one source of an image, with the sums of its blocks. */
struct page_check {
	const struct image_source *source;
	uint64_t *sums;
	size_t n;
	atomic_bool *fine; /* blocks that were compared */
	atomic_int rc;     /* the first failure, and its block */
	size_t bad;
};

/* One for every source of @img, which is read, and not unpacked later than this. The caller gives
 * them back with page_checks_close(). */
int page_checks_open(const struct image *img, struct page_check **ret,
		     struct ckpt_err *err) __must_check;
/* Compare the blocks of these bytes of the page file, unless they were. From any thread, which has
 * its own *@room: NULL at first, for the caller to free. 0, -EBADMSG, -errno of a read. */
int page_check(struct page_check *c, uint64_t off, uint64_t len, unsigned char **room) __must_check;
/* Say what is wrong with the first page file of which something is; 0: nothing. */
int page_checks_failed(const struct image *img, const struct page_check *c, struct ckpt_err *err);
void page_checks_close(const struct image *img, struct page_check *c);

#endif
