/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * ckpt.ko: which pages of a program changed since it was last looked at.
 *
 * The contract between the kernel module and user space: generic netlink
 * family "ckpt". The same in machine-readable form: docs/netlink/ckpt.yaml.
 *
 * The life of a session
 *
 *	OPEN ──► ATTACH pid … ──► ARM ──► COLLECT ──► RUNS ──► COLLECT … ──► DETACH
 *	         (each process)    │       rearms      (dump)
 *	                           └ the first epoch: what changes from here on is known
 *
 * A session belongs to the socket that opened it and ends with that socket,
 * i.e. when the last descriptor of it is closed. Whoever is given a descriptor
 * (fork, SCM_RIGHTS, pidfd_getfd) may use the session like its owner, if he has
 * the capability himself; ATTACH also checks his rights to the target. Answers
 * go to whoever reads first: one talks at a time.
 * A track is one address space in a session; every process that shares it
 * (threads, vfork, CLONE_VM) is covered by the same track.
 * A track lives until DETACH, also when its address space has ended. One that
 * attached itself (FOLLOW_FORKS) is forgotten when its address space has ended:
 * at once if no ARM or COLLECT spoke of it, else by the next one after the one
 * that said RESULT_GONE. ATTACH of its process makes it like the others.
 *
 * Messages (← request, → answer; [] optional; n: nested)
 *
 *	INFO	←
 *		→ VERSION FEATURES
 *	OPEN	← [SESSION_FLAGS] [POOL_PAGES]
 *		→ SESSION [POOL_PAGES]
 *	ATTACH	← SESSION PID
 *		→ SESSION TRACK PID
 *	ARM	← SESSION [TRACK]
 *		→ SESSION n:RESULT{ TRACK PID EPOCH RESULT_FLAGS PAGES RUNS WALL_NS } …
 *	COLLECT	← SESSION [TRACK] [COLLECT_FLAGS]
 *		→ as ARM
 *	RUNS	← SESSION TRACK					(NLM_F_DUMP)
 *		→ TRACK EPOCH RUN_DATA(struct ckpt_run[])	 … repeated
 *	STATUS	← [SESSION]					(NLM_F_DUMP)
 *		→ SESSION OWNER TRACK PID EPOCH RESULT_FLAGS	 … one per track
 *	SNAPSHOT ← SESSION TRACK
 *		→ SESSION TRACK FD PAGES POOL_PAGES
 *	DETACH	← SESSION [TRACK]		(without TRACK: the session ends)
 *		→ (acknowledgement)
 *	EVENT	→ EVENT_TYPE SESSION TRACK PID [CHILD_PID]	(multicast group "events")
 *
 * A snapshot (COLLECT_REARM | COLLECT_SNAPSHOT in a session opened with
 * SESSION_COW) keeps the pages of the DATA runs as they are at that instant,
 * while the target runs on: before a page changes its content goes to the
 * session's pool. Each page needs one page of the pool at most: a snapshot that
 * is not larger than what is free there (POOL_PAGES) is never lost. SNAPSHOT gives
 * a descriptor, once, before the next arm. pread(fd, buf, n * 4096, address) returns the content of
 * pages, up to the first that is in no DATA run; each page can be read once. ENXIO:
 * no such page (or it was read); ENODATA: it changed while the pool was empty;
 * ESTALE: the track was detached. After ENODATA stop the target, collect, and copy
 * what is reported from the target; what is not reported can still be read from the
 * snapshot. Closing the descriptor ends the snapshot; there is one per track.
 *
 * Errors carry an extended acknowledgement that names object and cause.
 * Unknown attributes are refused (strict validation).
 *
 * Events go to every listener; their pids are those of the initial namespace. Who
 * is told ENOBUFS by recv() has missed some: STATUS says how things are. FORK_LOST
 * has no CHILD_PID where not even that could be kept.
 */
#ifndef _UAPI_LINUX_CKPT_H
#define _UAPI_LINUX_CKPT_H

#include <linux/types.h>

#define CKPT_GENL_NAME		"ckpt"
#define CKPT_GENL_VERSION	1
#define CKPT_GENL_MCGRP_EVENTS	"events"

/* Raised when a message or its meaning changes; additions get a feature bit. */
#define CKPT_ABI_VERSION	1

/* CKPT_A_FEATURES: what this build of the module can do on this kernel. */
#define CKPT_FEATURE_TRACK		(1ULL << 0) /* attach, arm, collect, runs */
#define CKPT_FEATURE_FOLLOW_FORKS	(1ULL << 1) /* CKPT_SESSION_FOLLOW_FORKS */
#define CKPT_FEATURE_GRANULE_FIXED	(1ULL << 2) /* granule_bytes > 4096 */
#define CKPT_FEATURE_GRANULE_ADAPTIVE	(1ULL << 3) /* granule_mode adaptive */
#define CKPT_FEATURE_COW_SNAPSHOT	(1ULL << 4) /* CKPT_SESSION_COW, CKPT_CMD_SNAPSHOT */
#define CKPT_FEATURE_UNMAPPED		(1ULL << 5) /* CKPT_COLLECT_UNMAPPED */

enum ckpt_cmd {
	CKPT_CMD_UNSPEC,
	CKPT_CMD_INFO,
	CKPT_CMD_OPEN,
	CKPT_CMD_ATTACH,
	CKPT_CMD_ARM,
	CKPT_CMD_COLLECT,
	CKPT_CMD_RUNS,
	CKPT_CMD_STATUS,
	CKPT_CMD_DETACH,
	CKPT_CMD_EVENT,
	CKPT_CMD_SNAPSHOT,
	__CKPT_CMD_MAX,
};
#define CKPT_CMD_MAX (__CKPT_CMD_MAX - 1)

