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

#include "fd_basic.pb-c.h"
#include "kind/fd/kinds.h"

#define MEMFD_PREFIX "/memfd:"
#define DELETED " (deleted)"

static bool is_shmem_link(const char *link)
{
	return !strncmp(link, MEMFD_PREFIX, strlen(MEMFD_PREFIX)) ||
	       !strcmp(link, "/dev/zero" DELETED) || !strcmp(link, "/anon_hugepage" DELETED);
}

static bool shmem_match(const struct fd_facts *f)
{
	return S_ISREG(f->st.st_mode) && is_shmem_link(f->link);
}

int shmem_inode_dump(struct dump_ctx *d, int local, const char *link, uint32_t *ret_id,
		     struct ckpt_err *err)
{
	Ckpt__ShmemInode m = CKPT__SHMEM_INODE__INIT;
	Ckpt__Object *obj;
	struct statfs fs;
	struct stat st;
	char name[300] = ""; /* 249 of its own, and " (deleted)" */
	bool is_new;
	int rc, seals;

	if (fstat(local, &st))
		return ckpt_fail_errno(err, E_FREEZE, -errno, "cannot stat %s", link);
	rc = dump_object_keyed(d, "shmem-inode", st.st_dev, st.st_ino, &obj, &is_new, err);
	if (rc)
		return rc;
	*ret_id = obj->id;
	if (!is_new)
		return 0;
	m.memfd = !strncmp(link, MEMFD_PREFIX, strlen(MEMFD_PREFIX));
	if (m.memfd) {
		(void)snprintf(name, sizeof(name), "%s", link + strlen(MEMFD_PREFIX));
		if (strlen(name) > strlen(DELETED) &&
		    !strcmp(name + strlen(name) - strlen(DELETED), DELETED))
			name[strlen(name) - strlen(DELETED)] = 0;
	}
	m.name = name;
	m.bytes = (uint64_t)st.st_size;
	m.mode = st.st_mode & 07777;
	m.uid = st.st_uid;
	m.gid = st.st_gid;
	if (!fstatfs(local, &fs) && fs.f_type == HUGETLBFS_MAGIC)
		m.hugetlb = (uint32_t)__builtin_ctzll((unsigned long long)fs.f_bsize);
	seals = fcntl(local, F_GET_SEALS);
	m.seals = seals > 0 ? (uint32_t)seals : 0;
	rc = dump_object_set(obj, "shmem-inode", &m.base, err);
	return rc ? rc : dump_object_pages(d, obj, local, m.bytes, err);
}

static int shmem_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		      struct ckpt_err *err)
{
	Ckpt__FdShmem *m = msg;

	(void)obj;
	return shmem_inode_dump(d, f->local, f->link, &m->inode, err);
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
	char path[96];
	int fd;

	if (p == MAP_FAILED)
		return ckpt_fail_errno(err, E_NOMEM, -errno,
				       "cannot map %llu bytes of shared memory",
				       (unsigned long long)bytes);
	(void)snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)p,
		       (unsigned long)p + (unsigned long)bytes);
	fd = open(path, O_RDWR | O_CLOEXEC);
	(void)munmap(p, bytes);
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot open shared anonymous memory");
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

static int inode_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			 int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__ShmemInode *m = msg;
	int fd = -1, rc = 0, huge = 0;

	if (m->hugetlb) {
		if (m->hugetlb < 12 || m->hugetlb > 40 || m->bytes & ((1ull << m->hugetlb) - 1))
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "impossible huge pages");
		huge = (int)(MFD_HUGETLB | m->hugetlb << MFD_HUGE_SHIFT);
	}
	if (m->memfd) {
		fd = memfd_create(m->name, MFD_CLOEXEC | MFD_ALLOW_SEALING | (unsigned int)huge);
		if (fd < 0 || ftruncate(fd, (off_t)m->bytes))
			rc = ckpt_fail_errno(err, E_RESTORE, -errno,
					     "cannot make the memory file \"%s\"", m->name);
	} else {
		if (huge)
			huge = (int)(MAP_HUGETLB | m->hugetlb << MAP_HUGE_SHIFT);
		rc = zero_inode(m->bytes, huge, &fd, err);
	}
	if (!rc)
		rc = m->hugetlb ? huge_fill(r, obj, m, fd, err)
				: restore_object_pages(r, obj->id, fd, err);
	if (!rc && m->memfd && (fchown(fd, m->uid, m->gid) || fchmod(fd, m->mode & 07777)))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno,
				     "cannot set the owner of the memory file \"%s\"", m->name);
	if (!rc && m->memfd && m->seals && fcntl(fd, F_ADD_SEALS, m->seals))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "cannot seal the memory file \"%s\"",
				     m->name);
	if (rc) {
		if (fd >= 0)
			(void)close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

/* Never matches a descriptor: objects of this kind are made by shmem_inode_dump(). */
const struct fd_kind fd_kind_shmem_inode = {
	.name = "shmem-inode",
	.desc = &ckpt__shmem_inode__descriptor,
	.restore = inode_restore,
};
