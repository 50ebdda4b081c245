// SPDX-License-Identifier: GPL-2.0-only
/* Not a test of its own: a program with ARG MiB at a known place, of which a test changes first words. */
#include "t.h"

#include <sys/mman.h>

#define PAGE 4096ul
#define AT 0x640000000000ul

int main(int argc, char **argv)
{
	size_t pages = (argc > 1 ? strtoul(argv[argc - 1], NULL, 10) : 16) << 8;
	uint64_t *mem;

	t_init(argc, argv);
	mem = mmap((void *)AT, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	t_check(mem != MAP_FAILED, "mmap, errno %d", errno);
	for (size_t i = 0; i < pages; i++)
		mem[i * PAGE / 8 + 1] = t_pattern(i);
	t_ready();
	for (size_t i = 0; i < pages; i++) {
		uint64_t want = i % (pages / 18) || i / (pages / 18) >= 18 ? 0 : 4711;

		if (!t_check(mem[i * PAGE / 8] == want && mem[i * PAGE / 8 + 1] == t_pattern(i), "page %zu: %#lx %#lx", i,
			     (long)mem[i * PAGE / 8], (long)mem[i * PAGE / 8 + 1]))
			break;
	}
	return t_done();
}
