/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice serial */
/* Pages of hugetlbfs: private, shared with a child, and a memfd of them. */
#include "../lib/t.h"
#include "vma.h"

#define HUGE (2 * MIB)

static unsigned char *shared;

static int child_answer(void *arg)
{
	(void)arg;
	if (vma_differs(shared, HUGE, 801) >= 0)
		return 1;
	vma_fill(shared + HUGE, HUGE, 802);
	return 0;
}

/* Lets the kernel hand out huge pages on demand, which reserves none; returns what was set before. */
static long overcommit(long pages)
{
	char buf[32] = "";
	int fd = open("/proc/sys/vm/nr_overcommit_hugepages", O_RDWR | O_CLOEXEC);
	long old;

	if (fd < 0 || read(fd, buf, sizeof(buf) - 1) <= 0)
		t_skip("hugetlb: /proc/sys/vm/nr_overcommit_hugepages: %s", strerror(errno));
	old = atol(buf);
	snprintf(buf, sizeof(buf), "%ld", pages);
	if (pwrite(fd, buf, strlen(buf), 0) < 0)
		t_skip("hugetlb: no huge page can be reserved: %s", strerror(errno));
	close(fd);
	return old;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	long before = overcommit(64);
	unsigned char *p = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if (p == MAP_FAILED)
		t_skip("hugetlb: %s", strerror(errno));
	shared = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	int fd = memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC);
	VMA_NEED(shared != MAP_FAILED && fd >= 0 && ftruncate(fd, 2 * HUGE) == 0);
	unsigned char *m = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	VMA_NEED(m != MAP_FAILED);
	close(fd);
	vma_fill(p + HUGE, HUGE, 800);
	vma_fill(m, HUGE, 803);
	pid_t kid = vma_child(NULL, child_answer, NULL);

	t_ready();

	t_check(vma_differs(p + HUGE, HUGE, 800) < 0, "private huge page");
	t_check(vma_nonzero(p, HUGE) < 0, "untouched huge page");
	t_check(vma_differs(m, HUGE, 803) < 0, "memfd of huge pages");
	vma_fill(shared, HUGE, 801);
	int st = vma_child_ask(kid);
	t_check(st == 0, "the child shares: %d", st);
	t_check(vma_differs(shared + HUGE, HUGE, 802) < 0, "the child's write is seen");
	t_check(vma_flag(p, "ht") && vma_flag(shared, "ht") && vma_flag(m, "ht"), "all are hugetlb");
	t_check(vma_kib(p, "KernelPageSize") == 2048, "page size %ld KiB", vma_kib(p, "KernelPageSize"));
	overcommit(before);
	return t_done();
}
