// SPDX-License-Identifier: GPL-2.0-only
/*
 * Paths: what the kernel does to pages on its own, or for a page's manager: huge pages, swap, migration, KSM,
 * userfaultfd, pins.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>

#include "vm.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif

/* ---- huge pages ------------------------------------------------------------------------------ */

static void setup_thp(struct env *e)
{
	(void)write_file("/sys/kernel/mm/transparent_hugepage/enabled", "always");
	region(e, 2048, 0);
	madvise((void *)e->base, e->pages * PAGE, MADV_HUGEPAGE);
	fill(e);
}

static void step_thp_writes(struct env *e, int step)
{
	touch(e, 3 + step);
	touch(e, 900 + step);
}

static void setup_thp_empty(struct env *e)
{
	(void)write_file("/sys/kernel/mm/transparent_hugepage/enabled", "always");
	region(e, 2048, 0);
	madvise((void *)e->base, e->pages * PAGE, MADV_HUGEPAGE);
}

/* One write brings in 512 pages; the others are then written without a fault. */
static void step_thp_fault_in(struct env *e, int step)
{
	for (int k = 0; k < 400; k++)
		touch(e, 512 * step + k);
}

static void setup_mthp(struct env *e)
{
	if (write_file("/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled", "always"))
		TSKIP(e, "no 64 KiB huge pages in this kernel");
	(void)write_file("/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/enabled", "never");
	region(e, 1024, 0);
	madvise((void *)e->base, e->pages * PAGE, MADV_HUGEPAGE);
}

static void step_mthp(struct env *e, int step)
{
	for (int k = 0; k < 300; k += 7)
		touch(e, 400 * step + k);
	for (int k = 3; k < 300; k += 5)
		touch(e, 400 * step + k);
	if (!step)
		return;
	(void)write_file("/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled", "never");
	(void)write_file("/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/enabled", "inherit");
}

static void step_collapse(struct env *e, int step)
{
	char mode[32];

	/* Something writable in each 2 MiB, or it is not collapsed. */
	touch(e, 7);
	touch(e, 700);
	madvise((void *)e->base, e->pages * PAGE, MADV_HUGEPAGE);
	if (madvise((void *)e->base, e->pages * PAGE, MADV_COLLAPSE) &&
	    (read_file("/sys/kernel/ckpt/thp_mode", mode, sizeof(mode)) < 0 ||
	     strcmp(mode, "disable\n")))
		TSKIP(e, "MADV_COLLAPSE: %m");
	/* All of it is writable now, and no fault tells. */
	touch_some(e, step);
}

/* ---- swap, migration, KSM ------------------------------------------------------------------------ */

static void setup_swapped(struct env *e)
{
	need_swap(e);
	setup_filled(e);
	madvise((void *)e->base, e->pages * PAGE, MADV_PAGEOUT);
}

static void step_swap(struct env *e, int step)
{
	volatile char sum = 0;

	/* Swapped in by reads, some written, swapped out again. */
	for (size_t i = 0; i < 500; i++)
		sum += *page_at(e, i);
	for (size_t i = 0; i < 100; i++)
		touch(e, i * 4 + step);
	madvise(page_at(e, 200), 400 * PAGE, MADV_PAGEOUT);
	touch_some(e, step);
}

static void step_compact(struct env *e, int step)
{
	touch_some(e, step);
	if (write_file("/proc/sys/vm/compact_memory", "1"))
		TSKIP(e, "no memory compaction");
	touch_some(e, step + 100);
}

static void setup_ksm(struct env *e)
{
	if (write_file("/sys/kernel/mm/ksm/run", "0"))
		TSKIP(e, "no KSM");
	setup_filled(e);
	if (madvise((void *)e->base, e->pages * PAGE, MADV_MERGEABLE))
		TSKIP(e, "MADV_MERGEABLE: %m");
}

