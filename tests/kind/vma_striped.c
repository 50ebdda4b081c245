/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* More memory than a stripe of the page file, private, shared, and in a memory file that is not mapped; runs begin
 * and end anywhere, and holes stay holes. */
#include "../lib/t.h"
#include "vma.h"
#include <sys/mman.h>

#define SIZE (22 * MIB)
#define OBJECT (11 * MIB)

/* Every 17th page of the private memory was never touched. */
static bool hole(size_t page)
{
	return page % 17 == 5 && page < SIZE / PG / 2;
}

static void fill(unsigned char *mem)
{
	for (size_t p = 0; p < SIZE / PG; p++)
		for (size_t w = p * (PG / 8); !hole(p) && w < (p + 1) * (PG / 8); w++)
			((uint64_t *)mem)[w] = vma_word(3, w);
}

static bool right(const unsigned char *mem)
{
	for (size_t p = 0; p < SIZE / PG; p++)
		for (size_t w = p * (PG / 8); w < (p + 1) * (PG / 8); w++)
			if (((const uint64_t *)mem)[w] != (hole(p) ? 0 : vma_word(3, w)))
				return false;
	return true;
}

int main(int argc, char **argv)
{
	unsigned char *mem, *shared, *back;
	int fd;

	t_init(argc, argv);
	mem = vma_map_apart(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	VMA_NEED(madvise(mem, SIZE, MADV_NOHUGEPAGE) == 0);
	fill(mem);
	shared = vma_map_apart(OBJECT, PROT_READ | PROT_WRITE, MAP_SHARED);
	vma_fill(shared, OBJECT, 4);
	fd = memfd_create("striped", 0);
	VMA_NEED(fd >= 0 && ftruncate(fd, OBJECT) == 0);
	for (size_t done = 0; done < OBJECT;) {
		ssize_t n = pwrite(fd, shared + done, OBJECT - done, (off_t)done);

		VMA_NEED(n > 0);
		done += (size_t)n;
	}

	t_ready();

	t_check(right(mem), "private memory");
	t_check(vma_differs(shared, OBJECT, 4) < 0, "shared memory");
	back = malloc(OBJECT);
	VMA_NEED(back != NULL && pread(fd, back, OBJECT, 0) == (ssize_t)OBJECT);
	t_check(vma_differs(back, OBJECT, 4) < 0, "the memory file");
	return t_done();
}
