/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Running step lists inside a frozen task. See docs/architecture.md, "Freezing":
 * from the first changed register on, losing ckpt at any instruction leads the
 * thread back to where it was.
 */
#ifndef CKPT_KERN_INJECT_H
#define CKPT_KERN_INJECT_H

#include "kern/target.h"
#include "model/arena.h"

/* How far the first thread of the process is on its way in and out. */
enum inject_state {
	INJECT_OUT,
	INJECT_ENTERING, /* asked to map the arena; runs to the entry of that call */
	INJECT_MAPPING,  /* runs to its exit */
	INJECT_IN,       /* the arena is there, and no thread runs */
	INJECT_RUNNING,  /* a thread runs a list */
	INJECT_HALTING,  /* it was asked to stop */
	INJECT_LEAVING,  /* asked to unmap the arena; runs to the entry of that call */
	INJECT_UNMAPPING /* runs to the stop behind it */
};

struct inject {
	struct target_task *task;
	struct arena arena;
	void *map;            /* our view of the arena */
	void *berth;          /* where that was to be (model/arena.h); NULL: anywhere */
	uint64_t tramp;       /* address of the trampoline in the target */
	unsigned char *saved; /* what the vDSO's tail held */
	size_t tramp_len;
	char *maps; /* /proc/PID/maps without the arena; NULL: of a second way in */
	enum inject_state state;
	int inside; /* the thread that has registers and mask of ours; 0: none */
	/* that runs a list, and how it ended */
	struct target_thread *th;
	struct ckpt_slot *slot;
	int done;
};

/* Is there nothing in the frozen @task that a killed ckpt left, to be taken away by who enters?
 * @maps: the text of its maps. */
bool inject_untouched(struct target_task *task, const char *maps);
/* Put an arena of @size bytes into @task. E_INJECT on failure, the task as it was. */
int inject_begin(struct inject *in, struct target_task *task, uint64_t size,
		 struct ckpt_err *err) __must_check;
/*
 * The same in parts, between which ckpt does other things than wait, as with another process. Each
 * begins with a wait for what the one before has set going, and each that fails leaves the task as
 * it was. @berth: a berth of its own (model/arena.h), by which several arenas can be owned at a
 * time; NULL: the only one.
 */
int inject_enter(struct inject *in, struct target_task *task, uint64_t size, void *berth,
		 struct ckpt_err *err) __must_check;
int inject_entered(struct inject *in, struct ckpt_err *err) __must_check;
int inject_ready(struct inject *in, struct ckpt_err *err) __must_check;
/* A second way into the process that @first is in, for a list of another thread at the same time.
 * It ends before @first does. E_INJECT on failure, which is none of @first's. */
int inject_beside(struct inject *in, const struct inject *first, void *berth,
		  struct ckpt_err *err) __must_check;
/* Run @slot's steps in thread @th; returns when all ran, or E_INJECT with the failing step. */
int inject_run(struct inject *in, struct target_thread *th, struct ckpt_slot *slot,
	       struct ckpt_err *err) __must_check;
/*
 * The same in three parts, between which ckpt does other things than wait: start; once it is done,
 * ask the thread to stop; wait for that and put its registers back. After a start that succeeded
 * both others must be called, also when one fails. No other thread may be started by the
 * same way in between.
 */
int inject_start(struct inject *in, struct target_thread *th, struct ckpt_slot *slot,
		 struct ckpt_err *err) __must_check;
int inject_done(struct inject *in, struct target_thread *th, struct ckpt_slot *slot);
int inject_back(struct inject *in, struct target_thread *th, struct ckpt_slot *slot,
		struct ckpt_err *err) __must_check;
/* The same for a list with a CKPT_OP_LEND on @word: when it is reached @take is called, on success
 * or failure the list goes on. Returns what @take returned when all else went well. */
int inject_run_lending(struct inject *in, struct target_thread *th, struct ckpt_slot *slot,
		       uint32_t *word, int (*take)(void *arg), void *arg,
		       struct ckpt_err *err) __must_check;
/* The same with a wait of one's own: @wait returns 0 once the slot's state is final. */
int inject_run_wait(struct inject *in, struct target_thread *th, struct ckpt_slot *slot,
		    int (*wait)(void *arg, struct ckpt_slot *slot, int tid), void *arg,
		    struct ckpt_err *err) __must_check;
/* Take the arena out again; the task is as it was. Also after a failed run. */
int inject_end(struct inject *in, struct ckpt_err *err) __must_check;
/* The same in parts. ckpt's own view of the arena is there until inject_gone(). */
int inject_leave(struct inject *in, struct ckpt_err *err) __must_check;
int inject_left(struct inject *in, struct ckpt_err *err) __must_check;
int inject_gone(struct inject *in, struct ckpt_err *err) __must_check;
/* Something else failed: the way out from wherever it is. */
void inject_quit(struct inject *in);

#endif
