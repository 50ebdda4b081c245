/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* MAP_DROPPABLE (6.11): the kernel may empty it at any time; the mapping and its flag stay. */
#include "../lib/t.h"
#include "vma.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *p = mmap(NULL, 8 * PG, PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		t_skip("MAP_DROPPABLE: %s", strerror(errno));
	vma_fill(p, 4 * PG, 1);
	bool flag = vma_flag(p, "dp"), wipe = vma_flag(p, "wf");

	t_ready();

	for (unsigned long i = 0; i < 4; i++)
		t_check(vma_nonzero(p + i * PG, PG) < 0 || *(uint64_t *)(p + i * PG) == vma_word(1, i * PG / 8),
			"page %lu is old or zero", i);
	t_check(vma_flag(p, "dp") == flag && vma_flag(p, "wf") == wipe, "flags");
	vma_fill(p, PG, 2);
	return t_done();
}
