// SPDX-License-Identifier: GPL-2.0-only
/* A bpf map: refused by name. */
/* t: refuse=E-UNSUPPORTED "bpf" */
#include "fd_lib.h"
#include <linux/bpf.h>

int main(int argc, char **argv)
{
	int fd;

	fd_init(argc, argv);
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 1
	};

	fd = (int)syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));
	if (fd < 0)
		t_skip("bpf: %s", strerror(errno));

	t_ready();

	t_check(fcntl(fd, F_GETFD) >= 0, "descriptor");
	return t_done();
}
