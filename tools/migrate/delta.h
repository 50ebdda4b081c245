/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages as they were last sent, so that the next time only the difference is: a bounded cache at
 * the source. The peer needs none, it has the pages themselves.
 */
#ifndef CKPT_MIGRATE_DELTA_H
#define CKPT_MIGRATE_DELTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DELTA_CACHE_BYTES (64u << 20)

struct delta_cache;

/* NULL when @bytes is too little for anything, or when out of memory: then nothing is cached. */
struct delta_cache *delta_open(uint64_t bytes);
void delta_close(struct delta_cache *c);
uint64_t delta_pages(const struct delta_cache *c); /* that fit */
/* The page of @pid at @addr as it was last sent, to be changed in place; or NULL. */
void *delta_find(struct delta_cache *c, uint32_t pid, uint64_t addr);
/* Remember a page that was sent; the one that was used least recently gives way. */
void delta_keep(struct delta_cache *c, uint32_t pid, uint64_t addr, const void *page);
void delta_drop(struct delta_cache *c, uint32_t pid, uint64_t addr);
/* @ret = @a xor @b, a page each. Returns how many 8-byte words differ. */
uint32_t delta_xor(uint64_t *ret, const void *a, const void *b);

#endif