enum ckpt_attr {
	CKPT_A_UNSPEC,
	CKPT_A_PAD,
	CKPT_A_VERSION,		/* u32 */
	CKPT_A_FEATURES,	/* u64, CKPT_FEATURE_* */
	CKPT_A_SESSION,		/* u32, never 0 */
	CKPT_A_SESSION_FLAGS,	/* u32, CKPT_SESSION_* */
	CKPT_A_TRACK,		/* u32, never 0, unique while the module is loaded */
	CKPT_A_PID,		/* s32, process id as the caller sees it, 0: not visible */
	CKPT_A_COLLECT_FLAGS,	/* u32, CKPT_COLLECT_* */
	CKPT_A_RESULT,		/* nested */
	CKPT_A_RESULT_FLAGS,	/* u32, CKPT_RESULT_* */
	CKPT_A_EPOCH,		/* u64, number of arms so far; 0: never armed */
	CKPT_A_PAGES,		/* u64, pages in all runs */
	CKPT_A_RUNS,		/* u64, number of runs */
	CKPT_A_WALL_NS,		/* u64, time the target's address space was locked */
	CKPT_A_RUN_DATA,	/* binary, array of struct ckpt_run */
	CKPT_A_OWNER,		/* u32, netlink port of the session's owner */
	CKPT_A_EVENT_TYPE,	/* u32, enum ckpt_event */
	CKPT_A_CHILD_PID,	/* s32 */
	CKPT_A_FD,		/* s32, a descriptor of the sender */
	CKPT_A_POOL_PAGES,	/* u64, pages for snapshots: wanted (at most the setting), had, free */
	__CKPT_A_MAX,
};
#define CKPT_A_MAX (__CKPT_A_MAX - 1)

/* CKPT_A_SESSION_FLAGS */
#define CKPT_SESSION_FOLLOW_FORKS	(1U << 0) /* attach children by themselves, unarmed */
#define CKPT_SESSION_COW		(1U << 1) /* with cow_pool_pages pages for snapshots */
#define CKPT_SESSION_FLAGS_ALL		(CKPT_SESSION_FOLLOW_FORKS | CKPT_SESSION_COW)

/* CKPT_A_COLLECT_FLAGS */
#define CKPT_COLLECT_REARM	(1U << 0) /* begin the next epoch in the same step */
#define CKPT_COLLECT_UNMAPPED	(1U << 1) /* with runs of CKPT_RUN_UNMAPPED */
#define CKPT_COLLECT_SNAPSHOT	(1U << 2) /* with REARM: keep what is reported as it is now */
#define CKPT_COLLECT_FLAGS_ALL	\
	(CKPT_COLLECT_REARM | CKPT_COLLECT_UNMAPPED | CKPT_COLLECT_SNAPSHOT)

/* CKPT_A_RESULT_FLAGS */
#define CKPT_RESULT_ALL		(1U << 0) /* treat every page of the target as changed */
#define CKPT_RESULT_GONE	(1U << 1) /* the address space ended (exit or exec) */
#define CKPT_RESULT_UNARMED	(1U << 2) /* never armed: the runs are what is mapped */
#define CKPT_RESULT_DEGRADED	(1U << 3) /* complete, but coarser than need be: see sysfs */
#define CKPT_RESULT_SNAPSHOT	(1U << 4) /* a snapshot keeps the DATA runs; else copy at once */

/**
 * struct ckpt_run - pages that follow each other and share one state
 * @start:	address of the first page
 * @pages:	number of 4096-byte pages, never 0
 * @state:	one of enum ckpt_run_state
 *
 * Runs come in address order and do not overlap. They cover mapped memory
 * only, except those of CKPT_RUN_UNMAPPED. What no run covers and is mapped has
 * the content it had at the previous arm: by the runs alone, with UNMAPPED ones,
 * what was known then is brought up to date. With CKPT_RESULT_ALL the runs say
 * nothing and may be missing.
 */
struct ckpt_run {
	__u64 start;
	__u32 pages;
	__u32 state;
};

enum ckpt_run_state {
	/* A private page (in memory or swapped) that may have changed: read it. */
	CKPT_RUN_DATA = 1,
	/* May have changed, and there is no private page now (MADV_DONTNEED, a
	 * hole punched in the file, a new mapping): the content is what the
	 * mapping itself gives (zeros, or the mapped file). */
	CKPT_RUN_DROPPED = 2,
	/* A mapping the module does not track (shared, hugetlbfs, device):
	 * treat all of it as changed. */
	CKPT_RUN_UNTRACKED = 3,
	/* Was tracked at the last arm, and nothing is mapped there now. Only with
	 * CKPT_COLLECT_UNMAPPED. */
	CKPT_RUN_UNMAPPED = 4,
	/* As DATA, but no snapshot can keep it (swapped out, pinned by a device):
	 * copy it before the target runs on. Only with CKPT_COLLECT_SNAPSHOT. */
	CKPT_RUN_DATA_NOW = 5,
};

enum ckpt_event {
	CKPT_EVENT_GONE = 1,		/* last user of the address space: exit or exec */
	CKPT_EVENT_FORK = 2,		/* CHILD_PID has a copy of the address space */
	CKPT_EVENT_LOG_OVERFLOW = 3,	/* the next collect says CKPT_RESULT_ALL or scans all */
	CKPT_EVENT_FORK_LOST = 4,	/* a child could not be attached: look for it yourself */
	CKPT_EVENT_POOL_EXHAUSTED = 5,	/* a page of a snapshot was lost: see SNAPSHOT */
	CKPT_EVENT_EXEC = 6,		/* the process runs another program, which is not tracked */
};

#endif
