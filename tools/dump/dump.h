/* SPDX-License-Identifier: GPL-2.0-only */
/* A dump in progress. Only tools/dump looks inside; kinds use kind.h. */
#ifndef CKPT_DUMP_DUMP_H
#define CKPT_DUMP_DUMP_H

#include <sys/utsname.h>
#include <time.h>

#include "base/err.h"
#include "image/chain.h"
#include "image/writer.h"
#include "kern/mmwatch.h"
#include "kern/snapshot.h"
#include "kern/taskiter.h"
#include "kern/timens.h"
#include "kind/fd/sockplaces.h"
#include "kind/kind.h"
#include "model/births.h"
#include "track/track.h"

/* One open file description or shared thing. */
struct dump_object {
	Ckpt__Object *msg;
	const struct fd_kind *kind; /* NULL for keyed objects */
	void *kmsg;                 /* the kind's message until it is packed */
	int pid, fd;                /* a descriptor of the target that shows it */
	int local;                  /* ckpt's duplicate, -1 when not needed any longer */
	char *link, *fdinfo;        /* facts, kept for dump_late */
	struct stat st;
};

/* Pages to save: consecutive segments that belong to one address space or object. */
struct dump_pages {
	uint32_t mm, object;
	size_t first_seg, nsegs;
	int pid;                             /* of the address space */
	int fd;                              /* of an object: its contents; -1 */
	uint64_t dev, ino;                   /* of that file */
	uint64_t npages;                     /* by its length */
	uint64_t resident;                   /* bytes of memory */
	bool sysv;                           /* a System V segment */
	bool opened;                         /* somebody of the tree has a descriptor of it */
	bool watched;                        /* watch.h: trackers told what was written to it */
	uint32_t note;                       /* its place among the next notes, from 1; 0: none */
	const struct notes_object *known_as; /* what the parent's say of it, or NULL */
	unsigned char *hashes;  /* of the pages of its segments, in order, when watched; or NULL */
	uint32_t parent_object; /* in which pages of kind CKPT_RUN_PARENT are */
	struct tracker *keeper; /* keeps what was written, or NULL */
	struct ckpt_page_run *known; /* runs without data of their own: zero, guards, shared */
	size_t known_n, known_cap;
};

/* Who knows which pages were written. Whoever makes the dump provides it. */
struct dump_tracking {
	/* The tracker of a frozen task; *ret_fresh: attached just now. With @again the one given
	 * before is of no use (-ESTALE). *ret may be NULL: then every page is saved. */
	int (*tracker)(struct dump_tracking *tr, struct target_task *task, bool again,
		       struct tracker **ret, bool *ret_fresh, struct ckpt_err *err);
	/* Is there one of process @pid already, so that nothing need run in it? NULL: of none. */
	bool (*known)(struct dump_tracking *tr, int pid);
	/* Nothing was registered in its address space or taken back since it was armed. May be
	 * NULL. */
	void (*settled)(struct dump_tracking *tr, int pid);
	/* How many of the @npages unwritten pages from @addr are alike: the parent has them, or
	 * (*ret_had false) not, so that they are saved after all. NULL: it has them all. */
	uint64_t (*had)(struct dump_tracking *tr, int pid, uint64_t addr, uint64_t npages,
			bool *ret_had);
	/* While the target runs: @fn, which may arm it, for every tracker of it that is known; what
	 * @fn returns ends it. NULL: nobody knows before the freeze. */
	int (*each)(struct dump_tracking *tr, bool arms, int (*fn)(void *arg, struct tracker *t),
		    void *arg);
	/* Objects whose pages somebody has got: the number of the one of this @kind and file, or 0;
	 * and the hash (with @seed) of its page at @addr as it was then, NULL when there is none.
	 * Pages that are still the same are not saved: CKPT_RUN_PARENT, off being the number. NULL:
	 * nobody has any, or the parent knows. */
	uint32_t (*object)(struct dump_tracking *tr, const char *kind, uint64_t dev, uint64_t ino);
	const unsigned char *(*object_hash)(struct dump_tracking *tr, uint32_t number,
					    uint64_t addr);
	/* How many of the @npages pages from @addr of the one with this number are alike: somebody
	 * has got them, or not. */
	uint64_t (*object_had)(struct dump_tracking *tr, uint32_t number, uint64_t addr,
			       uint64_t npages, bool *ret_had);
	/* Shared memory of which trackers tell what was written since somebody got it (watch.h), or
	 * NULL: contents tell. And how often pages of it were dropped, as struct keeper_state has
	 * it. */
	const struct notes *watched;
	uint64_t (*dug)(struct dump_tracking *tr);
	uint64_t seed;
	bool ranges;    /* with @had: what it has not in a range that is the same as before may be
			 * collected while that is told of */
	bool arm;       /* begin the next epoch */
	bool increment; /* pages that were not written are not saved: CKPT_RUN_PARENT */
};

