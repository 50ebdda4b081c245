// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's own mappings. They are not saved: the restoring kernel's are moved
 * to where the program had them. When the image is of another kernel they stay aside, and the
 * functions of the old vDSO, whose addresses the program knows, jump to those of the new one.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "kind/vma/kinds.h"

static bool vdso_match(const struct proc_vma *v)
{
	return v->path && !strcmp(v->path, "[vdso]");
}

static bool vvar_match(const struct proc_vma *v)
{
	return v->path && !strncmp(v->path, "[vvar", 5);
}

static bool vsyscall_match(const struct proc_vma *v)
{
	return v->path && !strcmp(v->path, "[vsyscall]");
}

static int special_dump(struct dump_ctx *d, struct target_task *task, const struct proc_vma *v,
			Ckpt__Vma *vma, struct ckpt_err *err)
{
	(void)d;
	(void)task;
	vma->name = strdup(v->path);
	return vma->name ? 0 : ckpt_oom(err);
}

/* Code of the image's kernel at its place, each function of which calls the one of this kernel. */
static int stubs_plan(struct restore_ctx *r, const Ckpt__Vma *vma, struct steps *s,
		      struct ckpt_err *err)
{
	uint64_t len = vma->end - vma->start, from, from_len;
	int rc;

	if (strcmp(vma->name, "[vdso]") != 0)
		return 0; /* only the vDSO's own code looks at its data */
	rc = restore_vdso_stubs(r, &from, &from_len, err);
	if (rc)
		return rc;
	if (from_len != len)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "its vDSO has another size");
	(void)steps_add(
		s,
		&(struct ckpt_step) { .op = CKPT_OP_SYSCALL,
				      .nr = SYS_mmap,
				      .flags = CKPT_STEP_EXPECT,
				      .want = (int64_t)vma->start,
				      .arg = { vma->start, len, PROT_READ | PROT_WRITE,
					       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
					       (uint64_t)-1, 0 } },
		"map the vDSO's stubs");
	(void)steps_add(
		s, &(struct ckpt_step) { .op = CKPT_OP_COPY, .arg = { vma->start, from, len } },
		"copy the vDSO's stubs");
	(void)steps_call(s, "protect the vDSO's stubs", SYS_mprotect, vma->start, len,
			 PROT_READ | PROT_EXEC);
	return 0;
}

static int special_plan(struct restore_ctx *r, const Ckpt__Mm *mm, const Ckpt__Vma *vma,
			struct steps *s, struct ckpt_err *err)
{
	uint64_t from, len;

	(void)mm;
	if (restore_vdso_foreign(r))
		return stubs_plan(r, vma, s, err);
	if (!restore_parked(r, vma->name, &from, &len) || len != vma->end - vma->start)
		return ckpt_fail(err, E_KERNEL, -EOPNOTSUPP,
				 "this kernel's %s differs from that of the image's kernel",
				 vma->name);
	(void)steps_add(
		s,
		&(struct ckpt_step) {
			.op = CKPT_OP_SYSCALL,
			.nr = SYS_mremap,
			.flags = CKPT_STEP_EXPECT,
			.want = (int64_t)vma->start,
			.arg = { from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, vma->start } },
		"move the vDSO");
	return 0;
}

static int vsyscall_plan(struct restore_ctx *r, const Ckpt__Mm *mm, const Ckpt__Vma *vma,
			 struct steps *s, struct ckpt_err *err)
{
	(void)r;
	(void)mm;
	(void)vma;
	(void)s;
	(void)err;
	return 0; /* at a fixed address in every process */
}

const struct vma_kind vma_kind_vdso = {
	.name = "vdso",
	.match = vdso_match,
	.dump = special_dump,
	.plan = special_plan,
	.keep_prot = true,
};
const struct vma_kind vma_kind_vvar = {
	.name = "vvar",
	.match = vvar_match,
	.dump = special_dump,
	.plan = special_plan,
	.keep_prot = true,
};
const struct vma_kind vma_kind_vsyscall = {
	.name = "vsyscall",
	.match = vsyscall_match,
	.plan = vsyscall_plan,
	.keep_prot = true,
};
