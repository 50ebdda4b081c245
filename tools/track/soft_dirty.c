// SPDX-License-Identifier: GPL-2.0-only
/*
 * Write tracking by soft-dirty bits (CONFIG_MEM_SOFT_DIRTY): writing 4 to
 * /proc/PID/clear_refs protects every page, bit 55 of /proc/PID/pagemap says
 * that a page was written since. The task must stand still from the first look
 * to the arm.
 *
 * What the bit does not tell:
 *   - A page that was dropped and is read again shows the zero page, clean. It
 *     is told by its frame, the huge one by /proc/kpageflags: these are written.
 *   - mremap moves whole page tables with their bits, so a page that was clean
 *     elsewhere looks clean here. Therefore the arm writes down the frames of a
 *     few pages of each page table (2 MiB). When none of them is found where it
 *     was, it may be another table, and all its pages count as written.
 *   - The bit belongs to the kernel: who else writes to clear_refs clears it
 *     for us as well. One session per process; other tools know nothing of it.
 *   - Entries that are neither pages nor on a swap device when they are looked at
 *     (a page that is being migrated) may miss the protection: they count as
 *     written this time and the next.
 * What was written down is in a memfd, the tracker's descriptor.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "track/scan.h"
#include "track/track.h"

#define PAGE 4096ull
#define TABLE (2ull << 20)
#define MARKS 9u /* of one page table at most, at growing distances */

#define PM_FRAME ((1ull << 55) - 1)
#define PM_DIRTY (1ull << 55)
#define PM_EXCLUSIVE (1ull << 56)
#define PM_GUARD (1ull << 58)
#define PM_FILE (1ull << 61)
#define PM_SWAP (1ull << 62)
#define PM_PRESENT (1ull << 63)
#define PM_SWAP_TYPE 0x1full
/* MAX_SWAPFILES is at least this; types above it are no devices. */
#define SWAP_TYPES 22u
#define KPF_KSM (1ull << 21)
#define KPF_ZERO_PAGE (1ull << 24)

struct mark {
	uint64_t addr;
	uint64_t frame; /* 0: an entry that counts as written */
};

struct marks {
	struct mark *v;
	size_t n, cap;
};

struct pass {
	struct marks next; /* of this pass, ascending */
	const struct mark *old;
	size_t nold, at;
	int flags_fd; /* /proc/kpageflags, -1 until needed */
	uint64_t zero_frame;
	uint64_t table_end; /* of the page table @count is about */
	unsigned int count; /* its marks in @next */
};

static bool is_special(uint64_t e)
{
	return !(e & PM_PRESENT) && (e & PM_SWAP) && (e & PM_SWAP_TYPE) >= SWAP_TYPES;
}

static uint64_t own_entry(int fd, const volatile void *p)
{
	uint64_t e = 0;

	return pread(fd, &e, 8, (off_t)((uintptr_t)p / PAGE * 8)) == 8 ? e : 0;
}

static int clear_refs(int pid)
{
	auto_fd fd = -1;
	char path[48];

	(void)snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	return write(fd, "4", 1) == 1 ? 0 : -errno;
}

/* Does the bit do what it should, and are frames shown? Tried on a page of ours. */
static bool sd_probe(void)
{
	auto_fd fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	volatile char *p =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool ok = false;

	if (p == MAP_FAILED)
		return false;
	p[0] = 1;
	if (fd >= 0 && (own_entry(fd, p) & PM_DIRTY) && (own_entry(fd, p) & PM_FRAME) &&
	    !clear_refs(getpid()) && !(own_entry(fd, p) & PM_DIRTY)) {
		p[0] = 2;
		ok = own_entry(fd, p) & PM_DIRTY;
	}
	(void)munmap((void *)p, PAGE);
	return ok;
}

