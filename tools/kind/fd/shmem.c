// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory files: memfd descriptors, and the inode behind shared anonymous
 * mappings. Descriptions and mappings of one inode share one "shmem-inode"
 * object, which holds the pages once.
 */
#include "kind/fd/shmem.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fd_basic.pb-c.h"
#include "kind/fd/kinds.h"

#define MEMFD_PREFIX "/memfd:"

static bool is_shmem_link(const char *link)
{
	return !strncmp(link, MEMFD_PREFIX, strlen(MEMFD_PREFIX)) ||
	       !strcmp(link, "/dev/zero" PROC_DELETED) ||
	       !strcmp(link, "/anon_hugepage" PROC_DELETED);
}

static bool shmem_match(const struct fd_facts *f)
{
	return S_ISREG(f->st.st_mode) && is_shmem_link(f->link);
}

#define NAME_ROOM 300 /* 249 of its own, and " (deleted)" */

/* The message of the inode behind @local; @name is room for its name. */
static void inode_fill(int local, const char *link, const struct stat *st, char *name,
		       Ckpt__ShmemInode *m)
{
	struct statfs fs;
	int seals;

	*name = 0;
	m->memfd = !strncmp(link, MEMFD_PREFIX, strlen(MEMFD_PREFIX));
	if (m->memfd) {
		(void)snprintf(name, NAME_ROOM, "%s", link + strlen(MEMFD_PREFIX));
		name[proc_name_len(name)] = 0;
	}
	m->name = name;
	m->bytes = (uint64_t)st->st_size;
	m->mode = st->st_mode & 07777;
	m->uid = st->st_uid;
	m->gid = st->st_gid;
	if (!fstatfs(local, &fs) && fs.f_type == HUGETLBFS_MAGIC)
		m->hugetlb = (uint32_t)__builtin_ctzll((unsigned long long)fs.f_bsize);
	seals = fcntl(local, F_GET_SEALS);
	m->seals = seals > 0 ? (uint32_t)seals : 0;
}

int shmem_inode_dump(struct dump_ctx *d, int local, const char *link, uint32_t *ret_id,
		     struct ckpt_err *err)
{
	Ckpt__ShmemInode m = CKPT__SHMEM_INODE__INIT;
	Ckpt__Object *obj;
	struct stat st;
	char name[NAME_ROOM];
	bool is_new;
	int rc;

	if (fstat(local, &st))
		return ckpt_fail_errno(err, E_FREEZE, -errno, "cannot stat %s", link);
	rc = dump_object_keyed(d, "shmem-inode", st.st_dev, st.st_ino, &obj, &is_new, err);
	if (rc)
		return rc;
	*ret_id = obj->id;
	if (!is_new)
		return 0;
	inode_fill(local, link, &st, name, &m);
	rc = dump_object_set(obj, "shmem-inode", &m.base, err);
	return rc ? rc : dump_object_pages(d, obj, local, m.bytes, err);
}

static int shmem_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		      struct ckpt_err *err)
{
	Ckpt__FdShmem *m = msg;
	int rc = shmem_inode_dump(d, f->local, f->link, &m->inode, err);

	(void)obj;
	if (!rc)
		dump_object_opened(d, m->inode);
	return rc;
}

static int shmem_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			 int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdShmem *m = msg;
	char path[32];
	int inode, fd, rc = restore_object_fd(r, m->inode, &inode, err);

	if (rc)
		return rc;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", inode);
	fd = open(path, ((int)obj->flags & ~(O_CREAT | O_EXCL | O_TRUNC)) | O_CLOEXEC);
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot open a memory file again");
	if (obj->pos && lseek(fd, (off_t)obj->pos, SEEK_SET) < 0) {
		(void)close(fd);
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot seek in a memory file");
	}
	*ret_fd = fd;
	return 0;
}

const struct fd_kind fd_kind_shmem = {
	.name = "shmem",
	.desc = &ckpt__fd_shmem__descriptor,
	.match = shmem_match,
	.dump = shmem_dump,
	.restore = shmem_restore,
};

