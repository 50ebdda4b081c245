// SPDX-License-Identifier: GPL-2.0-only
/* Descriptors of other processes. */
#include "kern/getfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* Linux 6.9 */
#endif

int fd_holder(int pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	/* Not the number of a first thread. */
	if (fd < 0 && (errno == EINVAL || errno == ENOENT))
		fd = (int)syscall(SYS_pidfd_open, pid, PIDFD_THREAD);
	return fd < 0 ? -errno : fd;
}

int fd_take(int pid, int fd)
{
	auto_fd pidfd = fd_holder(pid);
	int ret;

	if (pidfd < 0)
		return pidfd;
	ret = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	return ret < 0 ? -errno : ret;
}

int fd_private(int fd)
{
	if (fd >= 0)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}
