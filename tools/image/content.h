/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the pages of an object held. Memory that several processes share can be written by whoever
 * has it mapped or open, also by one that came and went, and no tracker of an address space sees
 * that. So a tracked checkpoint keeps a hash of every such page, and the next one compares.
 */
#ifndef CKPT_IMAGE_CONTENT_H
#define CKPT_IMAGE_CONTENT_H

#include "image/reader.h"
#include "image/writer.h"

#define CONTENT_HASH_BYTES 16u

/* Is every byte of it zero? */
bool page_is_zero(const void *page);
/* XXH3-128 of a page. The seed is random, so that nobody can prepare two pages of one hash. */
void content_hash(uint64_t seed, const void *page, unsigned char *ret);

/* What a checkpoint knows of one object. */
struct content {
	uint32_t object;
	const struct image *img;
	const Ckpt__PageHashes *const *parts; /* borrowed */
	size_t nparts;
	struct {
		struct content_run {
			uint64_t vaddr, npages, first;
		} * v;
		size_t n, cap;
	} runs;
};
/* The object of @img that was the file (@dev, @ino). Whether it is the same one is of no
 * importance: pages are. 1; 0 there is none; -ENOMEM. */
int content_find(const struct image *img, uint64_t dev, uint64_t ino, struct content *ret);
/* The hash of its page at @vaddr; NULL when it had none. *cursor begins at any value. */
const unsigned char *content_at(const struct content *c, size_t *cursor, uint64_t vaddr);
void content_free(struct content *c);
/* The seed of the hashes in @img, or a new one when it has none (or is NULL). 0 or -errno. */
int content_seed(const struct image *img, uint64_t *ret);
/* Write the hashes of @npages pages of an object. */
int content_put(struct image_writer *w, uint32_t object, uint64_t dev, uint64_t ino,
		const unsigned char *hashes, uint64_t npages, struct ckpt_err *err) __must_check;

#endif
