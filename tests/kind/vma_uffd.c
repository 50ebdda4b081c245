/* SPDX-License-Identifier: GPL-2.0-only */
/* t: refuse=E-UNSUPPORTED "userfaultfd" */
/* A userfaultfd cannot be saved yet: refused by name, and the program goes on. */
#include "../lib/t.h"
#include "vma.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	t_init(argc, argv);

	unsigned char *m = vma_map_apart(8 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (unsigned long)m, 8 * PG }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0)
		t_skip("userfaultfd: %s", strerror(errno));
	VMA_NEED(ioctl(fd, UFFDIO_REGISTER, &reg) == 0);

	t_ready();

	struct uffdio_zeropage z = { .range = { (unsigned long)m, PG } };
	t_check(ioctl(fd, UFFDIO_ZEROPAGE, &z) == 0, "still registered");
	t_check(m[0] == 0, "page");
	return t_done();
}
