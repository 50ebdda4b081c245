// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regular files and directories, found again by path; by handle when the name they were opened by
 * is gone but another one keeps them; as a "ghost" with its contents in the image when they have no
 * name at all. With O_PATH anything that has a path.
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
#include "fd_basic.pb-c.h"
#include "kind/fd/ghost.h"
#include "kind/fd/kinds.h"

#define MQUEUE_MAGIC 0x19800202 /* ipc/mqueue.c */
#define CGROUP2_MAGIC 0x63677270
/* They act at open and are no state. O_TMPFILE contains O_DIRECTORY. */
#define OPEN_ONCE (O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | (O_TMPFILE & ~O_DIRECTORY))

static uint64_t mtime_ns(const struct stat *st)
{
	return (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
}

static bool reg_match(const struct fd_facts *f)
{
	return f->link[0] == '/' &&
	       (S_ISREG(f->st.st_mode) || S_ISDIR(f->st.st_mode) || f->flags & O_PATH);
}

static bool has_name(const struct fd_facts *f)
{
	struct stat st;

	if (f->named)
		return true;
	return !lstat(f->link, &st) && st.st_ino == f->st.st_ino && st.st_dev == f->st.st_dev;
}

static long magic_of(const struct fd_facts *f)
{
	struct statfs fs;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", f->pid, f->fd);
	return statfs(path, &fs) ? 0 : (long)fs.f_type;
}

/* Looks like a regular file in a file system of its own, whose names have no directories. */
static bool is_mqueue(const struct fd_facts *f)
{
	return f->fd >= 0 && strrchr(f->link, '/') == f->link && magic_of(f) == MQUEUE_MAGIC;
}

static bool is_secret(const char *link)
{
	return !strcmp(link, "/secretmem (deleted)");
}

/* Who may write to such a file has told the kernel when to wake it, and nobody else. */
static bool is_pressure(const struct fd_facts *f)
{
	const char *end = strrchr(f->link, '.');

	if (f->fd < 0 || f->flags & O_PATH || (f->flags & O_ACCMODE) == O_RDONLY)
		return false;
	return !strncmp(f->link, "/proc/pressure/", 15) ||
	       (end && !strcmp(end, ".pressure") && magic_of(f) == CGROUP2_MAGIC);
}

static int reg_check(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err)
{
	uint64_t bytes = (uint64_t)f->st.st_blocks * 512;

	if (is_mqueue(f))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "fd %d: the POSIX message queue (mqueue) %s", f->fd, f->link);
	if (is_secret(f->link))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "fd %d: secret memory (memfd_secret), which nobody else can read",
				 f->fd);
	if (is_pressure(f)) {
		(void)ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				"fd %d: %s may have a trigger, which the kernel does not tell",
				f->fd, f->link);
		return ckpt_remedy(err, "have the program close it (of systemd's services: "
					"MemoryPressureWatch=off)");
	}
	if (has_name(f))
		return 0;
	if (S_ISDIR(f->st.st_mode))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "fd %d: a deleted directory (%s)",
				 f->fd, f->link);
	if (!S_ISREG(f->st.st_mode))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "fd %d: %s was removed", f->fd,
				 f->link);
	if (!f->st.st_nlink && bytes > dump_opts(d)->ghost_limit)
		return ckpt_remedy((ckpt_fail(err, E_UNSUPPORTED, -EFBIG,
					      "fd %d: the removed file %s has %llu MiB of contents",
					      f->fd, f->link, (unsigned long long)bytes >> 20),
				    err),
				   "save it nevertheless: --ghost-limit %lluM",
				   ((unsigned long long)bytes >> 20) + 1);
	return 0;
}

/* A file that has a name, but not this one. */
static int reg_handle(const struct fd_facts *f, Ckpt__FdReg *m, struct ckpt_err *err)
{
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ] __attribute__((aligned(8)));
	struct file_handle *h = (struct file_handle *)room;
	char dir[PATH_MAX];
	struct stat st;
	int mount_id;

	h->handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(f->local, "", h, &mount_id, AT_EMPTY_PATH))
		return ckpt_fail_errno(
			err, E_UNSUPPORTED, -errno,
			"%s has another name now, and its file system cannot tell it", f->link);
	/* The nearest directory that is still there leads to the file system. */
	(void)snprintf(dir, sizeof(dir), "%s", f->link);
	do
		*strrchr(dir, '/') = 0;
	while (*dir && stat(dir, &st));
	if (stat(*dir ? dir : "/", &st) || st.st_dev != f->st.st_dev)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "the file system of %s cannot be found", f->link);
	m->mount = strdup(*dir ? dir : "/");
	m->handle.data = malloc(h->handle_bytes);
	if (!m->mount || !m->handle.data)
		return ckpt_oom(err);
	memcpy(m->handle.data, h->f_handle, h->handle_bytes);
	m->handle.len = h->handle_bytes;
	m->handle_type = h->handle_type;
	return 0;
}

static int reg_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		    struct ckpt_err *err)
{
	Ckpt__FdReg *m = msg;

	(void)obj;
	m->path = strdup(f->link);
	m->dev = f->st.st_dev;
	m->ino = f->st.st_ino;
	m->bytes = (uint64_t)f->st.st_size;
	m->mtime_ns = mtime_ns(&f->st);
	m->mode = f->st.st_mode;
	m->mapped = f->fd < 0 && S_ISREG(f->st.st_mode);
	if (!m->path)
		return ckpt_oom(err);
	if (has_name(f))
		return m->mapped && dump_opts(d)->store_files ? ghost_store(d, f, &m->stored, err)
							      : 0;
	return f->st.st_nlink ? reg_handle(f, m, err) : ghost_dump(d, f, &m->ghost, err);
}

