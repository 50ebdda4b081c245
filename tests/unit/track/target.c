// SPDX-License-Identifier: GPL-2.0-only
/* The target: does what a letter says, answers with it. */
#include "track_test.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static void *map_at(char *at, size_t len, int flags, int fd)
{
	void *p = mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | flags, fd, 0);

	if (p == MAP_FAILED)
		_exit(10);
	return p;
}

static void fill(char *at, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE)
		at[i] = 'x';
}

static void do_own_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)BASE, 8 * PAGE },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		_exit(11);
}

/* Anything that changes which pages there are, on a scale of pages or of whole page tables. */
static void go_wild(void)
{
	static unsigned int seed = 815;

	for (int n = 0; n < 12; n++) {
		unsigned int r = (unsigned int)rand_r(&seed), s = (unsigned int)rand_r(&seed);
		size_t page = (r >> 4) % WILD_PAGES, table = page & ~511ul;
		size_t len = r & 8 ? 1 + (s & 31) : 512 * (1 + (s & 1));
		char *at = WILD + (r & 8 ? page : table) * PAGE;

		if ((r & 8 ? page : table) + len > WILD_PAGES)
			len = 1;
		switch (r & 7) {
		case 0:
			madvise(at, len * PAGE, MADV_DONTNEED);
			break;
		case 1: /* read only: zero pages */
			for (size_t i = 0; i < len; i++)
				(void)*(volatile char *)(at + i * PAGE);
			break;
		case 2:
			munmap(at, len * PAGE);
			map_at(at, len * PAGE, MAP_ANONYMOUS, -1);
			break;
		case 3:
			madvise(at, len * PAGE, s & 32 ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
			break;
		case 4: /* dropped as a whole, and one page is back */
			madvise(WILD + table * PAGE, 512 * PAGE, MADV_DONTNEED);
			WILD[page * PAGE] = (char)s;
			break;
		case 5:
			madvise(at, len * PAGE, MADV_FREE);
			break;
		default:
			for (size_t i = 0; i < len && i < 40; i++)
				at[i * PAGE + (s & 1023)] = (char)(s >> 3);
		}
	}
}

static void act(char what, int data)
{
	pid_t pid;

	switch (what) {
	case 'n': /* nothing */
		break;
	case 'w':
		BASE[5 * PAGE] = 'y';
		break;
	case 'd':
		madvise(BASE + 8 * PAGE, 4 * PAGE, MADV_DONTNEED);
		break;
	case 'D':
		madvise(BASE + 8 * PAGE, 4 * PAGE, MADV_DONTNEED);
		BASE[9 * PAGE] = 'y';
		break;
	case 'Z': /* dropped, and read: the zero page shows */
		madvise(BASE + 24 * PAGE, 4 * PAGE, MADV_DONTNEED);
		(void)*(volatile char *)(BASE + 25 * PAGE);
		break;
	case 'm': /* replaced by a mapping at the same place */
		munmap(BASE + 16 * PAGE, 4 * PAGE);
		map_at(BASE + 16 * PAGE, 4 * PAGE, MAP_ANONYMOUS, -1);
		BASE[17 * PAGE] = 'y';
		break;
	case 'M': /* moved, and written there */
		mremap(BASE, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY);
		break;
	case 'B': /* written, and moved back */
		AWAY[7 * PAGE] = 'z';
		mremap(AWAY, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE);
		break;
	case 'p':
		mprotect(BASE, PAGES * PAGE, PROT_READ);
		mprotect(BASE, PAGES * PAGE, PROT_READ | PROT_WRITE);
		BASE[6 * PAGE] = 'y';
		break;
	case 'f':
		pid = fork();
		if (!pid) {
			BASE[1 * PAGE] = 'c';
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		BASE[2 * PAGE] = 'y';
		break;
	case 'r': /* the kernel writes: read(2) */
		if (read(data, BASE + 20 * PAGE, 16) != 16)
			_exit(12);
		break;
	case 'h':
		map_at(HUGE, HUGE_BYTES, MAP_ANONYMOUS, -1);
		madvise(HUGE, HUGE_BYTES, MADV_HUGEPAGE);
		fill(HUGE, HUGE_BYTES);
		break;
	case 'H':
		HUGE[3 * PAGE] = 'y';
		break;
	case 'c':
		(void)madvise(HUGE, HUGE_BYTES, MADV_COLLAPSE);
		HUGE[700 * PAGE] = 'y';
		break;
	case 't': /* two page tables, no huge page */
		map_at(HUGE, HUGE_BYTES, MAP_ANONYMOUS, -1);
		madvise(HUGE, HUGE_BYTES, MADV_NOHUGEPAGE);
		fill(HUGE, HUGE_BYTES);
		break;
	case 's': /* every other page */
		for (size_t i = 0; i < 900; i += 2)
			HUGE[i * PAGE] = 'y';
		break;
	case 'T': /* the second takes the place of the first, as a whole */
		if (mremap(HUGE + HUGE_BYTES / 2, HUGE_BYTES / 2, HUGE_BYTES / 2,
			   MREMAP_MAYMOVE | MREMAP_FIXED, HUGE) != HUGE)
			_exit(15);
		break;
	case 'z': /* the huge zero page */
		madvise(HUGE, HUGE_BYTES / 2, MADV_DONTNEED);
		(void)*(volatile char *)(HUGE + 9 * PAGE);
		break;
	case 'F':
		fill(FILEMAP, 8 * PAGE);
		break;
	case 'G': /* dropped: the file shows again */
		madvise(FILEMAP, 4 * PAGE, MADV_DONTNEED);
		(void)*(volatile char *)(FILEMAP + PAGE);
		FILEMAP[2 * PAGE] = 'y';
		break;
	case 'g': /* the mapping grows */
		map_at(BASE + PAGES * PAGE, 4 * PAGE, MAP_ANONYMOUS, -1);
		fill(BASE + PAGES * PAGE, 4 * PAGE);
		break;
	case 'k': /* guards over pages that existed */
		(void)madvise(BASE + 40 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL);
		break;
	case 'W':
		map_at(WILD, WILD_PAGES * PAGE, MAP_ANONYMOUS, -1);
		fill(WILD, WILD_PAGES / 2 * PAGE);
		break;
	case 'X':
		go_wild();
		break;
	case 'u':
		do_own_uffd();
		break;
	default:
		_exit(13);
	}
}

void target_main(int in, int out, const char *file, const char *self)
{
	int data = open("/dev/zero", O_RDONLY), fd = open(file, O_RDWR);
	char what;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	map_at(BASE, PAGES * PAGE, MAP_ANONYMOUS, -1);
	fill(BASE, PAGES * PAGE);
	map_at(FILEMAP, 8 * PAGE, 0, fd);
	while (read(in, &what, 1) == 1) {
		if (what == 'x') {
			char fds[2][12];

			snprintf(fds[0], sizeof(fds[0]), "%d", in);
			snprintf(fds[1], sizeof(fds[1]), "%d", out);
			execl(self, self, "--target", fds[0], fds[1], file, NULL);
			_exit(14);
		}
		act(what, data);
		if (write(out, &what, 1) != 1)
			break;
	}
	_exit(0);
}
