// SPDX-License-Identifier: GPL-2.0-only
/* Private anonymous memory, mapped files, shared memory. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kind/fd/shmem.h"
#include "kind/vma/kinds.h"

/* Mappings that no kind can represent, whatever else they are. */
static int refuse_flags(struct dump_ctx *d, const struct target_task *task,
			const struct proc_vma *v, struct ckpt_err *err)
{
	static const struct {
		uint64_t flag;
		const char *what;
	} refused[] = {
		{ PROC_VMF(io), "a device mapping" },
		{ PROC_VMF(pf), "a mapping of physical pages" },
		{ PROC_VMF(um), "registered with a userfaultfd" },
		{ PROC_VMF(uw), "write-protected by a userfaultfd" },
		{ PROC_VMF(ui), "registered with a userfaultfd" },
		{ PROC_VMF(ss), "a shadow stack" },
	};

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if ((v->flags & refused[i].flag) &&
		    !(refused[i].flag == PROC_VMF(uw) && dump_owns_uffd(d, task->pid, v)))
			return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "%s: %s cannot be saved",
					 v->path ? v->path : "(anonymous)", refused[i].what);
	return 0;
}

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08 /* Linux 6.11 */
#endif

static int plan_map(struct steps *s, const Ckpt__Vma *vma, int fd, uint64_t extra,
		    const char *label)
{
	uint64_t prot = vma->prot;

	(void)steps_add(s,
			&(struct ckpt_step) { .op = CKPT_OP_SYSCALL,
					      .nr = SYS_mmap,
					      .flags = CKPT_STEP_EXPECT,
					      .want = (int64_t)vma->start,
					      .arg = { vma->start, vma->end - vma->start, prot,
						       vma->map | MAP_FIXED_NOREPLACE | extra,
						       (uint64_t)(int64_t)fd, vma->pgoff } },
			label);
	return 0;
}

static bool anon_match(const struct proc_vma *v)
{
	if (v->shared || v->ino)
		return false;
	return !v->path || !strcmp(v->path, "[heap]") || !strncmp(v->path, "[stack", 6) ||
	       !strncmp(v->path, "[anon:", 6);
}

static int anon_dump(struct dump_ctx *d, struct target_task *task, const struct proc_vma *v,
		     Ckpt__Vma *vma, struct ckpt_err *err)
{
	(void)d;
	(void)task;
	(void)err;
	if (v->flags & PROC_VMF(dp))
		vma->map = (vma->map & ~(uint32_t)MAP_PRIVATE) | MAP_DROPPABLE;
	return 0;
}

static int anon_plan(struct restore_ctx *r, const Ckpt__Mm *mm, const Ckpt__Vma *vma,
		     struct steps *s, struct ckpt_err *err)
{
	(void)r;
	(void)mm;
	(void)err;
	return plan_map(s, vma, -1, MAP_ANONYMOUS, "map anonymous memory");
}

const struct vma_kind vma_kind_anon = {
	.name = "anon",
	.match = anon_match,
	.check = refuse_flags,
	.dump = anon_dump,
	.plan = anon_plan,
	.private_pages = true,
	.inherits = true,
};

/* Private anonymous memory of huge pages has a file, but nobody else can reach it. */
static bool hugetlb_match(const struct proc_vma *v)
{
	return !v->shared && v->path && !strcmp(v->path, "/anon_hugepage (deleted)");
}

static int hugetlb_dump(struct dump_ctx *d, struct target_task *task, const struct proc_vma *v,
			Ckpt__Vma *vma, struct ckpt_err *err)
{
	unsigned int shift = 0;

	(void)d;
	(void)task;
	while (shift < 40 && 1ull << shift < v->page_kb)
		shift++;
	if (1ull << shift != v->page_kb)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "huge pages of %llu KiB",
				 (unsigned long long)v->page_kb);
	vma->map |= MAP_HUGETLB | (shift + 10) << MAP_HUGE_SHIFT;
	vma->pgoff = 0;
	return 0;
}

const struct vma_kind vma_kind_hugetlb = {
	.name = "hugetlb",
	.match = hugetlb_match,
	.check = refuse_flags,
	.dump = hugetlb_dump,
	.plan = anon_plan,
	.private_pages = true,
};

static bool shmem_match(const struct proc_vma *v)
{
	return v->path &&
	       (!strncmp(v->path, "/memfd:", 7) || !strcmp(v->path, "/dev/zero (deleted)") ||
		!strcmp(v->path, "/anon_hugepage (deleted)") ||
		!strncmp(v->path, "[anon_shmem:", 12));
}

static int shmem_dump(struct dump_ctx *d, struct target_task *task, const struct proc_vma *v,
		      Ckpt__Vma *vma, struct ckpt_err *err)
{
	auto_fd fd = proc_map_open(task->pid, v->start, v->end, O_RDONLY);
	auto_free char *link = NULL;
	int rc;

	if (fd < 0)
		return ckpt_fail_errno(err, E_FREEZE, fd, "cannot open %s", v->path);
	rc = proc_map_link(task->pid, v, &link, err);
	return rc ? rc : shmem_inode_dump(d, fd, link, &vma->object, err);
}

static int object_plan(struct restore_ctx *r, const Ckpt__Mm *mm, const Ckpt__Vma *vma,
		       struct steps *s, struct ckpt_err *err)
{
	int fd, rc = restore_object_fd(r, vma->object, &fd, err);

	(void)mm;
	return rc ? rc : plan_map(s, vma, fd, 0, "map a file");
}

const struct vma_kind vma_kind_shmem = {
	.name = "shmem",
	.match = shmem_match,
	.check = refuse_flags,
	.dump = shmem_dump,
	.plan = object_plan,
	.private_pages = true, /* when mapped privately; shared mappings have no anonymous pages */
	.backed = true,
	.inherits = true,
};

static bool file_match(const struct proc_vma *v)
{
	return v->path && v->path[0] == '/' && v->ino && !shmem_match(v);
}

/* The name in v->path may be from before it was removed. */
static bool is_nameless(const struct target_task *task, const struct proc_vma *v)
{
	auto_free char *link = NULL;
	struct ckpt_err ignore = { 0 };

	return !proc_map_link(task->pid, v, &link, &ignore) && strstr(link, " (deleted)");
}

static int file_check(struct dump_ctx *d, const struct target_task *task, const struct proc_vma *v,
		      struct ckpt_err *err)
{
	if (!strncmp(v->path, "/[aio]", 6)) {
		(void)ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				"a kernel AIO context (io_setup) cannot be saved");
		return kind_async_io_remedy(err);
	}
	if (!strcmp(v->path, "/secretmem (deleted)"))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "secret memory (memfd_secret), which nobody else can read");
	if ((v->flags & PROC_VMF(ht)) && is_nameless(task, v))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "%s: huge pages of a file without a name cannot be saved",
				 v->path);
	return refuse_flags(d, task, v, err);
}

static int file_dump(struct dump_ctx *d, struct target_task *task, const struct proc_vma *v,
		     Ckpt__Vma *vma, struct ckpt_err *err)
{
	return dump_object_mapped(d, task->pid, v, &vma->object, err);
}

const struct vma_kind vma_kind_file = {
	.name = "file",
	.match = file_match,
	.check = file_check,
	.dump = file_dump,
	.plan = object_plan,
	.private_pages = true,
	.backed = true,
	.inherits = true,
};
