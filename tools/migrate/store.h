/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The peer's memory of a program that still runs elsewhere: one sparse memory file. Below
 * STORE_ROUNDS it is the page file of the last, frozen part; above, every 2 MiB of address space
 * that a round touched has its place.
 */
#ifndef CKPT_MIGRATE_STORE_H
#define CKPT_MIGRATE_STORE_H

#include <stdint.h>

#include "base/err.h"
#include "image/reader.h"

#define STORE_ROUNDS (1ull << 44)
#define STORE_CHUNK (2u << 20)
#define STORE_CHUNK_PAGES (STORE_CHUNK / CKPT_PAGE)

struct store_chunk {
	uint64_t key; /* address / STORE_CHUNK, plus one; 0 is a free entry */
	uint32_t pid;
	uint32_t index;
	uint64_t have[STORE_CHUNK_PAGES / 64];
	uint64_t zero[STORE_CHUNK_PAGES / 64];
};

struct store {
	int fd;
	struct store_chunk **hash;
	size_t slots, n;
};

int store_open(struct store *s, struct ckpt_err *err) __must_check;
void store_close(struct store *s);
/* Keep @npages of @pid at @addr; @data NULL: they are zero. */
int store_put(struct store *s, uint32_t pid, uint64_t addr, uint32_t npages, const void *data,
	      struct ckpt_err *err) __must_check;
/* The pages of the last part. */
int store_put_final(struct store *s, uint64_t off, uint32_t npages, const void *data,
		    struct ckpt_err *err) __must_check;
/* Turn the "unchanged since" runs of @img into what the store holds, and make the store its page
 * file. E_PEER when a page is missing. */
int store_resolve(struct store *s, struct image *img, struct ckpt_err *err) __must_check;

#endif
