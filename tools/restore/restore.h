/* SPDX-License-Identifier: GPL-2.0-only */
/* A restore in progress. Only tools/restore looks inside; kinds use kind.h. */
#ifndef CKPT_RESTORE_RESTORE_H
#define CKPT_RESTORE_RESTORE_H

#include <signal.h>
#include <sys/types.h>

#include "base/err.h"
#include "image/reader.h"
#include "kern/guard.h"
#include "kind/kind.h"
#include "model/births.h"

struct parked {
	char name[24];
	uint64_t from, len; /* in ckpt */
	uint64_t at;        /* where tasks-to-be find it */
};

/* A process or thread to be: its slot in the arena and who it is. */
struct task_slot {
	Ckpt__Task *task;
	size_t index;         /* of the task in the image */
	Ckpt__Thread *thread; /* NULL: a zombie */
	struct ckpt_slot *slot;
	const Ckpt__Mm *base;   /* a process: whose memory it finds at its birth; NULL: ckpt's */
	bool confined;          /* by seccomp: ckpt holds it before its filters come into force */
	struct warm_task *warm; /* a process that exists already, or NULL */
	uint32_t *adopted;      /* cloned by a helper: the barrier behind that one's end */
};

/* Words in the arena at which tasks-to-be wait for each other, and at the last for ckpt. */
enum { BARRIER_BORN, BARRIER_GROUPS, BARRIER_OBJECTS, BARRIER_HELD, BARRIER_COUNT };

/* Pages of an address space: [start, end) are all of one kind. */
struct mm_run {
	uint64_t start, end;
	uint64_t off;   /* CKPT_RUN_DATA: in the page file */
	uint32_t kind;  /* enum ckpt_run_kind, never SHARED */
	uint32_t owner; /* the mm they are saved with */
};
struct mm_runs {
	struct mm_run *v;
	size_t n, cap;
};

struct restore_ctx {
	const struct ckpt_restore_opts *opts;
	struct ckpt_ui *ui;
	struct image *img;
	struct arena arena;
	void *arena_map;
	uint64_t arena_more; /* bytes beyond what the image needs */
	struct {
		struct parked v[8];
		size_t n;
		uint64_t area; /* the parking area behind the arena */
		uint64_t area_len;
		bool stay;      /* another vDSO than the image's: it is not moved away */
		uint64_t stubs; /* in the arena: the image's vDSO, calling this one; 0 not yet */
	} parked;
	int *object_fds; /* by id - 1; -1 not open */
	int *object_spares;
	int *object_homes; /* the number all tasks want it at; -1: none */
	void **object_msgs;
	int fd_base; /* ckpt's own descriptors are at or above it */
	struct {
		int32_t *fds; /* the files of all page files, at or above fd_base */
		size_t n;
		uint32_t *first; /* of each page file, by ckpt_run_source() */
	} sources;
	struct {
		struct task_slot *v;
		size_t n, cap;
	} slots;            /* processes in image order, each with its threads behind it */
	size_t *first_slot; /* of each task, by its index in the image */
	uint32_t *barrier[BARRIER_COUNT];
	uint32_t confined; /* threads that are */
	uint32_t procs;    /* processes that are not zombies */
	uint32_t born;     /* processes, zombies-to-be and stand-ins for groups */
	struct births births;
	struct ckpt_slot **standins;        /* as in births.standins */
	uint32_t **share_files, **share_fs; /* words of those who share, by their number */
	pid_t root;                         /* as ckpt sees it; 0 before it was cloned */
	struct mm_runs *runs;               /* by mm id - 1 */
	uint32_t **mm_prot;                 /* by mm id - 1, then mapping: see mm.h */
	struct netlock netlock;             /* fd -1: nothing is locked */
	struct guard guard;                 /* holds the threads by ptrace; pid 0: ckpt does */
	int timens_fd;                      /* the time namespace to enter; 0: ckpt's */
	int spare_tid;                      /* last number given to a helper thread */
	int maker_fd; /* with init: ckpt, seen from the copy that works in the namespace */
	struct ckpt_slot *init;    /* of a root that exists, with no memory but the arena; NULL */
	struct restore_warm *warm; /* NULL: no task exists before it is built */
	struct {
		struct early_object *v;
		size_t n, cap;
	} early;         /* objects that do: early.c */
	bool lives;      /* what was made runs, or will; what is left of ckpt ends nothing of it */
	uint64_t filled; /* bytes of memory that the plan reads from page files */
};

struct restore_result {
	pid_t pid;      /* the root task as ckpt sees it */
	pid_t wait_for; /* the child of ckpt whose end is the program's end */
	uint64_t total_us;
};

