// SPDX-License-Identifier: GPL-2.0-only
/* Paths: ranges that are dropped, moved, or grow, and come back from swap behind that. */
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

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

/*
 * It grows, clean pages become writable without a write fault (by mprotect, or by a read that brings them in from swap), are
 * written, and then it is merged into a neighbour that did not grow: VM_SOFTDIRTY is gone.
 */
static void setup_neighbour(struct env *e)
{
	e->pages = 1024;
	e->base = (uintptr_t)map_at(4096 * PAGE, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	munmap(page_at(e, 512 + 1024), (4096 - 512 - 1024) * PAGE);
	/* Written before they part: only what has the same anon_vma can be merged again. */
	memset((void *)e->base, 1, 1536 * PAGE);
	madvise((void *)e->base, 512 * PAGE, MADV_DONTDUMP);
	e->base += 512 * PAGE;
}

static void setup_swapped_neighbour(struct env *e)
{
	need_swap(e);
	setup_neighbour(e);
	madvise((void *)e->base, e->pages * PAGE, MADV_PAGEOUT);
}

static void grow_behind(struct env *e)
{
	if (mmap(page_at(e, 1024), 512 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		 -1, 0) == MAP_FAILED)
		TFAIL(e, "mmap: %m");
}

static void merge_before(struct env *e)
{
	/* What grew can go again: nothing is left to see of it. */
	munmap(page_at(e, 1024), 512 * PAGE);
	/* The flags of the merged mapping are those of the one that the call was made for. */
	madvise((char *)e->base - 512 * PAGE, 512 * PAGE, MADV_DODUMP);
}

static void step_merge_mprotect(struct env *e, int step)
{
	grow_behind(e);
	mprotect((void *)e->base, 1024 * PAGE, PROT_READ);
	mprotect((void *)e->base, 1024 * PAGE, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < 1024; i += 3)
		touch(e, i);
	if (step) {
		mprotect((void *)e->base, 512 * PAGE, PROT_READ);
		mprotect((void *)e->base, 512 * PAGE, PROT_READ | PROT_WRITE);
	}
	merge_before(e);
	madvise((char *)e->base - 512 * PAGE, 512 * PAGE, MADV_DONTDUMP);
}

static void step_merge_swap(struct env *e, int step)
{
	volatile char sum = 0;

	(void)step;
	grow_behind(e);
	for (size_t i = 0; i < 1024; i++)
		sum += *page_at(e, i);
	for (size_t i = 0; i < 1024; i += 3)
		touch(e, i);
	merge_before(e);
}

static void step_merge_swap_fork(struct env *e, int step)
{
	pid_t pid;

	step_merge_swap(e, step);
	/* It takes the write permission away again. */
	pid = fork();
	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
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

const struct path path_ranges[] = {
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
	{ "grow-merge-mprotect", setup_neighbour, step_merge_mprotect, 2, 1024, 0 },
	{ "grow-merge-swap-in", setup_swapped_neighbour, step_merge_swap, 1, 1024, 0 },
	{ "grow-merge-swap-in-fork", setup_swapped_neighbour, step_merge_swap_fork, 1, 1024, 0 },
	{ "brk", setup_filled, step_brk, 3, 0, 0 },
	{ "stack", setup_filled, step_stack, 2, 0, 0 },
	{ "madv-free", setup_filled, step_free_pressure, 3, 0, 0 },
	{}
};
