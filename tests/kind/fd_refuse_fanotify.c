// SPDX-License-Identifier: GPL-2.0-only
/* A fanotify group: refused by name. */
/* t: refuse=E-UNSUPPORTED "fanotify" */
#include "fd_lib.h"
#include <sys/fanotify.h>

int main(int argc, char **argv)
{
	int fd;

	fd_init(argc, argv);
	fd = (int)syscall(SYS_fanotify_init, FAN_CLASS_NOTIF, O_RDONLY);
	if (fd < 0)
		t_skip("fanotify: %s", strerror(errno));

	t_ready();

	t_check(fcntl(fd, F_GETFD) >= 0, "descriptor");
	return t_done();
}
