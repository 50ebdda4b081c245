// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who takes ranges need not be told of each page that is as it was, and a scan for entries that are
 * not protected is ten times as fast. Of anonymous memory nothing is lost by it:
 *   - an entry without a page is not protected either, so a page that was dropped is found;
 *   - a page table that is gone as a whole is found by a kernel that takes holes for written.
 *     Others are asked: in a table that is there, what the scan did not find is not empty.
 * What is found is collected page by page. In memory of files dropped pages leave markers that are
 * protected. The task stands still meanwhile.
 */
#include "track/changed.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/vec.h"
#include "track/scan.h"

#define PAGE 4096u
/* Between two finds: to look at all of it is as quick as to ask twice. */
#define NEAR_BYTES (512u << 10)
/* A look at every table is as quick as one at so many of them, each by itself. */
#define TOLD_SHARE 4u

/* /proc/PID/pagemap */
#define PM_PRESENT (1ull << 63)
#define PM_SWAP (1ull << 62)
#define PM_UFFD_WP (1ull << 57)

int tracker_scan(struct tracker *t, struct scan_arg *a, uint64_t start, uint64_t end)
{
	a->size = sizeof(*a);
	a->start = start;
	a->end = end;
	a->vec = (uint64_t)t->buf;
	a->vec_len = SCAN_REGIONS;
	int n = ioctl(t->pagemap_fd, SCAN_IOCTL, a);

	return n < 0 ? -errno : n;
}

/* ---- by what was told ---------------------------------------------------------------------- */

