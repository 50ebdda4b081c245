/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill */
/* A quarter of a GiB, every word of it checked, beside a thread that goes on reading it. */
#include "../lib/t.h"
#include "vma.h"
#include <pthread.h>

#define SIZE (256 * MIB)

static unsigned char *mem;
static _Atomic bool stop;
static _Atomic unsigned long wrong;

static void *reader(void *arg)
{
	(void)arg;
	for (size_t i = 0; !stop; i = (i + 7919) % (SIZE / PG)) {
		size_t w = i * (PG / 8);

		if (((volatile uint64_t *)mem)[w] != vma_word(5, w))
			wrong++;
		usleep(100);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	pthread_t th;

	mem = vma_map_apart(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	vma_fill(mem, SIZE, 5);
	VMA_NEED(pthread_create(&th, NULL, reader, NULL) == 0);

	t_ready();

	t_check(vma_differs(mem, SIZE, 5) < 0, "every word, not at %ld", vma_differs(mem, SIZE, 5));
	stop = true;
	pthread_join(th, NULL);
	t_check(wrong == 0, "the thread read %lu wrong words", (unsigned long)wrong);
	return t_done();
}
