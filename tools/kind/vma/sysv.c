// SPDX-License-Identifier: GPL-2.0-only
/*
 * System V shared memory. A segment outlives its processes, like a file: when it is still there it
 * is attached as it is. Otherwise, and always when it was marked for removal, it is made again
 * under its number, with its contents.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/text.h"
#include "kind/fd/kinds.h"
#include "kind/vma/kinds.h"
#include "vma_sysv.pb-c.h"

#define PAGE 4096ull
#define NEXT_ID "/proc/sys/kernel/shm_next_id"
/* Rights of one that is not whole yet, which nobody gives: only its owner can attach it, and nobody
 * takes it for what it is to be. */
#define UNFINISHED 0611

static bool sysv_match(const struct proc_vma *v)
{
	return v->shared && v->path && !strncmp(v->path, "/SYSV", 5);
}

static uint64_t round_up(uint64_t bytes)
{
	return (bytes + PAGE - 1) & ~(PAGE - 1);
}

/* The inode number of a segment is its id. */
static int sysv_check(struct dump_ctx *d, const struct target_task *task, const struct proc_vma *v,
		      struct ckpt_err *err)
{
	char path[64];
	struct stat own, theirs;
	struct shmid_ds ds;

	(void)d;
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/ipc", task->pid);
	if (stat("/proc/self/ns/ipc", &own) || stat(path, &theirs) || own.st_ino != theirs.st_ino)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "a System V segment (%s) of another IPC namespace cannot be saved",
				 v->path);
	if (shmctl((int)v->ino, IPC_STAT, &ds))
		return ckpt_fail_errno(err, E_UNSUPPORTED, -errno,
				       "cannot look at the System V segment %d", (int)v->ino);
	if (v->flags & PROC_VMF(ht))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "the System V segment %d of huge pages cannot be saved",
				 (int)v->ino);
	if (v->pgoff || v->end - v->start != round_up(ds.shm_segsz))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "a part of the System V segment %d cannot be saved", (int)v->ino);
	return 0;
}

static int sysv_dump(struct dump_ctx *d, struct target_task *task, const struct proc_vma *v,
		     Ckpt__Vma *vma, struct ckpt_err *err)
{
	Ckpt__SysvShm m = CKPT__SYSV_SHM__INIT;
	Ckpt__Object *obj;
	struct shmid_ds ds;
	auto_fd fd = -1;
	bool is_new;
	int rc = dump_object_keyed(d, "sysv-shm", v->ino, 0, &obj, &is_new, err);

	if (rc)
		return rc;
	vma->object = obj->id;
	/* An attachment for reading cannot become writable. */
	if (!(v->flags & PROC_VMF(mw)))
		vma->map |= MAP_DENYWRITE;
	if (!is_new)
		return 0;
	if (shmctl((int)v->ino, IPC_STAT, &ds))
		return ckpt_fail_errno(err, E_FREEZE, -errno,
				       "cannot look at the System V segment %d", (int)v->ino);
	m.id = (int32_t)v->ino;
	m.key = ds.shm_perm.__key;
	m.bytes = ds.shm_segsz;
	m.mode = ds.shm_perm.mode & 0777;
	m.uid = ds.shm_perm.uid;
	m.gid = ds.shm_perm.gid;
	m.removed = ds.shm_perm.mode & SHM_DEST;
	rc = dump_object_set(obj, "sysv-shm", &m.base, err);
	if (rc)
		return rc;
	fd = proc_map_open(task->pid, v->start, v->end, O_RDONLY);
	if (fd < 0)
		return ckpt_fail_errno(err, E_FREEZE, fd, "cannot open the System V segment %d",
				       m.id);
	return dump_object_pages(d, obj, fd, m.bytes, err);
}

static bool same_segment(const Ckpt__SysvShm *m, const struct shmid_ds *ds)
{
	return ds->shm_perm.__key == m->key && ds->shm_segsz == m->bytes &&
	       ds->shm_perm.uid == m->uid && ds->shm_perm.gid == m->gid &&
	       (ds->shm_perm.mode & 0777) == m->mode && !(ds->shm_perm.mode & SHM_DEST);
}

/* A program may look how often it is attached: once all tasks have theirs, not by ckpt. */
static void segment_detach(int id)
{
	auto_free char *maps = NULL;
	unsigned long start, ino;

	if (io_read_file(AT_FDCWD, "/proc/self/maps", &maps) < 0)
		return;
	for (const char *name = maps; (name = strstr(name, "/SYSV")); name++) {
		const char *line = name;

		while (line > maps && line[-1] != '\n')
			line--;
		/* The inode number of a segment is its id. */
		if (text_scan(line, "%lx-%*x %*s %*x %*x:%*x %lu", &start, &ino) == 2 &&
		    ino == (unsigned long)id)
			(void)shmdt((void *)start);
	}
}

