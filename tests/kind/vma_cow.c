/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/*
 * Pages that parent and children share copy-on-write since a fork are one page in memory after a
 * restore too: told from the page frame numbers.
 */
#include "../lib/t.h"
#include "vma.h"

#define PAGES 1024UL
#define KIDS 3

static unsigned char *mem, *file;

static int child_setup(void *arg)
{
	unsigned long me = (unsigned long)arg;

	for (unsigned long i = me; i < PAGES; i += 16)
		vma_fill(mem + i * PG, PG, 7000 + me);
	vma_fill(file + me * PG, PG, 7100 + me);
	return 0;
}

static int child_answer(void *arg)
{
	unsigned long me = (unsigned long)arg;

	for (unsigned long i = 0; i < PAGES; i++) {
		uint64_t seed = i % 16 == me ? 7000 + me : i;

		if (vma_differs(mem + i * PG, PG, seed) >= 0)
			return 1;
	}
	if (vma_differs(file + me * PG, PG, 7100 + me) >= 0)
		return 2;
	if (vma_differs(file + 20 * PG, PG, 7020) >= 0)
		return 3;
	return 0;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	int fd = vma_file(t_path("cow.dat"), 32 * PG, 8);
	pid_t kid[KIDS];
	unsigned long same = 0, all = 0, file_same = 0;

	mem = vma_map_apart(PAGES * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	file = mmap(NULL, 32 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	VMA_NEED(file != MAP_FAILED);
	close(fd);
	for (unsigned long i = 0; i < PAGES; i++)
		vma_fill(mem + i * PG, PG, i);
	vma_fill(file + 20 * PG, PG, 7020);
	for (unsigned long k = 0; k < KIDS; k++)
		kid[k] = vma_child(child_setup, child_answer, (void *)k);
	/* the parent writes after the fork: these are its own now */
	for (unsigned long i = 15; i < PAGES; i += 16)
		vma_fill(mem + i * PG, PG, i);

	t_ready();

	for (unsigned long k = 0; k < KIDS; k++) {
		for (unsigned long i = 0; i < PAGES; i++) {
			if (i % 16 == k || i % 16 == 15)
				continue;
			all++;
			same += (vma_pagemap(getpid(), mem + i * PG) & VMA_PM_PFN) ==
				(vma_pagemap(kid[k], mem + i * PG) & VMA_PM_PFN);
		}
		file_same += (vma_pagemap(getpid(), file + 20 * PG) & VMA_PM_PFN) ==
			     (vma_pagemap(kid[k], file + 20 * PG) & VMA_PM_PFN);
	}
	t_check(same == all, "%lu of %lu pages are shared with the children", same, all);
	t_check(file_same == KIDS, "the changed page of a private file mapping is shared with %lu children", file_same);
	for (unsigned long i = 0; i < PAGES; i++)
		if (vma_differs(mem + i * PG, PG, i) >= 0)
			t_check(false, "page %lu of the parent", i);
	/* a write now must stay with the writer */
	vma_fill(mem + 500 * PG, PG, 9999);
	for (unsigned long k = 0; k < KIDS; k++) {
		int st = vma_child_ask(kid[k]);

		t_check(st == 0, "child %lu has its own content: %d", k, st);
	}
	return t_done();
}
