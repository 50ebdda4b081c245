// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that is moved between guests (tests/vm/nodes): threads write memory
 * and know what each page must hold; another answers questions over TCP.
 *
 * usage: server ADDRESS PORT MIB
 *
 *	"N ask"		"N f(N) W W W": what N maps to, and how much each thread wrote so far
 *	"N verify"	"N ok PAGES" when each page holds what it should, else what is wrong
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "numbers.h"

#define PAGE 4096u
#define WORDS (PAGE / 8)
#define WRITERS 3

struct writer {
	pthread_mutex_t lock;
	uint64_t *area;
	uint32_t *want; /* the number that each page was filled with; 0: zeros */
	size_t pages;
	uint64_t seed;
	atomic_ulong wrote;
};

static struct writer writers[WRITERS];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void fill(uint64_t *page, uint32_t n)
{
	uint64_t v = n;

	for (size_t i = 0; i < WORDS; i++, v = number_next(v))
		page[i] = n ? v : 0;
}

static bool holds(const uint64_t *page, uint32_t n)
{
	uint64_t v = n;

	for (size_t i = 0; i < WORDS; i++, v = number_next(v))
		if (page[i] != (n ? v : 0))
			return false;
	return true;
}

/* A page every 20 ms, less than an emulated link carries; now and then one becomes zero or is given back. */
static void *writer_run(void *arg)
{
	struct timespec ts = { .tv_nsec = 20000000 };
	struct writer *w = arg;

	for (;;) {
		pthread_mutex_lock(&w->lock);
		for (int k = 0; k < 1; k++) {
			size_t p;

			w->seed = number_next(w->seed);
			p = (w->seed >> 20) % w->pages;
			w->want[p] = w->seed >> 60 ? (uint32_t)(w->seed >> 24) | 1 : 0;
			if (!w->want[p] && w->seed >> 59 & 1)
				madvise(w->area + p * WORDS, PAGE, MADV_DONTNEED);
			else
				fill(w->area + p * WORDS, w->want[p]);
			w->wrote++;
		}
		pthread_mutex_unlock(&w->lock);
		(void)nanosleep(&ts, NULL);
	}
	return NULL;
}

static int verify(char *out, size_t size)
{
	size_t n = 0;

	for (int i = 0; i < WRITERS; i++) {
		struct writer *w = &writers[i];
		size_t p = 0;

		pthread_mutex_lock(&w->lock);
		while (p < w->pages && holds(w->area + p * WORDS, w->want[p]))
			p++;
		pthread_mutex_unlock(&w->lock);
		if (p < w->pages)
			return snprintf(out, size, "page %zu of thread %d should be %#x and begins with %#lx", p, i,
					w->want[p], w->area[p * WORDS]);
		n += p;
	}
	return snprintf(out, size, "ok %zu", n);
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	FILE *f = fdopen(fd, "r");
	char line[256], word[16], answer[200];
	unsigned long n;

	if (!f)
		die("fdopen");
	while (fgets(line, sizeof(line), f) && sscanf(line, "%lu %15s", &n, word) == 2) {
		if (!strcmp(word, "verify"))
			verify(answer, sizeof(answer));
		else
			snprintf(answer, sizeof(answer), "%lu %lu %lu %lu", number_of(n), writers[0].wrote,
				 writers[1].wrote, writers[2].wrote);
		if (dprintf(fd, "%lu %s\n", n, answer) < 0)
			break;
	}
	fclose(f);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	pthread_t th;

	if (argc != 4 || inet_pton(AF_INET, argv[1], &sa.sin_addr) != 1)
		return 2;
	for (int i = 0; i < WRITERS; i++) {
		struct writer *w = &writers[i];

		pthread_mutex_init(&w->lock, NULL);
		w->pages = (size_t)atoi(argv[3]) * 256 / WRITERS;
		w->seed = 17 + i;
		w->area = mmap(NULL, w->pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		w->want = calloc(w->pages, sizeof(*w->want));
		if (w->area == MAP_FAILED || !w->want)
			die("memory");
		for (size_t p = 0; p < w->pages; p++) {
			w->want[p] = p % 5 ? p + 1 : 0;
			if (w->want[p])
				fill(w->area + p * WORDS, w->want[p]);
		}
	}
	sa.sin_port = htons(atoi(argv[2]));
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(s, (struct sockaddr *)&sa, sizeof(sa)) || listen(s, 16))
		die("listen");
	for (int i = 0; i < WRITERS; i++)
		if (pthread_create(&th, NULL, writer_run, &writers[i]))
			die("thread");
	for (;;) {
		int c = accept4(s, NULL, NULL, SOCK_CLOEXEC);

		if (c < 0 || pthread_create(&th, NULL, serve, (void *)(intptr_t)c) || pthread_detach(th))
			die("accept");
	}
}
