/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Writes all of its memory round after round, as fast as it can, each page once a round and in
 * order. At any instant there is at most one place where the round changes; so a copy that was
 * not made at one instant shows itself when the program goes on in it.
 */
#include "../lib/t.h"
#include <sys/mman.h>

#define PAGES 24576UL /* 96 MiB */
#define WORDS 512

static volatile uint64_t *mem;
static size_t hot = PAGES; /* those that are written, from the first on: the second argument */
static _Atomic bool stop;
static _Atomic uint64_t torn, rounds;

static void *writer(void *arg)
{
	uint64_t round = rounds;

	while (!stop) {
		for (size_t i = 0; i < hot && !stop; i++) {
			size_t w = i * WORDS + (round % WORDS);

			/* the word that the last round wrote, and the first one */
			if (mem[i * WORDS] != round) {
				torn++;
				return arg;
			}
			mem[w] = mem[i * WORDS] + 1;
			mem[i * WORDS] = round + 1;
		}
		round++;
		rounds = round;
	}
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t th;
	uint64_t before;

	t_init(argc, argv);
	if (argc > 2)
		hot = strtoul(argv[2], NULL, 10);
	mem = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t_check((void *)mem != MAP_FAILED, "memory");
	madvise((void *)mem, PAGES * 4096, MADV_NOHUGEPAGE);
	for (size_t i = hot; i < PAGES; i++)
		mem[i * WORDS] = i;
	th = t_thread(writer, NULL);
	t_until(rounds > 3, "the first rounds");
	t_ready();
	before = rounds;
	t_until(rounds > before + 3 || torn, "rounds go on");
	stop = true;
	t_zero(pthread_join(th, NULL));
	for (size_t i = hot; i < PAGES; i++)
		t_check(mem[i * WORDS] == i, "page %zu, which nobody writes, is %lu", i, mem[i * WORDS]);
	t_check(torn == 0, "the memory is that of one instant");
	return t_done();
}
