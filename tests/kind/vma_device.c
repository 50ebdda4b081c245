/* SPDX-License-Identifier: GPL-2.0-only */
/* t: refuse=E-UNSUPPORTED "perf_event" */
/* A mapping that belongs to a device or a kernel object is refused by the name of what it is. */
#include "../lib/t.h"
#include "vma.h"
#include <linux/perf_event.h>

int main(int argc, char **argv)
{
	t_init(argc, argv);

	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_DUMMY,
	};
	int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 8);

	if (fd < 0)
		t_skip("perf_event: %s", strerror(errno));
	struct perf_event_mmap_page *m = mmap(NULL, 2 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED)
		t_skip("perf_event ring: %s", strerror(errno));
	close(fd);

	t_ready();

	t_check(m->data_size == PG, "the ring is there");
	return t_done();
}
