/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Collecting the state of tasks (collect.c): one thread of them (thread.c), and those behind the
 * first of a process (crowd.c).
 */
#ifndef CKPT_DUMP_COLLECT_H
#define CKPT_DUMP_COLLECT_H

#include "dump/dump.h"
#include "kern/inject.h"

/* Everything about one thread between asking and answering. */
struct thread_work {
	struct task_facts facts;
	char *status;
	struct ckpt_slot *slot;
	uint64_t (*priv)[TASK_KIND_PRIV_WORDS]; /* one row per registered kind */
	Ckpt__Thread *msg;
	struct arena room; /* its part of the arena: from there to the room's size */
	uint64_t from;
	uint64_t whole;                /* bytes of the whole arena */
	struct doubtful_fds *doubtful; /* of the first thread */
	bool running;
	const Ckpt__Thread *like; /* with facts.view: kinds that find them alike have said this */
};

/* A process on its way through dump_collect_tasks(). */
struct passage {
	struct target_task *task; /* NULL: nobody */
	Ckpt__Task *msg;
	struct proc_stat stat;
	struct doubtful_fds doubtful;
	struct inject in;
	struct thread_work first;
	uint64_t from; /* where threads may use the arena */
	bool confined; /* by seccomp */
	/* told.c */
	bool told;              /* but for its descriptors it need not be asked */
	struct mm_ahead *ahead; /* looks at its memory; NULL: nobody does */
	char *maps;             /* of a process that need not be asked; NULL: read it */
	bool settled;           /* its mappings are as they were in the checkpoint before */
	bool viewed;            /* the next two are there */
	struct proc_view process;
	struct thread_views views;
	const struct process_traits *traits;
};

/* Of so many threads two are sent in at a time: for fewer a second way in takes longer than it
 * saves. */
#define CROWD_MIN 8u

/* Three processes are on the way at a time: while one does what it was asked, ckpt has to do with
 * the others. */
#define PASSAGES 3
/* And one for a second thread of a process. */
#define BERTHS (PASSAGES + 1)

/* What is known of a thread without running anything in it, and the list of what it is asked. */
int thread_prepare(struct dump_ctx *d, struct thread_work *w, struct target_task *task,
		   const struct proc_stat *stat, size_t at, Ckpt__Task *msg,
		   struct ckpt_err *err) __must_check;
int thread_start(struct inject *in, struct thread_work *w, struct ckpt_err *err) __must_check;
/* It has come back: into the records of its process, @task. */
int thread_answers(struct dump_ctx *d, const struct inject *in, struct thread_work *w,
		   Ckpt__Task *task, struct ckpt_err *err) __must_check;
/* All of that of a thread that need not be asked, for the kernel's record of it is known:
 * w->facts.view and w->like are. */
int thread_seen(struct dump_ctx *d, struct thread_work *w, struct target_task *task,
		const struct proc_stat *stat, size_t at, Ckpt__Task *msg,
		struct ckpt_err *err) __must_check;
/* The first thread has ended while others go on: its number stays, and what can be seen of it. */
int thread_ended(struct dump_ctx *d, struct target_task *task, const struct proc_stat *stat,
		 Ckpt__Task *msg, struct ckpt_err *err) __must_check;
void thread_forget(struct thread_work *w);

/* Do the two have the same, as far as kinds know by that what they would say? */
bool thread_views_alike(const struct thread_view *a, const struct thread_view *b);

/* told.c. Does it look as if nothing of @p need be asked? Before its descriptors are collected. */
void told_look(struct dump_ctx *d, struct passage *p);
/* When they are: so it is. Then all its threads can be collected by what was seen. */
bool told_enough(struct passage *p);
int told_threads(struct dump_ctx *d, struct passage *p, struct ckpt_err *err) __must_check;
/* It was asked: the next time it need not be. */
void told_learn(struct dump_ctx *d, const struct passage *p);
/* It was not: its maps are as they were as long as nobody changes them. Takes p->maps. */
void told_keep(struct dump_ctx *d, struct passage *p);
/* What this dump has kept is the series', in place of what the one before had. */
void told_end(struct dump_ctx *d);
void told_maps_free(struct dump_told_maps_list *l);

/* All threads of @p behind the first, which has been asked and is inside still. */
int dump_collect_crowd(struct dump_ctx *d, struct passage *p, struct ckpt_err *err) __must_check;

#endif