static uint64_t zero_frame(void)
{
	auto_fd fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	volatile char *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t e;

	if (p == MAP_FAILED)
		return 0;
	(void)p[0];
	e = fd >= 0 ? own_entry(fd, p) : 0;
	(void)munmap((void *)p, PAGE);
	return e & PM_FRAME;
}

static void pass_free(struct pass *p)
{
	if (!p)
		return;
	if (p->nold)
		(void)munmap((void *)p->old, p->nold * sizeof(*p->old));
	if (p->flags_fd >= 0)
		(void)close(p->flags_fd);
	vec_free(&p->next);
	free(p);
}

static int sd_attach(struct tracker *t, struct target_task *task, struct ckpt_err *err)
{
	(void)t;
	(void)task;
	(void)err;
	return 0;
}

static int sd_begin(struct tracker *t)
{
	struct pass *p = calloc(1, sizeof(*p));
	struct stat st;

	if (!p)
		return -ENOMEM;
	pass_free(t->state);
	t->state = p;
	p->flags_fd = -1;
	p->zero_frame = zero_frame();
	if (!p->zero_frame)
		return -EPERM;
	if (t->fd < 0)
		return 0;
	if (fstat(t->fd, &st))
		return -errno;
	if (!st.st_size)
		return 0;
	p->old = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, t->fd, 0);
	if (p->old == MAP_FAILED)
		return -errno;
	p->nold = (size_t)st.st_size / sizeof(*p->old);
	return 0;
}

/* May this present page be seen at other addresses, too: a zero page or one of KSM's? Those that
 * one mapping has alone are none. When nobody tells it may. */
static bool of_many(struct pass *p, uint64_t e)
{
	uint64_t flags = 0;

	if ((e & PM_FRAME) == p->zero_frame)
		return true;
	if (e & PM_EXCLUSIVE)
		return false;
	if (p->flags_fd < 0)
		p->flags_fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	return p->flags_fd < 0 || pread(p->flags_fd, &flags, 8, (off_t)((e & PM_FRAME) * 8)) != 8 ||
	       (flags & (KPF_ZERO_PAGE | KPF_KSM));
}

/* Is the page table of [start, end) the one that was armed? @e: its entries from @start. */
static bool same_table(struct pass *p, uint64_t start, uint64_t end, const uint64_t *e)
{
	bool same = false;

	while (p->at < p->nold && p->old[p->at].addr < start)
		p->at++;
	for (; p->at < p->nold && p->old[p->at].addr < end; p->at++) {
		const struct mark *m = &p->old[p->at];
		uint64_t now = e[(m->addr - start) / PAGE];

		same |= m->frame && (now & PM_PRESENT) && (now & PM_FRAME) == m->frame;
	}
	return same;
}

/* Was the entry at @addr in doubt at the arm? */
static bool doubted(const struct pass *p, size_t from, uint64_t addr)
{
	for (size_t i = from; i < p->at; i++)
		if (p->old[i].addr == addr)
			return !p->old[i].frame;
	return false;
}

static int mark_add(struct pass *p, uint64_t addr, uint64_t frame)
{
	struct mark *m = vec_push(&p->next);

	if (!m)
		return -ENOMEM;
	*m = (struct mark) { addr, frame };
	return 0;
}

/* A few pages of each table, far from each other. */
static int note_marks(struct pass *p, uint64_t start, size_t n, const uint64_t *e)
{
	uint64_t again = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t addr = start + i * PAGE;
		int rc = 0;

		if (addr >= p->table_end) {
			p->table_end = (addr / TABLE + 1) * TABLE;
			p->count = 0;
			again = 0;
		}
		if (is_special(e[i]))
			rc = mark_add(p, addr, 0);
		else if ((e[i] & PM_PRESENT) && !(e[i] & PM_FILE) && p->count < MARKS &&
			 addr >= again && !of_many(p, e[i])) {
			rc = mark_add(p, addr, e[i] & PM_FRAME);
			p->count++;
			again = addr + (PAGE << (p->count - 1));
		}
		if (rc)
			return rc;
	}
	return 0;
}