static int reg_same(const Ckpt__FdReg *m, const struct stat *st, struct ckpt_err *err)
{
	if ((st->st_mode & S_IFMT) != (m->mode & S_IFMT))
		return ckpt_fail(err, E_FILE_CHANGED, -EINVAL, "%s is not the kind of file it was",
				 m->path);
	if (!S_ISREG(st->st_mode))
		return 0;
	if ((uint64_t)st->st_size < m->bytes || (m->mapped && (uint64_t)st->st_size != m->bytes))
		return ckpt_fail(err, E_FILE_CHANGED, -EINVAL,
				 "%s has %llu bytes, at the dump it had %llu", m->path,
				 (unsigned long long)st->st_size, (unsigned long long)m->bytes);
	if (m->mapped && mtime_ns(st) != m->mtime_ns)
		return ckpt_fail(err, E_FILE_CHANGED, -EINVAL, "%s was modified since the dump",
				 m->path);
	return 0;
}

static int open_handle(const Ckpt__FdReg *m, int flags)
{
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ] __attribute__((aligned(8)));
	struct file_handle *h = (struct file_handle *)room;
	auto_fd mnt = open(m->mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (mnt < 0)
		return -1;
	if (m->handle.len > MAX_HANDLE_SZ) {
		errno = EBADMSG;
		return -1;
	}
	h->handle_bytes = (unsigned int)m->handle.len;
	h->handle_type = m->handle_type;
	memcpy(h->f_handle, m->handle.data, m->handle.len);
	return open_by_handle_at(mnt, h, flags);
}

static int reg_open(struct restore_ctx *r, const Ckpt__Object *obj, const Ckpt__FdReg *m,
		    int *ret_fd, struct ckpt_err *err)
{
	int flags = ((int)obj->flags & ~OPEN_ONCE) | O_CLOEXEC | O_NOCTTY;
	char path[64];
	int fd, ghost;

	if (!S_ISDIR(m->mode))
		flags &= ~O_DIRECTORY;
	if (m->ghost) {
		int rc = restore_object_fd(r, m->ghost, &ghost, err);

		if (rc)
			return rc;
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", ghost);
		fd = open(path, flags & ~O_NOFOLLOW);
	} else if (m->handle.len) {
		fd = open_handle(m, flags);
	} else {
		/* A path of the kernel has no symbolic links in it but a last one that is meant. */
		fd = open(m->path, S_ISLNK(m->mode) ? flags | O_NOFOLLOW : flags);
	}
	if (fd < 0)
		return ckpt_fail_errno(err, E_FILE_CHANGED, -errno, "cannot open %s", m->path);
	*ret_fd = fd;
	return 0;
}

/* The file itself, when it is what it was. */
static int reg_original(struct restore_ctx *r, const Ckpt__Object *obj, const Ckpt__FdReg *m,
			int *ret_fd, struct ckpt_err *err)
{
	auto_fd fd = -1;
	struct stat st;
	int rc = reg_open(r, obj, m, &fd, err);

	if (rc)
		return rc;
	rc = fstat(fd, &st)
		     ? ckpt_fail_errno(err, E_FILE_CHANGED, -errno, "cannot stat %s", m->path)
	     : m->ghost ? 0
			: reg_same(m, &st, err);
	if (!rc)
		*ret_fd = take_fd(&fd);
	return rc;
}

/* Its contents as the image keeps them. */
static int reg_stored(struct restore_ctx *r, const Ckpt__Object *obj, const Ckpt__FdReg *m,
		      int *ret_fd, struct ckpt_err *err)
{
	char path[64];
	int stored, fd, rc = restore_object_fd(r, m->stored, &stored, err);

	if (rc)
		return rc;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", stored);
	fd = open(path, ((int)obj->flags & ~OPEN_ONCE & ~O_NOFOLLOW) | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot open the stored %s",
				       m->path);
	*ret_fd = fd;
	return 0;
}

static int reg_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int *ret_fd,
		       struct ckpt_err *err)
{
	const Ckpt__FdReg *m = msg;
	struct ckpt_err why = { 0 };
	auto_fd fd = -1;
	int rc = reg_original(r, obj, m, &fd, &why);

	if (rc && m->stored)
		rc = reg_stored(r, obj, m, &fd, err);
	else if (rc)
		*err = why;
	if (!rc && obj->pos && !(obj->flags & O_PATH) && lseek(fd, (off_t)obj->pos, SEEK_SET) < 0)
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "cannot seek in %s", m->path);
	if (!rc)
		*ret_fd = take_fd(&fd);
	return rc;
}

static const char *reg_called(const void *msg)
{
	const Ckpt__FdReg *m = msg;

	return m->mapped ? NULL : m->path;
}

const struct fd_kind fd_kind_reg = {
	.name = "reg",
	.desc = &ckpt__fd_reg__descriptor,
	.match = reg_match,
	.check = reg_check,
	.dump = reg_dump,
	.by_name = true,
	.restore = reg_restore,
	.called = reg_called,
};