static void step_ksm(struct env *e, int step)
{
	uint64_t scans;

	/* Written, merged (the merged PTE loses the soft-dirty bit), unshared. */
	for (int i = 0; i < 64; i++) {
		memset(page_at(e, 100 + i), 0x40 + step, PAGE);
		touched(e, 100 + i);
	}
	(void)write_file("/sys/kernel/mm/ksm/pages_to_scan", "10000");
	(void)write_file("/sys/kernel/mm/ksm/smart_scan", "0");
	(void)write_file("/sys/kernel/mm/ksm/sleep_millisecs", "10");
	scans = read_number("/sys/kernel/mm/ksm/full_scans");
	(void)write_file("/sys/kernel/mm/ksm/run", "1");
	while (read_number("/sys/kernel/mm/ksm/full_scans") < scans + 4 ||
	       (!read_number("/sys/kernel/mm/ksm/pages_shared") &&
		read_number("/sys/kernel/mm/ksm/full_scans") < scans + 50))
		poll(NULL, 0, 5);
	(void)write_file("/sys/kernel/mm/ksm/run", "0");
	if (!read_number("/sys/kernel/mm/ksm/pages_shared"))
		TSKIP(e, "KSM merged nothing");
	if (step == 2)
		madvise((void *)e->base, e->pages * PAGE, MADV_UNMERGEABLE);
}

/* ---- userfaultfd ------------------------------------------------------------------------------------ */

static int uffd_open(struct env *e, uint64_t features, uint64_t mode, void *start, size_t len)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = { .range = { (uintptr_t)start, len }, .mode = mode };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		TSKIP(e, "userfaultfd: %m");
	if (ioctl(fd, UFFDIO_REGISTER, &reg))
		TSKIP(e, "UFFDIO_REGISTER: %m");
	return fd;
}

