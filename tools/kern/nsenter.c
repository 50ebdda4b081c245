// SPDX-License-Identifier: GPL-2.0-only
#include "kern/nsenter.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/cleanup.h"

static const struct {
	const char *name;
	int flag;
} types[NSENTER_TYPES] = {
	[NSENTER_NET] = { "net", CLONE_NEWNET },
	[NSENTER_UTS] = { "uts", CLONE_NEWUTS },
	[NSENTER_IPC] = { "ipc", CLONE_NEWIPC },
};

const char *nsenter_name(enum nsenter_type type)
{
	return types[type].name;
}

int nsenter_flag(enum nsenter_type type)
{
	return types[type].flag;
}

bool nsenter_differs(int pid, enum nsenter_type type)
{
	struct stat ours, theirs;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, types[type].name);
	if (stat(path, &theirs))
		return false;
	(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", types[type].name);
	return !stat(path, &ours) && (ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev);
}

int nsenter_path(enum nsenter_type type, const char *path, struct ckpt_err *err)
{
	auto_fd fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, types[type].flag))
		return ckpt_fail_errno(err, E_EXTERNAL, -errno, "cannot enter the %s namespace %s",
				       types[type].name, path);
	return 0;
}
