// SPDX-License-Identifier: GPL-2.0-only
/* Not a test of its own: a program with one page, always at the same place, that is another mapping after each SIGUSR2. A file
 * "stepN" in the test's folder says that step N is done. */
#include "t.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

enum { PAGE = 4096 };

static const struct {
	int prot, flags; /* flags 0: what is there stays */
	const char *file, *name;
	off_t at;
} steps[] = {
	{ PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, NULL, 0 },
	{ PROT_READ, 0, NULL, NULL, 0 },
	{ PROT_READ | PROT_WRITE | PROT_EXEC, 0, NULL, NULL, 0 },
	{ PROT_READ, MAP_PRIVATE, "one", NULL, 0 },
	{ PROT_READ, MAP_PRIVATE, "one", NULL, PAGE },
	{ PROT_READ, MAP_PRIVATE, "two", NULL, PAGE },
	{ PROT_READ, MAP_SHARED, "two", NULL, PAGE },
	{ PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, "first", 0 },
	{ PROT_READ | PROT_WRITE, 0, NULL, "second", 0 },
	{ PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, NULL, NULL, 0 },
	{ PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, NULL, 0 },
};
enum { STEPS = T_ARRAY_SIZE(steps) };

static uint64_t *page, want;
static bool named = true;

static void make(const char *name)
{
	int fd = (int)t_sys(open(t_path(name), O_RDWR | O_CREAT, 0600));

	for (uint64_t i = 0; i < 2; i++) {
		uint64_t block[PAGE / 8] = { t_pattern(i + (uint64_t)name[0]) };

		t_check(write(fd, block, PAGE) == PAGE, "write");
	}
	t_sys(close(fd));
}

static void step(int n)
{
	int fd = steps[n].file ? (int)t_sys(open(t_path(steps[n].file), O_RDWR)) : -1;

	if (!steps[n].flags)
		t_sys(mprotect(page, PAGE, steps[n].prot));
	else
		t_check(mmap(page, PAGE, steps[n].prot, steps[n].flags | MAP_FIXED, fd, steps[n].at) == page, "map");
	if (fd >= 0)
		t_sys(close(fd));
	if (steps[n].name)
		named &= !prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, page, PAGE, steps[n].name);
	if (steps[n].file)
		want = t_pattern((uint64_t)(steps[n].at / PAGE) + (uint64_t)steps[n].file[0]);
	else if (steps[n].prot & PROT_WRITE)
		*page = want = t_pattern((uint64_t)n);
}

static void verify(int n)
{
	char maps[65536], perms[8], line[256], *at;
	unsigned long start, offset;
	bool shared = false;

	/* Since when it has been that. */
	for (int i = 0; i <= n; i++)
		shared = steps[i].flags ? steps[i].flags & MAP_SHARED : shared;
	t_check(*page == want, "what is there");
	t_check(t_slurp("/proc/self/maps", maps, sizeof(maps)) > 0, "maps");
	(void)snprintf(line, sizeof(line), "%lx-", (unsigned long)page);
	at = strstr(maps, line);
	if (!t_check(at && sscanf(at, "%lx-%*x %7s %lx", &start, perms, &offset) == 3, "a mapping of its own"))
		return;
	t_check((perms[0] == 'r') == !!(steps[n].prot & PROT_READ) && (perms[1] == 'w') == !!(steps[n].prot & PROT_WRITE) &&
			(perms[2] == 'x') == !!(steps[n].prot & PROT_EXEC) && (perms[3] == 's') == shared,
		"step %d: %s", n, perms);
	at[strcspn(at, "\n")] = 0;
	if (steps[n].file)
		t_check(offset == (unsigned long)steps[n].at && strstr(at, steps[n].file), "step %d: %s", n, at);
	if (named && steps[n].name)
		t_check(strstr(at, steps[n].name), "step %d: %s", n, at);
}

int main(int argc, char **argv)
{
	char name[32];
	sigset_t set;
	int n = 0, sig;

	t_init(argc, argv);
	make("one");
	make("two");
	/* Nothing that it could become one with. */
	page = (uint64_t *)(void *)((char *)mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + PAGE);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGTERM);
	t_zero(sigprocmask(SIG_BLOCK, &set, NULL));
	do {
		step(n);
		(void)snprintf(name, sizeof(name), "step%d", n);
		t_sys(close((int)t_sys(open(t_path(name), O_CREAT | O_WRONLY, 0600))));
		t_zero(sigwait(&set, &sig));
	} while (sig == SIGUSR2 && ++n < STEPS);
	verify(n);
	return t_done();
}