/* The kernel's own records, read by programs that are loaded where they are worth while. */
struct dump_iters {
	struct btf types;    /* before the freeze */
	struct vma_iter vma; /* tells flags of mappings, or says that smaps must */
	int kin_fd;          /* task_iter_open(), or -1 */
	struct thread_iter threads;
	struct file_iter files; /* with what options of sockets are in */
	struct sockopt_places places;
	unsigned int files_tries;
	int process_fd; /* proc_view_open(), or -1 */
	unsigned int process_tries;
	struct mm_watch mm;
	unsigned int mm_tries;
};
#define DUMP_ITERS_NONE                                                                            \
	((struct dump_iters) { .vma = { .prog_fd = -1 },                                           \
			       .kin_fd = -1,                                                       \
			       .threads = { .prog_fd = -1 },                                       \
			       .files = { .prog_fd = -1 },                                         \
			       .process_fd = -1,                                                   \
			       .mm = MM_WATCH_NONE })

/* What is known of the options of sockets, whoever has them. */
struct dump_sockopts {
	struct sockopt_defaults *all;
	struct sockopts_asked *asked;
	uint64_t since_us; /* no part of it is older */
	bool placed;       /* with what was known of places */
};

struct dump_stage {
	void *room; /* NULL: none */
	uint64_t bytes;
};

/* What a process has said, and the bits it had. */
struct dump_told_traits {
	uint64_t mm_flags, subreaper; /* struct proc_view */
	uint64_t flags, info_flags;   /* struct thread_view of its main thread */
	struct process_traits traits;
};
#define DUMP_TOLD_MAX 8u

/* The text of a process' maps: as long as the stamp and the number of its execve(2) are the same,
 * it is what the kernel would say again, but for names of files that were changed meanwhile
 * (whoever goes by a name looks what is there). */
struct dump_told_maps {
	int pid;
	uint64_t start_time, execs;
	struct mm_stamp stamp;
	char *text; /* NULL: somebody has it */
};
struct dump_told_maps_list {
	struct dump_told_maps *v;
	size_t n, cap;
	size_t at;    /* where the last was found */
	size_t bytes; /* of text */
};

/* What stays from one checkpoint of a series to the next. */
struct dump_series {
	struct dump_iters iters;
	struct dump_stage stage;
	/* That it had in the last. */
	size_t connections, descriptors;
	struct standby *standby; /* looks at memory while all stand still; NULL: nobody does */
	bool helped;             /* it had something to do in the last */
	struct dump_sockopts sockopts;
	struct dump_told_traits told[DUMP_TOLD_MAX];
	size_t told_n; /* ever: the newest are there */
	struct dump_told_maps_list maps;
	/* Of the thread that makes them; does it give way while the program runs? */
	int nice;
	bool gives_way;
	/* The one before was made: whatever is looked at again while all stand still is not looked
	 * at before. */
	bool made;
};

struct dump_session;
struct dump_watch; /* watch.c */
struct dump_log;   /* logged.c */
struct notes;
struct notes_object;
struct dump_net; /* net.c */
struct mm_ahead;

