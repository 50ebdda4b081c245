// SPDX-License-Identifier: GPL-2.0-only
/* A POSIX message queue: refused by name. */
/* t: refuse=E-UNSUPPORTED "mqueue" */
#include "fd_lib.h"
#include <mqueue.h>

int main(int argc, char **argv)
{
	int fd;

	fd_init(argc, argv);
	char name[32];

	snprintf(name, sizeof(name), "/ckpt-test-%d", getpid());
	fd = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, NULL);
	if (fd < 0)
		t_skip("message queue: %s", strerror(errno));
	(void)mq_unlink(name);

	t_ready();

	t_check(fcntl(fd, F_GETFD) >= 0, "descriptor");
	return t_done();
}
