/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* Mappings of files on a tmpfs: with their name, without it, and shared with a child. */
#include "../lib/t.h"
#include "vma.h"
#include <sys/random.h>

#define PAGES 32UL

static unsigned char *named, *gone;

/* /dev/shm is everybody's: a pid alone is not unique there */
static unsigned long long nonce(void)
{
	unsigned long long n;

	VMA_NEED(getrandom(&n, sizeof(n), 0) == sizeof(n));
	return n;
}

static int child_answer(void *arg)
{
	(void)arg;
	if (vma_differs(named, PG, 501) >= 0)
		return 1;
	if (vma_differs(gone, PG, 502) >= 0)
		return 2;
	vma_fill(named + PG, PG, 503);
	vma_fill(gone + PG, PG, 504);
	return 0;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	char path[64];
	struct stat sb;
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/ckpt-vma-tmpfs-%d-%llx", getpid(), nonce());
	fd = vma_file(path, PAGES * PG, 50);
	named = mmap(NULL, PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *priv = mmap(NULL, PAGES * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	VMA_NEED(named != MAP_FAILED && priv != MAP_FAILED);
	vma_fill(priv + 2 * PG, PG, 505);
	close(fd);

	char path2[80];
	snprintf(path2, sizeof(path2), "%s-gone", path);
	fd = vma_file(path2, PAGES * PG, 51);
	gone = mmap(NULL, PAGES * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	VMA_NEED(gone != MAP_FAILED);
	unlink(path2);
	close(fd);
	pid_t kid = vma_child(NULL, child_answer, NULL);

	t_ready();

	vma_fill(named, PG, 501);
	vma_fill(gone, PG, 502);
	int st = vma_child_ask(kid);
	t_check(st == 0, "the child shares both files: %d", st);
	t_check(vma_differs(named + PG, PG, 503) < 0 && vma_differs(gone + PG, PG, 504) < 0, "the child's writes are seen");
	t_check(vma_differs(priv + 2 * PG, PG, 505) < 0, "private page");
	t_check(vma_differs(priv, PG, 501) < 0, "private mapping of the same file");
	t_check(stat(path, &sb) == 0 && sb.st_size == (off_t)(PAGES * PG), "the file is there");
	t_check(access(path2, F_OK) < 0, "the file without a name got none");
	unlink(path);
	return t_done();
}