struct dump_ctx {
	const struct ckpt_dump_opts *opts;
	struct ckpt_ui *ui;
	struct target target;
	struct dump_iters iters;
	struct image_writer writer;
	struct {
		struct dump_object *v;
		size_t n, cap;
	} objects;              /* id = index + 1 */
	struct fd_index *index; /* descriptions by file, then by kcmp order */
	struct {
		struct dump_file {
			uint64_t file; /* of its record; 0: a free place */
			uint32_t object;
		} * v;
		size_t n, cap; /* a power of two */
	} files;               /* the same by the kernel's records, where there are such */
	struct {
		uint32_t *v;
		size_t n, cap, most;
	} together;  /* ids of objects of one kind that wait for its dump_together */
	void *names; /* tsearch(3) tree of struct object_name: other objects by what they are */
	struct {
		Ckpt__Task **v;
		size_t n, cap;
	} tasks;
	struct {
		Ckpt__Mm **v;
		size_t n, cap;
	} mms;
	struct {
		Ckpt__FdTable **v;
		size_t n, cap;
	} tables;
	struct dump_tracking *tracking; /* NULL: every page is saved */
	struct dump_net *net;           /* NULL unless connections are kept */
	struct dump_session *session;   /* session.c: the keeper's; NULL without */
	struct dump_watch *watch;       /* watch.h; NULL: nothing is known */
	struct dump_log *log;           /* logged.h; NULL: there is none */
	struct dump_pre *pre;           /* pre.c: what was copied ahead; NULL: nothing */
	struct mm_ahead *mm_aheads;     /* mm_ahead.c */
	struct {
		bool asked, ours;
	} protects;     /* before the freeze: is memory protected by a session? */
	bool pre_armed; /* and that began epochs of the session */
	/* Where pages are that were not written. NULL in an increment: runs say CKPT_RUN_PARENT
	 * and no more, for a peer that has them. */
	const struct image *parent;
	struct page_segs segs;
	struct {
		struct snapshot *v;
		size_t n, cap;
	} snapshots;
	struct dump_stage stage; /* stage.c */
	uint64_t stage_ahead;    /* bytes of it that were filled ahead */
	bool staged;             /* there are pages in it */
	struct {
		uint64_t base; /* place of the first page in the page file */
		unsigned char *zero;
	} copied[2]; /* segments read while frozen, and later */
	struct {
		struct dump_pages *v;
		size_t n, cap;
	} pages;
	struct {
		int *v;
		size_t n, cap;
	} kept; /* descriptors that are open until the end */
	struct {
		int *v;
		size_t n, cap;
	} masters;                /* numbers of pseudo-terminals whose master the tree holds */
	struct unix_diags *diags; /* NULL until asked for */
	struct dump_sockopts sockopts;
	pthread_mutex_t sockopts_lock; /* of sockopts.all */
	size_t connections;            /* descriptors of TCP connections that were seen */
	size_t descriptors;            /* all of them */
	dev_t socket_dev;              /* st_dev of every socket; 0: none was seen so far */
	struct fd_seen *ahead;         /* the descriptor that is being made an object */
	struct {
		struct dump_anon {
			ino_t ino;
			unsigned int ends;
		} * v;
		size_t n, cap;
		bool known, flying_known, flying;
	} anon;                          /* inodes of sockets and pipes of the tree, ascending */
	struct arena_berths berths;      /* while tasks are collected */
	struct dump_told_maps_list maps; /* for the next checkpoint of the series */
	uint64_t external_seen;          /* bit i: opts->external[i] was found */
	Ckpt__Inventory inv;
	Ckpt__Stats stats;
	Ckpt__Namespaces namespaces;
	char proc_options[256];    /* of namespaces */
	struct timens_offsets own; /* ckpt's */
	struct utsname un;         /* inv points into these two */
	char *boot_id;
};

/* Save the tree below opts->pid. Errors leave no image and the target running as before.
 * ret_stats->network_lock is the caller's to free unless it is empty. */
int ckpt_dump(const struct ckpt_dump_opts *opts, struct ckpt_ui *ui, Ckpt__Stats *ret_stats,
	      struct ckpt_err *err) __must_check;

/*
 * The same in parts, for whom the image does not go to a directory (tools/migrate): begin; open
 * d->writer; target_freeze(&d->target); frozen copies state and pages; commit writes the records
 * and the inventory; the caller thaws or ends the target; end frees all (also half-made).
 */
int dump_begin(struct dump_ctx *d, const struct ckpt_dump_opts *opts, struct ckpt_ui *ui,
	       struct ckpt_err *err) __must_check;
int dump_frozen(struct dump_ctx *d, struct ckpt_err *err) __must_check;
int dump_commit(struct dump_ctx *d, uint64_t begin, struct ckpt_err *err) __must_check;
void dump_end(struct dump_ctx *d);