/* Entries of [start, end), which lie in one page table. */
static int report_table(struct pass *p, uint64_t start, uint64_t end, const uint64_t *e,
			track_fn fn, void *arg)
{
	size_t from = p->at, n = (end - start) / PAGE, len = 0;
	bool same = same_table(p, start, end, e);
	unsigned int kind = 0;
	uint64_t run = 0;
	int rc = 0;

	for (size_t i = 0; !rc && i < n; i++) {
		unsigned int flags = 0;

		if (!(e[i] & (PM_PRESENT | PM_SWAP)) || (e[i] & PM_FILE)) {
			if (len)
				rc = fn(arg, run, len, kind);
			len = 0;
			continue;
		}
		if (e[i] & PM_GUARD)
			flags = TRACK_GUARD | TRACK_WRITTEN;
		else if (!same || (e[i] & PM_DIRTY) || is_special(e[i]) ||
			 doubted(p, from, start + i * PAGE))
			flags = TRACK_WRITTEN;
		else if ((e[i] & PM_PRESENT) && of_many(p, e[i]))
			/* It may have taken the place of another; what it holds is looked at. */
			flags = TRACK_WRITTEN;
		if (len && kind == flags) {
			len++;
			continue;
		}
		if (len)
			rc = fn(arg, run, len, kind);
		run = start + i * PAGE;
		kind = flags;
		len = 1;
	}
	return !rc && len ? fn(arg, run, len, kind) : rc;
}

static int sd_collect(struct tracker *t, uint64_t start, uint64_t end, unsigned int how,
		      track_fn fn, void *arg)
{
	struct pass *p = t->state;
	uint64_t *e = t->buf;

	p->table_end = 0;
	while (start < end) {
		uint64_t want = (end - start) / PAGE;
		ssize_t n;
		int rc;

		/* The room ends where a page table ends. */
		if (want > SCAN_BUF_BYTES / 8)
			want = SCAN_BUF_BYTES / 8 - start % TABLE / PAGE;
		n = pread(t->pagemap_fd, e, want * 8, (off_t)(start / PAGE * 8));
		if (n < 0)
			return -errno;
		n /= 8;
		/* Nothing there: the address space is gone. */
		if (!n)
			return -ESTALE;
		if (how & TRACK_ARM) {
			rc = note_marks(p, start, (size_t)n, e);
			if (rc)
				return rc;
		}
		for (size_t i = 0; i < (size_t)n;) {
			uint64_t at = start + i * PAGE, stop = (at / TABLE + 1) * TABLE;

			if (stop > start + (size_t)n * PAGE)
				stop = start + (size_t)n * PAGE;
			rc = report_table(p, at, stop, e + i, fn, arg);
			if (rc)
				return rc;
			i += (stop - at) / PAGE;
		}
		start += (uint64_t)n * PAGE;
	}
	return 0;
}

static int sd_armed(struct tracker *t)
{
	struct pass *p = t->state;
	auto_fd fd = memfd_create("ckpt-soft-dirty", MFD_CLOEXEC);
	int rc;

	if (fd < 0)
		return -errno;
	rc = io_pwrite_full(fd, p->next.v, p->next.n * sizeof(*p->next.v), 0);
	if (!rc)
		rc = clear_refs(t->pid);
	if (rc)
		return rc;
	if (t->fd >= 0)
		(void)close(t->fd);
	t->fd = take_fd(&fd);
	return 0;
}

static void sd_detach(struct tracker *t)
{
	pass_free(t->state);
	t->state = NULL;
}

const struct track_ops track_soft_dirty = {
	.name = "soft-dirty",
	.probe = sd_probe,
	.live = false,
	.attach = sd_attach,
	.begin = sd_begin,
	.collect = sd_collect,
	.armed = sd_armed,
	.detach = sd_detach,
};
