// SPDX-License-Identifier: GPL-2.0-only
#include "kern/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* From include/uapi/linux/fs.h of Linux 6.7; Debian 12's headers are older. */
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
_Static_assert(sizeof(struct scan_arg) == 96, "pm_scan_arg");
struct region {
	uint64_t start, end, categories;
};
#define SCAN_IOCTL _IOWR('f', 16, struct scan_arg)
#define IS_FILE (1u << 2)
#define IS_PRESENT (1u << 3)
#define IS_SWAPPED (1u << 4)
#define IS_PFNZERO (1u << 5)
#define IS_GUARD (1u << 8) /* Linux 6.15 */

#define PM_FRAME ((1ull << 55) - 1)
#define PM_EXCLUSIVE (1ull << 56)
#define PM_GUARD (1ull << 58)
#define PM_FILE (1ull << 61)
#define PM_SWAP (1ull << 62)
#define PM_PRESENT (1ull << 63)

#define BUF_BYTES (96u << 10)
#define PAGE 4096u

static int scan(struct pagemap *pm, struct scan_arg *a, uint64_t start, uint64_t end, bool only)
{
	*a = (struct scan_arg) {
		.size = sizeof(*a),
		.start = start,
		.end = end,
		.vec = (uint64_t)pm->buf,
		.vec_len = BUF_BYTES / sizeof(struct region),
		/* For this the kernel looks at the page. */
		.category_inverted = only ? 0 : IS_FILE,
		.category_mask = only ? 0 : IS_FILE,
		.category_anyof_mask = IS_PRESENT | IS_SWAPPED,
		.return_mask = IS_PFNZERO | (pm->guards ? IS_GUARD : 0),
	};
	int n = ioctl(pm->fd, SCAN_IOCTL, a);

	return n < 0 ? -errno : n;
}

int pagemap_open(struct pagemap *pm, int pid)
{
	char path[64];
	struct scan_arg a;

	memset(pm, 0, sizeof(*pm));
	(void)snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	pm->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (pm->fd < 0)
		return -errno;
	pm->buf = malloc(BUF_BYTES);
	if (!pm->buf) {
		pagemap_close(pm);
		return -ENOMEM;
	}
	pm->guards = true;
	pm->scan = scan(pm, &a, 0, PAGE, false) >= 0;
	if (!pm->scan) {
		pm->guards = false;
		pm->scan = scan(pm, &a, 0, PAGE, false) >= 0;
	}
	return 0;
}

void pagemap_close(struct pagemap *pm)
{
	if (pm->fd >= 0)
		(void)close(pm->fd);
	free(pm->buf);
	pm->buf = NULL;
	pm->fd = -1;
}

static int anon_by_scan(struct pagemap *pm, uint64_t start, uint64_t end, bool only,
			int (*fn)(void *, uint64_t, uint64_t, unsigned int), void *arg)
{
	uint64_t told = start;

	while (start < end) {
		struct region *r = pm->buf;
		struct scan_arg a;
		int n = scan(pm, &a, start, end, only);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			unsigned int flags = (r[i].categories & IS_PFNZERO ? PAGEMAP_ZERO : 0) |
					     (r[i].categories & IS_GUARD ? PAGEMAP_GUARD : 0);
			int rc;

			/* A walk that stopped for want of room may begin before what it told last.
			 */
			if (r[i].start < told)
				r[i].start = told;
			if (r[i].end <= told)
				continue;
			told = r[i].end;
			rc = fn(arg, r[i].start, (r[i].end - r[i].start) / PAGE, flags);
			if (rc)
				return rc;
		}
		if (a.walk_end <= start)
			return -EPROTO;
		start = a.walk_end;
	}
	return 0;
}

static int anon_by_read(struct pagemap *pm, uint64_t start, uint64_t end,
			int (*fn)(void *, uint64_t, uint64_t, unsigned int), void *arg)
{
	uint64_t run = 0, len = 0;
	unsigned int kind = 0;
	int rc;

	while (start < end) {
		const uint64_t *e = pm->buf;
		uint64_t want = (end - start) / PAGE;
		ssize_t n;

		if (want > BUF_BYTES / 8)
			want = BUF_BYTES / 8;
		n = pread(pm->fd, pm->buf, want * 8, (off_t)(start / PAGE * 8));
		if (n < 0)
			return -errno;
		if (n < 8)
			return -ENODATA;
		for (uint64_t i = 0; i < (uint64_t)n / 8; i++, start += PAGE) {
			if (!(e[i] & (PM_PRESENT | PM_SWAP)) || (e[i] & PM_FILE))
				continue;
			if (len && run + len * PAGE == start &&
			    kind == (e[i] & PM_GUARD ? PAGEMAP_GUARD : 0)) {
				len++;
				continue;
			}
			if (len && (rc = fn(arg, run, len, kind)))
				return rc;
			run = start;
			len = 1;
			kind = e[i] & PM_GUARD ? PAGEMAP_GUARD : 0;
		}
	}
	return len ? fn(arg, run, len, kind) : 0;
}

int pagemap_shared_frames(struct pagemap *pm, uint64_t start, uint64_t npages, uint64_t *ret)
{
	ssize_t n = pread(pm->fd, ret, npages * 8, (off_t)(start / PAGE * 8));

	if (n < 0)
		return -errno;
	if ((uint64_t)n != npages * 8)
		return -ENODATA;
	for (uint64_t i = 0; i < npages; i++)
		ret[i] = (ret[i] & PM_PRESENT) && !(ret[i] & (PM_FILE | PM_EXCLUSIVE))
				 ? ret[i] & PM_FRAME
				 : 0;
	return 0;
}

int pagemap_anon(struct pagemap *pm, uint64_t start, uint64_t end, bool only,
		 int (*fn)(void *arg, uint64_t addr, uint64_t npages, unsigned int flags),
		 void *arg)
{
	return pm->scan ? anon_by_scan(pm, start, end, only, fn, arg)
			: anon_by_read(pm, start, end, fn, arg);
}