/* check.c: everything that would stop this dump. Calls @found for each; returns how many, or
 * -errno when it could not look. */
int ckpt_dump_check(const struct ckpt_dump_opts *opts, struct ckpt_ui *ui,
		    void (*found)(void *arg, const struct ckpt_err *why), void *arg,
		    struct ckpt_err *err) __must_check;
/* The same with the iterators of dump_begin(), and those that it finds to be worth while. */
int dump_check(const struct ckpt_dump_opts *opts, struct dump_iters *iters, struct ckpt_ui *ui,
	       void (*found)(void *arg, const struct ckpt_err *why), void *arg,
	       struct ckpt_err *err) __must_check;

/* ns.c. Enter the namespaces of @pid that are not ours, for the rest of ckpt's life; before
 * anything else. */
void dump_ns_enter(int pid, struct dump_ns *ret);
/* Is there something in them that nobody will make again? */
int dump_ns_check(const struct ckpt_dump_opts *opts, struct ckpt_err *err) __must_check;
/* Is the /proc of @pid that of its own pid namespace? */
bool dump_ns_own_proc(int pid);
/* The inventory, behind its uname(). */
int dump_ns_fill(struct dump_ctx *d, struct ckpt_err *err) __must_check;
/* collect.c */
int dump_collect_tasks(struct dump_ctx *d, struct ckpt_err *err) __must_check;
/* The error of two processes that share memory. */
int dump_refuse_vm(int pid, int other, struct ckpt_err *err);
/* family.c. Sets session and group of every task collected, or says which cannot be restored. */
int dump_family(struct dump_ctx *d, struct ckpt_err *err) __must_check;
/* The number of its session, if that has no leader any more; 0: it has, or it is its own. */
int dump_lone_sid(int pid);
/* The same of a tree that runs, of which every process was seen, parents first. */
struct family;
struct family *dump_family_new(void);
/* @live: a thread of @pid that has not ended, or 0; @ppid: its parent, by the number that this
 * returned of it; @st: NULL when @pid is gone; @status: of its first thread, or NULL. Returns its
 * number in the innermost pid namespace; 0: it is gone, and nothing is certain. */
int dump_family_see(struct family *f, int pid, int live, int ppid, const struct proc_stat *st,
		    const char *status);
int dump_family_check(struct family *f, const struct task_kins *kins,
		      struct ckpt_err *err) __must_check;
void dump_family_free(struct family *f);
/* The running tree below @pid as births would make it, and what else was seen of each. The caller
 * frees both. -EAGAIN: it changed while it was looked at; or it cannot be made. */
struct family_seen {
	int pid;        /* as ckpt sees it */
	uint64_t start; /* clock ticks since boot */
	bool zombie;
	bool tty; /* its session has a controlling terminal, and so has it */
};
int dump_family_look(int pid, struct births *ret, struct family_seen **ret_seen) __must_check;
/* fds.c */
struct doubtful_fds { /* of one task: fdinfo may say close-on-exec wrongly */
	Ckpt__Fd **v;
	size_t n, cap;
	uint32_t first; /* step that asks about the first */
};
int dump_collect_fds(struct dump_ctx *d, struct target_task *task, Ckpt__Task *msg,
		     struct doubtful_fds *ret_doubtful, struct ckpt_err *err) __must_check;
/* Then the task itself is asked what /proc does not tell; the steps are in its main thread's list.
 */
void dump_fds_ask(struct doubtful_fds *doubtful, struct steps *s);
void dump_fds_answer(const struct doubtful_fds *doubtful, const struct arena *a,
		     const struct ckpt_slot *slot);
/* The kind of a descriptor, or that it is none of the tree's business. */
const struct fd_kind *dump_fd_kind(struct dump_ctx *d, const struct fd_facts *f);
int fd_facts_read(int pid, int fd, int local, struct fd_facts *ret, char **ret_link,
		  char **ret_fdinfo, struct ckpt_err *err) __must_check;
/* objects.c. The object that descriptor @f shows; a new one takes @link and @fdinfo over, and
 * (*ret_owns, also when it fails) f->local. */
int dump_object_of(struct dump_ctx *d, const struct fd_facts *f, char **link, char **fdinfo,
		   uint32_t *ret_id, bool *ret_owns, struct ckpt_err *err) __must_check;
