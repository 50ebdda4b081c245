// SPDX-License-Identifier: GPL-2.0-only
/* In the target: memory to write to, and the plainest ways of doing so. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "vm.h"

char *map_at(size_t bytes, size_t align, int prot, int flags, int fd)
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

void region(struct env *e, size_t pages, int extra_flags)
{
	e->pages = pages;
	e->base = (uintptr_t)map_at(pages * PAGE, CHUNK, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1);
	if (!e->base)
		TFAIL(e, "mmap: %m");
	madvise((void *)e->base, pages * PAGE, MADV_NOHUGEPAGE);
}

void fill(struct env *e)
{
	for (size_t i = 0; i < e->pages; i++)
		touch(e, i);
}

char *page_at(struct env *e, size_t i)
{
	return (char *)e->base + i * PAGE;
}

void setup_filled(struct env *e)
{
	region(e, 1024, 0);
	fill(e);
}

void setup_empty(struct env *e)
{
	region(e, 1024, 0);
}

void touch_some(struct env *e, int step)
{
	uint64_t state = step + 1;

	for (int i = 0; i < 60; i++)
		touch(e, rnd(&state) % e->pages);
}

void need_swap(struct env *e)
{
	char buf[512];

	if (read_file("/proc/swaps", buf, sizeof(buf)) < 0 || !strchr(buf, '/'))
		TSKIP(e, "no swap: the kernel image has no brd module");
}
