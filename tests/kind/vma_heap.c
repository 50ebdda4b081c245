/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* The heap: same break, still named, grows and shrinks, malloc goes on. */
#include "../lib/t.h"
#include "vma.h"

int main(int argc, char **argv)
{
	t_init(argc, argv);

	char *blocks[2000], line[300];
	unsigned char *low = sbrk(0);

	VMA_NEED(brk(low + 2 * MIB + 123) == 0);
	vma_fill(low, 2 * MIB, 70);
	for (int i = 0; i < 2000; i++) {
		blocks[i] = malloc(64 + (size_t)i);
		memset(blocks[i], i & 0xff, 64 + (size_t)i);
	}
	unsigned char *high = sbrk(0);

	t_ready();

	t_check(sbrk(0) == high, "the break is %p, was %p", sbrk(0), (void *)high);
	vma_line(low, line, sizeof(line));
	t_check(strstr(line, "[heap]"), "is named a heap: %s", line);
	t_check(vma_differs(low, 2 * MIB, 70) < 0, "content");
	for (int i = 0; i < 2000; i++)
		t_check(blocks[i][0] == (char)(i & 0xff) && blocks[i][63 + i] == (char)(i & 0xff), "block %d", i);
	unsigned char *end = sbrk(0);
	t_check(brk(end + 3 * MIB) == 0 && sbrk(0) == end + 3 * MIB, "grows");
	t_check(vma_nonzero((void *)(((unsigned long)end + 4095) & ~4095UL), 2 * MIB) < 0, "new memory is zero");
	t_check(brk(end) == 0 && sbrk(0) == end, "shrinks");
	for (int i = 0; i < 2000; i += 2)
		free(blocks[i]);
	char *big = malloc(300 * 1000);
	t_check(big != NULL, "malloc goes on");
	memset(big, 1, 300 * 1000);
	free(big);
	return t_done();
}
