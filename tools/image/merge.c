// SPDX-License-Identifier: GPL-2.0-only
#include "image/merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/vec.h"
#include "image/chain.h"
#include "image/writer.h"

static int oom(struct ckpt_err *err)
{
	return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
}

/* The segments of a run: one for each file of the page file that it goes through. */
static int list_run(const struct image *img, const struct ckpt_page_run *r, struct page_segs *ret)
{
	const struct page_file *p = &img->sources.v[ckpt_run_source(r->off)].pages;

	for (uint32_t at = 0; at < r->npages;) {
		struct page_place from =
			page_place(p->stripes, ckpt_run_off(r->off) + (uint64_t)at * CKPT_PAGE);
		struct page_seg *s = vec_push(ret);
		uint64_t room = from.room / CKPT_PAGE;

		if (!s)
			return -ENOMEM;
		s->fd = p->fd[from.file];
		s->addr = from.off;
		s->npages = r->npages - at < room ? r->npages - at : (uint32_t)room;
		at += s->npages;
	}
	return 0;
}

/* Every run of data becomes segments that follow each other, in the order of the maps. */
static int list_segs(const struct image *img, struct page_segs *ret)
{
	for (size_t i = 0; i < img->maps.n; i++) {
		const struct ckpt_page_run *r = (const void *)img->maps.v[i]->runs.data;
		size_t n = img->maps.v[i]->runs.len / sizeof(*r);

		for (size_t k = 0; k < n; k++) {
			if (r[k].kind == CKPT_RUN_DATA && list_run(img, &r[k], ret))
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
					     ? oom(err)
					     : 0;
				for (uint32_t n = 0; n < run.npages; seg++)
					n += segs->v[seg].npages;
			}
			if (!rc)
				rc = run_list_add(&l, &run) ? oom(err) : 0;
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

static int write_all(struct image_writer *w, struct image *img, const struct image_merge_how *how,
		     struct image_merged *ret, struct ckpt_err *err)
{
	struct page_segs segs = { 0 };
	unsigned char *zero = NULL;
	int rc = list_segs(img, &segs) ? oom(err) : 0;

	if (!rc)
		rc = image_pages_write(w, &segs, how->threads, &zero, &ret->pages, err);
	free(zero);
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
	img->cancel = how->cancel;
	rc = required ? image_verify_pages(img, ui, err) : oom(err);
	if (rc) {
		free(required);
		return rc;
	}
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
	w.cancel = how->cancel;
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
