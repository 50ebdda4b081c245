/* SPDX-License-Identifier: GPL-2.0-only */
/* PAGEMAP_SCAN (Linux 6.7) for back ends; include/uapi/linux/fs.h is newer than Debian 12's
 * headers. */
#ifndef CKPT_TRACK_SCAN_H
#define CKPT_TRACK_SCAN_H

#include <linux/ioctl.h>
#include <stdint.h>

struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
_Static_assert(sizeof(struct scan_arg) == 96, "pm_scan_arg");
struct scan_region {
	uint64_t start, end, categories;
};
_Static_assert(sizeof(struct scan_region) == 24, "page_region");

struct tracker;
/* Fill @a for [start, end) and what t->buf has room for, and scan: how many regions are there, or
 * -errno. */
int tracker_scan(struct tracker *t, struct scan_arg *a, uint64_t start, uint64_t end);

#define SCAN_IOCTL _IOWR('f', 16, struct scan_arg)
#define SCAN_WP_MATCHING 1u   /* PM_SCAN_WP_MATCHING */
#define SCAN_CHECK_WPASYNC 2u /* PM_SCAN_CHECK_WPASYNC */
#define SCAN_WPALLOWED (1u << 0)
#define SCAN_WRITTEN (1u << 1)
#define SCAN_FILE (1u << 2)
#define SCAN_PRESENT (1u << 3)
#define SCAN_SWAPPED (1u << 4)
#define SCAN_PFNZERO (1u << 5)
#define SCAN_BUF_BYTES (96u << 10)
#define SCAN_REGIONS (SCAN_BUF_BYTES / sizeof(struct scan_region))

#endif
