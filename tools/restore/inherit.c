// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process cloned from a parent whose memory is already built: it keeps the
 * mappings that are the same, and with them the pages that both share
 * copy-on-write; it unmaps the rest, maps what is its own, writes the pages
 * that differ and drops those it does not have.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/vec.h"
#include "restore/mm.h"

/* A part of a mapping of ours: kept from the parent, or to be mapped. */
struct piece {
	uint64_t start, end;
	size_t vma;
	bool kept;
	uint32_t prot; /* kept: what it has now */
	bool writes;   /* kept: it gets pages of its own */
};

struct inherit {
	struct restore_ctx *r;
	const Ckpt__Mm *mm, *base;
	struct {
		struct piece *v;
		size_t n, cap;
	} pieces;
	struct mm_fill fill;
	struct {
		struct {
			uint64_t start, end;
		} * v;
		size_t n, cap;
	} drops;
};

static const Ckpt__Vma *next_special(const Ckpt__Mm *mm, size_t *at)
{
	while (*at < mm->n_vmas) {
		const Ckpt__Vma *v = mm->vmas[(*at)++];

		if (mm_special(v))
			return v;
	}
	return NULL;
}

bool mm_same_specials(const Ckpt__Mm *a, const Ckpt__Mm *b)
{
	size_t i = 0, k = 0;

	for (;;) {
		const Ckpt__Vma *x = next_special(a, &i), *y = next_special(b, &k);

		if (!x || !y)
			return !x && !y;
		if (x->start != y->start || x->end != y->end || strcmp(x->kind, y->kind) != 0)
			return false;
	}
}

/* May a part of @v go on as what @b was in the parent? */
static bool compatible(const Ckpt__Vma *v, const Ckpt__Vma *b)
{
	const struct vma_kind *kind = vma_kind_by_name(v->kind);

	if (!kind || !kind->inherits || strcmp(v->kind, b->kind) != 0 || v->object != b->object ||
	    v->map != b->map)
		return false;
	return !v->object || v->start - v->pgoff == b->start - b->pgoff;
}

static int piece_add(struct inherit *in, uint64_t start, uint64_t end, size_t vma, bool kept,
		     uint32_t prot)
{
	struct piece *p;

	if (start >= end)
		return 0;
	p = vec_push(&in->pieces);
	if (!p)
		return -ENOMEM;
	*p = (struct piece) { .start = start, .end = end, .vma = vma, .kept = kept, .prot = prot };
	return 0;
}

/* Cut mapping @at into pieces by what the parent has there; *cursor moves over its mappings. */
static int cut(struct inherit *in, size_t at, size_t *cursor)
{
	const Ckpt__Vma *v = in->mm->vmas[at];
	size_t first = in->pieces.n;
	uint64_t done = v->start;
	int rc = 0;

	while (*cursor < in->base->n_vmas && in->base->vmas[*cursor]->end <= v->start)
		(*cursor)++;
	for (size_t i = *cursor; !rc && i < in->base->n_vmas && in->base->vmas[i]->start < v->end;
	     i++) {
		const Ckpt__Vma *b = in->base->vmas[i];
		uint64_t from = b->start > v->start ? b->start : v->start;
		uint64_t to = b->end < v->end ? b->end : v->end;

		if (!mm_special(v) && !compatible(v, b))
			continue;
		rc = piece_add(in, done, from, at, false, 0);
		if (!rc)
			rc = piece_add(in, from, to, at, true, in->r->mm_prot[in->base->id - 1][i]);
		done = to;
	}
	if (!rc)
		rc = piece_add(in, done, v->end, at, false, 0);
	/* A mapping that came from a parent never merges with another one, so it would stay cut:
	 * mremap() and others want it whole. In a task of our own making the kernel merges. */
	if (!rc && in->pieces.n > first + 1 && !mm_is_warm(in->r, in->base)) {
		in->pieces.n = first;
		rc = piece_add(in, v->start, v->end, at, false, 0);
	}
	return rc;
}

/* Unmap [start, end), if the parent has anything there. */
static void leave(struct inherit *in, uint64_t start, uint64_t end, size_t *cursor, struct steps *s)
{
	const Ckpt__Mm *b = in->base;

	while (*cursor < b->n_vmas && b->vmas[*cursor]->end <= start)
		(*cursor)++;
	if (start < end && *cursor < b->n_vmas && b->vmas[*cursor]->start < end)
		(void)steps_call(s, "leave the parent's memory", SYS_munmap, start, end - start);
}

/* Everything but the kept pieces; the arena is in no mapping of the parent's image. */
static void plan_leave(struct inherit *in, struct steps *s)
{
	/* The parking area is behind the arena; is anything left in it? */
	uint64_t arena_end = in->r->arena.remote + in->r->arena.size +
			     (in->r->parked.stay ? in->r->parked.area_len : 0);
	uint64_t at = 0;
	size_t cursor = 0;

	for (size_t i = 0; i < in->pieces.n; i++) {
		const struct piece *p = &in->pieces.v[i];

		if (!p->kept)
			continue;
		/* The arena is never inside a range that is unmapped. */
		if (at < in->r->arena.remote && p->start > in->r->arena.remote) {
			leave(in, at, in->r->arena.remote, &cursor, s);
			at = arena_end;
		}
		leave(in, at, p->start, &cursor, s);
		at = p->end;
	}
	if (at < in->r->arena.remote) {
		leave(in, at, in->r->arena.remote, &cursor, s);
		at = arena_end;
	}
	if (at < ARCH_TASK_SIZE)
		leave(in, at, ARCH_TASK_SIZE, &cursor, s);
}

