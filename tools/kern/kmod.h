/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel module's client: which pages of a set of processes changed since
 * they were last looked at. One client is one session; it ends, and tracking
 * with it, when the client is closed or its process dies, unless another process
 * was given its descriptor (kmod_fd, kmod_adopt).
 *
 *	kmod_open ─► kmod_attach(pid) … ─► kmod_arm ─► kmod_collect(rearm) … ─► kmod_close
 */
#ifndef CKPT_KERN_KMOD_H
#define CKPT_KERN_KMOD_H

#include <linux/ckpt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct kmod;

/* What one arm or collect found out about one address space. */
struct kmod_result {
	uint32_t track;
	pid_t pid;      /* the process it was attached by */
	uint32_t flags; /* CKPT_RESULT_* */
	uint64_t epoch; /* arms so far */
	uint64_t pages; /* in all runs */
	uint64_t nr_runs;
	uint64_t wall_ns; /* for how long the address space was locked */
};

struct kmod_event {
	enum ckpt_event type;
	uint32_t track;
	pid_t pid;
	pid_t child; /* CKPT_EVENT_FORK*, else 0 */
};

/*
 * Receives the runs of one track, in address order, in one or more parts. A
 * value other than 0 ends the collection and is returned by it. When
 * result->flags has CKPT_RESULT_ALL there are no runs to go by (it is called
 * once with @n 0): treat every page as changed.
 */
typedef int (*kmod_runs_fn)(const struct kmod_result *result, const struct ckpt_run *runs, size_t n,
			    void *arg, struct ckpt_err *err);

/* Is the module there? Cheap; says nothing about rights. */
bool kmod_present(void);

/* Open a session. @follow_forks: children attach themselves, unarmed. @pool_pages: set so many
 * pages aside for snapshots, at most what cow_pool_pages says; 0, or a kernel without snapshots:
 * none. E-KERNEL when the module is not loaded or speaks another version. */
__must_check int kmod_open(bool follow_forks, uint64_t pool_pages, struct kmod **ret,
			   struct ckpt_err *err);
/* NULL is fine. Returns NULL. */
struct kmod *kmod_close(struct kmod *k);

/* The descriptor that the session lives by: pass it on with SCM_RIGHTS. It belongs to @k. */
int kmod_fd(const struct kmod *k);
/*
 * Continue the session of a descriptor that kmod_fd() gave to this process, which needs the same
 * capability. At least one target must be attached. The session lives until the last holder closes
 * it. One holder talks at a time; what another left unread is thrown away here. On success @fd
 * belongs to the client.
 */
__must_check int kmod_adopt(int fd, struct kmod **ret, struct ckpt_err *err);

/* Free pages of the session's pool, 0 without one. */
uint64_t kmod_pool_pages(const struct kmod *k);
uint64_t kmod_features(const struct kmod *k); /* CKPT_FEATURE_* */
uint32_t kmod_session(const struct kmod *k);  /* names /sys/kernel/ckpt/sessions/ID */

/* Track the address space of @pid. One that is tracked here already is found, not added. */
__must_check int kmod_attach(struct kmod *k, pid_t pid, uint32_t *ret_track, struct ckpt_err *err);
/* Stop tracking one, or with 0 end the session. */
__must_check int kmod_detach(struct kmod *k, uint32_t track, struct ckpt_err *err);

/* Begin the first epoch of every track (or of @track, if not 0): forget what changed before. */
__must_check int kmod_arm(struct kmod *k, uint32_t track, struct ckpt_err *err);
/* Report what changed since the last arm; with @rearm begin the next epoch in the same step. The
 * target should stand still: then the runs are exact, and it must until its pages are copied. */
__must_check int kmod_collect(struct kmod *k, uint32_t track, bool rearm, kmod_runs_fn fn,
			      void *arg, struct ckpt_err *err);
/* The same with any CKPT_COLLECT_* flags. With CKPT_COLLECT_UNMAPPED (CKPT_FEATURE_UNMAPPED) the
 * runs alone say how the memory known at the last arm became what it is now. */
__must_check int kmod_collect_flags(struct kmod *k, uint32_t track, uint32_t flags, kmod_runs_fn fn,
				    void *arg, struct ckpt_err *err);

/* What kmod_snapshot() gives. */
struct kmod_snapshot {
	int fd;
	uint64_t pages; /* of its DATA runs */
	uint64_t pool;  /* free pages: not fewer means that no page can be lost */
};

/*
 * The snapshot that a collect of @track with CKPT_COLLECT_REARM | CKPT_COLLECT_SNAPSHOT took, when
 * its result has CKPT_RESULT_SNAPSHOT. pread(ret->fd, buf, n * 4096, address) gives pages of DATA
 * runs as they were then, each once, while the target runs. -ENODATA: it was changed while the pool
 * was empty. Closing the descriptor ends the snapshot.
 */
__must_check int kmod_snapshot(struct kmod *k, uint32_t track, struct kmod_snapshot *ret,
			       struct ckpt_err *err);

/* A descriptor that becomes readable with an event of any session, or -errno. It belongs to @k. */
int kmod_event_fd(struct kmod *k);
/* The next event of this session: 1, 0 when there is none now, or -errno. */
__must_check int kmod_event(struct kmod *k, struct kmod_event *ret, struct ckpt_err *err);

#endif
