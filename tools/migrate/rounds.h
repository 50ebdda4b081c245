/* SPDX-License-Identifier: GPL-2.0-only */
/* Copying memory while the program runs: what rounds.c, written.c and pages.c share. */
#ifndef CKPT_MIGRATE_ROUNDS_H
#define CKPT_MIGRATE_ROUNDS_H

#include "migrate/delta.h"
#include "migrate/shares.h"
#include "migrate/source.h"
#include "migrate/store.h"
#include "migrate/throttle.h"
#include "migrate/tree.h"

#define ROUNDS_NEW_BYTES (16u << 20)
#define ROUNDS_AGAIN_MAX 4u /* times that a task is tracked anew */

struct round_run {
	uint64_t addr;
	uint32_t npages;
	bool backed;
};

struct round_task {
	struct tracker tracker;
	int pid, tgid, vpid;
	uint64_t start; /* clock ticks since boot: another process may get the number */
	bool lost;      /* all of it will be sent at the end */
	unsigned int again;
	uint64_t space; /* sum of the mappings that were sent last */
	struct proc_vmas vmas;
	struct {
		struct round_run *v;
		size_t n, cap;
	} runs; /* to be sent in this round */
};

struct rounds {
	struct dump_tracking tracking;
	struct source *s;
	const struct track_ops *ops;
	struct store sent;
	struct {
		struct round_task **v;
		size_t n, cap;
	} tasks;
	struct shares shares;
	struct tree tree;      /* as it was at the begin of this round */
	uint64_t tree_sum;     /* of the one that was sent last */
	uint64_t late_bytes;   /* of processes that are not tracked yet */
	unsigned int late;     /* rounds that were made for them */
	bool direct;           /* pages are written that look unwritten: arm at short stops only */
	struct round_task *at; /* the task and the kind of mappings being asked about */
	bool backed;
	uint64_t new_bytes; /* of mappings that are not tracked yet */
	char *buf;          /* MIG_PAGES_MAX pages for each parcel */
	struct delta_cache *cache;
	bool cache_all;   /* there is room for every page; or only for those sent more than once */
	uint64_t * xor ;  /* MIG_PAGES_MAX pages */
	uint64_t xor_try; /* runs until the next look whether differences pay */
	bool xor_pays;
	struct vma_iter iter;      /* flags of mappings without a look at their pages */
	struct throttle *throttle; /* NULL: it runs at full speed */
};

/* rounds.c: which processes are there, and how much memory have those that nobody tracks? */
void rounds_look(struct rounds *r);
/* written.c: a task that has a tracker, or NULL */
struct round_task *rounds_task(const struct rounds *r, int pid);
uint64_t rounds_start_of(int pid);
/* What was written since the round before, into the runs of each task. */
int rounds_collect(struct rounds *r, uint32_t number, struct ckpt_err *err) __must_check;
/* pages.c: all of that to the peer. 0 or -errno of the link. */
int rounds_send_pages(struct rounds *r) __must_check;

#endif
