/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* Guard pages inside a mapping (MADV_GUARD_INSTALL, 6.13): not readable, and can be taken away. */
#include "../lib/t.h"
#include "vma.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *p = vma_map_apart(64 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	vma_fill(p, 64 * PG, 1);
	if (madvise(p, 2 * PG, MADV_GUARD_INSTALL) < 0)
		t_skip("MADV_GUARD_INSTALL: %s", strerror(errno));
	VMA_NEED(madvise(p + 30 * PG, PG, MADV_GUARD_INSTALL) == 0);
	VMA_NEED(madvise(p + 63 * PG, PG, MADV_GUARD_INSTALL) == 0);

	t_ready();

	for (unsigned long i = 0; i < 64; i++) {
		bool guard = i < 2 || i == 30 || i == 63;

		t_check(vma_readable(p + i * PG) == !guard, "page %lu is%s a guard", i, guard ? "" : " not");
		if (!guard)
			t_check(*(uint64_t *)(p + i * PG) == vma_word(1, i * PG / 8), "content of page %lu", i);
	}
	t_check(madvise(p, 64 * PG, MADV_GUARD_REMOVE) == 0 && vma_nonzero(p, 2 * PG) < 0, "guards can be removed");
	return t_done();
}
