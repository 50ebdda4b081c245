/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* Thousands of mappings: each with its own protection and content, none merged, none lost. */
#include "../lib/t.h"
#include "vma.h"

#define COUNT 20000UL

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *p = vma_map(COUNT * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	unsigned long bad = 0, lines = 0, lo, hi;
	char buf[600], perms[8];

	for (unsigned long i = 0; i < COUNT; i += 3)
		*(unsigned long *)(p + i * PG) = i + 1;
	for (unsigned long i = 0; i < COUNT; i += 2)
		VMA_NEED(mprotect(p + i * PG, PG, PROT_READ) == 0);

	t_ready();

	FILE *f = fopen("/proc/self/maps", "re");
	while (f && fgets(buf, sizeof(buf), f)) {
		if (sscanf(buf, "%lx-%lx %7s", &lo, &hi, perms) != 3 || hi <= (unsigned long)p ||
		    lo >= (unsigned long)p + COUNT * PG)
			continue;
		lines++;
		if (lo > (unsigned long)p && hi < (unsigned long)p + COUNT * PG)
			bad += hi - lo != PG || strcmp(perms, (lo - (unsigned long)p) / PG % 2 ? "rw-p" : "r--p");
	}
	if (f)
		fclose(f);
	t_check(lines >= COUNT - 1 && bad == 0, "%lu mappings, %lu of them wrong", lines, bad);
	for (unsigned long i = 0; i < COUNT; i++) {
		unsigned long v = *(unsigned long *)(p + i * PG);

		if (v != (i % 3 ? 0 : i + 1))
			t_check(false, "page %lu has %lu", i, v);
	}
	return t_done();
}
