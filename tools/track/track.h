/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which pages of a task were written since a moment called "arm".
 *
 * A tracker belongs to one address space. Whoever holds it may be any process;
 * its descriptors may be passed on (tracker_fds, tracker_adopt). The rule of
 * every back end: a page is reported as unwritten only when that is certain;
 * mappings that appeared, moved or were replaced since the arm are written.
 * Pages that are gone are not reported at all: what a caller knew of an
 * address that is not reported any more is void.
 */
#ifndef CKPT_TRACK_TRACK_H
#define CKPT_TRACK_TRACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kern/target.h"

enum {
	TRACK_WRITTEN = 1u << 0, /* since the last arm, or nobody knows */
	TRACK_ZERO = 1u << 1,    /* the kernel's zero page */
	TRACK_GUARD = 1u << 2,   /* MADV_GUARD_INSTALL: no page, but state */
	TRACK_NOW = 1u << 4,     /* with TRACK_KEEP: not kept, read it before the target runs on */
	TRACK_SAME = 1u << 3, /* no pages but a range: as it was at the last arm, holes and all */
};

/* How to collect. */
enum {
	TRACK_ARM = 1u << 0,   /* the next epoch begins */
	TRACK_ANON = 1u << 1,  /* the mappings have no file: no page needs to be looked at for that,
				* which makes the scan several times as fast */
	TRACK_KNOWN = 1u << 2, /* with TRACK_ARM, of a target that runs: begin to track nothing new,
				* for that cuts mappings in two that change meanwhile */
	TRACK_KEEP = 1u << 4,  /* with TRACK_ARM: keep what is reported as it is now, for
				* tracker_kept(); for who said that he can */
	TRACK_RANGES = 1u << 3, /* TRACK_SAME may be reported: who knows without looking at every
				 * page need not. Of a target that stands still */
	TRACK_OURS = 1u << 7,   /* tracker_owns() or tracker_shows() said so of all that is to be
				 * tracked: nothing in the range is new */
	TRACK_MIXED = 1u << 8,  /* with TRACK_OURS, of a target that stands still, where ops->mixed:
				 * the range has gaps, and mappings that are not tracked; their
				 * pages are reported as written */
	TRACK_WRITES = 1u << 6, /* report written pages alone; of a live back end */
	TRACK_NEW = 1u << 5, /* with TRACK_ARM, of a live back end: begin to track what is new, and
			      * report and arm nothing; a pass while the target runs does */
};

/* Called for runs of anonymous pages, ascending; non-zero stops and is returned. */
typedef int (*track_fn)(void *arg, uint64_t addr, uint64_t npages, unsigned int flags);
/* For whom it is enough that something is armed. */
int track_ignore(void *arg, uint64_t addr, uint64_t npages, unsigned int flags);

struct tracker;
struct inject;

struct track_ops {
	const char *name; /* "wp-async": what --tracker takes and `ckpt track status` shows */
	/* Does this kernel have it? */
	bool (*probe)(void);
	/* Collect and arm in one atomic act while the target runs. Others want it frozen. */
	bool live;
	/* With @live: new mappings are tracked without being told. Others are told at a stop. */
	bool finds_new;
	/* What it calls the same (TRACK_SAME) has no holes. */
	bool solid;
	/* A part of what it tells of may be collected while it is told of. */
	bool nests;
	/* Knows TRACK_MIXED. */
	bool mixed;
	/* Steps inside the frozen task, or nothing. */
	int (*attach)(struct tracker *t, struct target_task *task, struct ckpt_err *err);
	/* Before the first collect of a pass. May be NULL. */
	int (*begin)(struct tracker *t);
	int (*collect)(struct tracker *t, uint64_t start, uint64_t end, unsigned int how,
		       track_fn fn, void *arg);
	/* With @live: count without arming. NULL otherwise. */
	int (*count)(struct tracker *t, uint64_t start, uint64_t end, uint64_t *ret_pages);
	/* Of shared memory; NULL: it cannot tell. See tracker_share(), tracker_shared(). */
	int (*share)(struct tracker *t, struct target_task *task, struct ckpt_err *err);
	int (*shared)(struct tracker *t, uint64_t start, uint64_t end, unsigned int how,
		      track_fn fn, void *arg);
	/* May be NULL: nothing can be kept. */
	bool (*keeps)(struct tracker *t);
	int (*kept)(struct tracker *t, int *ret_fd, uint64_t *ret_room);
	/* After the last collect with TRACK_ARM of a pass. May be NULL. */
	int (*armed)(struct tracker *t);
	void (*detach)(struct tracker *t);
};

/* Of memory under TABLE_BYTES each, aligned and ascending. */
struct track_told {
	uint64_t *v;
	size_t n, cap;
};
#define TABLE_BYTES (2u << 20) /* a page table's */

