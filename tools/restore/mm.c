// SPDX-License-Identifier: GPL-2.0-only
/*
 * Steps that build one address space, in two parts. restore_plan_mm() maps
 * everything and fills it; restore_finish_mm() protects and advises it as it
 * was. Children that share pages copy-on-write are cloned between the two, so
 * that they find the pages and can still write what is theirs (inherit.c).
 */
#include "restore/mm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/vec.h"
#include "model/vmaflags.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif
#ifndef SYS_mseal
#define SYS_mseal 462 /* Linux 6.10 */
#endif
#define MLOCK_ONFAULT_FLAG 1

int mm_oom(struct ckpt_err *err)
{
	return ckpt_oom(err);
}

bool mm_special(const Ckpt__Vma *v)
{
	const struct vma_kind *kind = vma_kind_by_name(v->kind);

	return kind && kind->keep_prot;
}

static bool has_data(const struct mm_runs *runs, uint64_t start, uint64_t end)
{
	for (size_t i = mm_runs_find(runs, start); i < runs->n && runs->v[i].start < end; i++)
		if (runs->v[i].kind == CKPT_RUN_DATA)
			return true;
	return false;
}

int mm_map(struct restore_ctx *r, const Ckpt__Mm *mm, size_t at, uint64_t start, uint64_t end,
	   struct steps *s, struct ckpt_err *err)
{
	Ckpt__Vma v = *mm->vmas[at];
	const struct vma_kind *kind = vma_kind_by_name(v.kind);
	int rc;

	if (!kind)
		return ckpt_fail(err, E_IMAGE_VERSION, -EPROTO, "a mapping of unknown kind \"%s\"",
				 v.kind);
	v.pgoff += start - v.start;
	v.start = start;
	v.end = end;
	if (!(v.prot & PROT_WRITE) && !(v.map & MAP_SHARED) && !kind->keep_prot &&
	    has_data(&r->runs[mm->id - 1], start, end))
		v.prot |= PROT_WRITE;
	if (v.prot != mm->vmas[at]->prot)
		r->mm_prot[mm->id - 1][at] = MM_PROT_OTHER;
	rc = kind->plan(r, mm, &v, s, err);
	if (rc)
		return ckpt_ctx(err, "mapping %#llx-%#llx (%s)", (unsigned long long)start,
				(unsigned long long)end, v.kind);
	return 0;
}

int mm_fill_data(struct mm_fill *fill, const struct mm_runs *runs, uint64_t start, uint64_t end)
{
	for (size_t i = mm_runs_find(runs, start); i < runs->n && runs->v[i].start < end; i++) {
		const struct mm_run *run = &runs->v[i];
		uint64_t from = run->start > start ? run->start : start;
		uint64_t to = run->end < end ? run->end : end;

		if (run->kind == CKPT_RUN_DATA &&
		    mm_fill_add(fill, from, to, run->off + from - run->start))
			return -ENOMEM;
	}
	return 0;
}

static int plan_fresh(struct restore_ctx *r, const Ckpt__Mm *mm, struct steps *s,
		      struct ckpt_err *err)
{
	const struct mm_runs *runs = &r->runs[mm->id - 1];
	struct mm_fill fill = { 0 };
	int rc = 0;

	for (size_t i = 0; !rc && i < mm->n_vmas; i++)
		rc = mm_map(r, mm, i, mm->vmas[i]->start, mm->vmas[i]->end, s, err);
	for (size_t i = 0; !rc && i < mm->n_vmas; i++) {
		const Ckpt__Vma *v = mm->vmas[i];

		if (mm_fill_vma(&fill, runs, v))
			rc = mm_oom(err);
	}
	if (!rc)
		rc = mm_fill_plan(r, &fill, s, err);
	mm_fill_free(&fill);
	return rc;
}

/* Memory that was moved out of @base's way: the vDSO goes back to where fresh tasks find it. */
static int plan_repark(struct restore_ctx *r, const Ckpt__Mm *base, struct steps *s)
{
	uint64_t arena = r->arena.remote, end = r->parked.area + r->parked.area_len;

	for (size_t i = 0; i < base->n_vmas; i++) {
		const Ckpt__Vma *v = base->vmas[i];
		uint64_t at, len;

		if (!r->parked.stay && mm_special(v) && v->name &&
		    restore_parked(r, v->name, &at, &len))
			(void)steps_call(s, "park the vDSO", SYS_mremap, v->start, len, len,
					 MREMAP_MAYMOVE | MREMAP_FIXED, at);
	}
	(void)steps_call(s, "leave the parent's memory", SYS_munmap, 0, arena);
	(void)steps_call(s, "leave the parent's memory", SYS_munmap, end, ARCH_TASK_SIZE - end);
	return 0;
}

int restore_plan_mm(struct restore_ctx *r, const Ckpt__Mm *mm, const Ckpt__Mm *base,
		    struct steps *s, struct ckpt_err *err)
{
	uint32_t **prot = &r->mm_prot[mm->id - 1];

	*prot = calloc(mm->n_vmas + 1, sizeof(**prot));
	if (!*prot)
		return mm_oom(err);
	for (size_t i = 0; i < mm->n_vmas; i++)
		(*prot)[i] = mm->vmas[i]->prot;
	if (base && (mm_is_warm(r, base) || mm_same_specials(mm, base)))
		return mm_inherit(r, mm, base, s, err);
	if (base)
		(void)plan_repark(r, base, s);
	return plan_fresh(r, mm, s, err);
}

static void plan_advice(const Ckpt__Vma *v, struct steps *s)
{
	uint64_t len = v->end - v->start;

	for (size_t i = 0; i < VMA_FLAG_COUNT; i++)
		if ((v->flags >> i) & 1 && vma_flags[i].advice >= 0)
			(void)steps_call(s, "madvise", SYS_madvise, v->start, len,
					 (uint64_t)vma_flags[i].advice);
	if (v->flags & VMA_FLAG_LOCKED)
		(void)steps_call(s, "mlock2", SYS_mlock2, v->start, len,
				 v->flags & VMA_FLAG_LOCKONFAULT ? MLOCK_ONFAULT_FLAG : 0);
	/* Kernels without CONFIG_ANON_VMA_NAME refuse it, and then showed none at the dump. */
	if (v->name && !v->object && v->name[0] != '[')
		(void)steps_try(s, "name memory", SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME,
				v->start, len, steps_str(s, v->name));
}

int restore_finish_mm(struct restore_ctx *r, const Ckpt__Mm *mm, struct steps *s,
		      struct ckpt_err *err)
{
	const struct mm_runs *runs = &r->runs[mm->id - 1];
	const uint32_t *prot = r->mm_prot[mm->id - 1];

	(void)err;
	/* Before mlock: a locked mapping takes no guards. */
	for (size_t i = 0; i < runs->n; i++)
		if (runs->v[i].kind == CKPT_RUN_GUARD)
			(void)steps_call(s, "install guard pages (Linux 6.13)", SYS_madvise,
					 runs->v[i].start, runs->v[i].end - runs->v[i].start,
					 MADV_GUARD_INSTALL);
	for (size_t i = 0; i < mm->n_vmas; i++) {
		const Ckpt__Vma *v = mm->vmas[i];

		if (mm_special(v))
			continue;
		plan_advice(v, s);
		if (prot[i] != v->prot)
			(void)steps_call(s, "protect memory", SYS_mprotect, v->start,
					 v->end - v->start, v->prot);
		if (v->flags & VMA_FLAG_SEALED)
			(void)steps_call(s, "seal memory (Linux 6.10)", SYS_mseal, v->start,
					 v->end - v->start, 0);
	}
	return 0;
}
