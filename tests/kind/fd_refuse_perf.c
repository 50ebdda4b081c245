// SPDX-License-Identifier: GPL-2.0-only
/* A performance counter: refused by name. */
/* t: refuse=E-UNSUPPORTED "perf" */
#include "fd_lib.h"
#include <linux/perf_event.h>

int main(int argc, char **argv)
{
	int fd;

	fd_init(argc, argv);
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE,
					.size = sizeof(attr),
					.config = PERF_COUNT_SW_TASK_CLOCK,
					.disabled = 1 };

	fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	if (fd < 0)
		t_skip("perf_event_open: %s", strerror(errno));

	t_ready();

	t_check(fcntl(fd, F_GETFD) >= 0, "descriptor");
	return t_done();
}
