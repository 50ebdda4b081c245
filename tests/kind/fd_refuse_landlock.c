// SPDX-License-Identifier: GPL-2.0-only
/* A Landlock ruleset: refused by name. */
/* t: refuse=E-UNSUPPORTED "landlock" */
#include "fd_lib.h"
#include <linux/landlock.h>

int main(int argc, char **argv)
{
	int fd;

	fd_init(argc, argv);
	struct landlock_ruleset_attr attr = { .handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE };

	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (fd < 0)
		t_skip("landlock: %s", strerror(errno));

	t_ready();

	t_check(fcntl(fd, F_GETFD) >= 0, "descriptor");
	return t_done();
}
