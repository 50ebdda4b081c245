// SPDX-License-Identifier: GPL-2.0-only
#include "image/content.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/vec.h"

#define PART_PAGES (1u << 20) /* in one record, but for the last of an object */

bool page_is_zero(const void *page)
{
	const uint64_t *p = page;

	if (p[0] | p[CKPT_PAGE / 8 - 1])
		return false;
	for (size_t i = 0; i < CKPT_PAGE / 8; i += 8)
		if (p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] | p[i + 5] | p[i + 6] |
		    p[i + 7])
			return false;
	return true;
}

void content_hash(uint64_t seed, const void *page, unsigned char *ret)
{
	XXH128_canonical_t c;

	XXH128_canonicalFromHash(&c, XXH3_128bits_withSeed(page, CKPT_PAGE, seed));
	memcpy(ret, c.digest, CONTENT_HASH_BYTES);
}

/* The records of one object follow each other. How many begin at @at, and are what they should be.
 */
static size_t count_parts(const struct image *img, size_t at, uint64_t *ret_pages)
{
	const Ckpt__PageHashes *first = img->hashes.v[at];
	size_t n = 0;

	*ret_pages = 0;
	while (at + n < img->hashes.n) {
		const Ckpt__PageHashes *p = img->hashes.v[at + n];

		if (p->object != first->object)
			break;
		if (p->first != (uint64_t)n * PART_PAGES || *ret_pages != p->first ||
		    p->seed != first->seed || p->hashes.len % CONTENT_HASH_BYTES ||
		    p->hashes.len / CONTENT_HASH_BYTES > PART_PAGES)
			return 0;
		*ret_pages += p->hashes.len / CONTENT_HASH_BYTES;
		n++;
	}
	return n;
}

int content_find(const struct image *img, uint64_t dev, uint64_t ino, struct content *ret)
{
	struct image_maps maps;
	uint64_t pages = 0, have = 0;
	size_t at = 0;

	memset(ret, 0, sizeof(*ret));
	while (at < img->hashes.n &&
	       (img->hashes.v[at]->dev != dev || img->hashes.v[at]->ino != ino))
		at++;
	if (at == img->hashes.n || !img->hashes.v[at]->object ||
	    img->hashes.v[at]->object > img->objects.n)
		return 0;
	ret->img = img;
	ret->object = img->hashes.v[at]->object;
	ret->parts = (const Ckpt__PageHashes *const *)img->hashes.v + at;
	ret->nparts = count_parts(img, at, &have);
	maps = image_maps_of_object(img, ret->object);
	for_each_image_run(r, maps)
	{
		struct content_run *c = vec_push(&ret->runs);

		if (!c) {
			content_free(ret);
			return -ENOMEM;
		}
		*c = (struct content_run) { r->vaddr, r->npages, pages };
		pages += r->npages;
	}
	/* Hashes that do not fit are of no use, and do no harm. */
	if (!ret->nparts || pages != have) {
		content_free(ret);
		return 0;
	}
	return 1;
}

const unsigned char *content_at(const struct content *c, size_t *cursor, uint64_t vaddr)
{
	size_t lo = 0, hi = c->runs.n;
	const struct content_run *r;
	uint64_t page;

	r = *cursor < hi ? &c->runs.v[*cursor] : NULL;
	if (!r || vaddr < r->vaddr || vaddr >= r->vaddr + r->npages * CKPT_PAGE) {
		while (lo < hi) {
			size_t mid = (lo + hi) / 2;

			if (c->runs.v[mid].vaddr + c->runs.v[mid].npages * CKPT_PAGE <= vaddr)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo == c->runs.n || c->runs.v[lo].vaddr > vaddr)
			return NULL;
		*cursor = lo;
		r = &c->runs.v[lo];
	}
	page = r->first + (vaddr - r->vaddr) / CKPT_PAGE;
	return c->parts[page / PART_PAGES]->hashes.data + page % PART_PAGES * CONTENT_HASH_BYTES;
}

void content_free(struct content *c)
{
	vec_free(&c->runs);
	memset(c, 0, sizeof(*c));
}

int content_seed(const struct image *img, uint64_t *ret)
{
	if (img && img->hashes.n) {
		*ret = img->hashes.v[0]->seed;
		return 0;
	}
	return getrandom(ret, sizeof(*ret), 0) == sizeof(*ret) ? 0 : -EIO;
}

int content_put(struct image_writer *w, uint32_t object, uint64_t dev, uint64_t ino,
		const unsigned char *hashes, uint64_t npages, struct ckpt_err *err)
{
	for (uint64_t at = 0; at < npages; at += PART_PAGES) {
		Ckpt__PageHashes m = CKPT__PAGE_HASHES__INIT;
		uint64_t n = npages - at < PART_PAGES ? npages - at : PART_PAGES;
		int rc;

		m.object = object;
		m.dev = dev;
		m.ino = ino;
		m.seed = w->hash_seed;
		m.first = at;
		m.hashes.data = (uint8_t *)hashes + at * CONTENT_HASH_BYTES;
		m.hashes.len = n * CONTENT_HASH_BYTES;
		rc = image_put(w, CKPT_REC_PAGEHASHES, &m.base, err);
		if (rc)
			return rc;
	}
	return 0;
}
