/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* Mappings of files that have no name any more, private and shared, and whose pages nobody touched. */
#include "../lib/t.h"
#include "vma.h"

#define PAGES 48UL

int main(int argc, char **argv)
{
	t_init(argc, argv);

	int fd = vma_file(t_path("gone.dat"), PAGES * PG, 7);
	unsigned char *priv = mmap(NULL, PAGES * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	unsigned char *sh = mmap(NULL, PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *sh2 = mmap(NULL, 8 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 8 * PG);
	unsigned char *orig = malloc(PAGES * PG);

	VMA_NEED(priv != MAP_FAILED && sh != MAP_FAILED && sh2 != MAP_FAILED && orig);
	vma_fill(orig, PAGES * PG, 7);
	unlink(t_path("gone.dat"));
	close(fd);
	vma_fill(priv + 4 * PG, PG, 44);
	vma_fill(sh + 9 * PG, PG, 45);

	t_ready();

	t_check(vma_differs(priv + 4 * PG, PG, 44) < 0, "private page that was changed");
	t_check(vma_differs(sh + 9 * PG, PG, 45) < 0, "shared page that was changed");
	t_check(vma_differs(sh2 + PG, PG, 45) < 0, "second mapping shows it");
	t_check(vma_differs(priv + 9 * PG, PG, 45) < 0, "private mapping shows it where it was not changed");
	for (unsigned long i = 0; i < PAGES; i++)
		if (i != 4 && i != 9)
			t_check(!memcmp(priv + i * PG, orig + i * PG, PG) && !memcmp(sh + i * PG, orig + i * PG, PG),
				"page %lu of the file", i);
	vma_fill(sh + 10 * PG, PG, 46);
	t_check(vma_differs(sh2 + 2 * PG, PG, 46) < 0, "two shared mappings are still one file");
	t_check(vma_differs(priv + 10 * PG, PG, 46) < 0, "the private mapping is of the same file");
	t_check(access(t_path("gone.dat"), F_OK) < 0, "the file has no name");
	return t_done();
}
