/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A log of every page fault of some address spaces, written by BPF programs at the kernel's
 * tracepoints (CONFIG_DEBUG_INFO_BTF, CAP_SYS_ADMIN; Linux 6.7, x86-64). Of memory without a file
 * a page that is protected, or not there, is written to by a fault and in no other way:
 *
 *   - The processor's faults are told of with their addresses, those amid a system call as well.
 *   - The kernel's own (get_user_pages: O_DIRECT, ptrace, process_vm_writev, /proc/PID/mem …), of
 *     the program or of anybody else, hold the address space's lock for reading, and whoever takes
 *     that for anything but a fault that was told of is noted. So is who makes guards.
 *   - A page that is taken away, or a page on the swap, changes how many the address space has.
 *     Whoever changes that for anything but such a fault is noted.
 *   - Whoever maps, unmaps, protects or moves: of that struct mm_stamp tells. (To move single pages
 *     with a userfaultfd he must register one first, and a dump refuses who has one open.)
 *
 * So, as long as the stamp is as it was and nobody is noted, nothing but the pages in the log was
 * written. Each way is tried out on a child before the log is trusted; a kernel where one of them
 * is not told of has none.
 */
#ifndef CKPT_KERN_FAULTLOG_H
#define CKPT_KERN_FAULTLOG_H

#include <stdint.h>

#include "kern/mmwatch.h"

/* Notes, in place of an address: anything may have been written by somebody else, or by a thread of
 * the address space in a system call. */
#define FAULT_ANY UINT64_MAX
#define FAULT_ANY_OWN (UINT64_MAX - 1)

#define FAULT_ENTRIES 8192u
#define FAULT_MARKS 256u
#define FAULT_FEW 4u

/* An address space, as it was when its program ran on. */
struct fault_mark {
	struct mm_stamp stamp;
	int64_t pid;
};

/* What programs and whoever looks share; memory of the kernel's. */
struct fault_room {
	uint64_t n;   /* entries ever made */
	uint64_t own; /* the inode of ckpt's program, which may look at what is logged */
	/* Address spaces that are logged, for programs run at every fault of the machine; when
	 * there are more, a map has them all. */
	uint64_t few[FAULT_FEW], many;
	/* The user's: a stop, when so many entries had been made at its beginning and end, so often
	 * a program was missed, and these were the address spaces, up to the first without one. */
	uint64_t from, until, misses;
	struct fault_mark marks[FAULT_MARKS];
	/* The last ones. */
	struct fault_entry {
		uint64_t number; /* from 1 on; written last */
		uint64_t mm, addr;
		uint64_t by; /* of a note of somebody else: the inode of his program */
	} entry[FAULT_ENTRIES];
};

#define FAULT_PROGRAMS 5
enum {
	FAULT_FD_ROOM,
	FAULT_FD_SPACES, /* map: address spaces that are logged */
	FAULT_FD_PROGRAMS,
	FAULT_FD_LINKS = FAULT_FD_PROGRAMS + FAULT_PROGRAMS,
	FAULT_FDS = FAULT_FD_LINKS + FAULT_PROGRAMS
};

/* Whoever has the descriptors has the log; it ends with the last of them. */
struct fault_log {
	int fd[FAULT_FDS];
	struct fault_room *room; /* NULL: there is no log */
};

void fault_log_init(struct fault_log *l);
/* Begin one, and try it out; some 10 ms, with @w for stamps. @types: as mm_watch_open(). 0 or
 * -errno, then @ret is as fault_log_init() leaves it. */
int fault_log_open(struct fault_log *ret, const struct mm_watch *w, struct btf *types);
/* The same by the descriptors of one, which are the log's from then on, also on failure. */
int fault_log_adopt(struct fault_log *ret, const int *fds);
void fault_log_close(struct fault_log *l);
/* Log address space @mm (struct mm_stamp) from here on; or no longer. 0 or -errno. */
int fault_log_add(const struct fault_log *l, uint64_t mm);
void fault_log_remove(const struct fault_log *l, uint64_t mm);
/* How often a program could not run, which is an entry that is missing. 0 or -errno. */
int fault_log_misses(const struct fault_log *l, uint64_t *ret);

#endif
