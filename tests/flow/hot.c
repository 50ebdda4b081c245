// SPDX-License-Identifier: GPL-2.0-only
/* Not a test of its own: a program that writes and drops pages of ARG MiB all the time, and knows what must be in them. */
#include "t.h"

#include <sys/mman.h>

#define PAGE 4096ul
#define STEP 512ul

static char *mem;
static uint32_t *want; /* times that each page was written since it was dropped */
static size_t pages;
static atomic_bool stop;

static uint64_t word(size_t page)
{
	return want[page] ? t_pattern((uint64_t)want[page] << 32 | page) : 0;
}

static void *work(void *arg)
{
	uint64_t seed = 88172645463325252u;

	(void)arg;
	for (unsigned long n = 0; !stop; n++) {
		size_t p;

		seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
		p = (seed >> 11) % pages;
		if (n % 61 == 7) {
			want[p] = 0;
			t_check(!madvise(mem + p * PAGE, PAGE, MADV_DONTNEED), "madvise, errno %d", errno);
			continue;
		}
		want[p]++;
		for (size_t i = 0; i < PAGE; i += STEP)
			*(uint64_t *)(mem + p * PAGE + i) = word(p);
		if (n % 64 == 0)
			(void)nanosleep(&(struct timespec) { .tv_nsec = 500000 }, NULL);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t worker;

	pages = (argc > 1 ? strtoul(argv[argc - 1], NULL, 10) : 32) << 8;
	t_init(argc, argv);
	mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	want = calloc(pages, sizeof(*want));
	t_check(mem != MAP_FAILED && want, "memory, errno %d", errno);
	for (size_t p = 0; p < pages; p++) {
		want[p] = 1;
		for (size_t i = 0; i < PAGE; i += STEP)
			*(uint64_t *)(mem + p * PAGE + i) = word(p);
	}
	t_check(!pthread_create(&worker, NULL, work, NULL), "a thread");
	t_ready();
	stop = true;
	t_check(!pthread_join(worker, NULL), "its end");
	for (size_t p = 0; p < pages; p++)
		for (size_t i = 0; i < PAGE; i += STEP) {
			uint64_t is = *(uint64_t *)(mem + p * PAGE + i);

			if (!t_check(is == word(p), "page %zu at %zu: %#lx, written %u times", p, i, (long)is, want[p]))
				return t_done();
		}
	return t_done();
}
