/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel itself has written down of a process, by a BPF iterator (Linux 5.8;
 * CONFIG_DEBUG_INFO_BTF, CAP_SYS_ADMIN): what otherwise only the process can say, sent in to ask.
 */
#ifndef CKPT_KERN_PROCVIEW_H
#define CKPT_KERN_PROCVIEW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/time.h>

#include "kern/mmwatch.h"

#define PROC_VIEW_SIGNALS 64u

struct proc_view {
	struct mm_stamp stamp; /* mmwatch.h; of use where mm_watch_open() found that it is */
	uint64_t execs;        /* goes on with each execve(2) */
	uint64_t brk;
	uint64_t def_flags; /* VM_* that a new mapping gets */
	uint64_t mm_flags;  /* MMF_*: dumpable, huge pages, merging */
	uint64_t subreaper; /* and other bits of the same byte */
	uint64_t securebits;
	uint64_t real_timer; /* 0: ITIMER_REAL does not run */
	uint64_t real_expires, real_interval;
	uint64_t now; /* both of CLOCK_MONOTONIC in the first time namespace; nanoseconds */
	uint64_t cpu_timers[4]; /* of ITIMER_VIRTUAL and ITIMER_PROF, value and interval */
	/* As rt_sigaction(2) tells; the first is that of signal 1. */
	struct proc_view_action {
		uint64_t handler, flags, restorer, mask;
	} action[PROC_VIEW_SIGNALS];
};

/* Load the program, and see that it tells of ckpt what ckpt knows. @types: loaded when they are not
 * yet; the caller frees. A descriptor or -errno. */
int proc_view_open(struct btf *types);
/* Of process @pid, which stands still. 0 or -errno. */
int proc_view_read(int prog_fd, int pid, struct proc_view *ret);
/* Has it neither mlockall(2) for what it will map nor a setitimer(2) of CPU time? */
bool proc_view_plain(const struct proc_view *v);
/* What getitimer(2) would say of ITIMER_REAL. */
void proc_view_real(const struct proc_view *v, struct itimerval *ret);

#endif