/* Bring the checkpoint in opts->dir back. Errors leave nothing behind. */
int ckpt_restore(const struct ckpt_restore_opts *opts, struct ckpt_ui *ui,
		 struct restore_result *ret, struct ckpt_err *err) __must_check;
/* ns.c: go to the namespaces that the program will be in. Before ckpt_restore(), once. */
int restore_ns_enter(const struct ckpt_restore_opts *opts, struct ckpt_err *err) __must_check;
/* The same in a fresh pid namespace, with an init of its own. */
int ckpt_restore_pidns(const struct ckpt_restore_opts *opts, struct ckpt_ui *ui,
		       struct restore_result *ret, struct ckpt_err *err) __must_check;
/* init.c: the rest of ckpt_restore() when the root is the init of a pid namespace: it is made
 * first, and a copy of ckpt in its namespace does what is to be done. */
int restore_as_init(struct restore_ctx *r, struct restore_result *ret,
		    struct ckpt_err *err) __must_check;
/* It waits: let it run the list that restore_plan() put into its slot. */
void restore_init_go(struct restore_ctx *r);
/* restore.c: plan, build, let go */
int restore_whole(struct restore_ctx *r, struct ckpt_err *err) __must_check;
/* What would stop this restore here and now; as ckpt_dump_check(). */
int ckpt_restore_check(const struct ckpt_restore_opts *opts, struct ckpt_ui *ui,
		       void (*found)(void *arg, const struct ckpt_err *why), void *arg,
		       struct ckpt_err *err) __must_check;

/*
 * The same in parts, for a peer that must not let the program run yet (tools/migrate): begin; fill
 * r->img; plan checks it, opens its objects and plans; build makes it, whole and stopped; then
 * restore_release() or restore_drop(); end frees (also half-made).
 */
int restore_begin(struct restore_ctx *r, const struct ckpt_restore_opts *opts, struct ckpt_ui *ui,
		  struct ckpt_err *err) __must_check;
int restore_plan_image(struct restore_ctx *r, struct ckpt_err *err) __must_check;
int restore_build(struct restore_ctx *r, struct ckpt_err *err) __must_check;
/* Tasks-to-be are born with everything blocked but SIGCHLD, which must be dropped and not queued
 * when a zombie-to-be ends. The caller sets *ret_old again when the first is born. */
void restore_newborn_signals(sigset_t *ret_old);
void restore_drop(struct restore_ctx *r);
void restore_end(struct restore_ctx *r);

/*
 * warm.c: processes that exist, and get their anonymous memory, before the rest of the image is
 * known. Between restore_begin() and restore_plan_image(), any number of times: follow the tree,
 * map, write.
 */
struct warm_task {
	int pid, exit_signal;
	int birth_sid;            /* the session it was born in */
	unsigned int share;       /* with its parent, from birth: as in births.h */
	bool led;                 /* it leads one of its own by now */
	bool placed;              /* it was given its mappings once */
	bool heir;                /* it was born with its parent's memory */
	bool unsettled;           /* and what it is not to keep of it is still there */
	struct warm_task *parent; /* NULL: the root */
	Ckpt__Mm mm;              /* what it has: private anonymous mappings, ascending */
	struct mm_runs
		pages; /* and the pages in them that came so far; off as in the image's runs */
	struct ckpt_slot *slot;
	int mem_fd, pid_fd;
	int uffd; /* by which new pages come; -1 none */
};
struct restore_warm {
	struct {
		struct warm_task **v;
		size_t n, cap;
	} tasks;       /* parents before children */
	uint64_t mark; /* of the arena: what is behind it belongs to one list */
};
/* Make the root, with @pid, out of the way of all mappings of @mms, in session @lone_sid if that
 * has no leader any more. */
int restore_warm_begin(struct restore_ctx *r, int pid, int lone_sid, Ckpt__Mm *const *mms, size_t n,
		       struct ckpt_err *err) __must_check;
/* NULL: there is none of that number. */
struct warm_task *restore_warm_find(const struct restore_ctx *r, int pid);
/*
 * warm_tree.c: the tree is as @b says by now. Processes that are gone or come to be born in another
 * way are ended (@gone is told before: is their memory still wanted?); those that can be made by
 * now are, if @grow. E_RESTORE when the root would have to be made anew.
 */
enum warm_wish {
	WARM_GONE, /* a zombie */
	WARM_COLD, /* it is made in the end */
	WARM_WANTED,
};
struct warm_follow {
	const struct births *b;     /* planned */
	const enum warm_wish *wish; /* by index in b */
	const int *heir_of; /* by index: the parent with whose memory it is born; NULL: nobody is */
	bool grow;
	int (*gone)(void *arg, const struct warm_task *w, bool lives, struct ckpt_err *err);
	void *arg;
};
int restore_warm_follow(struct restore_ctx *r, const struct warm_follow *f,
			struct ckpt_err *err) __must_check;
