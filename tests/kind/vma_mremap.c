/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* Mappings that were moved, grown, shrunk and split: page offsets no longer follow the address. */
#include "../lib/t.h"
#include "vma.h"

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *a = vma_map_apart(32 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	unsigned char *to = vma_map_apart(64 * PG, PROT_NONE, MAP_PRIVATE);
	/* Before there are holes that it could fill. */
	unsigned char *c = vma_map_apart(4 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int fd = vma_file(t_path("moved.dat"), 32 * PG, 10);
	unsigned char *f = mmap(NULL, 32 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	unsigned char *orig = malloc(32 * PG);

	VMA_NEED(f != MAP_FAILED && orig);
	close(fd);
	vma_fill(orig, 32 * PG, 10);
	for (unsigned long i = 0; i < 32; i++)
		vma_fill(a + i * PG, PG, i);
	/* moved out of the middle and grown where it now is */
	unsigned char *b = mremap(a + 8 * PG, 8 * PG, 16 * PG, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	VMA_NEED(b == to);
	vma_fill(b + 10 * PG, PG, 100);
	/* split by protection, by unmapping, and shrunk */
	VMA_NEED(mprotect(a + 20 * PG, 2 * PG, PROT_READ) == 0 && munmap(a + 26 * PG, PG) == 0);
	vma_fill(f + 5 * PG, PG, 200);
	unsigned char *g = mremap(f + 4 * PG, 4 * PG, 4 * PG, MREMAP_MAYMOVE | MREMAP_FIXED, to + 32 * PG);
	VMA_NEED(g == to + 32 * PG);
	VMA_NEED(mremap(f + 8 * PG, 24 * PG, 10 * PG, 0) == f + 8 * PG);
	/* the original stays in place, but empty */
	vma_fill(c, 4 * PG, 300);
	unsigned char *d = mremap(c, 4 * PG, 4 * PG, MREMAP_MAYMOVE | MREMAP_FIXED | 4 /* DONTUNMAP */, to + 48 * PG);

	t_ready();

	for (unsigned long i = 0; i < 32; i++) {
		if (i == 26 || (i >= 8 && i < 16)) {
			t_check(!vma_readable(a + i * PG), "page %lu is not mapped", i);
			continue;
		}
		t_check(vma_differs(a + i * PG, PG, i) < 0, "page %lu that stayed", i);
	}
	for (unsigned long i = 0; i < 8; i++)
		t_check(vma_differs(b + i * PG, PG, i + 8) < 0, "page %lu that moved", i);
	t_check(vma_nonzero(b + 8 * PG, 2 * PG) < 0 && vma_differs(b + 10 * PG, PG, 100) < 0, "what grew");
	t_check(vma_differs(g + PG, PG, 200) < 0 && !memcmp(g, orig + 4 * PG, PG), "moved file pages");
	t_check(!memcmp(f + 8 * PG, orig + 8 * PG, 10 * PG) && !vma_readable(f + 18 * PG), "shrunk file mapping");
	t_check(mprotect(a + 20 * PG, 2 * PG, PROT_READ | PROT_WRITE) == 0, "split can be joined");
	a[20 * PG] ^= 1;
	if (d != MAP_FAILED)
		t_check(vma_differs(d, 4 * PG, 300) < 0 && vma_nonzero(c, 4 * PG) < 0, "moved, the source left empty");
	/* and they can be moved again */
	unsigned char *again = mremap(b, 16 * PG, 16 * PG, MREMAP_MAYMOVE | MREMAP_FIXED, to + 16 * PG);
	t_check(again == to + 16 * PG && vma_differs(again, PG, 8) < 0, "can be moved again");
	return t_done();
}
