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
#include "migrate/watched.h"

#define ROUNDS_NEW_BYTES (16u << 20)
#define ROUNDS_AGAIN_MAX 4u /* times that a task is tracked anew */

struct round_run {
	uint64_t addr;
	uint32_t npages;
	bool backed;
};

struct round_runs {
	struct round_run *v; /* ascending */
	size_t n, cap;
};

struct round_task {
	struct tracker tracker;
	int pid, tgid, vpid;
	uint64_t start; /* clock ticks since boot: another process may get the number */
	bool lost;      /* all of it will be sent at the end */
	unsigned int again;
	uint64_t space; /* sum of the mappings that were sent last */
	struct proc_vmas vmas;
	struct round_runs runs; /* to be sent in this round */
	bool sent;              /* all that it had went out once, in an earlier round */
	bool shared; /* it had pages in common with somebody when it was first looked at */
	/* A child that waits for its parent's memory to be there, and begins with it (heirs.c). */
	struct round_task *heir_of; /* NULL: it is sent by itself */
	bool due;                   /* it waits no more: it is born in this round */
	struct round_runs first;    /* what it had when it was first looked at, and wrote since */
	struct round_runs same;     /* pages that are its parent's */
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
	struct watched watched;
	struct tree tree;      /* as it was at the begin of this round */
	uint64_t tree_sum;     /* of the one that was sent last */
	uint64_t late_bytes;   /* of processes that are not tracked yet */
	unsigned int late;     /* rounds that were made for them */
	unsigned int waited;   /* the same for children that waited for their parents */
	uint64_t fresh_pages;  /* of this round: of those whose first pass it is */
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
	struct throttle *throttle; /* NULL: it runs at full speed */
};

/* rounds.c: which processes are there, and how much memory have those that nobody tracks? */
void rounds_look(struct rounds *r);
/* written.c: a task that has a tracker, or NULL */
struct round_task *rounds_task(const struct rounds *r, int pid);
uint64_t rounds_start_of(int pid);
/* May a device be writing into pages that it was given before they are armed? */
bool rounds_direct(struct rounds *r);
/* What was written since the round before, into the runs of each task. */
int rounds_collect(struct rounds *r, uint32_t number, struct ckpt_err *err) __must_check;
/*
 * heirs.c: children that begin with their parent's memory. Before the pages written are asked for:
 * which are one page for both? Afterwards: who waits, and who is due; @more: there will be another
 * round. When all is sent: the end of the round.
 */
void heirs_look(struct rounds *r);
int heirs_settle(struct rounds *r, bool more) __must_check;
void heirs_sent(struct rounds *r);
bool heirs_wait(const struct rounds *r);
void heirs_wish(const struct rounds *r, struct tree_wish *ret);
/* Tell the peer which pages are the same. 0 or -errno of the link. */
int heirs_send(struct rounds *r) __must_check;
void heirs_forget(struct round_task *t);
/* pages.c: all of that to the peer. 0 or -errno of the link. */
int rounds_send_pages(struct rounds *r) __must_check;

#endif
