/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* /dev/zero mapped private is memory under a file's name; mapped shared it is shared memory. */
#include "../lib/t.h"
#include "vma.h"

static unsigned char *sh;

static int child_answer(void *arg)
{
	(void)arg;
	if (vma_differs(sh, PG, 2) >= 0)
		return 1;
	vma_fill(sh + PG, PG, 3);
	return 0;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	int fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	unsigned char *p = mmap(NULL, 16 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	sh = mmap(NULL, 16 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	VMA_NEED(p != MAP_FAILED && sh != MAP_FAILED);
	close(fd);
	vma_fill(p + 3 * PG, 2 * PG, 1);
	vma_fill(sh, PG, 2);
	pid_t kid = vma_child(NULL, child_answer, NULL);

	t_ready();

	t_check(vma_differs(p + 3 * PG, 2 * PG, 1) < 0 && vma_nonzero(p, 3 * PG) < 0, "private content");
	int st = vma_child_ask(kid);
	t_check(st == 0, "the child shares: %d", st);
	t_check(vma_differs(sh + PG, PG, 3) < 0, "the child's write is seen");
	vma_fill(p + 8 * PG, PG, 9);
	t_check(vma_differs(p + 8 * PG, PG, 9) < 0, "can be written");
	return t_done();
}
