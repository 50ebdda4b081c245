/* SPDX-License-Identifier: GPL-2.0-only */
/* Which pages of an address space exist: PAGEMAP_SCAN (6.7) or /proc/PID/pagemap. */
#ifndef CKPT_KERN_PAGEMAP_H
#define CKPT_KERN_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>

enum {
	PAGEMAP_ZERO = 1u << 0,  /* the kernel's zero page */
	PAGEMAP_GUARD = 1u << 1, /* MADV_GUARD_INSTALL; seen since Linux 6.15 */
};

struct pagemap {
	int fd;      /* /proc/PID/pagemap */
	bool scan;   /* PAGEMAP_SCAN works */
	bool guards; /* and tells guard pages */
	void *buf;
};

/* 0 or -errno */
int pagemap_open(struct pagemap *pm, int pid);
void pagemap_close(struct pagemap *pm);
/* Call @fn for each run of anonymous pages (present or swapped) in [start, end), ascending.
 * @only: there are no others. Stops at the first non-zero return of @fn and returns it. */
int pagemap_anon(struct pagemap *pm, uint64_t start, uint64_t end, bool only,
		 int (*fn)(void *arg, uint64_t addr, uint64_t npages, unsigned int flags),
		 void *arg);
/* Page frames of @npages pages from @start, 0 where a page is nobody else's (or not there, or not
 * anonymous, or frames are hidden for want of CAP_SYS_ADMIN). */
int pagemap_shared_frames(struct pagemap *pm, uint64_t start, uint64_t npages, uint64_t *ret);

#endif
