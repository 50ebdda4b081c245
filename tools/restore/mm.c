// SPDX-License-Identifier: GPL-2.0-only
/*
 * Steps that build one address space: map everything, fill it, then protect
 * and advise it as it was. Filling comes between the two because it needs to
 * write, and because some advice changes what writing costs.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "model/vmaflags.h"
#include "restore/restore.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#define MLOCK_ONFAULT_FLAG 1

/* Is there data to be written into [start, end)? Runs and mappings both ascend: *cursor moves on.
 */
static bool has_data(const Ckpt__PageMap *const *maps, size_t nmaps, uint64_t start, uint64_t end,
		     size_t *map, size_t *run)
{
	for (; *map < nmaps; (*map)++, *run = 0) {
		const struct ckpt_page_run *r = (const void *)maps[*map]->runs.data;
		size_t n = maps[*map]->runs.len / sizeof(*r);

		for (; *run < n; (*run)++) {
			if (r[*run].vaddr >= end)
				return false;
			if (r[*run].vaddr + (uint64_t)r[*run].npages * CKPT_PAGE > start &&
			    r[*run].kind == CKPT_RUN_DATA)
				return true;
		}
	}
	return false;
}

static int plan_fill(struct restore_ctx *r, const Ckpt__PageMap *const *maps, size_t nmaps,
		     struct steps *s)
{
	for (size_t i = 0; i < nmaps; i++) {
		const struct ckpt_page_run *run = (const void *)maps[i]->runs.data;

		for (size_t k = 0; k < maps[i]->runs.len / sizeof(*run); k++) {
			if (run[k].kind != CKPT_RUN_DATA)
				continue;
			(void)steps_add(
				s,
				&(struct ckpt_step) { .op = CKPT_OP_READ,
						      .arg = { (uint64_t)r->pages_fd, run[k].vaddr,
							       (uint64_t)run[k].npages * CKPT_PAGE,
							       run[k].off } },
				i + k ? NULL : "fill memory");
		}
	}
	return 0;
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

static bool prot_opened(const Ckpt__Vma *v, bool data)
{
	return data && !(v->prot & PROT_WRITE) && !(v->map & MAP_SHARED);
}

int restore_plan_mm(struct restore_ctx *r, const Ckpt__Mm *mm, struct steps *s,
		    struct ckpt_err *err)
{
	const Ckpt__PageMap **maps = calloc(r->img->maps.n + 1, sizeof(*maps));
	size_t nmaps = 0, map = 0, run = 0;
	bool *opened = calloc(mm->n_vmas + 1, sizeof(*opened));
	int rc = maps && opened ? 0 : ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");

	for (size_t i = 0; !rc && i < r->img->maps.n; i++)
		if (r->img->maps.v[i]->mm == mm->id)
			maps[nmaps++] = r->img->maps.v[i];
	for (size_t i = 0; !rc && i < mm->n_vmas; i++) {
		Ckpt__Vma v = *mm->vmas[i];
		const struct vma_kind *kind = vma_kind_by_name(v.kind);

		if (!kind) {
			rc = ckpt_fail(err, E_IMAGE_VERSION, -EPROTO,
				       "a mapping of unknown kind \"%s\"", v.kind);
			break;
		}
		opened[i] = prot_opened(&v, has_data(maps, nmaps, v.start, v.end, &map, &run));
		if (opened[i])
			v.prot |= PROT_WRITE;
		rc = kind->plan(r, mm, &v, s, err);
		if (rc)
			(void)ckpt_ctx(err, "mapping %#llx-%#llx (%s)", (unsigned long long)v.start,
				       (unsigned long long)v.end, v.kind);
	}
	if (!rc)
		rc = plan_fill(r, maps, nmaps, s);
	for (size_t i = 0; !rc && i < mm->n_vmas; i++) {
		const Ckpt__Vma *v = mm->vmas[i];

		if (vma_kind_by_name(v->kind)->keep_prot)
			continue;
		plan_advice(v, s);
		if (opened[i])
			(void)steps_call(s, "protect memory", SYS_mprotect, v->start,
					 v->end - v->start, v->prot);
	}
	free(maps);
	free(opened);
	return rc;
}
