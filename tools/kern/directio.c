// SPDX-License-Identifier: GPL-2.0-only
/* See directio.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "kern/directio.h"
#include "kern/mounts.h"
#include "kern/procfs.h"

/* Here a read without O_DIRECT copies from the page cache, or from memory of the kernel's own. Not
 * fuse, 9p, cifs, ceph, and not overlayfs, which may stand on one of them. */
static const char *const copying[] = {
	"ext2",   "ext3",    "ext4",     "xfs",       "btrfs",   "f2fs", "bcachefs",
	"zfs",    "tmpfs",   "ramfs",    "devtmpfs",  "devpts",  "proc", "sysfs",
	"cgroup", "cgroup2", "squashfs", "erofs",     "iso9660", "vfat", "exfat",
	"mqueue", "nfs",     "nfs4",     "hugetlbfs", "nsfs",
};

struct mounts {
	struct mount *v;
	size_t n, cap;
};

static bool type_copies(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(copying); i++)
		if (!strcmp(copying[i], type))
			return true;
	return false;
}

/* Does the mount numbered @id copy? Not when it is not there. */
static bool mount_copies(const struct mounts *mounts, uint64_t id)
{
	for (size_t i = 0; i < mounts->n; i++)
		if (mounts->v[i].id == id)
			return type_copies(mounts->v[i].type);
	return false;
}

/* They point into @text. */
static bool mounts_of(char *text, struct mounts *ret)
{
	struct mount m, *slot;

	while (mount_next(&text, &m)) {
		slot = vec_push(ret);
		if (!slot)
			return false;
		*slot = m;
	}
	return true;
}

static bool fd_bypasses(int fdinfo_dir, const char *name, const struct mounts *mounts)
{
	auto_free char *text = NULL;
	uint64_t flags, mnt;

	if (io_read_file(fdinfo_dir, name, &text) < 0)
		return false; /* closed meanwhile */
	if (!proc_field_num(text, "flags", 0, 8, &flags) ||
	    !proc_field_num(text, "mnt_id", 0, 10, &mnt))
		return true;
	return (flags & O_DIRECT) || !mount_copies(mounts, mnt);
}

bool directio_possible(int pid)
{
	auto_free char *text = NULL;
	struct mounts mounts = { 0 };
	struct ckpt_err ignore = { 0 };
	char path[48];
	auto_fd infos = -1;
	bool found = false;
	DIR *d;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	(void)snprintf(path, sizeof(path), "/proc/%d/fdinfo", pid);
	infos = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!d || infos < 0 || proc_read(pid, "mountinfo", &text, NULL, &ignore) ||
	    !mounts_of(text, &mounts))
		found = true;
	for (struct dirent *e; !found && (e = readdir(d));) {
		char to[2];

		if (e->d_name[0] == '.')
			continue;
		/* Pipes, sockets and the like have no path. Their reads copy. */
		if (readlinkat(dirfd(d), e->d_name, to, sizeof(to)) > 0 && to[0] == '/')
			found = fd_bypasses(infos, e->d_name, &mounts);
	}
	if (d)
		(void)closedir(d);
	vec_free(&mounts);
	return found;
}