/* Behind the last task: what kinds can only tell now. */
int dump_objects_late(struct dump_ctx *d, struct ckpt_err *err) __must_check;
void dump_objects_free(struct dump_ctx *d);
/* fds_ahead.c. A descriptor of the frozen tree, taken and read; owns all but that facts points
 * into it. */
struct fd_seen {
	int local; /* -1: none */
	char *link, *fdinfo;
	struct fd_facts facts;
	struct Ckpt__SockOpts *opts; /* of a socket, when they were read ahead */
};
#define FD_SEEN_NONE ((struct fd_seen) { .local = -1 })
/* @view: of a TCP socket, or NULL, as below; it is the caller's, and lives as long. */
int fd_see(int pidfd, int pid, int fd, const struct file_view *view, struct fd_seen *ret,
	   struct ckpt_err *err) __must_check;
/* A TCP connection that is dropped, where its record and others like it tell all: it is not even
 * taken. False: it must be seen. */
bool fd_see_record(struct dump_ctx *d, int pid, int fd, const struct file_view *view,
		   struct fd_seen *ret);
/* The same of a file, or of a device without state, that is still where its name says. */
bool fd_see_named(struct dump_ctx *d, int pid, int fd, const struct file_view *view,
		  struct fd_seen *ret);
void fd_seen_free(struct fd_seen *s);
/* Have a second thread see the descriptors @fds of process @pid, the last first. @fds and @pidfd
 * stay the caller's, until the end. NULL, which is fine for the others, when it is not worth it. */
struct fds_ahead;
struct fds_ahead *fds_ahead_begin(struct dump_ctx *d, int pidfd, int pid, const int *fds, size_t n);
/* The @i-th of them, if it was seen; otherwise it will not be. */
bool fds_ahead_take(struct fds_ahead *a, size_t i, struct fd_seen *ret);
void fds_ahead_end(struct fds_ahead *a);
/* tree.c */
void dump_tree_free(struct dump_ctx *d);
/* walk.c. Does a tracker look after this mapping? */
bool dump_vma_tracked(const struct proc_vma *v);
/* mem.c. *maps: the text of the task's maps; @ahead: NULL, or who has looked at it already, and
 * then by his own text, which *maps is behind that. */
int dump_collect_mm(struct dump_ctx *d, struct target_task *task, char **maps,
		    struct mm_ahead *ahead, Ckpt__Task *msg, struct ckpt_err *err) __must_check;
/* While all is frozen: what cannot be read from a snapshot. */
int dump_write_pages(struct dump_ctx *d, struct ckpt_err *err) __must_check;
/* When the target may run again: the rest. */
int dump_write_pages_later(struct dump_ctx *d, struct ckpt_err *err) __must_check;
/* stage.c: make room before the freeze; copy there what is to be read while all are frozen, if it
 * fits; give it back */
void dump_stage_begin(struct dump_ctx *d);
int dump_stage_pages(struct dump_ctx *d, struct ckpt_err *err) __must_check;
/* The same ahead of it, by another thread, of few segments of @task: their data are there then.
 * Bytes; 0: nothing was done. */
uint64_t dump_stage_ahead(const struct dump_ctx *d, const struct target_task *task,
			  struct page_segs *segs);
void dump_stage_end(struct dump_ctx *d);
void dump_stage_free(struct dump_stage *s);
/* snapshot.c */
int dump_take_snapshots(struct dump_ctx *d, struct ckpt_err *err) __must_check;
void dump_drop_snapshots(struct dump_ctx *d);
/* And the page maps. */
int dump_put_pagemaps(struct dump_ctx *d, struct ckpt_err *err) __must_check;
/* session.c: tracking sessions of the keeper */
/* Make a session of the tree below @pid and attach its trackers; the first checkpoint arms them. */
int ckpt_track_start(int pid, const char *tracker, struct ckpt_ui *ui,
		     struct ckpt_err *err) __must_check;
/* What tells the flags of mappings: the keeper has it from the first checkpoint on. */
void dump_session_iter(const struct ckpt_dump_opts *opts, struct dump_iters *iters);
int dump_session_begin(struct dump_ctx *d, struct ckpt_err *err) __must_check;
/* Have the keeper read the events of t->shared_fd from now on; it stays ours. */
int dump_session_give(struct dump_ctx *d, const struct tracker *t,
		      struct ckpt_err *err) __must_check;
