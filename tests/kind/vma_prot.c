/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* Every protection a mapping can have, with data behind each, PROT_NONE included. */
#include "../lib/t.h"
#include "vma.h"

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *p[8][2];
	char before[16][300], line[300];

	for (int shared = 0; shared < 2; shared++)
		for (int prot = 0; prot < 8; prot++) {
			unsigned char *m = vma_map_apart(3 * PG, PROT_READ | PROT_WRITE,
							 shared ? MAP_SHARED : MAP_PRIVATE);

			vma_fill(m, PG, (uint64_t)prot);
			vma_fill(m + 2 * PG, PG, (uint64_t)prot + 50);
			VMA_NEED(mprotect(m, 3 * PG, prot) == 0);
			p[prot][shared] = m;
			vma_line(m, before[shared * 8 + prot], sizeof(line));
		}

	t_ready();

	for (int shared = 0; shared < 2; shared++)
		for (int prot = 0; prot < 8; prot++) {
			unsigned char *m = p[prot][shared];

			t_check(vma_line(m, line, sizeof(line)), "prot %d is mapped", prot);
			t_check(!strncmp(line, before[shared * 8 + prot], 30), "prot %d: \"%s\", was \"%s\"",
				prot, line, before[shared * 8 + prot]);
			t_check(vma_readable(m) == (prot != PROT_NONE), "prot %d is readable or not", prot);
			t_check(mprotect(m, 3 * PG, PROT_READ | PROT_WRITE) == 0, "prot %d can be changed", prot);
			t_check(vma_differs(m, PG, (uint64_t)prot) < 0, "prot %d: first page", prot);
			t_check(vma_nonzero(m + PG, PG) < 0, "prot %d: untouched page", prot);
			t_check(vma_differs(m + 2 * PG, PG, (uint64_t)prot + 50) < 0, "prot %d: last page", prot);
		}
	return t_done();
}
