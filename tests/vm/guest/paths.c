// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each way in which a page can change. After every step the runs must cover
 * what the target says it touched, what the kernel calls soft-dirty, and every
 * page of the whole program whose content differs; and little else.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>

#include "vm.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif

/* ---- regions -------------------------------------------------------------------- */

static char *map_at(size_t bytes, size_t align, int prot, int flags, int fd)
{
	char *p = mmap(NULL, bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *at = (char *)(((uintptr_t)p + align - 1) / align * align);

	if (p == MAP_FAILED || mmap(at, bytes, prot, flags | MAP_FIXED, fd, 0) == MAP_FAILED)
		return NULL;
	if (at > p)
		munmap(p, at - p);
	munmap(at + bytes, p + align - at);
	return at;
}

static void region(struct env *e, size_t pages, int extra_flags)
{
	e->pages = pages;
	e->base = (uintptr_t)map_at(pages * PAGE, CHUNK, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1);
	if (!e->base)
		TFAIL(e, "mmap: %m");
	madvise((void *)e->base, pages * PAGE, MADV_NOHUGEPAGE);
}

static void fill(struct env *e)
{
	for (size_t i = 0; i < e->pages; i++)
		touch(e, i);
}

static char *page_at(struct env *e, size_t i)
{
	return (char *)e->base + i * PAGE;
}

static void setup_filled(struct env *e)
{
	region(e, 1024, 0);
	fill(e);
}

static void setup_empty(struct env *e)
{
	region(e, 1024, 0);
}

static void touch_some(struct env *e, int step)
{
	uint64_t state = step + 1;

	for (int i = 0; i < 60; i++)
		touch(e, rnd(&state) % e->pages);
}

/* ---- plain writes ------------------------------------------------------------------ */

static void step_nothing(struct env *e, int step)
{
	(void)e;
	(void)step;
}

static void step_read_only(struct env *e, int step)
{
	volatile char sum = 0;

	(void)step;
	for (size_t i = 0; i < e->pages; i++)
		sum += *page_at(e, i);
}

static void step_read_syscall(struct env *e, int step)
{
	int fd = open("/dev/urandom", O_RDONLY);
	size_t i = 10 + step * 5;

	/* Across two page boundaries. */
	if (read(fd, page_at(e, i) + 100, 2 * PAGE) != 2 * PAGE)
		TFAIL(e, "read: %m");
	close(fd);
	touched(e, i);
	touched(e, i + 1);
	touched(e, i + 2);
}

static void step_vm_writev(struct env *e, int step)
{
	pid_t parent = getpid(), child = fork();
	uint64_t value = ++e->sh->stamp;

	if (!child) {
		struct iovec local = { &value, 8 }, remote = { page_at(e, 5 + step), 8 };

		_exit(process_vm_writev(parent, &local, 1, &remote, 1, 0) != 8);
	}
	waitpid(child, NULL, 0);
	touched(e, 5 + step);
}

static void setup_read_only(struct env *e)
{
	setup_filled(e);
	mprotect((void *)e->base, e->pages * PAGE, PROT_READ);
}

/* /proc/PID/mem writes to read-only pages, as a debugger does. */
static void step_proc_mem(struct env *e, int step)
{
	int fd = open("/proc/self/mem", O_RDWR);
	uint64_t value = ++e->sh->stamp;

	for (size_t i = step; i < e->pages; i += 97) {
		if (pwrite(fd, &value, 8, (off_t)(uintptr_t)page_at(e, i)) != 8)
			TFAIL(e, "pwrite: %m");
		touched(e, i);
	}
	close(fd);
}

static void step_ptrace_poke(struct env *e, int step)
{
	pid_t child = fork();
	int status;

	if (!child) {
		/* The parent is the target: trace it from a child. */
		pid_t target = getppid();

		if (ptrace(PTRACE_SEIZE, target, 0, 0) || ptrace(PTRACE_INTERRUPT, target, 0, 0))
			_exit(1);
		waitpid(target, &status, __WALL);
		if (ptrace(PTRACE_POKEDATA, target, page_at(e, 7 + step), (void *)0x1234567890 + step))
			_exit(1);
		ptrace(PTRACE_DETACH, target, 0, 0);
		_exit(0);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (status)
		TSKIP(e, "a child may not trace its parent here");
	touched(e, 7 + step);
}

static void step_mprotect(struct env *e, int step)
{
	mprotect((void *)e->base, e->pages * PAGE, PROT_READ);
	mprotect((void *)e->base, e->pages * PAGE, PROT_READ | PROT_WRITE);
	touch_some(e, step);
	mprotect(page_at(e, 100), 50 * PAGE, PROT_READ);
}

static void step_vfork(struct env *e, int step)
{
	pid_t pid = vfork();

	if (!pid) {
		touch(e, 33 + step);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static int clone_writer(void *arg)
{
	struct env *e = arg;

	touch(e, 44);
	touch(e, 700);
	return 0;
}

static void step_clone_vm(struct env *e, int step)
{
	static char stack[65536];
	pid_t pid = clone(clone_writer, stack + sizeof(stack), CLONE_VM | SIGCHLD, e);

	(void)step;
	if (pid < 0)
		TFAIL(e, "clone: %m");
	waitpid(pid, NULL, 0);
}

static void step_populate_write(struct env *e, int step)
{
	if (madvise(page_at(e, 40 * step), 10 * PAGE, MADV_POPULATE_WRITE))
		TSKIP(e, "MADV_POPULATE_WRITE: %m");
	for (int i = 0; i < 10; i++)
		touched(e, 40 * step + i);
}

/* ---- dropped and moved ranges --------------------------------------------------------- */

static void step_dontneed(struct env *e, int step)
{
	size_t i = 200 + step * 40;
	volatile char sum = 0;

	madvise(page_at(e, i), 20 * PAGE, MADV_DONTNEED);
	for (int k = 0; k < 20; k++)
		touched(e, i + k);
	/* Some are read again (zero page), some written, the rest stay away. */
	for (int k = 0; k < 5; k++)
		sum += *page_at(e, i + k);
	for (int k = 5; k < 10; k++)
		touch(e, i + k);
}

static void step_dontneed_all(struct env *e, int step)
{
	madvise((void *)e->base, e->pages * PAGE, MADV_DONTNEED);
	for (size_t i = 0; i < e->pages; i++)
		touched(e, i);
	if (step)
		fill(e);
}

static void step_remap_same_place(struct env *e, int step)
{
	char *p = page_at(e, 300);

	munmap(p, 64 * PAGE);
	if (mmap(p, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p)
		TFAIL(e, "mmap: %m");
	for (int k = 0; k < 64; k++)
		touched(e, 300 + k);
	touch(e, 310 + step);
}

static void setup_two_regions(struct env *e)
{
	region(e, 2048, 0);
	fill(e);
}

/* Page tables move as a whole when both ends are aligned to 2 MiB. */
static void step_mremap_aligned(struct env *e, int step)
{
	char *from = page_at(e, step % 2 ? 1024 : 0), *to = page_at(e, step % 2 ? 0 : 1024);

	if (mremap(from, 1024 * PAGE, 1024 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		TFAIL(e, "mremap: %m");
	if (mmap(from, 1024 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != from)
		TFAIL(e, "mmap: %m");
	for (size_t i = 0; i < e->pages; i++)
		touched(e, i);
}

/* To an address where nothing was mapped when the target was armed. */
static void step_mremap_away(struct env *e, int step)
{
	char *hole = map_at(e->pages * PAGE, CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	(void)step;
	munmap(hole, e->pages * PAGE);
	if (mremap((void *)e->base, e->pages * PAGE, e->pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   hole) != hole)
		TFAIL(e, "mremap: %m");
	e->base = (uintptr_t)hole;
	for (size_t i = 0; i < e->pages; i++)
		touched(e, i);
}

static void step_mremap_pages(struct env *e, int step)
{
	char *from = page_at(e, 10 + step), *to = page_at(e, 1500 + 2 * step);

	/* A page swaps its place with an older one, off every alignment. */
	if (mremap(from, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		TFAIL(e, "mremap: %m");
	if (mmap(from, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != from)
		TFAIL(e, "mmap: %m");
	touched(e, 10 + step);
	touched(e, 1500 + 2 * step);
}

static void step_mremap_dontunmap(struct env *e, int step)
{
	char *to = page_at(e, 1024);

	(void)step;
	munmap(to, 1024 * PAGE);
	if (mremap((void *)e->base, 1024 * PAGE, 1024 * PAGE,
		   MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) != to)
		TSKIP(e, "MREMAP_DONTUNMAP: %m");
	for (size_t i = 0; i < e->pages; i++)
		touched(e, i);
}

/* The VMA grows: VM_SOFTDIRTY comes back on all of it. */
static void setup_growing(struct env *e)
{
	e->pages = 512;
	e->base = (uintptr_t)map_at(4096 * PAGE, CHUNK, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1);
	munmap(page_at(e, 512), (4096 - 512) * PAGE);
	madvise((void *)e->base, e->pages * PAGE, MADV_NOHUGEPAGE);
	fill(e);
}

static void step_grow(struct env *e, int step)
{
	char *end = page_at(e, e->pages);

	if (mmap(end, 512 * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != end)
		TFAIL(e, "mmap: %m");
	madvise(end, 512 * PAGE, MADV_NOHUGEPAGE);
	for (int k = 0; k < 512; k++)
		touched(e, e->pages + k); /* new: it may be reported */
	e->pages += 512;
	touch_some(e, step);
}

/* It grows, and clean pages become writable without a fault, are written, and
 * become read-only again. */
static void step_grow_mprotect(struct env *e, int step)
{
	size_t old = e->pages;

	step_grow(e, step);
	mprotect((void *)e->base, e->pages * PAGE, PROT_READ);
	mprotect((void *)e->base, e->pages * PAGE, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < old; i += 3)
		touch(e, i);
	mprotect((void *)e->base, e->pages * PAGE, PROT_READ);
	mprotect((void *)e->base, e->pages * PAGE, PROT_READ | PROT_WRITE);
}

static void step_brk(struct env *e, int step)
{
	char *p = sbrk(64 * PAGE);

	(void)step;
	memset(p, ++e->sh->stamp, 20 * PAGE); /* the content oracle looks here */
	touch(e, 3);
}

static void use_stack(int depth)
{
	volatile char here[PAGE];

	memset((char *)here, depth, sizeof(here));
	if (depth)
		use_stack(depth - 1);
}

static void step_stack(struct env *e, int step)
{
	use_stack(100 * (step + 1));
	touch(e, 9);
}

static void step_free_pressure(struct env *e, int step)
{
	/* MADV_FREE, then reclaim of exactly these pages: gone without a fault. */
	madvise(page_at(e, 100), 50 * PAGE, MADV_FREE);
	for (int k = 0; k < 50; k++)
		touched(e, 100 + k);
	for (int k = 0; k < 10; k++)
		touch(e, 100 + k);
	madvise(page_at(e, 100), 50 * PAGE, MADV_PAGEOUT);
	touch(e, 300 + step);
}

/* ---- files ------------------------------------------------------------------------------ */

static void setup_private_file(struct env *e)
{
	char name[] = "/tmp/privXXXXXX";
	int fd = mkstemp(name);

	unlink(name);
	for (int i = 0; i < 256; i++) {
		char data[PAGE];

		memset(data, i + 1, sizeof(data));
		if (write(fd, data, sizeof(data)) != sizeof(data))
			TFAIL(e, "write: %m");
	}
	e->priv = (void *)(intptr_t)fd;
	e->pages = 256;
	e->base = (uintptr_t)map_at(256 * PAGE, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	for (size_t i = 0; i < 256; i += 2)
		touch(e, i);
}

static void step_private_file(struct env *e, int step)
{
	touch_some(e, step);
	/* Private pages fall back to the file's content. */
	madvise(page_at(e, 64), 8 * PAGE, MADV_DONTNEED);
	for (int k = 0; k < 8; k++)
		touched(e, 64 + k);
}

static void step_punch_hole(struct env *e, int step)
{
	int fd = (intptr_t)e->priv;
	size_t first = 128 + 16 * step;

	touch(e, 3);
	/* Truncation drops private copies, too. */
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first * PAGE, 8 * PAGE))
		TFAIL(e, "fallocate: %m");
	if (ftruncate(fd, 200 * PAGE) || ftruncate(fd, 256 * PAGE))
		TFAIL(e, "ftruncate: %m");
	for (int k = 0; k < 8; k++)
		touched(e, first + k);
	for (size_t i = 200; i < 256; i++)
		touched(e, i);
}

static void setup_shared(struct env *e)
{
	e->pages = 256;
	e->base = (uintptr_t)mmap(NULL, 256 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fill(e);
}

static void setup_hugetlb(struct env *e)
{
	(void)write_file("/proc/sys/vm/nr_hugepages", "2");
	e->pages = 512;
	e->base = (uintptr_t)mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if ((void *)e->base == MAP_FAILED)
		TSKIP(e, "no hugetlb page: %m");
	fill(e);
}

/* ---- processes ------------------------------------------------------------------------------ */

static void step_fork(struct env *e, int step)
{
	static pid_t children[8];

	/* The child lives on and shares every page; then both write. */
	children[step] = fork();
	if (!children[step]) {
		for (size_t i = 0; i < e->pages; i += 5)
			*(volatile char *)page_at(e, i) = 99;
		for (;;)
			pause();
	}
	touch_some(e, step);
}

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

static void need_swap(struct env *e)
{
	char buf[512];

	if (read_file("/proc/swaps", buf, sizeof(buf)) < 0 || !strchr(buf, '/'))
		TSKIP(e, "no swap: the kernel image has no brd module");
}

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

/* Swap-in in a VMA that grew may give out write permission on a read. */
static void setup_growing_swapped(struct env *e)
{
	need_swap(e);
	setup_growing(e);
	madvise((void *)e->base, e->pages * PAGE, MADV_PAGEOUT);
}

static void step_grow_swap(struct env *e, int step)
{
	volatile char sum = 0;
	size_t old = e->pages;
	pid_t pid;

	step_grow(e, step);
	for (size_t i = 0; i < old; i++)
		sum += *page_at(e, i);
	for (size_t i = 0; i < old; i += 5)
		touch(e, i);
	/* fork takes the write permission away again */
	pid = fork();
	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
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

	setup_filled(e);
	ring_open(e, r);
	e->priv = r;
	iov = (struct iovec){ page_at(e, 500), 16 * PAGE };
	if (syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_BUFFERS, &iov, 1))
		TSKIP(e, "IORING_REGISTER_BUFFERS: %m");
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

/* ---- somebody else uses the soft-dirty bits ---------------------------------------------------------------- */

static void step_clear_refs(struct env *e, int step)
{
	touch_some(e, step);
	if (write_file("/proc/self/clear_refs", "4"))
		TFAIL(e, "clear_refs: %m");
	touch(e, 5);
}

/* ---- O_DIRECT -------------------------------------------------------------------------------------------- */

static void step_o_direct(struct env *e, int step)
{
	int fd = open("/dev/ram1", O_RDWR | O_DIRECT);
	uint64_t *data = (uint64_t *)page_at(e, 900);

	if (fd < 0)
		TSKIP(e, "no /dev/ram1: the kernel image has no brd module");
	data[0] = ++e->sh->stamp;
	touched(e, 900);
	if (pwrite(fd, data, PAGE, 0) != PAGE || pread(fd, page_at(e, 20 + step), PAGE, 0) != PAGE)
		TFAIL(e, "direct I/O: %m");
	close(fd);
	touched(e, 20 + step);
}

static const struct path paths[] = {
	{ "nothing", setup_filled, step_nothing, 2, 0, 0 },
	{ "reads", setup_filled, step_read_only, 2, 0, 0 },
	{ "reads-of-nothing", setup_empty, step_read_only, 2, 0, 0 },
	{ "writes", setup_filled, touch_some, 4, 0, 0 },
	{ "first-writes", setup_empty, touch_some, 4, 0, 0 },
	{ "read-syscall", setup_filled, step_read_syscall, 3, 0, 0 },
	{ "o-direct", setup_filled, step_o_direct, 3, 0, 0 },
	{ "process-vm-writev", setup_filled, step_vm_writev, 3, 0, 0 },
	{ "proc-mem-read-only", setup_read_only, step_proc_mem, 3, 0, 0 },
	{ "ptrace-poke-read-only", setup_read_only, step_ptrace_poke, 3, 0, 0 },
	{ "mprotect", setup_filled, step_mprotect, 3, 0, 0 },
	{ "vfork", setup_filled, step_vfork, 2, 0, 0 },
	{ "clone-vm", setup_filled, step_clone_vm, 2, 0, 0 },
	{ "populate-write", setup_empty, step_populate_write, 3, 0, 0 },
	{ "dontneed", setup_filled, step_dontneed, 4, 0, 0 },
	{ "dontneed-all", setup_filled, step_dontneed_all, 3, 0, 0 },
	{ "remap-same-place", setup_filled, step_remap_same_place, 3, 0, 0 },
	{ "mremap-aligned", setup_two_regions, step_mremap_aligned, 3, 0, 0 },
	{ "mremap-away", setup_filled, step_mremap_away, 3, 0, 0 },
	{ "mremap-pages", setup_two_regions, step_mremap_pages, 4, 0, 0 },
	{ "mremap-dontunmap", setup_two_regions, step_mremap_dontunmap, 2, 0, 0 },
	{ "grow", setup_growing, step_grow, 4, 0, 0 },
	{ "grow-mprotect", setup_growing, step_grow_mprotect, 3, 4096, 0 },
	{ "grow-swap-in-fork", setup_growing_swapped, step_grow_swap, 2, 4096, 0 },
	{ "brk", setup_filled, step_brk, 3, 0, 0 },
	{ "stack", setup_filled, step_stack, 2, 0, 0 },
	{ "madv-free", setup_filled, step_free_pressure, 3, 0, 0 },
	{ "private-file", setup_private_file, step_private_file, 3, 0, 0 },
	{ "punch-hole", setup_private_file, step_punch_hole, 3, 0, 0 },
	{ "shared", setup_shared, touch_some, 2, 256, 0 },
	{ "hugetlb", setup_hugetlb, touch_some, 2, 512, 0 },
	{ "fork", setup_filled, step_fork, 4, 0, 0 },
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
	{ "clear-refs-by-another", setup_filled, step_clear_refs, 3, 1024, 0 },
};

static void check_region(const struct path *p, struct target *t, const struct vnl_result *r,
			 const bool *soft_dirty, int step)
{
	size_t extra = 0;

	for (size_t i = 0; i < t->sh->pages; i++) {
		uintptr_t addr = t->sh->base + i * PAGE;
		bool in = run_covers(r, addr, NULL);

		if (t->sh->touched[i] && !in)
			FAIL("LOST in step %d: the target touched page %zu (%#lx)", step, i, addr);
		if (soft_dirty[i] && !in)
			FAIL("LOST in step %d: page %zu (%#lx) is soft-dirty", step, i, addr);
		extra += in && !t->sh->touched[i];
	}
	if (extra > p->extra_max)
		FAIL("step %d: %zu pages reported that nobody touched (at most %zu)", step, extra,
		     p->extra_max);
}

static void walk_path(const struct path *p)
{
	static bool soft_dirty[REGION_PAGES_MAX];
	struct vnl_result r, arm;
	struct image *before, *after;
	uint32_t session, track;
	struct target t;
	struct nl nl;
	bool vma_sd;

	CHECK(!vnl_open(&nl));
	target_start(&t, p);
	CHECK(!vnl_session(&nl, 0, &session));
	CHECK(!vnl_attach(&nl, session, t.pid, &track));
	CHECK(vnl_arm(&nl, session, &arm, 1) == 1 && arm.epoch == 1 && !arm.flags);
	before = image_take(t.pid);
	for (int step = 0; step < p->steps; step++) {
		memset(t.sh->touched, 0, sizeof(t.sh->touched));
		target_step(&t, step);
		after = image_take(t.pid);
		vma_sd = vma_has_flag(t.pid, t.sh->base, " sd");
		for (size_t i = 0; i < t.sh->pages; i++)
			soft_dirty[i] = !vma_sd && page_soft_dirty(t.pid, t.sh->base + i * PAGE);
		CHECK(vnl_collect(&nl, session, CKPT_COLLECT_REARM, &r, 1) == 1);
		CHECK(r.track == track && r.epoch == 2 + (uint64_t)step);
		CHECK(!(r.flags & (CKPT_RESULT_GONE | CKPT_RESULT_UNARMED | CKPT_RESULT_ALL)));
		CHECK(!vnl_runs(&nl, session, &r));
		runs_check_order(&r);
		image_check(before, after, &r);
		check_region(p, &t, &r, soft_dirty, step);
		free(r.runs);
		image_free(before);
		before = after;
	}
	CHECK(!vnl_detach(&nl, session, 0));
	target_stop(&t);
	image_free(before);
	vnl_close(&nl);
}

static void run_path(const void *arg)
{
	static const char *const modes[] = { "split", "whole", "disable" };
	const struct path *p = arg;

	for (int i = 0; i < (p->flags & PATH_THP ? 3 : 1); i++) {
		CHECK(!write_file("/sys/kernel/ckpt/thp_mode", modes[i]));
		walk_path(p);
	}
}

#define N_PATHS (sizeof(paths) / sizeof(*paths))

const struct path *path_number(size_t i)
{
	return i < N_PATHS ? &paths[i] : NULL;
}

static char names[N_PATHS][64];
static struct test table[N_PATHS + 1];
const struct test *path_table(void)
{
	for (size_t i = 0; i < N_PATHS; i++) {
		snprintf(names[i], sizeof(names[i]), "path/%s", paths[i].name);
		table[i] = (struct test){ names[i], run_path, &paths[i], 0 };
	}
	return table;
}