/* The same with the tree of the image, before restore_plan_image(). */
int restore_warm_settle(struct restore_ctx *r,
			int (*gone)(void *arg, const struct warm_task *w, bool lives,
				    struct ckpt_err *err),
			void *arg, struct ckpt_err *err) __must_check;
/* Let its mappings be the private anonymous ones of @want; what stays keeps its pages. */
int restore_warm_map(struct restore_ctx *r, struct warm_task *w, const Ckpt__Mm *want,
		     struct ckpt_err *err) __must_check;
/* Which of the @npages pages from @start are there. 0 or -errno. */
int restore_warm_present(const struct warm_task *w, uint64_t start, uint64_t npages, bool *ret);
/* An heir drops all pages but those of @keep, ascending. */
int restore_warm_keep(struct restore_ctx *r, struct warm_task *w, const struct mm_runs *keep,
		      struct ckpt_err *err) __must_check;
/* Is all of [start, end) mapped? */
bool restore_warm_has(const struct warm_task *w, uint64_t start, uint64_t end);
/* Write to such memory, whatever its protection. 0 or -errno. */
int restore_warm_write(const struct warm_task *w, uint64_t addr, const void *data, size_t len);
/* Read it. 0 or -errno. */
int restore_warm_read(const struct warm_task *w, uint64_t addr, void *data, size_t len);
/* As bases for restore_plan_mm(). */
int restore_warm_base(struct restore_ctx *r, struct ckpt_err *err) __must_check;
/* The last lists, which restore_plan() put into their slots, may run. */
void restore_warm_go(struct restore_ctx *r);
void restore_warm_free(struct restore_ctx *r);

/*
 * early.c: shared objects that exist, and are filled, before the rest of the image is known. Of an
 * image that is kept (image_read_kept) CKPT_RUN_PARENT of an object stands for what is there in the
 * one whose number is off.
 */
#define RESTORE_EARLY_MAX 4096u
struct early_object {
	uint32_t number; /* as the source says */
	const struct fd_kind *kind;
	void *msg;      /* what it was made of */
	int fd;         /* -1: it is taken */
	bool plain;     /* not it itself: a memory file that keeps its pages */
	uint64_t bytes; /* at most so far */
	uint32_t taken; /* by this object of the image; 0 */
};
int restore_early_make(struct restore_ctx *r, uint32_t number, const Ckpt__State *state,
		       struct ckpt_err *err) __must_check;
struct early_object *restore_early_find(const struct restore_ctx *r, uint32_t number);
/* It is at least so long. */
int restore_early_grow(struct restore_ctx *r, uint32_t number, uint64_t bytes,
		       struct ckpt_err *err) __must_check;
/* Pages of it; @data NULL: zeros. 0 or -errno; -EBADMSG: there is no such place. */
int restore_early_write(const struct restore_ctx *r, uint32_t number, uint64_t addr,
			const void *data, size_t len);
/* It is gone at the source. */
void restore_early_drop(struct restore_ctx *r, uint32_t number);
/* For restore_object_pages(): what came early into the object at @fd. */
int restore_early_pages(struct restore_ctx *r, uint32_t id, int fd,
			struct ckpt_err *err) __must_check;
void restore_early_free(struct restore_ctx *r);

/* check.c, on a decoded image; err gets the first */
int restore_check_image(struct restore_ctx *r, void (*found)(void *arg, const struct ckpt_err *why),
			void *arg, struct ckpt_err *err) __must_check;
/* handed.c: descriptors of the caller for objects of the image. Do they fit what the image has? */
int restore_handed_check(struct restore_ctx *r, struct ckpt_err *err) __must_check;
/* 1: *ret_fd is what the caller handed over for @id; 0: nothing was; or an error. */
int restore_handed(struct restore_ctx *r, uint32_t id, int *ret_fd,
		   struct ckpt_err *err) __must_check;
/* clocks.c: make the time namespace that the program needs, if any; the step that enters it */
int restore_clocks_make(struct restore_ctx *r, struct ckpt_err *err) __must_check;
void restore_plan_clocks(struct restore_ctx *r, struct steps *s);
/* objects.c */
/* Where the page is that a run names with @off: an index into sources.fds in the upper bits of
 * ckpt_run_source(), and the byte there. It goes on so until the stripe ends. */
