// SPDX-License-Identifier: GPL-2.0-only
/* Not a test of its own: many small mappings side by side and with gaps, of a file and of nothing. Each step writes to some for the first time,
 * drops, protects, replaces and moves others. A file FILE N in the test's folder says that step N is done. */
#include "t.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

enum { MAPPINGS = 60, PAGES = 3, PAGE = 4096, OPS = 25 };

static struct patch {
	char *at;
	bool there, of_file;
	int prot;
	uint64_t tag[PAGES]; /* first word of each page; 0: as the file, or zeros */
} patch[MAPPINGS];
static int fd;
static uint64_t seed = 77;

static uint64_t rnd(uint64_t n)
{
	seed = t_pattern(seed);
	return seed % n;
}

static uint64_t of_file(size_t i, size_t page)
{
	return t_pattern(i * PAGES + page + 1);
}

static void lay(size_t i, bool file, int prot)
{
	struct patch *p = &patch[i];

	p->there = true;
	p->of_file = file;
	p->prot = prot;
	memset(p->tag, 0, sizeof(p->tag));
	t_check(mmap(p->at, PAGES * PAGE, prot, MAP_FIXED | MAP_PRIVATE | (file ? 0 : MAP_ANONYMOUS), file ? fd : -1,
		     file ? (off_t)(i * PAGES * PAGE) : 0) == p->at,
		"mapping %zu", i);
}

static void touch(size_t i)
{
	struct patch *p = &patch[i];
	size_t page = rnd(PAGES);

	if (!p->there || !(p->prot & PROT_WRITE))
		return;
	p->tag[page] = rnd(UINT64_MAX) | 1;
	*(uint64_t *)(p->at + page * PAGE) = p->tag[page];
}

static void change(void)
{
	static const int prots[] = { PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC };
	size_t i = rnd(MAPPINGS);
	struct patch *p = &patch[i];

	switch (rnd(8)) {
	case 0:
		lay(i, rnd(2), prots[rnd(3)]);
		break;
	case 1:
		t_sys(munmap(p->at, PAGES * PAGE));
		p->there = false;
		break;
	case 2:
		if (!p->there)
			break;
		t_sys(madvise(p->at, PAGES * PAGE, MADV_DONTNEED));
		memset(p->tag, 0, sizeof(p->tag));
		break;
	case 3:
	case 4:
		if (!p->there)
			break;
		p->prot = prots[rnd(3)];
		t_sys(mprotect(p->at, PAGES * PAGE, p->prot));
		break;
	default:
		touch(i);
	}
}

static void verify(void)
{
	for (size_t i = 0; i < MAPPINGS; i++)
		for (size_t k = 0; patch[i].there && k < PAGES; k++) {
			uint64_t want = patch[i].tag[k] ? patch[i].tag[k] : patch[i].of_file ? of_file(i, k) : 0;
			uint64_t is = *(volatile uint64_t *)(patch[i].at + k * PAGE);

			t_check(is == want, "mapping %zu, page %zu: %llx, not %llx", i, k, (unsigned long long)is,
				(unsigned long long)want);
		}
}

static void step_done(int step)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "step%d", step);
	t_sys(close((int)t_sys(open(t_path(name), O_CREAT | O_WRONLY, 0600))));
}

int main(int argc, char **argv)
{
	char *base;
	sigset_t set;
	int step = 0, sig;

	t_init(argc, argv);
	fd = (int)t_sys(open(t_path("file"), O_CREAT | O_RDWR, 0600));
	t_sys(ftruncate(fd, MAPPINGS * PAGES * PAGE));
	base = mmap(NULL, (size_t)MAPPINGS * (PAGES + 1) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t_check(base != MAP_FAILED, "room");
	t_sys(munmap(base, (size_t)MAPPINGS * (PAGES + 1) * PAGE));
	for (size_t i = 0; i < MAPPINGS; i++) {
		/* Every third one has a gap behind it. */
		patch[i].at = base + (i * PAGES + i / 3) * PAGE;
		for (size_t k = 0; k < PAGES; k++) {
			uint64_t v = of_file(i, k);

			t_sys(pwrite(fd, &v, sizeof(v), (off_t)((i * PAGES + k) * PAGE)));
		}
		lay(i, i % 4 != 3, i % 5 ? PROT_READ | PROT_WRITE : PROT_READ);
	}
	for (size_t i = 0; i < 10; i++)
		touch(i);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGTERM);
	t_zero(sigprocmask(SIG_BLOCK, &set, NULL));
	step_done(0);
	while (!sigwait(&set, &sig) && sig == SIGUSR2) {
		for (int i = 0; i < OPS; i++)
			change();
		step_done(++step);
	}
	verify();
	return t_done();
}
