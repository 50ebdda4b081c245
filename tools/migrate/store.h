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
#include "restore/restore.h"

#define STORE_ROUNDS (1ull << 44)
/* A page that the task-to-be has is "at" its own address, above that. */
#define STORE_WARM (1ull << 47)
#define STORE_CHUNK (2u << 20)
#define STORE_CHUNK_PAGES (STORE_CHUNK / CKPT_PAGE)

struct store_chunk {
	uint64_t key; /* address / STORE_CHUNK, plus one; 0 is a free entry */
	uint32_t pid;
	uint32_t index;
	uint64_t have[STORE_CHUNK_PAGES / 64];
	uint64_t zero[STORE_CHUNK_PAGES / 64];
	uint64_t stored[STORE_CHUNK_PAGES / 64]; /* the newest is in the store; at a source: seen */
	uint64_t warm[STORE_CHUNK_PAGES / 64];   /* the task-to-be has something there */
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
/* The same for pages whose data the task-to-be has already got. */
int store_note(struct store *s, uint32_t pid, uint64_t addr, uint32_t npages,
	       struct ckpt_err *err) __must_check;
/* All that the task-to-be @pid has, ascending. */
int store_warm_runs(const struct store *s, uint32_t pid, struct mm_runs *ret,
		    struct ckpt_err *err) __must_check;
/*
 * At the source, the same for what was sent (store_note): a round that begins has seen nothing;
 * what it has not seen in the end is forgotten, for the page is not what was sent any more.
 */
void store_see_none(struct store *s, uint32_t pid);
void store_see(struct store *s, uint32_t pid, uint64_t addr, uint64_t npages);
void store_forget_unseen(struct store *s, uint32_t pid);
/* Nothing of @pid is there any more. */
void store_forget_task(struct store *s, uint32_t pid);
/* What the task-to-be @pid has goes into the store; @read is 0 or -errno. 0 or -errno. */
int store_cool(struct store *s, uint32_t pid,
	       int (*read)(void *arg, uint64_t addr, void *data, size_t len), void *arg);
/* And back: what the store has goes to a task that was just made. @write: 0, or it has no place for
 * it. 0 or -errno. */
int store_heat(struct store *s, uint32_t pid,
	       int (*write)(void *arg, uint64_t addr, const void *data, size_t len), void *arg);
/* It is not there after all. */
void store_forget(struct store *s, uint32_t pid, uint64_t addr, uint64_t npages);
/* The page of @pid at @addr. 0; 1: the task-to-be has it; -ENODATA: nobody; or -errno. */
int store_read(const struct store *s, uint32_t pid, uint64_t addr, void *page);
/* How many of @npages are alike: kept, or (*ret_had false) not. */
uint64_t store_had(const struct store *s, uint32_t pid, uint64_t addr, uint64_t npages,
		   bool *ret_had);
/* The pages of the last part. */
int store_put_final(struct store *s, uint64_t off, uint32_t npages, const void *data,
		    struct ckpt_err *err) __must_check;
/* Turn the "unchanged since" runs of @img into what the store holds, and make the store its page
 * file. E_PEER when a page is missing. */
int store_resolve(struct store *s, struct image *img, struct ckpt_err *err) __must_check;

#endif
