// SPDX-License-Identifier: GPL-2.0-only
/*
 * An index says of every page in which checkpoint it is, so the chain behind an
 * increment can be changed without a look at its pages: those that lay in the
 * chain that was merged are now in the checkpoint that came of it.
 */
#include "image/rebase.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "image/chain.h"

static int put_list(struct image_writer *w, enum ckpt_record type, void *list_ptr,
		    struct ckpt_err *err)
{
	VEC(ProtobufCMessage *) *list = list_ptr;
	int rc = 0;

	for (size_t i = 0; !rc && i < list->n; i++)
		rc = image_put(w, type, list->v[i], err);
	return rc;
}

int image_put_state(struct image_writer *w, struct image *img, struct ckpt_err *err)
{
	int rc = put_list(w, CKPT_REC_OBJECT, &img->objects, err);

	if (!rc)
		rc = put_list(w, CKPT_REC_FDTABLE, &img->tables, err);
	if (!rc)
		rc = put_list(w, CKPT_REC_MM, &img->mms, err);
	if (!rc)
		rc = put_list(w, CKPT_REC_TASK, &img->tasks, err);
	return rc ? rc : put_list(w, CKPT_REC_PAGEHASHES, &img->hashes, err);
}

/* ---- where pages went ---------------------------------------------------------------------- */

int page_moves_add(struct page_moves *m, uint64_t from, uint64_t to, uint64_t npages)
{
	struct page_move *last = m->n ? &m->v[m->n - 1] : NULL;
	uint64_t bytes = last ? last->npages * CKPT_PAGE : 0;

	if (last && last->from + bytes == from && last->to + bytes == to) {
		last->npages += npages;
		return 0;
	}
	last = vec_push(m);
	if (!last)
		return -ENOMEM;
	*last = (struct page_move) { from, to, npages };
	return 0;
}

static int move_cmp(const void *a, const void *b)
{
	const struct page_move *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

/* Ascending, and without a page twice: one that several address spaces had was copied as often. */
void page_moves_sort(struct page_moves *m)
{
	uint64_t end = 0;
	size_t n = 0;

	if (m->n)
		qsort(m->v, m->n, sizeof(*m->v), move_cmp);
	for (size_t i = 0; i < m->n; i++) {
		struct page_move at = m->v[i];
		uint64_t twice = end > at.from ? (end - at.from) / CKPT_PAGE : 0;

		if (twice >= at.npages)
			continue;
		at.from += twice * CKPT_PAGE;
		at.to += twice * CKPT_PAGE;
		at.npages -= twice;
		end = at.from + at.npages * CKPT_PAGE;
		m->v[n++] = at;
	}
	m->n = n;
}

/* The first that ends behind @from; NULL: none. */
static const struct page_move *move_find(const struct page_moves *m, uint64_t from)
{
	size_t lo = 0, hi = m->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (m->v[mid].from + m->v[mid].npages * CKPT_PAGE > from)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo < m->n ? &m->v[lo] : NULL;
}

/* ---- the new index -------------------------------------------------------------------------- */

struct rebase {
	const struct image *img;
	const struct page_moves *moves;
	/* For each source of img its number in the image that was merged and 1 more; 0: none */
	uint32_t *was;
};

static int rebase_init(struct rebase *b, const struct image *was)
{
	b->was = calloc(b->img->sources.n, sizeof(*b->was));
	if (!b->was)
		return -ENOMEM;
	for (size_t i = 1; i < b->img->sources.n; i++)
		for (size_t k = 0; k < was->sources.n && !b->was[i]; k++)
			if (!memcmp(b->img->sources.v[i].id, was->sources.v[k].id,
				    sizeof(was->sources.v[k].id)))
				b->was[i] = (uint32_t)k + 1;
	return 0;
}

/* A run of pages of an ancestor. The base is ancestor 1, those that @img has come behind it. */
static int rebase_run(const struct rebase *b, struct ckpt_page_run run, struct run_list *ret)
{
	uint32_t source = ckpt_run_source(run.off), was = b->was[source];
	uint64_t off = ckpt_run_off(run.off), left = run.npages;

	run.kind = CKPT_RUN_PARENT;
	while (left) {
		uint64_t from = was ? ckpt_run_at(was - 1, off) : 0, take = left;
		const struct page_move *m = was ? move_find(b->moves, from) : NULL;

		run.off = ckpt_run_at(source + 1, off);
		if (m && m->from <= from) {
			take = m->npages - (from - m->from) / CKPT_PAGE;
			run.off = ckpt_run_at(1, m->to + (from - m->from));
		} else if (m) {
			take = (m->from - from) / CKPT_PAGE;
		}
		run.npages = (uint32_t)(take < left ? take : left);
		if (run_list_add(ret, &run))
			return -ENOMEM;
		run.vaddr += (uint64_t)run.npages * CKPT_PAGE;
		off += (uint64_t)run.npages * CKPT_PAGE;
		left -= run.npages;
	}
	return 0;
}

static int rebase_map(const struct rebase *b, const Ckpt__PageMap *m, struct run_list *ret)
{
	const struct ckpt_page_run *r = (const void *)m->runs.data;

	for (size_t i = 0; i < m->runs.len / sizeof(*r); i++) {
		bool theirs = r[i].kind == CKPT_RUN_DATA && ckpt_run_source(r[i].off);

		if (theirs ? rebase_run(b, r[i], ret) : run_list_add(ret, &r[i]))
			return -ENOMEM;
	}
	return 0;
}

static int put_maps(struct image_writer *w, const struct image *img, struct run_list *const *lists,
		    struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < img->maps.n; i++) {
		Ckpt__PageMap m = CKPT__PAGE_MAP__INIT;

		m.mm = img->maps.v[i]->mm;
		m.object = img->maps.v[i]->object;
		m.runs.data = (uint8_t *)lists[i]->v;
		m.runs.len = lists[i]->n * sizeof(*lists[i]->v);
		rc = image_put(w, CKPT_REC_PAGEMAP, &m.base, err);
	}
	return rc;
}