/* Our own attachment, which holds a removed segment until the tasks have theirs, and its file. */
static int segment_attach(const Ckpt__SysvShm *m, int *ret_fd, struct ckpt_err *err)
{
	void *p = shmat(m->id, NULL, 0);
	uint64_t end = (uint64_t)p + round_up(m->bytes);

	if (p == (void *)-1)
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot attach the System V segment %d", m->id);
	*ret_fd = proc_map_open(0, (uintptr_t)p, end, O_RDWR);
	if (*ret_fd < 0) {
		int rc = ckpt_fail_errno(err, E_RESTORE, *ret_fd,
					 "cannot open the System V segment %d", m->id);

		(void)shmdt(p);
		return rc;
	}
	return 0;
}

/* An empty one, under its number. */
static int segment_new(const Ckpt__SysvShm *m, struct ckpt_err *err)
{
	auto_fd next = open(NEXT_ID, O_WRONLY | O_CLOEXEC);
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", m->id), id;

	if (next < 0 || write(next, text, (size_t)len) != len)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot write " NEXT_ID);
	id = shmget(m->removed ? IPC_PRIVATE : m->key, m->bytes, IPC_CREAT | IPC_EXCL | UNFINISHED);
	if (id < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot make the System V segment %d", m->id);
	if (id == m->id)
		return 0;
	(void)shmctl(id, IPC_RMID, NULL);
	return ckpt_fail(err, E_RESTORE, -EEXIST, "the number %d of a System V segment is taken",
			 m->id);
}

static int segment_make(struct restore_ctx *r, const Ckpt__Object *obj, const Ckpt__SysvShm *m,
			struct ckpt_err *err)
{
	auto_fd fd = -1;
	int rc = segment_new(m, err);

	if (rc)
		return rc;
	rc = segment_attach(m, &fd, err);
	if (!rc)
		rc = restore_object_pages(r, obj->id, fd, err);
	if (rc || m->removed)
		(void)shmctl(m->id, IPC_RMID, NULL);
	return rc;
}

/* Nobody has it attached, and a ckpt that was killed left it; or it is what a program that went
 * away left behind, which comes from elsewhere now, with newer contents. */
static bool is_left(const struct restore_ctx *r, const Ckpt__SysvShm *m, const struct shmid_ds *ds)
{
	if (ds->shm_nattch || ds->shm_segsz != m->bytes)
		return false;
	return (restore_opts(r)->ipc_elsewhere && same_segment(m, ds)) ||
	       ((ds->shm_perm.mode & 0777) == UNFINISHED && !ds->shm_perm.uid);
}

/* 1: there is one that may be attached as it is; 0: there is none (any more). */
static int segment_look(struct restore_ctx *r, const Ckpt__SysvShm *m, struct ckpt_err *err)
{
	struct shmid_ds ds;

	if (!m->bytes || m->id < 0)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "an impossible System V segment");
	if (shmctl(m->id, IPC_STAT, &ds))
		return 0;
	if (!m->removed && !restore_opts(r)->ipc_elsewhere && same_segment(m, &ds))
		return 1;
	if (is_left(r, m, &ds) && !shmctl(m->id, IPC_RMID, NULL)) {
		ui_note(restore_ui(r), 1,
			"the System V segment %d, which was left here, is replaced", m->id);
		return 0;
	}
	(void)ckpt_fail(err, E_RESTORE, -EEXIST, "the number %d of a System V segment is taken",
			m->id);
	return ckpt_remedy(err, "ipcs -m tells whose it is; if nobody needs it: ipcrm -m %d",
			   m->id);
}

static int segment_foresee(const struct fd_facts *f, void *msg)
{
	Ckpt__SysvShm *m = msg;
	struct shmid_ds ds;

	/* The inode number of a segment is its id. */
	if (f->fd >= 0 || strncmp(f->link, "/SYSV", 5) != 0 ||
	    shmctl((int)f->st.st_ino, IPC_STAT, &ds) || !ds.shm_segsz)
		return 0;
	m->id = (int32_t)f->st.st_ino;
	m->key = ds.shm_perm.__key;
	m->bytes = ds.shm_segsz;
	m->mode = ds.shm_perm.mode & 0777;
	m->uid = ds.shm_perm.uid;
	m->gid = ds.shm_perm.gid;
	m->removed = ds.shm_perm.mode & SHM_DEST;
	return 1;
}