static int drop(struct inherit *in, uint64_t start, uint64_t end)
{
	__typeof__(in->drops.v) last = in->drops.n ? &in->drops.v[in->drops.n - 1] : NULL;

	if (last && last->end == start) {
		last->end = end;
		return 0;
	}
	last = vec_push(&in->drops);
	if (!last)
		return -ENOMEM;
	last->start = start;
	last->end = end;
	return 0;
}

/* The run that holds @at, or NULL; *ret_until is how far the answer holds. */
static const struct mm_run *run_at(const struct mm_runs *l, size_t *i, uint64_t at,
				   uint64_t *ret_until)
{
	while (*i < l->n && l->v[*i].end <= at)
		(*i)++;
	if (*i >= l->n)
		return NULL;
	if (l->v[*i].start > at) {
		if (l->v[*i].start < *ret_until)
			*ret_until = l->v[*i].start;
		return NULL;
	}
	if (l->v[*i].end < *ret_until)
		*ret_until = l->v[*i].end;
	return &l->v[*i];
}

/* How the pages of a kept piece differ from the parent's. */
static int differ(struct inherit *in, struct piece *p)
{
	const struct mm_runs *ours = &in->r->runs[in->mm->id - 1];
	const struct mm_runs *theirs = &in->r->runs[in->base->id - 1];
	size_t i = mm_runs_find(ours, p->start), k = mm_runs_find(theirs, p->start);
	int rc = 0;

	for (uint64_t at = p->start, until; !rc && at < p->end; at = until) {
		const struct mm_run *a, *b;

		until = p->end;
		a = run_at(ours, &i, at, &until);
		b = run_at(theirs, &k, at, &until);
		if (b && b->kind != CKPT_RUN_DATA)
			b = NULL;
		if (a && a->kind == CKPT_RUN_DATA) {
			uint64_t off = a->off + at - a->start;

			if (b && b->off + at - b->start == off)
				continue;
			p->writes = true;
			rc = mm_fill_add(&in->fill, at, until, off);
		} else if (b) {
			rc = drop(in, at, until);
		}
	}
	return rc;
}

static int plan_pieces(struct inherit *in, struct steps *s, struct ckpt_err *err)
{
	const struct mm_runs *runs = &in->r->runs[in->mm->id - 1];
	uint32_t *prot = in->r->mm_prot[in->mm->id - 1];

	for (size_t i = 0; i < in->pieces.n; i++) {
		struct piece *p = &in->pieces.v[i];
		const Ckpt__Vma *v = in->mm->vmas[p->vma];
		int rc = 0;

		/* A task that was made before the image was known has them in the parking area. */
		if (mm_special(v) && p->kept)
			continue;
		if (!p->kept) {
			rc = mm_map(in->r, in->mm, p->vma, p->start, p->end, s, err);
			if (rc)
				return rc;
			rc = mm_fill_data(&in->fill, runs, p->start, p->end);
		} else if (!(v->map & MAP_SHARED)) {
			rc = differ(in, p);
		}
		if (rc)
			return mm_oom(err);
		if (p->kept && p->prot != v->prot)
			prot[p->vma] = MM_PROT_OTHER;
		if (p->writes && (p->prot == MM_PROT_OTHER || !(p->prot & PROT_WRITE))) {
			(void)steps_call(s, "open memory", SYS_mprotect, p->start,
					 p->end - p->start, v->prot | PROT_WRITE);
			if (!(v->prot & PROT_WRITE) || p->prot != v->prot)
				prot[p->vma] = MM_PROT_OTHER;
		}
	}
	for (size_t i = 0; i < in->drops.n; i++)
		(void)steps_call(s, "drop pages of the parent", SYS_madvise, in->drops.v[i].start,
				 in->drops.v[i].end - in->drops.v[i].start, MADV_DONTNEED);
	return mm_fill_plan(in->r, &in->fill, s, err);
}

int mm_inherit(struct restore_ctx *r, const Ckpt__Mm *mm, const Ckpt__Mm *base, struct steps *s,
	       struct ckpt_err *err)
{
	struct inherit in = { .r = r, .mm = mm, .base = base };
	size_t cursor = 0;
	int rc = 0;

	for (size_t i = 0; !rc && i < mm->n_vmas; i++)
		if (mm->vmas[i]->start < ARCH_TASK_SIZE)
			rc = cut(&in, i, &cursor);
	if (rc)
		rc = mm_oom(err);
	if (!rc) {
		plan_leave(&in, s);
		rc = plan_pieces(&in, s, err);
	}
	vec_free(&in.pieces);
	vec_free(&in.drops);
	mm_fill_free(&in.fill);
	return rc;
}
