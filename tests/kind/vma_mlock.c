/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* Locked memory: mlock, lock on fault, and mlockall for what will be mapped later. */
#include "../lib/t.h"
#include "vma.h"

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *a = vma_map_apart(16 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	unsigned char *b = vma_map_apart(16 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	unsigned char *c = vma_map_apart(16 * PG, PROT_READ | PROT_WRITE, MAP_SHARED);
	unsigned char *n = vma_map_apart(16 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	pid_t pid = getpid();

	VMA_NEED(mlock(a, 8 * PG) == 0);
	VMA_NEED(syscall(SYS_mlock2, b, 16 * PG, MLOCK_ONFAULT) == 0);
	VMA_NEED(mlock(c, 16 * PG) == 0);
	vma_fill(a, 16 * PG, 1);
	vma_fill(b + 3 * PG, PG, 2);
	vma_fill(c, PG, 3);
	vma_fill(n, PG, 4);
	VMA_NEED(mlockall(MCL_FUTURE) == 0);

	t_ready();

	t_check(vma_flag(a, "lo") && !vma_flag(a + 8 * PG, "lo"), "half a mapping is locked");
	t_check(vma_flag(b, "lo"), "locked on fault");
	t_check(!(vma_pagemap(pid, b + 9 * PG) & VMA_PM_PRESENT), "locked on fault: an untouched page is not there");
	t_check(vma_pagemap(pid, b + 3 * PG) & VMA_PM_PRESENT, "locked on fault: a touched page is");
	t_check(vma_flag(c, "lo") && !vma_flag(n, "lo"), "what was locked and what was not");
	t_check(vma_differs(a, 16 * PG, 1) < 0 && vma_differs(b + 3 * PG, PG, 2) < 0 && vma_differs(c, PG, 3) < 0 &&
		vma_differs(n, PG, 4) < 0, "content");
	unsigned char *later = vma_map_apart(4 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	t_check(vma_flag(later, "lo"), "mlockall holds for a new mapping");
	t_check(vma_pagemap(pid, later + PG) & VMA_PM_PRESENT, "which is there at once");
	t_check(munlockall() == 0, "munlockall");
	later = vma_map_apart(4 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	t_check(!vma_flag(later, "lo"), "and ends it");
	return t_done();
}
