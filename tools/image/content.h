/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a page holds, in a few bytes. Memory that several processes share can be written by whoever
 * has it mapped or open, also by one that came and went, and no tracker of an address space sees
 * that. So a hash of every such page is kept, and compared with.
 */
#ifndef CKPT_IMAGE_CONTENT_H
#define CKPT_IMAGE_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

#define CONTENT_HASH_BYTES 16u

/* Is every byte of it zero? */
bool page_is_zero(const void *page);
/* XXH3-128 of a page. The seed is random, so that nobody can prepare two pages of one hash. */
void content_hash(uint64_t seed, const void *page, unsigned char *ret);

#endif
