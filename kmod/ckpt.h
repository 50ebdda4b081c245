/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of the module share. See docs/kmod.md for the whole picture.
 *
 * Locks, outermost first:
 *	ckpt_sessions_mutex	the list of sessions
 *	session->mutex		its tracks and their results; held while arming
 *	mmap_lock (write)	of the target, + every VMA's lock: the log is swapped
 *	ckpt_snap_mutex		which snapshot belongs to which track
 *	write_protect_seq	of the target: no fast pin slips past the arm
 *	page table locks
 *	pool->lock		pages for snapshots
 *	log->lock		ranges of the log
 *	xa_lock of log->chunks
 */
#ifndef CKPT_KMOD_H
#define CKPT_KMOD_H

#include <linux/bitmap.h>
#include <linux/hash.h>
#include <linux/kobject.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/netlink.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <net/genetlink.h>

#include <linux/ckpt.h>

#undef pr_fmt
#define pr_fmt(fmt) "ckpt: " fmt

struct ckpt_pool;
struct ckpt_session;
struct ckpt_snap;
struct ckpt_track;
struct file;

/* ---- log.c: where to look ------------------------------------------------ */

#define CKPT_CHUNK_SHIFT	PMD_SHIFT	/* 2 MiB: one page table, one huge page */
#define CKPT_CHUNK_BYTES	(1UL << CKPT_CHUNK_SHIFT)
#define CKPT_CHUNK_MASK		(~(CKPT_CHUNK_BYTES - 1))
#define CKPT_CHUNK_PAGES	512

/* chunk->state */
enum {
	CKPT_CHUNK_TOUCHED,	/* CKPT_TOUCHED is set in the xarray, or about to be */
	CKPT_CHUNK_DYING,	/* about to leave the xarray */
	CKPT_CHUNK_GROWN,	/* a fault in a mapping that grew: PTEs may be writable, and not soft-dirty */
};

/* Marks in the xarray of chunks. */
#define CKPT_TOUCHED	XA_MARK_0	/* look here at the next collect */
#define CKPT_CARRYING	XA_MARK_1	/* @seen holds bits of the running collect */

/**
 * struct ckpt_chunk - what is known about 2 MiB of a target since the last arm
 * @index:	address >> CKPT_CHUNK_SHIFT
 * @state:	CKPT_CHUNK_* bits
 * @must:	pages that changed whatever their PTE says (zapped, moved, pinned)
 * @seen:	bits taken from @must by the running collect
 * @next:	page that the next fault of a sequence would hit, 0: none (granule.c)
 * @order:	log2 of the pages that the last fault of the sequence made writable
 * @narrow:	how many powers of two less than allowed, as neighbours stayed clean
 * @widened:	pages made writable without a fault of their own
 * @rcu:	readers in the fault hook hold no lock
 */
struct ckpt_chunk {
	unsigned long index;
	unsigned long state;
	unsigned long must[BITS_TO_LONGS(CKPT_CHUNK_PAGES)];
	unsigned long seen[BITS_TO_LONGS(CKPT_CHUNK_PAGES)];
	u16 next;
	u8 order;
	u8 narrow;
	unsigned long widened[BITS_TO_LONGS(CKPT_CHUNK_PAGES)];
	struct rcu_head rcu;
};

struct ckpt_range {
	unsigned long start;
	unsigned long end;
};

#define CKPT_RANGES_MAX 64

/* A small set of ranges. When it is full the last one grows: the set may say
 * more than it was told, never less. */
struct ckpt_ranges {
	unsigned int nr;
	struct ckpt_range r[CKPT_RANGES_MAX];
};

/* log->flags */
enum {
	CKPT_LOG_SCAN_ALL,	/* a fault was not logged: look at every PTE */
	CKPT_LOG_FORCE_ALL,	/* a zap was not logged: every page changed */
	CKPT_LOG_SCAN_ALWAYS,	/* from now on faults cannot be trusted at all */
};

#define CKPT_LOG_CACHE 256

/**
 * struct ckpt_log - where a target may have changed since the last arm
 * @chunks:	struct ckpt_chunk by address >> CKPT_CHUNK_SHIFT
 * @cache:	chunks by the low bits of their index, for the fault hook alone:
 *		no fault runs beside a scan, and only a scan forgets chunks
 * @nr_chunks:	chunks allocated
 * @flags:	CKPT_LOG_*
 * @lock:	protects @zapped and @prot
 * @zapped:	big ranges whose content was replaced: all pages in them changed
 * @prot:	ranges whose protection changed (matters where VM_SOFTDIRTY is set)
 * @inv_active:	invalidations between start and end
 * @inv_started: invalidations ever started
 */
