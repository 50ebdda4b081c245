// SPDX-License-Identifier: GPL-2.0-only
#include "image/merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/vec.h"
#include "image/chain.h"
#include "image/check.h"
#include "image/writer.h"

/* The segments of a run: one for each file of the page file that it goes through. */
static int list_run(const struct image *img, struct page_check *checks,
		    const struct ckpt_page_run *r, struct page_segs *ret)
{
	uint32_t source = ckpt_run_source(r->off);
	const struct page_file *p = &img->sources.v[source].pages;

	for (uint32_t at = 0; at < r->npages;) {
		uint64_t off = ckpt_run_off(r->off) + (uint64_t)at * CKPT_PAGE;
		struct page_place from = page_place(p->stripes, off);
		struct page_seg *s = vec_push(ret);
		uint64_t room = from.room / CKPT_PAGE;

		if (!s)
			return -ENOMEM;
		s->fd = p->fd[from.file];
		s->addr = from.off;
		s->check = &checks[source];
		s->at = off;
		s->npages = r->npages - at < room ? r->npages - at : (uint32_t)room;
		at += s->npages;
	}
	return 0;
}

/* Every run of data becomes segments that follow each other, in the order of the maps. */
static int list_segs(const struct image *img, struct page_check *checks, struct page_segs *ret)
{
	for (size_t i = 0; i < img->maps.n; i++) {
		const struct ckpt_page_run *r = (const void *)img->maps.v[i]->runs.data;
		size_t n = img->maps.v[i]->runs.len / sizeof(*r);

		for (size_t k = 0; k < n; k++) {
			if (r[k].kind == CKPT_RUN_DATA && list_run(img, checks, &r[k], ret))
				return -ENOMEM;
		}
	}
	return 0;
}

/* The maps with the places that the segments got. A page of zeros lies in a hole, as it may. */
static int put_maps(struct image_writer *w, const struct image *img, const struct page_segs *segs,
		    struct page_moves *moves, struct ckpt_err *err)
{
	size_t seg = 0;
	int rc = 0;

	for (size_t i = 0; !rc && i < img->maps.n; i++) {
		const Ckpt__PageMap *was = img->maps.v[i];
		const struct ckpt_page_run *r = (const void *)was->runs.data;
		Ckpt__PageMap m = CKPT__PAGE_MAP__INIT;
		struct run_list l = { 0 };

		for (size_t k = 0; !rc && k < was->runs.len / sizeof(*r); k++) {
			struct ckpt_page_run run = r[k];

			if (run.kind == CKPT_RUN_DATA) {
				run.off = segs->v[seg].off;
				rc = moves && page_moves_add(moves, r[k].off, run.off, run.npages)
					     ? ckpt_oom(err)
					     : 0;
				for (uint32_t n = 0; n < run.npages; seg++)
					n += segs->v[seg].npages;
			}
			if (!rc)
				rc = run_list_add(&l, &run) ? ckpt_oom(err) : 0;
		}
		m.mm = was->mm;
		m.object = was->object;
		m.runs.data = (uint8_t *)l.v;
		m.runs.len = l.n * sizeof(*l.v);
		if (!rc && l.n)
			rc = image_put(w, CKPT_REC_PAGEMAP, &m.base, err);
		vec_free(&l);
	}
	return rc;
}

/* Every block is compared with its sum just before the first page of it is copied, so that what is
 * not in memory is read once. */
static int write_pages(struct image_writer *w, const struct image *img, struct page_segs *segs,
		       int threads, uint64_t *ret_pages, struct ckpt_err *err)
{
	struct page_check *checks = NULL;
	struct ckpt_err why = { 0 };
	unsigned char *zero = NULL;
	int rc = page_checks_open(img, &checks, err);

	if (rc)
		return rc;
	rc = list_segs(img, checks, segs) ? ckpt_oom(err) : 0;
	if (!rc)
		rc = image_pages_write(w, segs, threads, &zero, ret_pages, err);
	free(zero);
	/* What the writer saw of it is that it could not read. */
	if (rc && page_checks_failed(img, checks, &why)) {
		*err = why;
		rc = err->code;
	}
	page_checks_close(img, checks);
	return rc;
}

static int write_all(struct image_writer *w, struct image *img, const struct image_merge_how *how,
		     struct image_merged *ret, struct ckpt_err *err)
{
	struct page_segs segs = { 0 };
	int rc = write_pages(w, img, &segs, how->threads, &ret->pages, err);

	if (!rc)
		rc = ckpt_fault_fail("merge.pages", E_IMAGE_WRITE, err);
	if (!rc)
		rc = image_put_state(w, img, err);
	if (!rc)
		rc = put_maps(w, img, &segs, how->moves, err);
	if (!rc && how->moves)
		page_moves_sort(how->moves);
	vec_free(&segs);
	return rc;
}

int image_merge(struct image *img, const char *path, const struct image_merge_how *how,
		struct ckpt_ui *ui, struct image_merged *ret, struct ckpt_err *err)
{
	Ckpt__Inventory inv = *img->inv;
	char **required = calloc(inv.n_required + 1, sizeof(*required));
	struct image_writer w;
	int rc;

	memset(ret, 0, sizeof(*ret));
	if (!required)
		return ckpt_oom(err);
	inv.parent_id = (ProtobufCBinaryData) { 0 };
	inv.parent_path = (char *)protobuf_c_empty_string;
	inv.required = required;
	inv.n_required = 0;
	for (size_t i = 0; i < img->inv->n_required; i++)
		if (strcmp(img->inv->required[i], "chain") != 0 &&
		    strcmp(img->inv->required[i], IMAGE_FEATURE_PACKED) != 0 &&
		    strcmp(img->inv->required[i], IMAGE_FEATURE_STRIPED) != 0)
			required[inv.n_required++] = img->inv->required[i];
	rc = image_create(&w, path, ui, err);
	w.cancel = img->cancel = how->cancel;
	image_stripe(&w, how->threads);
	image_pack(&w, how->pack);
	if (!rc)
		rc = image_unpack(img, how->threads, err);
	if (!rc)
		rc = write_all(&w, img, how, ret, err);
	if (!rc)
		rc = image_commit(&w, &inv, err);
	memcpy(ret->id, w.content_id, sizeof(ret->id));
	ret->pages_bytes = w.pages_bytes;
	ret->bytes = w.records_bytes + (how->pack == PACK_HOW_NONE ? ret->pages * CKPT_PAGE
								   : atomic_load(&w.packed_bytes));
	image_abort(&w);
	free(required);
	return rc;
}
