// SPDX-License-Identifier: GPL-2.0-only
/*
 * Removed files that are still open or mapped. Their contents and attributes go into the image; at
 * restore the file is made again in its directory and removed at once, so nothing is left behind.
 */
#include "kind/fd/ghost.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fd_basic.pb-c.h"
#include "kind/fd/kinds.h"

#define ATTRS_MAX 65536
#define STORE_DIR "/var/tmp"

static int attr_dump(int fd, const char *name, Ckpt__Ghost *m)
{
	Ckpt__FileAttr *a;
	ssize_t n = fgetxattr(fd, name, NULL, 0);

	if (n < 0)
		return 0;
	a = kind_msg_new(&ckpt__file_attr__descriptor);
	if (!a || kind_push(&m->n_attrs, &m->attrs, a))
		return -ENOMEM;
	a->name = strdup(name);
	a->value.data = malloc((size_t)n + 1);
	if (!a->name || !a->value.data)
		return -ENOMEM;
	n = fgetxattr(fd, name, a->value.data, (size_t)n + 1);
	a->value.len = n > 0 ? (size_t)n : 0;
	return 0;
}

static int attrs_dump(int fd, Ckpt__Ghost *m)
{
	auto_free char *names = malloc(ATTRS_MAX);
	ssize_t n = names ? flistxattr(fd, names, ATTRS_MAX) : -1;
	int rc = names ? 0 : -ENOMEM;

	for (ssize_t at = 0; !rc && at < n; at += (ssize_t)strlen(names + at) + 1)
		rc = attr_dump(fd, names + at, m);
	return rc;
}

static int ghost_fill(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj,
		      const char *kind, Ckpt__Ghost *m, struct ckpt_err *err)
{
	char self[32];
	auto_fd rd = -1;
	int rc;

	/* The description may be write-only. */
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", f->local);
	rd = open(self, O_RDONLY | O_CLOEXEC | O_NOATIME);
	if (rd < 0)
		return ckpt_fail_errno(err, E_UNSUPPORTED, -errno, "cannot read the file %s",
				       f->link);
	m->path = strdup(f->link);
	if (!m->path || attrs_dump(rd, m))
		return ckpt_oom(err);
	m->path[proc_name_len(m->path)] = 0;
	m->mode = f->st.st_mode & 07777;
	m->uid = f->st.st_uid;
	m->gid = f->st.st_gid;
	m->bytes = (uint64_t)f->st.st_size;
	m->atime_s = f->st.st_atim.tv_sec;
	m->atime_ns = (uint32_t)f->st.st_atim.tv_nsec;
	m->mtime_s = f->st.st_mtim.tv_sec;
	m->mtime_ns = (uint32_t)f->st.st_mtim.tv_nsec;
	rc = dump_object_set(obj, kind, &m->base, err);
	return rc ? rc : dump_object_pages(d, obj, rd, m->bytes, err);
}

static int contents_dump(struct dump_ctx *d, const struct fd_facts *f, const char *kind,
			 uint32_t *ret_id, struct ckpt_err *err)
{
	Ckpt__Ghost *m;
	Ckpt__Object *obj;
	bool is_new;
	int rc = dump_object_keyed(d, kind, f->st.st_dev, f->st.st_ino, &obj, &is_new, err);

	if (rc)
		return rc;
	*ret_id = obj->id;
	if (!is_new)
		return 0;
	m = kind_msg_new(&ckpt__ghost__descriptor);
	if (!m)
		return ckpt_oom(err);
	rc = ghost_fill(d, f, obj, kind, m, err);
	ckpt__ghost__free_unpacked(m, NULL);
	return rc;
}

int ghost_dump(struct dump_ctx *d, const struct fd_facts *f, uint32_t *ret_id, struct ckpt_err *err)
{
	return contents_dump(d, f, "ghost", ret_id, err);
}

int ghost_store(struct dump_ctx *d, const struct fd_facts *f, uint32_t *ret_id,
		struct ckpt_err *err)
{
	return contents_dump(d, f, "stored", ret_id, err);
}

