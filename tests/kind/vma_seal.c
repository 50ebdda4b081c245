/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* A sealed mapping (mseal, 6.10) has its content and can still not be changed. */
#include "../lib/t.h"
#include "vma.h"

#ifndef SYS_mseal
#define SYS_mseal 462
#endif

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *p = vma_map_apart(16 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	unsigned char *ro = vma_map_apart(16 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	vma_fill(p, 16 * PG, 1);
	vma_fill(ro, 16 * PG, 2);
	VMA_NEED(mprotect(ro, 16 * PG, PROT_READ) == 0);
	if (syscall(SYS_mseal, p, 8 * PG, 0) < 0)
		t_skip("mseal: %s", strerror(errno));
	VMA_NEED(syscall(SYS_mseal, ro, 16 * PG, 0) == 0);

	t_ready();

	t_check(vma_differs(p, 16 * PG, 1) < 0 && vma_differs(ro, 16 * PG, 2) < 0, "content");
	t_check(munmap(p, PG) < 0 && errno == EPERM, "a sealed page cannot be unmapped");
	t_check(mprotect(ro, PG, PROT_READ | PROT_WRITE) < 0 && errno == EPERM, "nor made writable");
	t_check(munmap(p + 8 * PG, 8 * PG) == 0, "what was not sealed can");
	return t_done();
}
