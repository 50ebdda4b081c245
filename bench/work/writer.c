/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A program that writes all the time: writer REPORT MIB PAGES [BYTES [shared]]; PAGES pages a second, anywhere
 * in its memory, which is shared memory or not, BYTES of each (default: all). Every page holds a number and what follows from it, so that
 * a page that came from another moment shows.
 */
#include "beat.h"
#include <pthread.h>
#include <sys/mman.h>

#define WORDS 512u

static uint64_t *mem;
static uint32_t *want; /* times that each page was written */
static size_t npages, rate, bytes = 4096;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t word(size_t page, size_t i, uint32_t n)
{
	uint64_t x = (page * WORDS + i + 1) * 0x9e3779b97f4a7c15u + (i * 8 < bytes ? n : 0);

	return x ^ (x >> 31);
}

static void fill(size_t page, size_t len)
{
	for (size_t i = 0; i * 8 < len; i++)
		mem[page * WORDS + i] = word(page, i, want[page]);
}

static bool verify(void)
{
	bool right = true;

	pthread_mutex_lock(&lock);
	for (size_t p = 0; p < npages; p += 7)
		for (size_t i = 0; i < WORDS; i += 73)
			right &= mem[p * WORDS + i] == word(p, i, want[p]);
	pthread_mutex_unlock(&lock);
	return right;
}

static void *writer(void *arg)
{
	uint64_t x = 88172645463325252u, begin = beat_ns(), done = 0;

	(void)arg;
	for (;;) {
		const struct timespec tick = { 0, 500000 };
		uint64_t due = (beat_ns() - begin) / 1000 * rate / 1000000;

		/* What it missed while it stood still is not made up for. */
		if (due > done + rate / 50 + 1)
			begin += (due - done) * 1000000000u / (rate + 1), due = done;
		for (; done < due; done++) {
			size_t page;

			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			page = (size_t)(x >> 11) % npages;
			pthread_mutex_lock(&lock);
			want[page]++;
			fill(page, bytes);
			pthread_mutex_unlock(&lock);
		}
		nanosleep(&tick, NULL);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc < 4 || argc > 6)
		return 2;
	npages = (size_t)atol(argv[2]) << 8;
	rate = (size_t)atol(argv[3]);
	if (argc > 4)
		bytes = (size_t)atol(argv[4]);
	mem = mmap(NULL, npages * 4096, PROT_READ | PROT_WRITE,
		   MAP_ANONYMOUS | (argc > 5 ? MAP_SHARED : MAP_PRIVATE), -1, 0);
	want = calloc(npages, sizeof(*want));
	if (mem == MAP_FAILED || !want || !npages)
		return 1;
	for (size_t p = 0; p < npages; p++)
		fill(p, 4096);
	beat_init();
	if (rate && pthread_create(&thread, NULL, writer, NULL))
		return 1;
	beat_run(argv[1], verify);
}
