// SPDX-License-Identifier: GPL-2.0-only
/* Descriptors of other processes. */
#include "kern/getfd.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

int fd_take(int pid, int fd)
{
	auto_fd pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int ret;

	if (pidfd < 0)
		return -errno;
	ret = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	return ret < 0 ? -errno : ret;
}