struct ckpt_log {
	struct xarray chunks;
	struct ckpt_chunk *cache[CKPT_LOG_CACHE];
	atomic_long_t nr_chunks;
	unsigned long flags;
	spinlock_t lock;
	struct ckpt_ranges zapped;
	struct ckpt_ranges prot;
	atomic_t inv_active;
	atomic_t inv_started;
};

int ckpt_log_cache_init(void);
void ckpt_log_cache_exit(void);
void ckpt_log_init(struct ckpt_log *log);
void ckpt_log_destroy(struct ckpt_log *log);
struct ckpt_chunk *ckpt_log_fault(struct ckpt_track *t, unsigned long addr);
void ckpt_log_grown(struct ckpt_track *t, unsigned long addr);
void ckpt_log_zap(struct ckpt_track *t, unsigned long start, unsigned long end);
void ckpt_log_prot(struct ckpt_track *t, unsigned long start, unsigned long end);
void ckpt_log_pages(struct ckpt_track *t, unsigned long base, const unsigned long *pages);
void ckpt_log_degrade(struct ckpt_track *t, int flag);
void ckpt_ranges_add(struct ckpt_ranges *set, unsigned long start, unsigned long end);
void ckpt_log_forget(struct ckpt_log *log, unsigned long index, struct ckpt_chunk *chunk);

/*
 * For memory that is asked for while the target's address space is locked: without it there is a way out, and nobody is
 * killed for it, least of all the target, which could not even be reaped.
 */
#define CKPT_GFP_LOCKED (GFP_KERNEL | __GFP_NOWARN | __GFP_RETRY_MAYFAIL)

/* ---- runs.c: results of a scan --------------------------------------------- */

/* Ranges that held tracked mappings at the last arm. What lies outside is new. */
struct ckpt_known {
	struct ckpt_range *r;
	size_t nr;
	size_t cap;
	bool lost;	/* out of memory: some ranges are missing */
};

struct ckpt_runs {
	struct ckpt_run *r;
	size_t nr;
	size_t cap;
	u64 pages;
	bool unmapped;	/* wanted: what is not mapped any more */
	bool snapshot;	/* wanted: a copy-on-write snapshot of what is reported */
	bool lost;	/* out of memory: say CKPT_RESULT_ALL */
};

void ckpt_known_add(struct ckpt_known *known, unsigned long start, unsigned long end);
void ckpt_known_free(struct ckpt_known *known);
void ckpt_runs_add(struct ckpt_runs *runs, unsigned long start, unsigned long end, u32 state);
void ckpt_runs_free(struct ckpt_runs *runs);

/* ---- arm.c: the truth ---------------------------------------------------- */

struct ckpt_scan_result {
	u64 wall_ns;
	u64 chunks;
	u64 widened_clean;
	bool degraded;
};

int ckpt_scan(struct ckpt_track *t, struct mm_struct *mm, bool arm, struct ckpt_runs *runs,
	      struct ckpt_scan_result *ret_result);

/* ---- track.c: one address space ------------------------------------------ */

/* track->events: told to user space by a work item, as they may arise anywhere */
enum {
	CKPT_PENDING_GONE,
	CKPT_PENDING_OVERFLOW,
	CKPT_PENDING_FORK_LOST,
	CKPT_PENDING_POOL,
	CKPT_PENDING_EXEC,
	CKPT_EXEC_SEEN,		/* a track can be left by one exec only */
};

struct ckpt_counters {
	atomic64_t faults;	/* write faults logged */
	atomic64_t widened;	/* pages made writable without their own fault */
	atomic64_t widened_clean; /* of those, not even touched at the next collect */
	atomic64_t overflows;	/* times the log degraded to "look everywhere" */
	atomic64_t chunks;	/* chunks looked at */
	atomic64_t pages;	/* pages reported */
	atomic64_t arms;
	atomic64_t arm_ns;	/* time with the target's address space locked */
	atomic64_t collects;
	atomic64_t collect_ns;
	atomic64_t cow_pages;	/* pages kept for a snapshot before a write */
	atomic64_t cow_lost;	/* pages that could not be kept: the pool was empty */
};

