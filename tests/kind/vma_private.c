/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* Private anonymous memory: data stays, holes stay holes, zero pages need not be kept. */
#include "../lib/t.h"
#include "vma.h"

#define PAGES 4096UL

enum { HOLE, DATA, ZERO, READ, LAST_BYTE, KINDS };

static unsigned kind_of(unsigned long i)
{
	/* runs of several lengths, so that extents begin and end everywhere */
	return (unsigned)(vma_word(77, i / (1 + i % 7)) % KINDS);
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *p = vma_map_apart(PAGES * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	unsigned char *all = vma_map_apart(PAGES * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	unsigned long holes = 0, kept = 0;
	volatile unsigned char sink;

	madvise(p, PAGES * PG, MADV_NOHUGEPAGE);
	for (unsigned long i = 0; i < PAGES; i++) {
		unsigned char *pg = p + i * PG;

		switch (kind_of(i)) {
		case DATA: vma_fill(pg, PG, i); break;
		case ZERO: *(volatile unsigned char *)pg = 0; break;
		case READ: sink = *pg; (void)sink; break;
		case LAST_BYTE: pg[PG - 1] = 0xa5; break;
		default: break;
		}
	}
	vma_fill(all, PAGES * PG, 4711);

	t_ready();

	for (unsigned long i = 0; i < PAGES; i++)
		if (kind_of(i) == HOLE) {
			holes++;
			kept += !vma_present(p + i * PG);
		}
	t_check(kept == holes, "%lu of %lu holes are still holes", kept, holes);
	for (unsigned long i = 0; i < PAGES; i++) {
		unsigned char *pg = p + i * PG;
		bool ok;

		switch (kind_of(i)) {
		case DATA: ok = vma_differs(pg, PG, i) < 0; break;
		case LAST_BYTE: ok = pg[PG - 1] == 0xa5 && vma_nonzero(pg, PG - 8) < 0; break;
		default: ok = vma_nonzero(pg, PG) < 0; break;
		}
		if (!ok)
			t_check(false, "page %lu of kind %u has its content", i, kind_of(i));
	}
	t_check(vma_differs(all, PAGES * PG, 4711) < 0, "16 MiB of data are unchanged, not at %ld",
		vma_differs(all, PAGES * PG, 4711));
	return t_done();
}