/* Registered, filled, unregistered: at the end nothing is left to see of it. */
static void step_uffd_copy(struct env *e, int step)
{
	size_t first = 100 * (step + 1);
	char *src = mmap(NULL, 20 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_range range = { (uintptr_t)page_at(e, first), 20 * PAGE };
	struct uffdio_copy copy = { .dst = range.start, .src = (uintptr_t)src, .len = 20 * PAGE };
	int fd;

	memset(src, 0x55 + step, 20 * PAGE);
	fd = uffd_open(e, 0, UFFDIO_REGISTER_MODE_MISSING, page_at(e, first), 20 * PAGE);
	if (ioctl(fd, UFFDIO_COPY, &copy))
		TFAIL(e, "UFFDIO_COPY: %m");
	ioctl(fd, UFFDIO_UNREGISTER, &range);
	close(fd);
	for (int k = 0; k < 20; k++)
		touched(e, first + k);
}

static void step_uffd_wp(struct env *e, int step)
{
	struct uffdio_writeprotect wp = { .range = { e->base, 100 * PAGE },
					  .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	int fd = uffd_open(e, UFFD_FEATURE_PAGEFAULT_FLAG_WP, UFFDIO_REGISTER_MODE_WP, (void *)e->base,
			   100 * PAGE);

	touch(e, 50 + step);
	if (ioctl(fd, UFFDIO_WRITEPROTECT, &wp))
		TFAIL(e, "UFFDIO_WRITEPROTECT: %m");
	wp.mode = 0;
	if (ioctl(fd, UFFDIO_WRITEPROTECT, &wp))
		TFAIL(e, "UFFDIO_WRITEPROTECT: %m");
	close(fd);
	touch(e, 10 + step);
}

static void step_uffd_move(struct env *e, int step)
{
	size_t first = 100 * (step + 1);
	char *src = mmap(NULL, 20 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_range range = { (uintptr_t)page_at(e, first), 20 * PAGE };
	struct uffdio_move move = { .dst = range.start, .src = (uintptr_t)src, .len = 20 * PAGE };
	int fd;

	madvise(src, 20 * PAGE, MADV_NOHUGEPAGE);
	memset(src, 0x77 + step, 20 * PAGE);
	fd = uffd_open(e, 0, UFFDIO_REGISTER_MODE_MISSING, page_at(e, first), 20 * PAGE);
	if (ioctl(fd, UFFDIO_MOVE, &move))
		TSKIP(e, "UFFDIO_MOVE: %m");
	ioctl(fd, UFFDIO_UNREGISTER, &range);
	close(fd);
	for (int k = 0; k < 20; k++)
		touched(e, first + k);
}

/* ---- pinned pages -------------------------------------------------------------------------------------- */

struct ring {
	int fd;
	unsigned int *sq_tail, *sq_array, *cq_head, *cq_tail;
	struct io_uring_sqe *sqes;
};

static void ring_open(struct env *e, struct ring *r)
{
	struct io_uring_params p = {};
	char *sq, *cq;

	r->fd = syscall(SYS_io_uring_setup, 8, &p);
	if (r->fd < 0)
		TSKIP(e, "io_uring: %m");
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		  IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE,
		  MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED,
		       r->fd, IORING_OFF_SQES);
	r->sq_tail = (void *)(sq + p.sq_off.tail);
	r->sq_array = (void *)(sq + p.sq_off.array);
	r->cq_head = (void *)(cq + p.cq_off.head);
	r->cq_tail = (void *)(cq + p.cq_off.tail);
}

static void setup_io_uring(struct env *e)
{
	struct ring *r = malloc(sizeof(*r));
	struct iovec iov;

	if (!e->base)
		setup_filled(e);
	ring_open(e, r);
	e->priv = r;
	iov = (struct iovec){ page_at(e, 500), 16 * PAGE };
	if (syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_BUFFERS, &iov, 1))
		TSKIP(e, "IORING_REGISTER_BUFFERS: %m");
}

/* Soft-dirty bits alone miss what a device writes to a shared mapping. */
static void setup_io_uring_shared(struct env *e)
{
	e->pages = 1024;
	e->base = (uintptr_t)map_at(e->pages * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	fill(e);
	setup_io_uring(e);
}

/* The kernel writes to a buffer that was pinned before the target was armed. */
static void step_io_uring(struct env *e, int step)
{
	int fd = open("/dev/urandom", O_RDONLY);
	struct ring *r = e->priv;

	memset(&r->sqes[0], 0, sizeof(r->sqes[0]));
	r->sqes[0].opcode = IORING_OP_READ_FIXED;
	r->sqes[0].fd = fd;
	r->sqes[0].addr = (uintptr_t)page_at(e, 503 + step);
	r->sqes[0].len = PAGE;
	r->sq_array[*r->sq_tail & 7] = 0;
	__atomic_store_n(r->sq_tail, *r->sq_tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		TFAIL(e, "io_uring_enter: %m");
	*r->cq_head = *r->cq_tail;
	close(fd);
	touched(e, 503 + step);
}

const struct path path_pages[] = {
	{ "thp", setup_thp, step_thp_writes, 3, 1022, PATH_THP },
	{ "thp-fault-in", setup_thp_empty, step_thp_fault_in, 4, 512, PATH_THP },
	{ "mthp", setup_mthp, step_mthp, 2, 304, PATH_THP },
	{ "collapse", setup_filled, step_collapse, 3, 1024, PATH_THP },
	{ "swap", setup_swapped, step_swap, 3, 1024, 0 },
	{ "compaction", setup_filled, step_compact, 2, 1024, 0 },
	{ "ksm", setup_ksm, step_ksm, 3, 1024, 0 },
	{ "uffd-copy", setup_empty, step_uffd_copy, 3, 0, 0 },
	{ "uffd-wp", setup_filled, step_uffd_wp, 3, 0, 0 },
	{ "uffd-move", setup_empty, step_uffd_move, 3, 0, 0 },
	{ "io-uring-fixed", setup_io_uring, step_io_uring, 5, 16, 0 },
	{ "io-uring-fixed-shared", setup_io_uring_shared, step_io_uring, 3, 1024, 0 },
	{}
};
