/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whether an address space was changed, and how many mappings may write to a file: two numbers that
 * the kernel keeps for itself, read by BPF iterators (CONFIG_DEBUG_INFO_BTF, CAP_SYS_ADMIN; the
 * first since Linux 6.4, with CONFIG_PER_VMA_LOCK).
 */
#ifndef CKPT_KERN_MMWATCH_H
#define CKPT_KERN_MMWATCH_H

#include <stdint.h>

#include "kern/btf.h"

struct mm_watch {
	int stamp_fd, writers_fd; /* loaded programs; -1: none */
};
#define MM_WATCH_NONE ((struct mm_watch) { -1, -1 })

/*
 * mm_struct.mm_lock_seq moves on whenever somebody has held the address space for writing: whoever
 * maps, unmaps, moves, protects or registers something, and fork(2), which copies it. As long as
 * two stamps are equal nothing of that has happened. (It wraps: 2^31 such calls in between, some
 * twenty minutes of nothing else, would have to end on the very number.)
 */
struct mm_stamp {
	uint64_t mm; /* which address space; no meaning but to be equal or not */
	uint64_t seq;
};

/* Load the programs, and see on an address space made for that that they tell what they should.
 * Some 2 ms, and 2 more unless @types are loaded; the caller frees those. 0 or -errno, then @ret is
 * MM_WATCH_NONE. */
int mm_watch_open(struct mm_watch *ret, struct btf *types);
void mm_watch_close(struct mm_watch *w);
/* Of process @pid. 0 or -errno. */
int mm_stamp_read(const struct mm_watch *w, int pid, struct mm_stamp *ret);
/* How many mappings, of all processes, may write to the file that @pid has mapped at @start. 0 or
 * -errno. */
int map_writers_read(const struct mm_watch *w, int pid, uint64_t start, uint64_t *ret);

#endif
