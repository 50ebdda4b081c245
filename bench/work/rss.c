/* SPDX-License-Identifier: GPL-2.0-only */
/* A program with memory: rss REPORT MIB; every page differs from every other. */
#include "beat.h"
#include <sys/mman.h>

static uint64_t *mem;
static size_t words;

static uint64_t word(size_t i)
{
	uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u;

	return x ^ (x >> 31);
}

static bool verify(void)
{
	for (size_t i = 0; i < words; i += 509)
		if (mem[i] != word(i))
			return false;
	return true;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	words = (size_t)atol(argv[2]) << 17;
	mem = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < words; i++)
		mem[i] = word(i);
	beat_init();
	beat_run(argv[1], verify);
}
