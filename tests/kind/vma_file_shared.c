/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* Shared file mappings: write to the file, at offsets, with the rights of the descriptor they came from. */
#include "../lib/t.h"
#include "vma.h"

#define PAGES 32UL

int main(int argc, char **argv)
{
	t_init(argc, argv);

	int fd = vma_file(t_path("shared.dat"), PAGES * PG, 6);
	int rofd = open(t_path("shared.dat"), O_RDONLY | O_CLOEXEC);
	unsigned char *m = mmap(NULL, PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *half = mmap(NULL, 4 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 12 * PG);
	unsigned char *ro = mmap(NULL, PAGES * PG, PROT_READ, MAP_SHARED, rofd, 0);
	unsigned char *rw_ro = mmap(NULL, PAGES * PG, PROT_READ, MAP_SHARED, fd, 0);
	unsigned char buf[PG];

	VMA_NEED(m != MAP_FAILED && half != MAP_FAILED && ro != MAP_FAILED && rw_ro != MAP_FAILED);
	close(fd);
	close(rofd);
	vma_fill(m + 3 * PG, PG, 33);

	t_ready();

	t_check(vma_differs(m + 3 * PG, PG, 33) < 0, "changed page");
	vma_fill(half, PG, 34);
	t_check(vma_differs(m + 12 * PG, PG, 34) < 0, "mapping at an offset shows the same file");
	t_check(vma_differs(ro + 12 * PG, PG, 34) < 0, "read-only mapping shows the same file");
	t_check(mprotect(ro, PG, PROT_READ | PROT_WRITE) < 0 && errno == EACCES,
		"a mapping of a read-only descriptor cannot become writable");
	t_check(mprotect(rw_ro, PG, PROT_READ | PROT_WRITE) == 0, "a mapping of a writable descriptor can");
	fd = open(t_path("shared.dat"), O_RDONLY | O_CLOEXEC);
	t_check(pread(fd, buf, PG, 3 * PG) == (ssize_t)PG && vma_differs(buf, PG, 33) < 0, "the file has the change");
	t_check(pread(fd, buf, PG, 12 * PG) == (ssize_t)PG && vma_differs(buf, PG, 34) < 0,
		"the file has the change made after");
	return t_done();
}
