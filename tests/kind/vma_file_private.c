/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/*
 * A private file mapping: changed pages are ours, the others still come from the file, a page behind
 * the end of the file still cannot be read, and writing never reaches the file.
 */
#include "../lib/t.h"
#include "vma.h"

#define PAGES 64UL

static bool changed(unsigned long i)
{
	return i % 5 == 2 || i == PAGES - 1;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	int fd = vma_file(t_path("private.dat"), PAGES * PG, 5);
	VMA_NEED(ftruncate(fd, (off_t)((PAGES - 1) * PG + 100)) == 0);
	unsigned char *m = mmap(NULL, (PAGES + 2) * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	unsigned char *tail = mmap(NULL, 8 * PG, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 16 * PG);
	unsigned char *ro = mmap(NULL, 4 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	unsigned char *orig = malloc(PAGES * PG), *now = malloc(PAGES * PG);

	VMA_NEED(m != MAP_FAILED && tail != MAP_FAILED && ro != MAP_FAILED && orig && now);
	vma_fill(orig, PAGES * PG, 5);
	memset(now, 0, PAGES * PG);
	for (unsigned long i = 0; i < PAGES; i++)
		if (changed(i))
			vma_fill(m + i * PG, PG, 100 + i);
	/* changed first, then made read-only: still has to be kept */
	vma_fill(ro, PG, 900);
	VMA_NEED(mprotect(ro, 4 * PG, PROT_READ) == 0);
	close(fd);

	t_ready();

	for (unsigned long i = 0; i < PAGES; i++) {
		if (changed(i))
			t_check(vma_differs(m + i * PG, PG, 100 + i) < 0, "changed page %lu", i);
		else
			t_check(!memcmp(m + i * PG, orig + i * PG, PG), "file page %lu", i);
		if (!changed(i))
			t_check(vma_pagemap(getpid(), m + i * PG) & VMA_PM_FILE,
				"page %lu still comes from the file", i);
		else
			t_check(!(vma_pagemap(getpid(), m + i * PG) & VMA_PM_FILE), "page %lu is private", i);
	}
	t_check(!vma_readable(m + PAGES * PG), "a page behind the end of the file is none");
	t_check(!memcmp(tail, orig + 16 * PG, 8 * PG), "mapping at an offset");
	t_check(vma_differs(ro, PG, 900) < 0 && !memcmp(ro + PG, orig + PG, 3 * PG), "read-only with a changed page");
	fd = open(t_path("private.dat"), O_RDONLY | O_CLOEXEC);
	t_check(fd >= 0, "the file can be opened");
	t_check(pread(fd, now, PAGES * PG, 0) == (PAGES - 1) * PG + 100 &&
		!memcmp(now, orig, (PAGES - 1) * PG + 100), "the file has its own content and size");
	m[3 * PG] ^= 1;
	t_check(pread(fd, now, 1, 3 * PG) == 1 && now[0] == orig[3 * PG], "a later write stays private");
	return t_done();
}
