// SPDX-License-Identifier: GPL-2.0-only
#include "image/diff.h"

#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/vec.h"
#include "image/chain.h"

/* All pages of an address space in one ascending list; shared ones where they are. */
static int flatten(const struct image *img, uint32_t mm, struct run_list *ret)
{
	struct image_maps maps = { 0 };
	struct chain_map own;
	int rc = 0;

	if (!mm)
		return 0;
	maps = image_maps_of_mm(img, mm);
	chain_map_init(&own, img, mm);
	for_each_image_run(r, maps)
	{
		struct ckpt_page_run run = *r;

		if (rc || run.kind == CKPT_RUN_GUARD)
			continue;
		/* chain_resolve() speaks as a child would: one ancestor further. */
		if (run.kind == CKPT_RUN_SHARED) {
			size_t at = ret->n;

			rc = chain_resolve(&own, run.vaddr, run.npages, ret);
			for (; !rc && at < ret->n; at++)
				if (ret->v[at].kind == CKPT_RUN_PARENT) {
					ret->v[at].kind = CKPT_RUN_DATA;
					ret->v[at].off -= 1ull << CKPT_RUN_SOURCE_SHIFT;
				}
			continue;
		}
		rc = run_list_add(ret, &run);
	}
	return rc;
}

struct side {
	const struct image *img;
	struct run_list l;
	size_t at;
	unsigned char *buf;
};

/* The run that holds @addr, or the start of the next behind it. */
static const struct ckpt_page_run *side_at(struct side *s, uint64_t addr, uint64_t *ret_until)
{
	while (s->at < s->l.n &&
	       s->l.v[s->at].vaddr + (uint64_t)s->l.v[s->at].npages * CKPT_PAGE <= addr)
		s->at++;
	if (s->at == s->l.n) {
		*ret_until = UINT64_MAX;
		return NULL;
	}
	if (s->l.v[s->at].vaddr > addr) {
		*ret_until = s->l.v[s->at].vaddr;
		return NULL;
	}
	*ret_until = s->l.v[s->at].vaddr + (uint64_t)s->l.v[s->at].npages * CKPT_PAGE;
	return &s->l.v[s->at];
}

static int side_read(struct side *s, const struct ckpt_page_run *r, uint64_t addr, uint64_t bytes)
{
	uint64_t off = r->off + (addr - r->vaddr);

	if (r->kind == CKPT_RUN_ZERO) {
		memset(s->buf, 0, bytes);
		return 0;
	}
	return page_file_read(&s->img->sources.v[ckpt_run_source(off)].pages, s->buf, bytes,
			      ckpt_run_off(off));
}

static bool same_place(const struct side *a, const struct ckpt_page_run *x, const struct side *b,
		       const struct ckpt_page_run *y, uint64_t addr)
{
	uint64_t p = x->off + (addr - x->vaddr), q = y->off + (addr - y->vaddr);

	if (x->kind != y->kind)
		return false;
	return x->kind == CKPT_RUN_ZERO || (ckpt_run_off(p) == ckpt_run_off(q) &&
					    !memcmp(a->img->sources.v[ckpt_run_source(p)].id,
						    b->img->sources.v[ckpt_run_source(q)].id, 16));
}

struct diff_walk {
	struct side a, b;
	void (*changed)(void *arg, uint64_t addr, uint64_t npages);
	void *arg;
	struct image_diff *d;
	uint64_t run, end; /* changed pages not yet told */
};

static void tell(struct diff_walk *w, uint64_t addr, uint64_t npages)
{
	if (w->run != w->end && w->end == addr) {
		w->end += npages * CKPT_PAGE;
		return;
	}
	if (w->run != w->end && w->changed)
		w->changed(w->arg, w->run, (w->end - w->run) / CKPT_PAGE);
	w->run = addr;
	w->end = addr + npages * CKPT_PAGE;
}

/* [addr, +bytes), at most a block, is in both. */
static int compare(struct diff_walk *w, const struct ckpt_page_run *x,
		   const struct ckpt_page_run *y, uint64_t addr, uint64_t bytes)
{
	int rc = side_read(&w->a, x, addr, bytes);

	if (!rc)
		rc = side_read(&w->b, y, addr, bytes);
	if (rc)
		return rc;
	w->d->read += bytes / CKPT_PAGE;
	for (uint64_t i = 0; i < bytes; i += CKPT_PAGE) {
		if (!memcmp(w->a.buf + i, w->b.buf + i, CKPT_PAGE)) {
			w->d->same++;
			continue;
		}
		w->d->changed++;
		tell(w, addr + i, 1);
	}
	return 0;
}

static int walk(struct diff_walk *w)
{
	uint64_t addr = 0;

	for (;;) {
		uint64_t ua, ub, until, n;
		const struct ckpt_page_run *x = side_at(&w->a, addr, &ua);
		const struct ckpt_page_run *y = side_at(&w->b, addr, &ub);
		int rc = 0;

		until = ua < ub ? ua : ub;
		if (!x && !y && until == UINT64_MAX)
			return 0;
		n = (until - addr) / CKPT_PAGE;
		if (x && y && same_place(&w->a, x, &w->b, y, addr)) {
			w->d->same += n;
		} else if (x && y) {
			if (until - addr > CKPT_PAGE_SUM_BYTES)
				until = addr + CKPT_PAGE_SUM_BYTES;
			rc = compare(w, x, y, addr, until - addr);
		} else if (x) {
			w->d->dropped += n;
			tell(w, addr, n);
		} else if (y) {
			w->d->added += n;
			tell(w, addr, n);
		}
		if (rc)
			return rc;
		addr = until;
	}
}

int image_diff_mm(const struct image *a, uint32_t amm, const struct image *b, uint32_t bmm,
		  void (*changed)(void *arg, uint64_t addr, uint64_t npages), void *arg,
		  struct image_diff *ret, struct ckpt_err *err)
{
	struct diff_walk w = { .a.img = a, .b.img = b, .changed = changed, .arg = arg, .d = ret };
	int rc;

	memset(ret, 0, sizeof(*ret));
	w.a.buf = malloc(CKPT_PAGE_SUM_BYTES);
	w.b.buf = malloc(CKPT_PAGE_SUM_BYTES);
	rc = w.a.buf && w.b.buf ? 0 : -ENOMEM;
	if (!rc)
		rc = flatten(a, amm, &w.a.l);
	if (!rc)
		rc = flatten(b, bmm, &w.b.l);
	if (!rc)
		rc = walk(&w);
	if (!rc && w.run != w.end && changed)
		changed(arg, w.run, (w.end - w.run) / CKPT_PAGE);
	vec_free(&w.a.l);
	vec_free(&w.b.l);
	free(w.a.buf);
	free(w.b.buf);
	if (rc == -ENOMEM)
		return ckpt_oom(err);
	return rc ? ckpt_fail_errno(err, E_IMAGE_CORRUPT, rc, "cannot read the pages of %s or %s",
				    a->path, b->path)
		  : 0;
}
