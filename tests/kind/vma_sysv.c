/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* System V shared memory: attached twice, read-only, by a child, and marked for removal. */
#include "../lib/t.h"
#include "vma.h"
#include <sys/ipc.h>
#include <sys/shm.h>

#define PAGES 32UL

static unsigned char *named, *gone;

static int child_answer(void *arg)
{
	(void)arg;
	if (vma_differs(named, PG, 601) >= 0)
		return 1;
	if (vma_differs(gone, PG, 602) >= 0)
		return 2;
	vma_fill(named + PG, PG, 603);
	vma_fill(gone + PG, PG, 604);
	return 0;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	int id = shmget(IPC_PRIVATE, PAGES * PG, IPC_CREAT | 0600);
	int id2 = shmget(IPC_PRIVATE, PAGES * PG, IPC_CREAT | 0640);
	struct shmid_ds ds;

	VMA_NEED(id >= 0 && id2 >= 0);
	named = shmat(id, NULL, 0);
	unsigned char *ro = shmat(id, NULL, SHM_RDONLY);
	gone = shmat(id2, NULL, 0);
	VMA_NEED(named != (void *)-1 && ro != (void *)-1 && gone != (void *)-1);
	vma_fill(named + 8 * PG, PG, 608);
	vma_fill(gone + 9 * PG, PG, 609);
	pid_t kid = vma_child(NULL, child_answer, NULL);
	VMA_NEED(shmctl(id2, IPC_RMID, NULL) == 0);

	t_ready();

	t_check(vma_differs(named + 8 * PG, PG, 608) < 0, "content");
	t_check(vma_differs(ro + 8 * PG, PG, 608) < 0, "content through the read-only attachment");
	t_check(vma_differs(gone + 9 * PG, PG, 609) < 0, "content of the segment marked for removal");
	t_check(mprotect(ro, PG, PROT_READ | PROT_WRITE) < 0, "the read-only attachment stays so");
	vma_fill(named, PG, 601);
	vma_fill(gone, PG, 602);
	t_check(vma_differs(ro, PG, 601) < 0, "both attachments are one segment");
	int st = vma_child_ask(kid);
	t_check(st == 0, "the child shares both: %d", st);
	t_check(vma_differs(named + PG, PG, 603) < 0 && vma_differs(gone + PG, PG, 604) < 0, "the child's writes are seen");
	t_check(shmctl(id, IPC_STAT, &ds) == 0 && ds.shm_segsz == PAGES * PG && ds.shm_nattch == 2,
		"segment %d: %lu attachments", id, (unsigned long)ds.shm_nattch);
	t_check(shmctl(id2, IPC_STAT, &ds) == 0 && ds.shm_nattch == 1, "the removed one: %lu attachments",
		(unsigned long)ds.shm_nattch);
	t_check(shmdt(ro) == 0 && shmdt(named) == 0, "can be detached");
	t_check(shmctl(id, IPC_RMID, NULL) == 0, "can be removed");
	return t_done();
}
