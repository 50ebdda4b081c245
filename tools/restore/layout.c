// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the arena goes: one range that is free in every address space of the
 * image and in ckpt, so that every task-to-be sees it at the same address.
 * Behind it is the parking area for this kernel's vDSO and vvar.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/user.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/vec.h"
#include "kern/arch.h"
#include "kern/procfs.h"
#include "kern/vdso.h"
#include "restore/restore.h"

#define LOWEST 0x10000000ull
#define HIGHEST 0x7f0000000000ull
#define DISTANCE (64ull << 20) /* from the next mapping: stacks grow, heaps too */

struct range {
	uint64_t start, end;
};
struct ranges {
	struct range *v;
	size_t n, cap;
};

static int range_cmp(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static int add(struct ranges *l, uint64_t start, uint64_t end)
{
	struct range *r = vec_push(l);

	if (!r)
		return -ENOMEM;
	r->start = start;
	r->end = end;
	return 0;
}

static int add_own(struct restore_ctx *r, struct ranges *l)
{
	auto_file FILE *f = fopen("/proc/self/maps", "re");
	auto_free char *line = NULL;
	size_t cap = 0;

	if (!f)
		return -errno;
	while (getline(&line, &cap, f) > 0) {
		unsigned long start, end;
		struct parked *p;
		const char *name;
		size_t name_len;

		if (sscanf(line, "%lx-%lx", &start, &end) != 2)
			continue;
		if (add(l, start, end))
			return -ENOMEM;
		name = proc_map_name(line, &name_len);
		if ((strncmp(name, "[vdso]", 6) != 0 && strncmp(name, "[vvar", 5) != 0) ||
		    r->parked.n == ARRAY_SIZE(r->parked.v))
			continue;
		p = &r->parked.v[r->parked.n++];
		(void)snprintf(p->name, sizeof(p->name), "%.*s", (int)name_len, name);
		p->from = start;
		p->len = end - start;
		p->at = r->parked.area_len; /* relative until the area is known */
		r->parked.area_len += p->len;
	}
	return 0;
}

/* A generous bound of what plan.c will write; untouched pages cost nothing. */
static uint64_t arena_bytes(const struct restore_ctx *r)
{
	const struct image *img = r->img;
	uint64_t n = 4u << 20, most = 0, data = 0;

	for (size_t i = 0; i < img->tasks.n; i++) {
		n += 64u << 10;
		n += img->tasks.v[i]->n_threads * (16u << 10);
		if (img->tasks.v[i]->fdtable)
			n += img->tables.v[img->tasks.v[i]->fdtable - 1]->n_fds * 1024;
		if (img->tasks.v[i]->mm)
			n += img->mms.v[img->tasks.v[i]->mm - 1]->n_vmas * 2048;
	}
	/* Parts to fill; and a child may drop as many pieces as its parent has runs. */
	for (size_t i = 0; r->runs && i < img->mms.n; i++) {
		if (r->runs[i].n > most)
			most = r->runs[i].n;
		for (size_t k = 0; k < r->runs[i].n; k++)
			data += r->runs[i].v[k].end - r->runs[i].v[k].start;
		n += r->runs[i].n * 256;
	}
	n += (img->mms.n - 1) * most * 128 + (data >> 20) * 64;
	for (size_t i = 0; i < img->objects.n; i++)
		n += img->objects.v[i]->state->body.len * 2 + 256;
	return (n + (2u << 20) - 1) & ~((2ull << 20) - 1);
}

/* Threads that were inside the old code find neither its data nor its beginning. */
static int check_inside(struct restore_ctx *r, struct ckpt_err *err)
{
	for (size_t i = 0; i < r->img->tasks.n; i++) {
		const Ckpt__Task *t = r->img->tasks.v[i];
		const Ckpt__Mm *mm = t->zombie ? NULL : r->img->mms.v[t->mm - 1];

		for (size_t k = 0; mm && k < mm->n_vmas; k++) {
			const Ckpt__Vma *v = mm->vmas[k];

			if (strcmp(v->kind, "vdso") != 0)
				continue;
			for (size_t n = 0; n < t->n_threads; n++) {
				struct user_regs_struct regs;

				if (t->threads[n]->ended)
					continue;
				memcpy(&regs, t->threads[n]->regs.data, sizeof(regs));
				if (regs.rip >= v->start && regs.rip < v->end)
					return ckpt_fail(err, E_KERNEL, -EOPNOTSUPP,
							 "thread %d was inside the vDSO of another "
							 "kernel when it was saved",
							 t->threads[n]->tid);
			}
		}
	}
	return 0;
}

/* For tests: not a failure, but any vDSO is taken for a foreign one. */
#define VDSO_SWITCH "restore.vdso"

int restore_vdso_check(struct restore_ctx *r, struct ckpt_err *err)
{
	const ProtobufCBinaryData *old = &r->img->inv->vdso;
	size_t len;
	const unsigned char *own = vdso_own(&len);

	r->parked.stay = own && old->len && (old->len != len || memcmp(old->data, own, len) != 0);
	if (own && old->len && ckpt_fault(VDSO_SWITCH))
		r->parked.stay = true;
	return r->parked.stay ? check_inside(r, err) : 0;
}

int restore_arena_map(struct restore_ctx *r, struct ckpt_err *err)
{
	struct ranges l = { 0 };
	uint64_t size = arena_bytes(r) + r->arena_more, at = 0, best = 0, last = LOWEST;
	int rc = add_own(r, &l);

	for (size_t i = 0; !rc && i < r->img->mms.n; i++)
		for (size_t k = 0; !rc && k < r->img->mms.v[i]->n_vmas; k++)
			rc = add(&l, r->img->mms.v[i]->vmas[k]->start,
				 r->img->mms.v[i]->vmas[k]->end);
	if (!rc)
		rc = add(&l, HIGHEST, HIGHEST);
	if (rc) {
		vec_free(&l);
		return ckpt_fail_errno(err, E_RESTORE, rc, "cannot lay out the arena");
	}
	qsort(l.v, l.n, sizeof(*l.v), range_cmp);
	for (size_t i = 0; i < l.n && l.v[i].start <= HIGHEST; i++) {
		if (l.v[i].start > last && l.v[i].start - last > best) {
			best = l.v[i].start - last;
			at = last;
		}
		if (l.v[i].end > last)
			last = l.v[i].end;
	}
	vec_free(&l);
	if (best < size + r->parked.area_len + 2 * DISTANCE)
		return ckpt_fail(err, E_RESTORE, -ENOMEM,
				 "no range of %llu MiB is free in all address spaces",
				 (unsigned long long)(size >> 20));
	at = (at + best / 2 - size / 2) & ~((2ull << 20) - 1);
	r->arena_map =
		mmap((void *)at, size, PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (r->arena_map == MAP_FAILED) {
		r->arena_map = NULL;
		return ckpt_fail_errno(err, E_NOMEM, -errno, "cannot map an arena of %llu MiB",
				       (unsigned long long)(size >> 20));
	}
	arena_init(&r->arena, r->arena_map, at, size);
	r->parked.area = at + size;
	for (size_t i = 0; i < r->parked.n; i++)
		r->parked.v[i].at += r->parked.area;
	return arena_own(&r->arena, false, err);
}

int restore_arena_check(struct restore_ctx *r, struct ckpt_err *err)
{
	uint64_t start = r->arena.remote, end = r->parked.area + r->parked.area_len;

	for (size_t i = 0; i < r->img->mms.n; i++)
		for (size_t k = 0; k < r->img->mms.v[i]->n_vmas; k++) {
			const Ckpt__Vma *v = r->img->mms.v[i]->vmas[k];

			if (v->start < end && v->end > start)
				return ckpt_fail(err, E_RESTORE, -EEXIST,
						 "the mapping at %#llx came where ckpt works",
						 (unsigned long long)v->start);
		}
	return 0;
}

void restore_arena_unmap(struct restore_ctx *r)
{
	if (!r->arena_map)
		return;
	arena_disown(&r->arena);
	(void)munmap(r->arena_map, r->arena.size);
	r->arena_map = NULL;
}

bool restore_vdso_foreign(struct restore_ctx *r)
{
	return r->parked.stay;
}

int restore_vdso_stubs(struct restore_ctx *r, uint64_t *ret_addr, uint64_t *ret_len,
		       struct ckpt_err *err)
{
	const ProtobufCBinaryData *old = &r->img->inv->vdso;
	size_t len;
	const unsigned char *own = vdso_own(&len);
	uint64_t at, at_len;

	*ret_len = old->len;
	*ret_addr = r->parked.stubs;
	if (*ret_addr)
		return 0;
	if (!own || old->len > VDSO_MAX_BYTES || !restore_parked(r, "[vdso]", &at, &at_len))
		return ckpt_fail(err, E_KERNEL, -EOPNOTSUPP, "this kernel has no vDSO to call");
	r->parked.stubs = *ret_addr = arena_put(&r->arena, old->data, old->len);
	if (!*ret_addr)
		return ckpt_fail(err, E_NOMEM, -ENOSPC, "the arena is too small");
	return vdso_redirect(arena_local(&r->arena, *ret_addr), old->len, own, len, at, err);
}

bool restore_parked(struct restore_ctx *r, const char *name, uint64_t *ret_addr, uint64_t *ret_len)
{
	for (size_t i = 0; i < r->parked.n; i++) {
		if (strcmp(r->parked.v[i].name, name) != 0)
			continue;
		*ret_addr = r->parked.v[i].at;
		*ret_len = r->parked.v[i].len;
		return true;
	}
	return false;
}
