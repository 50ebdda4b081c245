/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* memfd: mapped twice, without a descriptor, with one, sealed, read-only, larger than what is mapped. */
#include "../lib/t.h"
#include "vma.h"

#define PAGES 64UL

static int make(const char *name, unsigned flags, uint64_t seed)
{
	int fd = memfd_create(name, flags);
	unsigned char *m;

	VMA_NEED(fd >= 0 && ftruncate(fd, PAGES * PG) == 0);
	m = mmap(NULL, PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	VMA_NEED(m != MAP_FAILED);
	vma_fill(m, PAGES / 2 * PG, seed);
	munmap(m, PAGES * PG);
	return fd;
}

static unsigned char *map(int fd, int prot, int flags, size_t pages, size_t first)
{
	void *p = mmap(NULL, pages * PG, prot, flags, fd, (off_t)(first * PG));

	VMA_NEED(p != MAP_FAILED);
	return p;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	int fd = make("closed", MFD_CLOEXEC, 1);
	unsigned char *a = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED, 16, 0);
	unsigned char *b = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED, 8, 4);
	unsigned char *c = map(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE, 16, 0);
	char line[300];

	vma_fill(c + PG, PG, 11);
	close(fd);

	int open_fd = make("open", MFD_CLOEXEC, 2);
	unsigned char *d = map(open_fd, PROT_READ | PROT_WRITE, MAP_SHARED, 4, 30);
	vma_fill(d + PG, PG, 12);

	int sealed = make("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING, 3);
	VMA_NEED(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0);
	unsigned char *s = map(sealed, PROT_READ, MAP_SHARED, PAGES, 0);
	unsigned char *sp = map(sealed, PROT_READ | PROT_WRITE, MAP_PRIVATE, PAGES, 0);
	vma_fill(sp, PG, 13);

	t_ready();

	t_check(vma_differs(a, 16 * PG, 1) < 0, "memfd without a descriptor");
	vma_fill(a + 5 * PG, PG, 21);
	t_check(vma_differs(b + PG, PG, 21) < 0, "second mapping is of the same object");
	t_check(vma_differs(c + PG, PG, 11) < 0, "private page of a memfd");
	t_check(vma_differs(c + 5 * PG, PG, 21) < 0, "private mapping is of the same object");
	vma_line(a, line, sizeof(line));
	t_check(strstr(line, "/memfd:closed"), "keeps its name: %s", line);

	unsigned char *whole = mmap(NULL, PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED, open_fd, 0);
	struct stat sb;
	t_check(whole != MAP_FAILED, "the descriptor can be mapped");
	t_check(fstat(open_fd, &sb) == 0 && sb.st_size == (off_t)(PAGES * PG), "size");
	t_check(vma_differs(whole, 31 * PG, 2) < 0, "pages nobody had mapped");
	t_check(vma_differs(d + PG, PG, 12) < 0, "mapped page");
	vma_fill(whole + 33 * PG, PG, 22);
	t_check(vma_differs(d + 3 * PG, PG, 22) < 0, "descriptor and mapping are one object");
	t_check(vma_nonzero(whole + 40 * PG, 20 * PG) < 0, "hole");

	t_check(fcntl(sealed, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL),
		"seals: %#x", fcntl(sealed, F_GET_SEALS));
	t_check(vma_differs(s, PAGES / 2 * PG, 3) < 0, "sealed content");
	t_check(vma_differs(sp, PG, 13) < 0, "private page of a sealed memfd");
	t_check(mprotect(s, PG, PROT_READ | PROT_WRITE) < 0, "a sealed memfd cannot become writable");
	t_check(pwrite(sealed, "x", 1, 0) < 0 && errno == EPERM, "a sealed memfd cannot be written");
	return t_done();
}
