// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test of its own: a program that counts in a word of each of its pages, the rest of which
 * stays as it is; mapped anew now and then. Arguments after the directory: pages, writes a
 * second, pages mapped anew a second.
 */
#include "t.h"

#include <sys/mman.h>

#define PAGE 4096u
#define WORDS (PAGE / 8)

static atomic_bool stop;
static uint64_t *area, *want;
static size_t npages;
static unsigned long rate, anew;

static uint64_t next(uint64_t v)
{
	return v * 6364136223846793005ull + 1442695040888963407ull;
}

static size_t word_of(size_t page)
{
	return page * 37 % WORDS;
}

static void fill(size_t page)
{
	uint64_t v = page + 1;

	for (size_t i = 0; i < WORDS; i++, v = next(v))
		area[page * WORDS + i] = i == word_of(page) ? want[page] : v;
}

static void *writer(void *arg)
{
	uint64_t x = (uintptr_t)arg | 1;
	struct timespec ts = { .tv_nsec = 1000000 };
	unsigned long due = 0;

	while (!stop) {
		for (unsigned long k = 0; k < rate / 1000 + 1; k++) {
			size_t p;

			x = next(x);
			p = (size_t)(x >> 33) % npages;
			want[p]++;
			area[p * WORDS + word_of(p)]++;
		}
		for (due += anew; due >= 1000; due -= 1000) {
			size_t p;

			x = next(x);
			p = (size_t)(x >> 33) % npages;
			if (mmap(area + p * WORDS, PAGE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
				break;
			fill(p);
		}
		nanosleep(&ts, NULL);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;

	t_init(argc, argv);
	npages = strtoul(argv[2], NULL, 10);
	rate = strtoul(argv[3], NULL, 10);
	anew = strtoul(argv[4], NULL, 10);
	want = calloc(npages, sizeof(*want));
	area = mmap(NULL, npages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t_check(want && area != MAP_FAILED, "memory");
	for (size_t p = 0; p < npages; p++)
		fill(p);
	t_check(!pthread_create(&t, NULL, writer, area), "a thread");
	t_ready();
	stop = true;
	pthread_join(t, NULL);
	for (size_t p = 0; p < npages; p++) {
		uint64_t v = p + 1;

		for (size_t i = 0; i < WORDS; i++, v = next(v)) {
			uint64_t have = area[p * WORDS + i], right = i == word_of(p) ? want[p] : v;

			t_check(have == right, "word %zu of page %zu is %lx, not %lx", i, p, have,
				right);
		}
	}
	return t_done();
}
