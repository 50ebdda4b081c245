/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/*
 * Shared anonymous memory stays one object: between processes, between two mappings of one process,
 * and also where a part of it is mapped by nobody but one child.
 */
#include "../lib/t.h"
#include "vma.h"

#define PAGES 256UL


static unsigned char *mem;

static int child_setup(void *arg)
{
	(void)arg;
	vma_fill(mem + 5 * PG, PG, 1005);
	return 0;
}

static int child_answer(void *arg)
{
	(void)arg;
	if (vma_differs(mem + 4 * PG, PG, 1004) >= 0)
		return 1;
	if (vma_differs(mem + 5 * PG, PG, 1005) >= 0)
		return 2;
	if (vma_differs(mem + 6 * PG, PG, 2006) >= 0)
		return 3; /* written by the parent after the restore */
	if (vma_differs(mem + 100 * PG, 100 * PG, 1100) >= 0)
		return 4; /* the parent has this part unmapped */
	vma_fill(mem + 7 * PG, PG, 2007);
	return 0;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	mem = vma_map_apart(PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED);
	vma_fill(mem + 4 * PG, PG, 1004);
	vma_fill(mem + 100 * PG, 100 * PG, 1100);
	pid_t kid = vma_child(child_setup, child_answer, NULL);
	/* old length 0 makes a second mapping of the same object */
	unsigned char *twin = mremap(mem + 4 * PG, 0, 8 * PG, MREMAP_MAYMOVE);
	unsigned char *other = vma_map_apart(8 * PG, PROT_READ | PROT_WRITE, MAP_SHARED);
	char a[300], b[300];

	VMA_NEED(twin != MAP_FAILED);
	VMA_NEED(munmap(mem + 100 * PG, 100 * PG) == 0);
	vma_fill(other, PG, 3000);

	t_ready();

	t_check(vma_differs(mem + 4 * PG, PG, 1004) < 0, "own page");
	t_check(vma_differs(mem + 5 * PG, PG, 1005) < 0, "page written by the child");
	t_check(vma_differs(twin, PG, 1004) < 0, "second mapping");
	t_check(vma_differs(other, PG, 3000) < 0, "another object");
	vma_fill(mem + 6 * PG, PG, 2006);
	t_check(vma_differs(twin + 2 * PG, PG, 2006) < 0, "second mapping shows a write");
	int st = vma_child_ask(kid);
	t_check(st == 0, "the child sees the same memory: %d", st);
	t_check(vma_differs(mem + 7 * PG, PG, 2007) < 0, "the child's write is seen");
	t_check(vma_nonzero(mem + 50 * PG, PG) < 0, "an untouched page is zero");
	vma_line(mem, a, sizeof(a));
	vma_line(twin, b, sizeof(b));
	t_check(strstr(a, "/dev/zero (deleted)") && strstr(b, "/dev/zero (deleted)"), "is anonymous: %s", a);
	return t_done();
}
