/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A program whose writing is measured: store REPORT MIB seq|random|clustered. When asked it writes one
 * word to every page of its memory, in address order, in random order, or in random order of runs
 * of 64 pages, and reports the nanoseconds that took.
 */
#include "beat.h"
#include <sys/mman.h>

#define RUN 64u

static volatile uint64_t *mem;
static size_t npages;

/* Every number below @n once, @n a power of two: an odd step from anywhere. */
static size_t nth(size_t i, size_t n, uint64_t seed)
{
	return (i * ((n / 8 * 5 + 3) | 1) + seed) & (n - 1);
}

static void pass(const char *how, uint64_t n)
{
	for (size_t i = 0; i < npages; i++) {
		size_t page = i;

		if (how[0] == 'r')
			page = nth(i, npages, n * 7919);
		if (how[0] == 'c')
			page = nth(i / RUN, npages / RUN, n * 7919) * RUN + i % RUN;
		mem[page * 512] = n + page;
	}
}

static bool verify(uint64_t n)
{
	for (size_t p = 0; p < npages; p++)
		if (mem[p * 512] != n + p)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	sigset_t set;
	int sig;

	if (argc != 4)
		return 2;
	npages = (size_t)atol(argv[2]) << 8;
	mem = mmap(NULL, npages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED || !npages || (npages & (npages - 1)))
		return 1;
	pass("seq", 0);
	beat_init();
	beat_report(argv[1], 0, true);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	for (uint64_t n = 1;; n++) {
		uint64_t begin;

		if (sigwait(&set, &sig))
			return 1;
		begin = beat_ns();
		pass(argv[3], n);
		begin = beat_ns() - begin;
		beat_report(argv[1], begin, verify(n));
	}
}