/* What the tracker of process @pid, if it is there, is told; see struct tracker. */
void dump_session_told(struct dump_ctx *d, int pid, const struct track_told *told);
/* Of struct keeper_state. 0 or -errno. */
int dump_session_dug(struct dump_ctx *d, uint64_t *ret);
/* The checkpoint is on disk: the next one may be relative to it. Warns when it cannot be. */
void dump_session_commit(struct dump_ctx *d);
void dump_session_end(struct dump_ctx *d);
/* The pages that the parent has of the address space of process @pid; ret->img is NULL when it has
 * none. */
void dump_parent_map(const struct dump_ctx *d, int pid, struct chain_map *ret);
/* Say where the pages are that the parent holds, in the lists that belong to d->pages. */
int dump_resolve_parent(struct dump_ctx *d, struct run_list *lists,
			struct ckpt_err *err) __must_check;
/* This clock, in nanoseconds. */
uint64_t dump_clock_ns(clockid_t id);
/* Microseconds since *lap, which is now from now on. */
uint64_t dump_lap(uint64_t *lap);
/* pre.c: copy memory while the program runs, for opts->pre or where it pays */
int dump_pre_begin(struct dump_ctx *d, struct ckpt_err *err) __must_check;
void dump_pre_end(struct dump_ctx *d);
/* Append the pages from @addr that were copied ahead, at most @npages, and return how many; when
 * the first was not, 0 and in *@ret_left how many were not. Or -ENOMEM. */
int dump_pre_resolve(const struct dump_pre *p, const struct dump_pages *pages, uint64_t addr,
		     uint64_t npages, struct run_list *ret, uint64_t *ret_left);
/* dump.c: is there time for @more_us until the program must run again (opts->max_pause_us)?
 * E_PAUSE. */
int dump_in_time(const struct dump_ctx *d, uint64_t more_us, struct ckpt_err *err) __must_check;
/* For a series of whom the calling thread makes every one. */
void dump_series_begin(struct dump_series *s);
void dump_series_end(struct dump_series *s);
void dump_iters_close(struct dump_iters *iters);
/* Of a process of @n threads: is it worth while to have them seen? Then see to it that it can be.
 * @lasting: not for this time alone. */
bool dump_iters_threads(struct dump_iters *iters, size_t n, bool lasting);
/* Have processes seen that were asked before. */
void dump_iters_processes(struct dump_iters *iters);
/* Have it seen whether address spaces were changed. */
void dump_iters_mm(struct dump_iters *iters);
/* The same of so many TCP connections, and descriptors of all kinds; it takes some 15 ms. */
void dump_iters_files(struct dump_iters *iters, size_t connections, size_t descriptors,
		      bool lasting);
/* net.c. Lock the tree's connections; d->target is frozen. Nothing to do unless --tcp keep. */
int dump_net_lock(struct dump_ctx *d, struct ckpt_err *err) __must_check;
/* End the tree so that its peers hear nothing of it: the lock goes on under the name that belongs
 * to
 * @id until a restore of that image. On failure nothing was ended. */
int dump_net_end(struct dump_ctx *d, const uint8_t *id, struct ckpt_err *err) __must_check;
/* Are there connections or ports that a lock would hold? */
bool dump_net_any(const struct dump_ctx *d);
/* The same in parts: a second lock that outlives us; whether closing a connection is silent. */
int dump_net_keep(struct dump_ctx *d, const char *name, struct ckpt_err *err) __must_check;
void dump_net_silence(struct dump_ctx *d, bool on);
/* The name of the lock that dump_net_end() left; NULL when there was nothing to lock. */
const char *dump_net_kept(const struct dump_ctx *d);
/* Open the way again (the program goes on). */
void dump_net_unlock(struct dump_ctx *d);
void dump_net_free(struct dump_ctx *d);
/* shared.c: take the pages of objects that the parent has out of the segments, and see to it that
 * the next increment can do the same */
int dump_compare_objects(struct dump_ctx *d, struct ckpt_err *err) __must_check;
/* cow.c: take pages that an earlier address space holds as well out of the segments */
int dump_share_pages(struct dump_ctx *d, struct ckpt_err *err) __must_check;

#endif
