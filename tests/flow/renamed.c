// SPDX-License-Identifier: GPL-2.0-only
/* Not a test of its own: a program that has two files mapped and does nothing, while what they are called changes. */
#include "t.h"

#include <sys/mman.h>
#include <sys/stat.h>

enum { BYTES = 8192 };

static uint64_t *map(const char *name, int prot, int flags)
{
	int fd = (int)t_sys(open(t_path(name), O_RDWR | O_CREAT, 0600));
	uint64_t word, *p;

	for (uint64_t i = 0; i < BYTES / sizeof(word); i++) {
		word = t_pattern(i + (uint64_t)flags);
		t_check(write(fd, &word, sizeof(word)) == sizeof(word), "write");
	}
	p = mmap(NULL, BYTES, prot, flags, fd, 0);
	t_check(p != MAP_FAILED, "map %s", name);
	t_sys(close(fd));
	return p;
}

static void verify(const uint64_t *p, int flags)
{
	size_t bad = 0;

	for (uint64_t i = 0; i < BYTES / sizeof(*p); i++)
		bad += p[i] != t_pattern(i + (uint64_t)flags);
	t_check(!bad, "%zu words of %d differ", bad, flags);
}

int main(int argc, char **argv)
{
	uint64_t *shared, *own;

	t_init(argc, argv);
	t_sys(mkdir(t_path("dir"), 0700));
	shared = map("dir/shared", PROT_READ | PROT_WRITE, MAP_SHARED);
	own = map("dir/private", PROT_READ, MAP_PRIVATE);
	t_ready();
	verify(shared, MAP_SHARED);
	verify(own, MAP_PRIVATE);
	/* By this the test finds the file. */
	shared[0] = 4711;
	return t_done();
}