/* Shared anonymous memory has no path; its file is reached through map_files. */
static int zero_inode(uint64_t bytes, int huge, int *ret_fd, struct ckpt_err *err)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | (huge ? huge : MAP_NORESERVE), -1, 0);
	int fd;

	if (p == MAP_FAILED)
		return ckpt_fail_errno(err, E_NOMEM, -errno,
				       "cannot map %llu bytes of shared memory",
				       (unsigned long long)bytes);
	fd = proc_map_open(0, (uintptr_t)p, (uintptr_t)p + bytes, O_RDWR);
	(void)munmap(p, bytes);
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, fd, "cannot open shared anonymous memory");
	*ret_fd = fd;
	return 0;
}

/* hugetlbfs knows no write(2): fill it through a mapping. */
static int huge_fill(struct restore_ctx *r, const Ckpt__Object *obj, const Ckpt__ShmemInode *m,
		     int fd, struct ckpt_err *err)
{
	void *p = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int rc;

	if (p == MAP_FAILED)
		return ckpt_fail_errno(err, E_NOMEM, -errno, "cannot map %llu bytes of huge pages",
				       (unsigned long long)m->bytes);
	rc = restore_object_pages_into(r, obj->id, p, m->bytes, err);
	(void)munmap(p, m->bytes);
	return rc;
}

/* An empty one. */
static int inode_make(const Ckpt__ShmemInode *m, int *ret_fd, struct ckpt_err *err)
{
	int huge = 0;
	auto_fd fd = -1;

	if (m->hugetlb) {
		if (m->hugetlb < 12 || m->hugetlb > 40 || m->bytes & ((1ull << m->hugetlb) - 1))
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "impossible huge pages");
		huge = (int)(MFD_HUGETLB | m->hugetlb << MFD_HUGE_SHIFT);
	}
	if (!m->memfd) {
		if (huge)
			huge = (int)(MAP_HUGETLB | m->hugetlb << MAP_HUGE_SHIFT);
		return zero_inode(m->bytes, huge, ret_fd, err);
	}
	fd = memfd_create(m->name, MFD_CLOEXEC | MFD_ALLOW_SEALING | (unsigned int)huge);
	if (fd < 0 || ftruncate(fd, (off_t)m->bytes))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make the memory file \"%s\"",
				       m->name);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int inode_foresee(const struct fd_facts *f, void *msg)
{
	Ckpt__ShmemInode *m = msg, now = *m;
	char name[NAME_ROOM];

	if (!shmem_match(f))
		return 0;
	inode_fill(f->local, f->link, &f->st, name, &now);
	/* Huge pages know no write(2): they are filled in the end. */
	if (now.hugetlb)
		return 0;
	*m = now;
	m->name = strdup(name);
	return m->name ? 1 : -ENOMEM;
}

static int inode_early(struct restore_ctx *r, const void *msg, int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__ShmemInode *m = msg;

	(void)r;
	if (m->hugetlb)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "huge pages");
	return inode_make(m, ret_fd, err);
}

static bool inode_fits(const void *was, const void *msg)
{
	const Ckpt__ShmemInode *a = was, *b = msg;

	return a->memfd == b->memfd && a->hugetlb == b->hugetlb && !strcmp(a->name, b->name);
}

static int inode_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			 int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__ShmemInode *m = msg;
	auto_fd fd = restore_early_take(r, obj->id, m);
	int rc = 0;

	if (fd < 0)
		rc = inode_make(m, &fd, err);
	else if (ftruncate(fd, (off_t)m->bytes))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "cannot set the length of \"%s\"",
				     m->name);
	if (!rc)
		rc = m->hugetlb ? huge_fill(r, obj, m, fd, err)
				: restore_object_pages(r, obj->id, fd, err);
	if (!rc && m->memfd && (fchown(fd, m->uid, m->gid) || fchmod(fd, m->mode & 07777)))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno,
				     "cannot set the owner of the memory file \"%s\"", m->name);
	if (!rc && m->memfd && m->seals && fcntl(fd, F_ADD_SEALS, m->seals))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "cannot seal the memory file \"%s\"",
				     m->name);
	if (!rc)
		*ret_fd = take_fd(&fd);
	return rc;
}

/* Never matches a descriptor: objects of this kind are made by shmem_inode_dump(). */
const struct fd_kind fd_kind_shmem_inode = {
	.name = "shmem-inode",
	.desc = &ckpt__shmem_inode__descriptor,
	.foresee = inode_foresee,
	.early = inode_early,
	.fits = inode_fits,
	.restore = inode_restore,
};
