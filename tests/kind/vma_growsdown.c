/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* A MAP_GROWSDOWN mapping grows before and after. */
#include "../lib/t.h"
#include "vma.h"

int main(int argc, char **argv)
{
	t_init(argc, argv);

	/* room below it, found by mapping and unmapping */
	unsigned char *room = vma_map(64 * MIB, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
	VMA_NEED(munmap(room, 64 * MIB) == 0);
	unsigned char *top = room + 64 * MIB - PG;
	VMA_NEED(mmap(top, PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0) == top);
	for (int i = 0; i < 16; i++)
		vma_fill(top - (size_t)i * PG, PG, (uint64_t)i);
	char line[300];

	t_ready();

	for (int i = 0; i < 16; i++)
		t_check(vma_differs(top - (size_t)i * PG, PG, (uint64_t)i) < 0, "page %d below the top", i);
	t_check(vma_flag(top, "gd"), "still grows down");
	for (int i = 16; i < 200; i++)
		vma_fill(top - (size_t)i * PG, PG, (uint64_t)i);
	vma_line(top, line, sizeof(line));
	unsigned long lo = strtoul(line, NULL, 16);
	t_check(lo <= (unsigned long)top - 199 * PG, "grew: %s", line);
	t_check(vma_differs(top - 150 * PG, PG, 150) < 0, "content of what grew");
	return t_done();
}