/* The first of what was told that is not below @at. */
static size_t told_from(const struct track_told *told, uint64_t at)
{
	size_t low = 0, high = told->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (told->v[mid] + TABLE_BYTES <= at)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int changed_told(const struct tracker *t, uint64_t start, uint64_t end,
		 int (*part)(void *arg, uint64_t start, uint64_t end), void *arg)
{
	const struct track_told *told = t->told;
	size_t i = told ? told_from(told, start) : 0;
	int rc = 0;

	if (!told || told_from(told, end) - i >= (end - start) / TABLE_BYTES / TOLD_SHARE)
		return part(arg, start, end);
	while (!rc && i < told->n && told->v[i] < end) {
		uint64_t from = told->v[i] > start ? told->v[i] : start, to;

		for (to = told->v[i++] + TABLE_BYTES; i < told->n && told->v[i] == to; i++)
			to += TABLE_BYTES;
		rc = part(arg, from, to < end ? to : end);
	}
	return rc;
}

/* ---- by a look ------------------------------------------------------------------------------ */

/* Ascending. */
static int area_add(struct areas *l, uint64_t start, uint64_t end)
{
	struct area *last = l->n ? &l->v[l->n - 1] : NULL;

	if (last && start <= last->end + NEAR_BYTES) {
		if (end > last->end)
			last->end = end;
		return 0;
	}
	last = vec_push(l);
	if (!last)
		return -ENOMEM;
	*last = (struct area) { start, end };
	return 0;
}

int changed_holes(struct tracker *t, uint64_t start, uint64_t end,
		  int (*hole)(void *arg, uint64_t start, uint64_t end), void *arg)
{
	int rc = 0;

	for (uint64_t at = start, next; !rc && at < end; at = next) {
		uint64_t e;

		next = (at | (TABLE_BYTES - 1)) + 1;
		if (next > end)
			next = end;
		if (pread(t->pagemap_fd, &e, 8, (off_t)(at / PAGE * 8)) != 8)
			rc = -ENODATA;
		else if (!(e & (PM_PRESENT | PM_SWAP | PM_UFFD_WP)))
			rc = hole(arg, at, next);
	}
	return rc;
}

static int area_hole(void *arg, uint64_t start, uint64_t end)
{
	return area_add(arg, start, end);
}

static int add_holes(struct tracker *t, struct areas *found, uint64_t start, uint64_t end)
{
	return changed_holes(t, start, end, area_hole, found);
}

static int find_changed(struct tracker *t, uint64_t start, uint64_t end, struct areas *found)
{
	bool ask = !(t->facts & FACT_HOLES_TOLD);
	uint64_t told = start;
	int rc = 0;

	for (uint64_t at = start; !rc && at < end;) {
		struct scan_arg a = { .flags = SCAN_CHECK_WPASYNC,
				      .category_mask = SCAN_WRITTEN,
				      .return_mask = SCAN_WRITTEN };
		const struct scan_region *r = t->buf;
		int n = tracker_scan(t, &a, at, end);

		if (n < 0)
			return n == -EPERM ? -ESTALE : n;
		for (int i = 0; !rc && i < n; i++) {
			if (ask && r[i].start > told)
				rc = add_holes(t, found, told, r[i].start);
			if (!rc)
				rc = area_add(found, r[i].start, r[i].end);
			told = r[i].end > told ? r[i].end : told;
		}
		if (a.walk_end < told)
			a.walk_end = told;
		if (!rc && a.walk_end <= at)
			rc = -EPROTO;
		at = a.walk_end;
	}
	return !rc && ask ? add_holes(t, found, told, end) : rc;
}

/* A large range in pieces, of which each thread takes the next: page tables are not spread evenly.
 */
#define SPLIT_BYTES (1ull << 30) /* a scan of less takes hardly longer than to start a thread */
#define SPLIT_PIECES 32u

struct finder {
	const struct tracker *t;
	uint64_t start, end, piece;
	struct areas *found; /* of each piece */
	size_t n;
	atomic_size_t next;
	atomic_int rc;
};

static void find_pieces(struct finder *f, void *buf)
{
	struct tracker own = *f->t;
	size_t i;

	own.buf = buf;
	while ((i = atomic_fetch_add(&f->next, 1)) < f->n && !atomic_load(&f->rc)) {
		uint64_t start = i ? f->start + i * f->piece : f->start;
		uint64_t end = i + 1 < f->n ? f->start + (i + 1) * f->piece : f->end;
		int rc;

		/* No page table is looked at by both. */
		start = i ? start & ~(uint64_t)(TABLE_BYTES - 1) : start;
		end = i + 1 < f->n ? end & ~(uint64_t)(TABLE_BYTES - 1) : end;
		rc = find_changed(&own, start, end, &f->found[i]);
		if (rc)
			atomic_store(&f->rc, rc);
	}
}

static void *find_other(void *arg)
{
	auto_free void *buf = malloc(SCAN_BUF_BYTES);

	/* The first thread does it alone then. */
	if (buf)
		find_pieces(arg, buf);
	return NULL;
}

static int find_split(struct tracker *t, uint64_t start, uint64_t end, struct areas *found)
{
	struct finder f = { .t = t, .start = start, .end = end };
	pthread_t other;
	bool two;
	int rc;

	f.piece = ((end - start) / SPLIT_PIECES | (TABLE_BYTES - 1)) + 1;
	f.n = (size_t)((end - start - 1) / f.piece + 1);
	f.found = calloc(f.n, sizeof(*f.found));
	if (!f.found)
		return -ENOMEM;
	two = !pthread_create(&other, NULL, find_other, &f);
	find_pieces(&f, t->buf);
	if (two)
		(void)pthread_join(other, NULL);
	rc = atomic_load(&f.rc);
	for (size_t i = 0; i < f.n; i++) {
		for (size_t k = 0; !rc && k < f.found[i].n; k++)
			rc = area_add(found, f.found[i].v[k].start, f.found[i].v[k].end);
		vec_free(&f.found[i]);
	}
	free(f.found);
	return rc;
}

struct found {
	struct tracker *t;
	struct areas *areas;
};

static int find_part(void *arg, uint64_t start, uint64_t end)
{
	const struct found *f = arg;
	uint64_t split = f->t->split_bytes ? f->t->split_bytes : SPLIT_BYTES;

	return end - start >= split ? find_split(f->t, start, end, f->areas)
				    : find_changed(f->t, start, end, f->areas);
}

static int any_part(void *arg, uint64_t start, uint64_t end)
{
	struct scan_arg a = { .category_mask = SCAN_WRITTEN,
			      .category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
			      .return_mask = SCAN_WRITTEN };
	int n = start < end ? tracker_scan(arg, &a, start, end) : 0;

	return n > 0 ? -EPROTO : n;
}

/* For tests: there is no page that was written where nobody looked. */
static int look_elsewhere(struct tracker *t, uint64_t start, uint64_t end)
{
	const struct track_told *told = t->told;
	int rc = 0;

	for (size_t i = told_from(told, start); !rc && i < told->n && told->v[i] < end; i++) {
		rc = any_part(t, start, told->v[i]);
		start = told->v[i] + TABLE_BYTES;
	}
	return rc ? rc : any_part(t, start, end);
}

int changed_find(struct tracker *t, uint64_t start, uint64_t end, struct areas *ret)
{
	struct found f = { t, ret };
	int rc = changed_told(t, start, end, find_part, &f);

	return !rc && t->told && ckpt_fault("track.told") ? look_elsewhere(t, start, end) : rc;
}
