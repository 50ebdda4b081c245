// SPDX-License-Identifier: GPL-2.0-only
/* Regular files and directories, found again by path. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fd_basic.pb-c.h"
#include "kind/fd/kinds.h"

#define OPEN_ONCE (O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY) /* act at open, are not state */

static uint64_t mtime_ns(const struct stat *st)
{
	return (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
}

static bool reg_match(const struct fd_facts *f)
{
	return (S_ISREG(f->st.st_mode) || S_ISDIR(f->st.st_mode)) && f->link[0] == '/';
}

static int reg_check(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err)
{
	struct stat st;

	(void)d;
	if (!f->st.st_nlink)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "fd %d: the file %s was removed",
				 f->fd, f->link);
	if (stat(f->link, &st) || st.st_ino != f->st.st_ino || st.st_dev != f->st.st_dev)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "fd %d: %s is not the file that was opened by that name", f->fd,
				 f->link);
	return 0;
}

static int reg_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		    struct ckpt_err *err)
{
	Ckpt__FdReg *m = msg;

	(void)d;
	(void)obj;
	m->path = strdup(f->link);
	m->dev = f->st.st_dev;
	m->ino = f->st.st_ino;
	m->bytes = (uint64_t)f->st.st_size;
	m->mtime_ns = mtime_ns(&f->st);
	m->mode = f->st.st_mode;
	m->mapped = f->fd < 0 && S_ISREG(f->st.st_mode);
	return m->path ? 0 : ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
}

static int reg_same(const Ckpt__FdReg *m, const struct stat *st, struct ckpt_err *err)
{
	if ((st->st_mode & S_IFMT) != (m->mode & S_IFMT))
		return ckpt_fail(err, E_FILE_CHANGED, -EINVAL, "%s is not the kind of file it was",
				 m->path);
	if (S_ISDIR(st->st_mode))
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

static int reg_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int *ret_fd,
		       struct ckpt_err *err)
{
	const Ckpt__FdReg *m = msg;
	int fd = open(m->path, ((int)obj->flags & ~OPEN_ONCE) | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	int rc;

	(void)r;
	if (fd < 0)
		return ckpt_fail_errno(err, E_FILE_CHANGED, -errno, "cannot open %s", m->path);
	rc = fstat(fd, &st)
		     ? ckpt_fail_errno(err, E_FILE_CHANGED, -errno, "cannot stat %s", m->path)
		     : reg_same(m, &st, err);
	if (!rc && obj->pos && !(obj->flags & O_PATH) && lseek(fd, (off_t)obj->pos, SEEK_SET) < 0)
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "cannot seek in %s", m->path);
	if (rc) {
		(void)close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

const struct fd_kind fd_kind_reg = {
	.name = "reg",
	.desc = &ckpt__fd_reg__descriptor,
	.match = reg_match,
	.check = reg_check,
	.dump = reg_dump,
	.restore = reg_restore,
};