/**
 * struct ckpt_track - one address space of a session
 * @hash:	in the table the fault hook looks at, by @mm
 * @node:	in session->tracks, under session->mutex
 * @mm:		pinned by the notifier's registration (mm_count), not kept alive
 * @notifier:	tells of zapped ranges and of the end of @mm
 * @session:	not counted: a session outlives its tracks
 * @id:		as in CKPT_A_TRACK
 * @pid:	the process that was attached first
 * @log:	where to look at the next collect
 * @scanner:	task that splits or announces for a scan: that is no change. Not set while the
 *		scan allocates: then its task may reclaim pages of the target itself
 * @split_task:	task whose next CLEAR of @split_addr + 2 MiB changes nothing
 * @split_addr:	where it splits a page table entry
 * @epoch:	arms so far
 * @known:	what was armed
 * @runs:	result of the last collect
 * @runs_flags:	its CKPT_RESULT_*
 * @runs_epoch:	@epoch when it ended
 * @runs_seq:	changes whenever @runs do
 * @runs_ns:	how long it held the target
 * @snap:	the snapshot that is being read, under RCU; changes under ckpt_snap_mutex
 * @events:	bits of CKPT_PENDING_*
 * @gone:	@mm has ended
 * @followed:	attached itself at a fork: nobody detaches it, so it is forgotten when it has ended
 * @told:	a result said that it has ended
 * @thp_off:	MMF_DISABLE_THP was set by us: not for children, nor for what is executed
 */
struct ckpt_track {
	struct hlist_node hash;
	struct list_head node;
	struct mm_struct *mm;
	struct mmu_notifier notifier;
	struct ckpt_session *session;
	u32 id;
	struct pid *pid;
	struct ckpt_log log;
	struct task_struct *scanner;
	struct task_struct *split_task;
	unsigned long split_addr;
	u64 epoch;
	struct ckpt_known known;
	struct ckpt_runs runs;
	u32 runs_flags;
	u64 runs_epoch;
	u64 runs_ns;
	unsigned int runs_seq;
	struct ckpt_snap __rcu *snap;
	unsigned long events;
	bool gone;
	bool followed;
	bool told;
	bool thp_off;
	struct rcu_work forget_work;
};

/* How to collect. */
enum {
	CKPT_HOW_ARM = 1U << 0,		/* begin the next epoch */
	CKPT_HOW_REPORT = 1U << 1,	/* with runs */
	CKPT_HOW_UNMAPPED = 1U << 2,	/* with runs of what is not mapped any more */
	CKPT_HOW_SNAPSHOT = 1U << 3,	/* keep what is reported as it is now */
};

#define CKPT_TABLE_BITS 8

extern struct hlist_head ckpt_table[1 << CKPT_TABLE_BITS];

/* False: @mm is not tracked. No lock is needed to ask; who gets true must look. */
static __always_inline bool ckpt_track_maybe(struct mm_struct *mm)
{
	return !hlist_empty(&ckpt_table[hash_ptr(mm, CKPT_TABLE_BITS)]);
}

struct ckpt_track *ckpt_track_find(struct mm_struct *mm);
int ckpt_track_attach(struct ckpt_session *s, struct mm_struct *mm, struct pid *pid, bool followed,
		      struct ckpt_track **ret_track, u32 *ret_other);
void ckpt_track_unlink(struct ckpt_track *t);
void ckpt_track_forget_ended(struct ckpt_session *s, bool scan);
void ckpt_track_forgotten(struct mmu_notifier *mn);
void ckpt_track_forget_wait(void);
void ckpt_track_free(struct ckpt_track *t);
void ckpt_track_collect(struct ckpt_track *t, unsigned int how);
void ckpt_track_event(struct ckpt_track *t, int event);
u32 ckpt_track_flags(const struct ckpt_track *t);

/* ---- notifier.c, hook.c, fork.c: who tells us ------------------------------ */

extern const struct mmu_notifier_ops ckpt_notifier_ops;
int ckpt_hook_init(void);
void ckpt_hook_exit(void);
int ckpt_fork_init(void);
void ckpt_fork_exit(void);

/* ---- granule.c: fewer faults for more pages ------------------------------- */

unsigned int ckpt_granule_judge(struct ckpt_chunk *chunk, unsigned int first, unsigned int end,
				unsigned int untouched);
