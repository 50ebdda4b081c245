// SPDX-License-Identifier: GPL-2.0-only
/*
 * Namespaces that are held open (/proc/PID/ns/X). One that the program lives in becomes the one it
 * lives in after the restore; another one is found again by a name, as "ip netns" gives it.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "fd_nsfs.pb-c.h"
#include "kern/mounts.h"
#include "kind/fd/kinds.h"

#define NSFS_MAGIC 0x6e736673

static const char *const types[] = { "net", "mnt", "pid", "ipc", "uts", "user", "cgroup", "time" };

/* Of "net:[4026531840]". */
static const char *type_of(const char *link)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		size_t n = strlen(types[i]);

		if (!strncmp(link, types[i], n) && !strncmp(link + n, ":[", 2))
			return types[i];
	}
	return NULL;
}

static bool nsfs_match(const struct fd_facts *f)
{
	return S_ISREG(f->st.st_mode) && !(f->flags & O_PATH) && type_of(f->link);
}

/* Is it the one that the root of the tree, and with it the whole tree, is in? */
static bool is_own(struct dump_ctx *d, const struct fd_facts *f, const char *type)
{
	struct stat st;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", dump_opts(d)->pid, type);
	return !stat(path, &st) && st.st_dev == f->st.st_dev && st.st_ino == f->st.st_ino;
}

/* Where it is mounted: "36 35 0:4 net:[4026532189] /run/netns/blue rw … - nsfs nsfs rw". */
static bool find_name(const struct fd_facts *f, char *ret, size_t size)
{
	auto_free char *text = NULL;
	struct mount m;
	char *at;

	if (io_read_file(AT_FDCWD, "/proc/self/mountinfo", &text) < 0)
		return false;
	at = text;
	while (mount_next(&at, &m)) {
		struct stat st;

		if (!strcmp(m.root, f->link) && !stat(m.at, &st) && st.st_ino == f->st.st_ino &&
		    st.st_dev == f->st.st_dev) {
			(void)snprintf(ret, size, "%s", m.at);
			return true;
		}
	}
	return false;
}

static int nsfs_check(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err)
{
	const char *type = type_of(f->link);
	char path[PATH_MAX];

	if (is_own(d, f, type) || find_name(f, path, sizeof(path)))
		return 0;
	(void)ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
			"fd %d: the %s namespace %s is not the program's own and has no name",
			f->fd, type, f->link);
	return ckpt_remedy(err, "name it: touch /run/NAME && mount --bind /proc/%d/fd/%d /run/NAME",
			   f->pid, f->fd);
}

static int nsfs_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		     struct ckpt_err *err)
{
	Ckpt__FdNsfs *m = msg;
	char path[PATH_MAX] = "";

	(void)obj;
	m->type = strdup(type_of(f->link));
	if (!is_own(d, f, type_of(f->link)))
		(void)find_name(f, path, sizeof(path));
	m->path = strdup(path);
	return m->type && m->path ? 0 : ckpt_oom(err);
}

static int nsfs_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdNsfs *m = msg;
	char own[64], room[32];
	const char *path = m->path;
	struct statfs fs;
	auto_fd fd = -1;

	(void)r;
	(void)obj;
	(void)snprintf(room, sizeof(room), "%s:[", m->type);
	if (!type_of(room))
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "a namespace of type \"%.20s\"",
				 m->type);
	(void)snprintf(own, sizeof(own), "/proc/self/ns/%s", m->type);
	if (!*path)
		path = own;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return ckpt_fail_errno(err, E_FILE_CHANGED, -errno,
				       "cannot open the %s namespace %s", m->type, path);
	if (fstatfs(fd, &fs) || fs.f_type != NSFS_MAGIC)
		return ckpt_fail(err, E_FILE_CHANGED, -EINVAL, "%s is no namespace", path);
	*ret_fd = take_fd(&fd);
	return 0;
}

const struct fd_kind fd_kind_nsfs = {
	.name = "nsfs",
	.desc = &ckpt__fd_nsfs__descriptor,
	.match = nsfs_match,
	.check = nsfs_check,
	.dump = nsfs_dump,
	.restore = nsfs_restore,
};
