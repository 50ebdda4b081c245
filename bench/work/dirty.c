/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A program that writes when it is asked: dirty REPORT MIB PAGES [OTHERS]. After each report it writes
 * PAGES pages, anywhere in its memory, each with a number and what follows from it. Of COUNT many
 * reports every page tells how often it was written, so that one from another moment shows. With
 * OTHERS it shares that memory with so many processes, which have read all of it.
 */
#include "beat.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define WORDS 512u

static uint64_t *mem;
static uint32_t *want; /* times that each page was written */
static size_t npages, each;
static uint64_t seed = 88172645463325252u;

static void fill(size_t page)
{
	for (size_t i = 0; i < WORDS; i++)
		mem[page * WORDS + i] = ((uint64_t)want[page] << 40 | page << 9 | i) * 0x9e3779b97f4a7c15u;
}

static bool verify_and_write(void)
{
	bool right = true;

	for (size_t p = 0; p < npages; p += 7)
		right &= mem[p * WORDS + 73] ==
			 ((uint64_t)want[p] << 40 | p << 9 | 73) * 0x9e3779b97f4a7c15u;
	for (size_t n = 0; n < each; n++) {
		seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
		want[(seed >> 11) % npages]++;
		fill((size_t)(seed >> 11) % npages);
	}
	return right;
}

static _Noreturn void other(void)
{
	volatile uint64_t sum = 0;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t p = 0; p < npages; p++)
		sum += mem[p * WORDS];
	(void)kill(getppid(), SIGUSR1);
	for (;;)
		(void)pause();
}

int main(int argc, char **argv)
{
	sigset_t set;
	int sig;

	if (argc != 4 && argc != 5)
		return 2;
	npages = (size_t)atol(argv[2]) << 8;
	each = (size_t)atol(argv[3]);
	mem = mmap(NULL, npages * 4096, PROT_READ | PROT_WRITE,
		   MAP_ANONYMOUS | (argc > 4 ? MAP_SHARED : MAP_PRIVATE), -1, 0);
	want = calloc(npages, sizeof(*want));
	if (mem == MAP_FAILED || !want || !npages)
		return 1;
	for (size_t p = 0; p < npages; p++)
		fill(p);
	beat_init();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	for (int i = argc > 4 ? atoi(argv[4]) : 0; i > 0; i--) {
		if (!fork())
			other();
		(void)sigwait(&set, &sig);
	}
	beat_run(argv[1], verify_and_write);
}
