/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/*
 * Huge reservations with little in them, as Go, Java and sanitizers make them: 16 TiB without access,
 * 64 GiB without reserve, a few pages used far apart. Cost must follow the pages, not the size.
 */
#include "../lib/t.h"
#include "vma.h"
#include <sys/resource.h>

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *none = vma_map(16 * TIB, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
	unsigned char *lazy = vma_map_apart(64 * GIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);
	char line[300];

	madvise(lazy, 64 * GIB, MADV_NOHUGEPAGE);
	for (unsigned long i = 0; i < 16; i++) {
		unsigned char *p = none + i * TIB + 12345 * PG;

		VMA_NEED(mprotect(p, PG, PROT_READ | PROT_WRITE) == 0);
		vma_fill(p, PG, i);
	}
	for (unsigned long i = 0; i < 64; i++)
		vma_fill(lazy + i * GIB + 77 * PG, PG, 100 + i);

	t_ready();

	for (unsigned long i = 0; i < 16; i++) {
		t_check(vma_differs(none + i * TIB + 12345 * PG, PG, i) < 0, "page at %lu TiB", i);
		t_check(!vma_readable(none + i * TIB + 99 * PG), "the reservation is still there");
	}
	for (unsigned long i = 0; i < 64; i++)
		t_check(vma_differs(lazy + i * GIB + 77 * PG, PG, 100 + i) < 0, "page at %lu GiB", i);
	t_check(vma_flag(none, "nr") && vma_flag(lazy, "nr"), "no reserve");
	vma_line(none + 15 * TIB + 20000 * PG, line, sizeof(line));
	t_check(strstr(line, "---p"), "reserved: %s", line);
	t_check(vma_kib(lazy, "Rss") == 64 * 4, "%ld KiB are in memory", vma_kib(lazy, "Rss"));
	t_check(mprotect(none + 5 * TIB, PG, PROT_READ | PROT_WRITE) == 0 && vma_nonzero(none + 5 * TIB, PG) < 0, "can be used");
	return t_done();
}