uint64_t restore_page_at(const struct restore_ctx *r, uint64_t off);
int restore_objects_open(struct restore_ctx *r, struct ckpt_err *err) __must_check;
int restore_objects_finish(struct restore_ctx *r, struct ckpt_err *err) __must_check;
void restore_objects_close(struct restore_ctx *r);
/* net.c: before any object is made; when all is whole and about to run; in any case */
int restore_net_lock(struct restore_ctx *r, struct ckpt_err *err) __must_check;
void restore_net_open(struct restore_ctx *r);
void restore_net_free(struct restore_ctx *r);
/* layout.c: is the vDSO of the image another kernel's, and can that be bridged? */
int restore_vdso_check(struct restore_ctx *r, struct ckpt_err *err) __must_check;
/* where the arena and the parked mappings go */
int restore_arena_map(struct restore_ctx *r, struct ckpt_err *err) __must_check;
/* Made before the image was known: is it out of the way of everything? */
int restore_arena_check(struct restore_ctx *r, struct ckpt_err *err) __must_check;
void restore_arena_unmap(struct restore_ctx *r);
/* restore.c: a child of ckpt, in the interpreter from its first instruction on; -errno */
pid_t restore_clone(struct restore_ctx *r, struct ckpt_slot *slot, pid_t want, uint64_t flags);
/* births.c: who clones whom. find, slots, then as steps of each process: birth first, births in
 * three places, groups. */
enum birth_time { BIRTH_OLD_SESSION, BIRTH_EARLY, BIRTH_WITH_MEMORY };
int restore_births_find(struct restore_ctx *r, struct ckpt_err *err) __must_check;
int restore_births_slots(struct restore_ctx *r, struct ckpt_err *err) __must_check;
void restore_plan_birth(struct restore_ctx *r, size_t at, struct steps *s);
int restore_plan_births(struct restore_ctx *r, size_t at, enum birth_time when, struct steps *s,
			struct ckpt_err *err) __must_check;
int restore_plan_groups(struct restore_ctx *r, size_t at, struct steps *s,
			struct ckpt_err *err) __must_check;
void restore_births_free(struct restore_ctx *r);
/* Clone the root task, in the session @lone_sid that has no leader any more unless that is 0. Its
 * pid or -errno. */
int restore_birth_root(struct restore_ctx *r, struct ckpt_slot *slot, int pid, int lone_sid,
		       uint64_t flags, struct ckpt_err *err) __must_check;
void restore_plan_clone(struct steps *s, const struct ckpt_slot *slot, int tid, uint64_t flags,
			int exit_signal, const char *label);
void restore_plan_barrier(struct restore_ctx *r, struct steps *s, uint32_t *word, uint32_t count,
			  const char *label);
/* fill.c: a number that nobody has or wants; 0 when there is none */
int restore_spare_tid(struct restore_ctx *r);
/* plan.c */
/* Steps that leave all of ckpt's memory but the arena and the parked mappings. */
void restore_plan_leave(struct restore_ctx *r, struct steps *s);
int restore_plan(struct restore_ctx *r, struct ckpt_err *err) __must_check;
void restore_plan_print(struct restore_ctx *r, void (*line)(void *arg, const char *text),
			void *arg);
/* runs.c */
int restore_runs_read(struct restore_ctx *r, struct ckpt_err *err) __must_check;
void restore_runs_free(struct restore_ctx *r);
/* First run that ends behind @addr. */
size_t mm_runs_find(const struct mm_runs *l, uint64_t addr);
/* Do the two have a page in common? */
bool restore_mm_shares(struct restore_ctx *r, const Ckpt__Mm *a, const Ckpt__Mm *b);
/* mm.c: steps that build and fill one address space, out of @base when the process is cloned
 * from one that has its memory; and those that give it its final protection */
int restore_plan_mm(struct restore_ctx *r, const Ckpt__Mm *mm, const Ckpt__Mm *base,
		    struct steps *s, struct ckpt_err *err) __must_check;
int restore_finish_mm(struct restore_ctx *r, const Ckpt__Mm *mm, struct steps *s,
		      struct ckpt_err *err) __must_check;
/* release.c. Take: hold every thread by ptrace with its own registers and signal mask, the arena
 * gone; from here on ckpt's end is the end of them. Release: let them run, without ckpt. Those
 * whose death would leave a part of the tree do it in a guard: let_go(), all or nothing. */
int restore_take(struct restore_ctx *r, struct ckpt_err *err) __must_check;
void restore_release(struct restore_ctx *r);
int restore_let_go(struct restore_ctx *r, struct ckpt_err *err) __must_check;

/* release.c: hold the confined threads by ptrace once all of them have arrived at BARRIER_HELD, and
 * let them pass. 1 done, 0 not all are there, or an error. */
int restore_hold_confined(struct restore_ctx *r, struct ckpt_err *err) __must_check;

#endif
