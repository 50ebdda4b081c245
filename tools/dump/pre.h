/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Copying ahead: memory is copied while the program runs, and only what it wrote meanwhile is
 * copied while it stands still. A round asks the trackers what was written, which begins the next
 * epoch in the same act, and copies that into the page file. The trackers are those of the session,
 * or, of a dump without one, our own for as long as the dump takes. A page that is written again is
 * copied again; its first copy stays in the page file and is of no use.
 *
 * pre.c has what was copied and tells the dump of it; the rounds of dump --pre, which stop the
 * tree, are pre_stopped.c, those of an increment by itself, which do not, pre_live.c.
 */
#ifndef CKPT_DUMP_PRE_H
#define CKPT_DUMP_PRE_H

#include "base/vec.h"
#include "dump/dump.h"
#include "dump/notes.h"
#include "dump/spans.h"

#define PRE_MAX_ROUNDS 4u

/* Pages of one address space, or of one shared object, as they were copied last, ascending. */
struct pre_task {
	int pid;                     /* 0: of an object */
	struct notes_object *object; /* of which the session knows; its hashes are of these pages */
	int fd;                      /* of that, -1 none */
	struct spans spans;          /* written to it, in this round */
	bool whole;                  /* or all that is there */
	struct tracker own;          /* of a dump without a session */
	struct run_list have;
	struct run_list quiet; /* of this round: zero pages and guards */
	bool lost;             /* something was armed and not told: all of its memory is saved */
};

struct dump_pre {
	struct dump_tracking tracking;
	struct dump_ctx *d;
	struct dump_tracking *session; /* NULL: the trackers are ours */
	const struct track_ops *ops;
	struct {
		struct pre_task **v;
		size_t n, cap;
	} tasks;
	/* The round that is being made. */
	struct pre_task *at;
	int mem_fd;
	bool backed;
	struct page_segs segs;
	VEC(struct pre_task *) owner; /* of each segment */
	struct {
		int *v;
		size_t n, cap;
	} mems;
};

struct pre_task *pre_task_find(struct dump_pre *p, int pid); /* NULL: nothing of it was copied */
struct pre_task *pre_task_new(struct dump_pre *p, int pid);  /* NULL: out of memory */
struct pre_task *pre_task_get(struct dump_pre *p, int pid);  /* the one or the other */
struct pre_task *pre_object_find(const struct dump_pre *p, const struct notes_object *o);

/* Private pages that a tracker looks after. */
bool pre_wanted(const struct proc_vma *v);
/* For tracker_collect(), of a struct dump_pre whose at, mem_fd and backed are set. */
int pre_note_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags) __must_check;
/* Copy what the round found, and note where it is. *ret_pages: how many. */
int pre_copy(struct dump_pre *p, uint64_t *ret_pages, struct ckpt_err *err) __must_check;
void pre_round_clear(struct dump_pre *p);

/* What the session knows of the memory that @v shows, if it is watched; NULL otherwise. */
struct notes_object *pre_watched_object(const struct dump_pre *p, const struct proc_vma *v);
/* Begin an epoch of the mapping @v, and note what was written in the last. Whatever fails, contents
 * tell in the end. 0 or -ENOMEM. */
int pre_shared_collect(struct dump_pre *p, struct tracker *t,
		       const struct proc_vma *v) __must_check;
/* The same of all of a tree that stands still, and was looked at. */
int pre_shared_stopped(struct dump_pre *p, const struct target *t,
		       struct ckpt_err *err) __must_check;
/* Behind the last mapping: what is to be copied of it. The hashes are of what is read. 0 or
 * -ENOMEM. */
int pre_shared_segments(struct dump_pre *p) __must_check;

int pre_rounds_stopped(struct dump_pre *p, struct ckpt_err *err) __must_check;
/* Is this increment such that copying ahead can pay at all? Costs next to nothing. */
bool pre_live_may(struct dump_ctx *d);
int pre_rounds_live(struct dump_pre *p, struct ckpt_err *err) __must_check;

#endif
