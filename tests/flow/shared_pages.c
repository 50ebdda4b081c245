// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test of its own: a program with shared memory that others write to. Descriptor 50 is a memory
 * file mapped nowhere, 51 one that is mapped, 52 an unlinked file on tmpfs; a child shares anonymous
 * memory with it.
 */
#include "t.h"

#include <sys/mman.h>

#define PAGE 4096ul
#define PAGES 2048ul
#define AT 0x620000000000ul

static void fill(int fd)
{
	uint64_t page[PAGE / 8];

	for (size_t i = 0; i < PAGES; i++) {
		for (size_t w = 0; w < PAGE / 8; w++)
			page[w] = t_pattern(i * 1000 + w);
		t_check(pwrite(fd, page, PAGE, (off_t)(i * PAGE)) == (ssize_t)PAGE, "pwrite");
	}
}

static void check_page(const uint64_t *p, size_t i)
{
	for (size_t w = 1; w < PAGE / 8; w++)
		if (!t_check(p[w] == t_pattern(i * 1000 + w), "page %zu of %p, word %zu", i, (const void *)p, w))
			return;
}

int main(int argc, char **argv)
{
	uint64_t *file, *anon, page[PAGE / 8];
	pid_t child;
	int fd;

	t_init(argc, argv);
	t_sys(dup2((int)t_sys(memfd_create("unmapped", MFD_CLOEXEC)), 50));
	t_sys(dup2((int)t_sys(memfd_create("mapped", MFD_CLOEXEC)), 51));
	fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	t_sys(dup2(fd >= 0 ? fd : (int)t_sys(open(t_path("gone"), O_RDWR | O_CREAT, 0600)), 52));
	(void)unlink(t_path("gone"));
	for (int n = 50; n < 53; n++)
		fill(n);
	file = mmap((void *)AT, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, 51, 0);
	anon = mmap((void *)(AT + PAGES * PAGE), PAGES * PAGE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	t_check(file != MAP_FAILED && anon != MAP_FAILED, "mmap");
	for (size_t i = 0; i < PAGES; i++)
		for (size_t w = 0; w < PAGE / 8; w++)
			anon[i * PAGE / 8 + w] = t_pattern(i * 1000 + w);
	child = t_fork();
	if (!child) {
		sigset_t s;
		int sig;

		sigemptyset(&s);
		sigaddset(&s, SIGTERM);
		t_check(!sigwait(&s, &sig), "sigwait");
		_exit(t_status());
	}
	t_ready();
	/* First words are whatever the test wrote; the rest is as it was. */
	for (size_t i = 0; i < PAGES; i++) {
		for (int n = 50; n < 53; n++) {
			t_check(pread(n, page, PAGE, (off_t)(i * PAGE)) == (ssize_t)PAGE, "pread");
			check_page(page, i);
		}
		check_page(file + i * PAGE / 8, i);
		check_page(anon + i * PAGE / 8, i);
	}
	t_sys(kill(child, SIGTERM));
	t_reap(child, 0);
	return t_done();
}