void ckpt_granule_fault(struct ckpt_track *t, struct ckpt_chunk *chunk,
			struct vm_area_struct *vma, unsigned long addr, unsigned int flags);

/* ---- pool.c: pages set aside ------------------------------------------------ */

struct ckpt_pool *ckpt_pool_new(unsigned long pages);
struct ckpt_pool *ckpt_pool_get(struct ckpt_pool *pool);
void ckpt_pool_put(struct ckpt_pool *pool);
struct page *ckpt_pool_take(struct ckpt_pool *pool);
void ckpt_pool_give(struct ckpt_pool *pool, struct page *page);
unsigned long ckpt_pool_free_pages(struct ckpt_pool *pool);

/* ---- snap.c: content as it was at the arm ---------------------------------- */

void ckpt_snap_begin(struct ckpt_track *t, struct mm_struct *mm, const struct ckpt_runs *runs);
void ckpt_snap_end(struct ckpt_track *t);
bool ckpt_snap_exists(struct ckpt_track *t);
bool ckpt_snap_opened(struct ckpt_track *t);
struct file *ckpt_snap_open(struct ckpt_track *t, u64 *ret_pages);
void ckpt_snap_fault(struct ckpt_track *t, struct vm_area_struct *vma, unsigned long addr,
		     bool write);
void ckpt_snap_range(struct ckpt_track *t, unsigned long start, unsigned long end, bool may_sleep);
void ckpt_snap_release(struct ckpt_track *t);

/* ---- session.c ----------------------------------------------------------- */

/**
 * struct ckpt_session - the tracks of one owner
 * @id:		as in CKPT_A_SESSION
 * @owner:	netlink port of the socket that opened it
 * @flags:	CKPT_SESSION_*
 * @mutex:	protects @tracks, @dead and the results of the tracks
 * @dead:	ended; only references are left
 * @pool:	pages for copy-on-write snapshots, or NULL
 * @event_work:	multicasts what track->events say
 */
struct ckpt_session {
	struct kobject kobj;
	struct list_head node;
	u32 id;
	u32 owner;
	u32 flags;
	struct mutex mutex;
	struct list_head tracks;
	bool dead;
	struct ckpt_pool *pool;
	struct ckpt_counters count;
	struct work_struct event_work;
};

extern struct mutex ckpt_sessions_mutex;
extern struct list_head ckpt_sessions;
extern struct workqueue_struct *ckpt_wq;

int ckpt_sessions_init(void);
void ckpt_sessions_exit(void);
struct ckpt_session *ckpt_session_open(u32 owner, u32 flags, unsigned long pool_pages);
struct ckpt_session *ckpt_session_get(u32 id, u32 owner, struct netlink_ext_ack *extack);
void ckpt_session_put(struct ckpt_session *s);
void ckpt_session_close(struct ckpt_session *s);
struct ckpt_track *ckpt_session_track(struct ckpt_session *s, u32 id);

/* ---- access.c ------------------------------------------------------------ */

bool ckpt_access_allowed(struct sk_buff *skb);
int ckpt_access_open_mm(pid_t nr, struct mm_struct **ret_mm, struct pid **ret_pid,
			struct netlink_ext_ack *extack);

/* ---- ctl.c --------------------------------------------------------------- */

int ckpt_ctl_init(void);
void ckpt_ctl_exit(void);
void ckpt_ctl_event(u32 type, u32 session, u32 track, struct pid *pid, struct pid *child);
u64 ckpt_features(void);

/* ---- sysfs.c ------------------------------------------------------------- */

enum ckpt_granule_mode { CKPT_GRANULE_FIXED, CKPT_GRANULE_ADAPTIVE };
enum ckpt_thp_mode { CKPT_THP_SPLIT, CKPT_THP_WHOLE, CKPT_THP_DISABLE };

/* Written through sysfs, read without a lock. */
struct ckpt_settings {
	unsigned int granule_pages;	/* power of two, 1 … 512 */
	enum ckpt_granule_mode granule_mode;
	enum ckpt_thp_mode thp_mode;
	unsigned long log_limit_bytes;	/* per address space */
	unsigned long cow_pool_pages;	/* at most, per session opened from now on */
};

extern struct ckpt_settings ckpt_settings;
int ckpt_sysfs_init(void);
void ckpt_sysfs_exit(void);
int ckpt_sysfs_add_session(struct ckpt_session *s);
void ckpt_sysfs_remove_session(struct ckpt_session *s);

#endif