static int segment_early(struct restore_ctx *r, const void *msg, int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__SysvShm *m = msg;
	int rc = segment_look(r, m, err);

	if (rc > 0)
		rc = ckpt_fail(err, E_RESTORE, -EEXIST, "the System V segment %d is there", m->id);
	if (!rc)
		rc = segment_new(m, err);
	if (rc)
		return rc;
	rc = segment_attach(m, ret_fd, err);
	if (rc || m->removed)
		(void)shmctl(m->id, IPC_RMID, NULL);
	return rc;
}

/* One that was removed meanwhile has lost its key. */
static bool segment_fits(const void *was, const void *msg)
{
	const Ckpt__SysvShm *a = was, *b = msg;

	return a->id == b->id && a->bytes == b->bytes &&
	       (b->removed || (!a->removed && a->key == b->key));
}

static void segment_early_end(const void *was, bool lives)
{
	const Ckpt__SysvShm *m = was;

	segment_detach(m->id);
	if (!lives && !m->removed)
		(void)shmctl(m->id, IPC_RMID, NULL);
}

static int segment_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			   int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__SysvShm *m = msg;
	auto_fd early = restore_early_take(r, obj->id, m);
	int rc, fd;

	if (early >= 0) {
		rc = restore_object_pages(r, obj->id, early, err);
		if (m->removed)
			(void)shmctl(m->id, IPC_RMID, NULL);
	} else {
		rc = segment_look(r, m, err);
		if (!rc)
			rc = segment_make(r, obj, m, err);
	}
	if (rc < 0)
		return rc;
	/* Attached by number: the descriptor only stands for it. */
	fd = open("/", O_PATH | O_CLOEXEC);
	if (fd < 0)
		return ckpt_fail_errno(err, E_LIMIT, -errno, "cannot open /");
	*ret_fd = fd;
	return 0;
}

/* All who want it have it attached: now it may be what it is. */
static int segment_finish(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int fd,
			  struct ckpt_err *err)
{
	const Ckpt__SysvShm *m = msg;
	struct shmid_ds ds, set = { .shm_perm = { .uid = m->uid,
						  .gid = m->gid,
						  .mode = (unsigned short)(m->mode & 0777) } };

	(void)r;
	(void)obj;
	(void)fd;
	segment_detach(m->id);
	if (!shmctl(m->id, IPC_STAT, &ds) && ds.shm_perm.uid == m->uid &&
	    ds.shm_perm.gid == m->gid && (ds.shm_perm.mode & 0777) == m->mode)
		return 0;
	if (shmctl(m->id, IPC_SET, &set))
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot set the owner of the System V segment %d", m->id);
	return 0;
}

const struct fd_kind fd_kind_sysv_shm = {
	.name = "sysv-shm",
	.desc = &ckpt__sysv_shm__descriptor,
	.foresee = segment_foresee,
	.early = segment_early,
	.fits = segment_fits,
	.early_end = segment_early_end,
	.restore = segment_restore,
	.finish = segment_finish,
};

static int sysv_plan(struct restore_ctx *r, const Ckpt__Mm *mm, const Ckpt__Vma *vma,
		     struct steps *s, struct ckpt_err *err)
{
	const Ckpt__Object *obj = restore_object(r, vma->object);
	bool readonly = vma->map & MAP_DENYWRITE;
	int prot = PROT_READ | (readonly ? 0 : PROT_WRITE) | (vma->prot & PROT_EXEC);
	const Ckpt__SysvShm *m;

	(void)mm;
	if (!obj || strcmp(obj->state->kind, "sysv-shm") != 0)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "it is of no System V segment");
	m = restore_object_msg(r, vma->object, err);
	if (!m)
		return err->code;
	if (vma->end - vma->start != round_up(m->bytes))
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
				 "it has not the size of its segment");
	(void)steps_add(s,
			&(struct ckpt_step) {
				.op = CKPT_OP_SYSCALL,
				.nr = SYS_shmat,
				.flags = CKPT_STEP_EXPECT,
				.want = (int64_t)vma->start,
				.arg = { (uint64_t)m->id, vma->start,
					 (uint64_t)((readonly ? SHM_RDONLY : 0) |
						    (vma->prot & PROT_EXEC ? SHM_EXEC : 0)) } },
			"attach a System V segment");
	if ((int)vma->prot != prot)
		(void)steps_call(s, "protect a System V segment", SYS_mprotect, vma->start,
				 vma->end - vma->start, (uint64_t)vma->prot);
	return 0;
}

const struct vma_kind vma_kind_sysv = {
	.name = "sysv",
	.match = sysv_match,
	.check = sysv_check,
	.dump = sysv_dump,
	.plan = sysv_plan,
};
