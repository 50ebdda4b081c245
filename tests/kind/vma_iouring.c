/* SPDX-License-Identifier: GPL-2.0-only */
/* t: refuse=E-UNSUPPORTED "io_uring" */
/* An io_uring cannot be saved yet: refused by name, and the program goes on. */
#include "../lib/t.h"
#include "vma.h"
#include <linux/io_uring.h>

int main(int argc, char **argv)
{
	t_init(argc, argv);

	struct io_uring_params p = { 0 };
	int fd = (int)syscall(SYS_io_uring_setup, 8, &p);

	if (fd < 0)
		t_skip("io_uring: %s", strerror(errno));
	size_t len = p.sq_off.array + p.sq_entries * sizeof(unsigned);
	unsigned char *sq = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
	VMA_NEED(sq != MAP_FAILED);

	t_ready();

	t_check(*(unsigned *)(sq + p.sq_off.ring_entries) == p.sq_entries, "the ring is there");
	return t_done();
}
