/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What several processes may share (shared anonymous memory, memory files, System V segments,
 * removed files), sent while the program runs. Anybody may write it at any time, through a mapping
 * that is gone by now or without any, and no kernel tells of all that; so every round reads all of
 * it and sends the pages whose hash is not that of what was sent last, and the last dump does the
 * same, but for what is watched (watched.h). The hash, of 128 bits with a random seed, is what
 * increments go by (image/content.h): a copy of each page would take the memory once more at this
 * node.
 */
#ifndef CKPT_MIGRATE_SHARES_H
#define CKPT_MIGRATE_SHARES_H

#include "dump/dump.h"
#include "migrate/source.h"

struct share;
struct watched;

struct shares {
	struct source *s;
	struct {
		struct share **v;
		size_t n, cap;
	} all;
	struct {
		struct share **v; /* by number - 1; NULL: it is gone */
		size_t n, cap;
	} by_number;
	size_t parts;                  /* of hashes, in all of them */
	uint64_t seed;                 /* of the hashes; 0: there are none yet */
	uint64_t bytes;                /* looked at in this round */
	uint64_t us;                   /* how long that took, but for sending */
	uint64_t stop_us;              /* of that: what the last stop has to look at once more */
	const struct watched *watched; /* what it has not */
};

/* Begin a round. 0 or -errno. */
int shares_begin(struct shares *h, struct source *s, const struct watched *watched);
/* All that process @pid has mapped, by @vmas, or open, but for what was met in this round already.
 * 0 or -errno of the link. */
int shares_mapped(struct shares *h, int pid, const struct proc_vmas *vmas);
int shares_open(struct shares *h, int pid);
/* The round is over: what was not met is gone. 0 or -errno of the link. */
int shares_end(struct shares *h);
void shares_free(struct shares *h);

/* For the last dump: struct dump_tracking. */
uint32_t shares_number(const struct shares *h, const char *kind, uint64_t dev, uint64_t ino);
uint64_t shares_had(const struct shares *h, uint32_t number, uint64_t addr, uint64_t npages,
		    bool *ret_had);
const unsigned char *shares_hash(const struct shares *h, uint32_t number, uint64_t addr);

#endif
