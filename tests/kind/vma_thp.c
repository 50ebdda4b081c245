/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* Transparent huge pages: the data is right, and memory that was huge is huge again. */
#include "../lib/t.h"
#include "vma.h"

#define HUGE (2 * MIB)
#define COUNT 8UL

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *raw = vma_map((COUNT + 2) * HUGE, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
	unsigned char *p = (void *)(((unsigned long)raw + HUGE) & ~(HUGE - 1));

	VMA_NEED(mmap(p, COUNT * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
	if (madvise(p, COUNT * HUGE, MADV_HUGEPAGE) < 0)
		t_skip("transparent huge pages: %s", strerror(errno));
	for (unsigned long i = 0; i < COUNT - 2; i++)
		vma_fill(p + i * HUGE, HUGE, i);
	/* one that is mostly zero, one that is a hole */
	vma_fill(p + (COUNT - 2) * HUGE + 100 * PG, PG, 99);
	long huge = vma_kib(p, "AnonHugePages");

	t_ready();

	for (unsigned long i = 0; i < COUNT - 2; i++)
		t_check(vma_differs(p + i * HUGE, HUGE, i) < 0, "huge page %lu", i);
	t_check(vma_differs(p + (COUNT - 2) * HUGE + 100 * PG, PG, 99) < 0, "the one page with data");
	t_check(vma_nonzero(p + (COUNT - 2) * HUGE, 100 * PG) < 0, "zeros before it");
	t_check(!vma_present(p + (COUNT - 1) * HUGE), "the hole is a hole");
	t_check(vma_flag(p, "hg"), "the advice");
	long now = vma_kib(p, "AnonHugePages");
	t_check(huge <= 0 || now >= huge / 2, "%ld KiB are huge, %ld were", now, huge);
	return t_done();
}