static int put_index(struct image_writer *w, const struct rebase *b,
		     const struct image_source *base, struct ckpt_err *err)
{
	const struct image *img = b->img;
	auto_free struct image_source *sources = calloc(img->sources.n, sizeof(*sources));
	auto_free struct run_list *lists = calloc(img->maps.n + 1, sizeof(*lists));
	auto_free struct run_list **p = calloc(img->maps.n + 1, sizeof(struct run_list *));
	/* What chain_put() takes for the parent: the base itself, and behind it its chain. */
	struct image parent = { .sources = { sources, img->sources.n, img->sources.n } };
	int rc = sources && lists && p ? 0 : ckpt_oom(err);

	for (size_t i = 0; !rc && i < img->sources.n; i++)
		sources[i] = i ? img->sources.v[i] : *base;
	for (size_t i = 0; !rc && i < img->maps.n; i++) {
		p[i] = &lists[i];
		rc = rebase_map(b, img->maps.v[i], p[i]) ? ckpt_oom(err) : 0;
	}
	if (!rc)
		rc = chain_put(w, &parent, p, img->maps.n, err);
	if (!rc)
		rc = put_maps(w, img, p, err);
	for (size_t i = 0; lists && i < img->maps.n; i++)
		vec_free(&lists[i]);
	return rc;
}

/* The inventory as it was, but for what the writer says of the page file. The caller frees the
 * list. */
static int inventory_of(const struct image *img, Ckpt__Inventory *ret)
{
	char **required = calloc(img->inv->n_required + 1, sizeof(*required));

	if (!required)
		return -ENOMEM;
	*ret = *img->inv;
	ret->required = required;
	ret->n_required = 0;
	for (size_t i = 0; i < img->inv->n_required; i++)
		if (strcmp(img->inv->required[i], IMAGE_FEATURE_PACKED) != 0 &&
		    strcmp(img->inv->required[i], IMAGE_FEATURE_STRIPED) != 0)
			required[ret->n_required++] = img->inv->required[i];
	return 0;
}

int image_rebase(struct image *img, const struct image *was, const struct image_source *base,
		 const struct page_moves *moves, const char *path, struct ckpt_ui *ui,
		 unsigned char ret_id[static 16], struct ckpt_err *err)
{
	struct rebase b = { .img = img, .moves = moves };
	Ckpt__Inventory inv = { 0 };
	struct image_writer w;
	int rc;

	image_writer_init(&w);
	rc = rebase_init(&b, was) || inventory_of(img, &inv) ? ckpt_oom(err) : 0;
	if (!rc)
		rc = image_create(&w, path, ui, err);
	if (!rc)
		rc = image_take_pages(&w, img->dir_fd, &img->pages, img->sums.v, img->sums.n, err);
	if (!rc)
		rc = image_put_state(&w, img, err);
	if (!rc)
		rc = put_index(&w, &b, base, err);
	if (!rc)
		rc = image_commit(&w, &inv, err);
	if (!rc)
		memcpy(ret_id, w.content_id, sizeof(w.content_id));
	image_abort(&w);
	free(inv.required);
	free(b.was);
	return rc;
}