int ghost_name(const char *path, char *ret, size_t size)
{
	const char *slash = strrchr(path, '/');
	struct stat st;
	int n;

	if (!slash)
		return -EBADMSG;
	n = snprintf(ret, size, "%s", path);
	for (unsigned int try = 0; n > 0 && (size_t)n < size && !lstat(ret, &st); try++)
		n = snprintf(ret, size, "%.*s/.ckpt-%u-%.200s", (int)(slash - path), path, try,
			     slash + 1);
	return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

static int attrs_restore(const Ckpt__Ghost *m, int fd, struct ckpt_err *err)
{
	for (size_t i = 0; i < m->n_attrs; i++) {
		const Ckpt__FileAttr *a = m->attrs[i];

		/* Labels of a security module are this system's business. */
		if (fsetxattr(fd, a->name, a->value.data, a->value.len, 0) &&
		    strncmp(a->name, "security.", 9) != 0)
			return ckpt_fail_errno(err, E_RESTORE, -errno,
					       "cannot set attribute %s of %s", a->name, m->path);
	}
	return 0;
}

/* An empty one. With @stored it may be made in another directory, under a name of that object. */
static int ghost_make(const Ckpt__Ghost *m, uint32_t stored, int *ret_fd, struct ckpt_err *err)
{
	char path[PATH_MAX];
	int fd, rc = ghost_name(m->path, path, sizeof(path));

	if (rc)
		return ckpt_fail_errno(err, E_IMAGE_CORRUPT, rc,
				       "the path \"%s\" of a removed file", m->path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 && stored) {
		/* Of a directory that is not here, or not to be written: it has no name anyway. */
		(void)snprintf(path, sizeof(path), STORE_DIR "/.ckpt-%d-%u", getpid(), stored);
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	}
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot make the removed file %s again", path);
	(void)unlink(path);
	*ret_fd = fd;
	return 0;
}

/* A file that nothing but descriptors and mappings keeps. */
static int ghost_foresee(const struct fd_facts *f, void *msg)
{
	Ckpt__Ghost *m = msg;

	if (f->link[0] != '/' || !S_ISREG(f->st.st_mode) || f->st.st_nlink ||
	    !proc_name_deleted(f->link))
		return 0;
	m->path = strndup(f->link, proc_name_len(f->link));
	m->bytes = (uint64_t)f->st.st_size;
	return m->path ? 1 : -ENOMEM;
}

static int ghost_early(struct restore_ctx *r, const void *msg, int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__Ghost *m = msg;
	auto_fd fd = -1;
	int rc = ghost_make(m, 0, &fd, err);

	(void)r;
	if (!rc && ftruncate(fd, (off_t)m->bytes))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "cannot set up the removed file %s",
				     m->path);
	if (!rc)
		*ret_fd = take_fd(&fd);
	return rc;
}

static bool ghost_fits(const void *was, const void *msg)
{
	return !strcmp(((const Ckpt__Ghost *)was)->path, ((const Ckpt__Ghost *)msg)->path);
}

static int ghost_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			 int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__Ghost *m = msg;
	struct timespec times[] = { { m->atime_s, (long)m->atime_ns },
				    { m->mtime_s, (long)m->mtime_ns } };
	char self[32];
	auto_fd fd = restore_early_take(r, obj->id, m);
	int rc = 0, rd;

	if (fd < 0)
		rc = ghost_make(m, strcmp(obj->state->kind, "stored") ? 0 : obj->id, &fd, err);
	if (rc)
		return rc;
	if (ftruncate(fd, (off_t)m->bytes) || fchown(fd, m->uid, m->gid) ||
	    fchmod(fd, m->mode & 07777))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot set up the removed file %s",
				       m->path);
	rc = restore_object_pages(r, obj->id, fd, err);
	if (!rc)
		rc = attrs_restore(m, fd, err);
	if (rc)
		return rc;
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	/* Nobody but the program may have it open for writing: it could be the program itself. */
	rd = open(self, O_RDONLY | O_CLOEXEC);
	if (rd < 0 || futimens(fd, times))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot reopen the removed file %s",
				       m->path);
	*ret_fd = rd;
	return 0;
}

/* Never matches a descriptor: objects of this kind are made by ghost_dump(). */
const struct fd_kind fd_kind_ghost = {
	.name = "ghost",
	.desc = &ckpt__ghost__descriptor,
	.foresee = ghost_foresee,
	.early = ghost_early,
	.fits = ghost_fits,
	.restore = ghost_restore,
};

/* Files that --store-files keeps; as above, but only when the file is not what it was. */
const struct fd_kind fd_kind_stored = {
	.name = "stored",
	.desc = &ckpt__ghost__descriptor,
	.restore = ghost_restore,
	.on_demand = true,
};
