/* SPDX-License-Identifier: GPL-2.0-only */
/* Increments: finding the pages that an earlier checkpoint holds. */
#ifndef CKPT_IMAGE_CHAIN_H
#define CKPT_IMAGE_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/reader.h"
#include "image/writer.h"

struct run_list {
	struct ckpt_page_run *v;
	size_t n, cap;
};
/* Append, joined with the last when they are one. 0 or -ENOMEM. */
int run_list_add(struct run_list *l, const struct ckpt_page_run *r);

/* How many of the @npages from @addr, at least one, are in @r or (*ret_in false) in front of it; @r
 * ends behind @addr. NULL: there is none. */
uint64_t run_alike(const struct ckpt_page_run *r, uint64_t addr, uint64_t npages, bool *ret_in);

/* A walk over the pages of one address space of the parent. */
struct chain_map {
	const struct image *img;
	struct image_maps maps;
	size_t map, run;
	uint32_t other; /* address space that shared the last page with this one, and its place */
	size_t other_map, other_run;
};
void chain_map_init(struct chain_map *m, const struct image *img, uint32_t mm);
/* The same over the pages of an object. */
void chain_map_init_object(struct chain_map *m, const struct image *img, uint32_t object);
/*
 * Append where the pages [vaddr, +npages) are, as a child of the image would write it. Calls come
 * in ascending order of @vaddr. 0, -ENOMEM, or -ENOENT when the parent does not have them all.
 */
int chain_resolve(struct chain_map *m, uint64_t vaddr, uint64_t npages, struct run_list *ret);
/* Append what the parent has in the range of @npages pages from @vaddr, holes left out, and add to
 * *@ret_pages how many pages that is. Order as above. 0 or -errno. */
int chain_same(struct chain_map *m, uint64_t vaddr, uint64_t npages, struct run_list *ret,
	       uint64_t *ret_pages);

/* How many of the pages [vaddr, +npages), at least one, the parent has, or (*ret_has false) has
 * not. Order as above. */
uint64_t chain_has(struct chain_map *m, uint64_t vaddr, uint64_t npages, bool *ret_has);

/* Write the chain record of a child of @parent: of all ancestors those that @lists use, numbered
 * anew, also in the lists. */
int chain_put(struct image_writer *w, const struct image *parent, struct run_list *const *lists,
	      size_t nlists, struct ckpt_err *err) __must_check;

#endif