struct tracker {
	const struct track_ops *ops; /* NULL: not attached */
	int pid;                     /* as this process sees it */
	int fd;                      /* of the back end, -1 none */
	int shared_fd; /* the same for shared memory; it gives events, which somebody must read */
	void *state;   /* of the back end in this process */
	uint64_t split_bytes; /* from this size on two threads look at a range; 0: what is usual */
	unsigned int facts;   /* of the back end about this kernel; 0: not known yet */
	uint64_t uffd; /* by which the kernel's records show what is ours; 0: not known yet */
	bool settled;  /* whatever is registered is ours, as it was when it was armed */
	/* NULL, or it is known that nothing else of this address space was written since it was
	 * armed. Of a task that stands still; whoever says so keeps it, and knows that what is the
	 * same may have holes then, whatever ops->solid says. */
	const struct track_told *told;
	int pagemap_fd; /* of the address space that pid had at tracker_begin() */
	void *buf;
	uint64_t start_time; /* /proc/PID/stat: a recycled pid is another program */
};
#define TRACKER_NONE ((struct tracker) { .fd = -1, .shared_fd = -1, .pagemap_fd = -1 })

/* The first back end of the table whose probe says yes (with @live: and that collects while the
 * target runs), or the one called @name; NULL with E_TRACK when there is none. */
#define TRACKERS "kmod, wp-async, soft-dirty or none"

/** Is there a tracker of this name, whether this kernel has it or not? */
bool track_known(const char *name);
const struct track_ops *track_choose(const char *name, bool live, struct ckpt_err *err);

/*
 * Start tracking @task, which must be frozen: its first pages are all "written".
 * Nothing stays in the target that it could see, and when the last holder of
 * the tracker's descriptors is gone the kernel takes the tracking away.
 */
int tracker_attach(struct tracker *t, const struct track_ops *ops, struct target_task *task,
		   struct ckpt_err *err) __must_check;
/* Continue with what tracker_fds() gave to another process. Takes the descriptor over. */
void tracker_adopt(struct tracker *t, const struct track_ops *ops, int pid, uint64_t start_time,
		   int fd);
/* Before each pass over the mappings, because a program may have replaced its memory (exec).
 * -ESTALE: the tracked memory is gone; detach and attach again. */
int tracker_begin(struct tracker *t);
/*
 * Report the anonymous pages of [start, end), a range of adjacent private mappings; with TRACK_ARM
 * their next epoch begins, in the same atomic act. Returns 0, what @fn returned, or:
 *   -ESTALE  the address space is not the tracked one
 *   -EBUSY   the program itself uses what the back end needs (its own userfaultfd)
 * After any failure with TRACK_ARM, what was reported is lost for the tracker: whoever does not
 * keep it must treat all memory as written from then on.
 */
int tracker_collect(struct tracker *t, uint64_t start, uint64_t end, unsigned int how, track_fn fn,
		    void *arg);
/* Add to *ret_pages how many pages of [start, end), mappings without a file, were written since the
 * last arm, while the target may run. -EOPNOTSUPP: of this back end only a collection tells;
 * -ESTALE also when some of it is not tracked yet. */
int tracker_count(struct tracker *t, uint64_t start, uint64_t end, uint64_t *ret_pages);
/*
 * May tracker_shared() be called? If it never could, steps inside the frozen task make that so:
 * t->shared_fd. From the first TRACK_ARM on the program stands still where it drops pages or makes
 * holes there, until UFFD_EVENT_REMOVE was read from it.
 */
int tracker_share(struct tracker *t, struct target_task *task, struct ckpt_err *err) __must_check;
/* Read the events that wait at such a descriptor: how many there were. Whoever caused one may go on
 * then. */
uint64_t tracker_events(int shared_fd);
/* Is mapping [start, end), of shared memory, registered by this tracker? */
bool tracker_owns_shared(struct tracker *t, uint64_t start, uint64_t end);
/*
 * Report what this address space has written to [start, end), shared mappings of memory that are
 * tracked, since it was last armed; the same with TRACK_ARM (which begins to track what is not, but
 * for TRACK_KNOWN; with TRACK_NEW that alone) as above. Others may have written as well, and this
 * one by a mapping that is gone: whoever uses it knows that there was none. Costs the target an
 * entry of a page table for each page of the range. -EOPNOTSUPP: the back end or this kernel cannot
 * tell.
 */
int tracker_shared(struct tracker *t, uint64_t start, uint64_t end, unsigned int how, track_fn fn,
		   void *arg);
/* End of a pass with TRACK_ARM. 0 or -errno, with the same meaning as above. */
int tracker_armed(struct tracker *t);
/* After tracker_begin(): is TRACK_KEEP possible? */
bool tracker_keeps(struct tracker *t);
/*
 * What the last pass with TRACK_KEEP kept: pread(*ret_fd, buf, n * 4096, address) gives pages that
 * were reported without TRACK_NOW as they were, each once, while the target runs. If not more than
 * *ret_room of them are read while it runs, none can be lost (-ENODATA). The caller closes it, at
 * once if he does not want it: what is kept costs the target time. 0 or -errno.
 */
int tracker_kept(struct tracker *t, int *ret_fd, uint64_t *ret_room);
/* Is mapping [start, end) of a frozen task registered by this tracker and nobody else? @uffd: as
 * struct proc_vma has it. */
bool tracker_owns(struct tracker *t, uint64_t start, uint64_t end, uint64_t uffd);
/* The same by what is known already: of a mapping that is registered. False: it is not known. */
bool tracker_shows(const struct tracker *t, uint64_t uffd);
/* End tracking when no other process holds the descriptors. Forgives a NULL or unattached one. */
void tracker_detach(struct tracker *t);

extern const struct track_ops track_kmod, track_wp_async, track_soft_dirty, track_none;

#endif
