// SPDX-License-Identifier: GPL-2.0-only
#include "image/check.h"

#include <stdlib.h>

#include "base/sum.h"
#include "base/vec.h"

static int check_open(const struct image *img, size_t source, struct page_check *c,
		      struct ckpt_err *err)
{
	struct image other = { .dir_fd = -1 };
	const struct image *from = img;
	int rc = 0;

	c->source = &img->sources.v[source];
	if (source) {
		rc = image_read_alone(&other, c->source->path, err);
		from = &other;
	}
	if (!rc) {
		c->n = from->sums.n;
		c->sums = calloc(c->n + 1, sizeof(*c->sums));
		c->fine = calloc(c->n + 1, sizeof(*c->fine));
		if (!c->sums || !c->fine)
			rc = ckpt_oom(err);
		else if (c->n)
			memcpy(c->sums, from->sums.v, c->n * sizeof(*c->sums));
	}
	image_free(&other);
	return rc;
}

int page_checks_open(const struct image *img, struct page_check **ret, struct ckpt_err *err)
{
	struct page_check *c = calloc(img->sources.n, sizeof(*c));
	int rc = c ? 0 : ckpt_oom(err);

	for (size_t i = 0; !rc && i < img->sources.n; i++)
		rc = check_open(img, i, &c[i], err);
	if (rc)
		page_checks_close(img, c);
	else
		*ret = c;
	return rc;
}

static int block_check(struct page_check *c, size_t block, unsigned char *buf)
{
	uint64_t off = (uint64_t)block * CKPT_PAGE_SUM_BYTES;
	uint64_t left = c->source->pages.bytes - off;
	uint64_t len = left < CKPT_PAGE_SUM_BYTES ? left : CKPT_PAGE_SUM_BYTES;
	int rc = page_file_read(&c->source->pages, buf, len, off), none = 0;

	if (!rc && sum_bytes(buf, len) != c->sums[block])
		rc = -EBADMSG;
	if (!rc)
		atomic_store(&c->fine[block], true);
	else if (atomic_compare_exchange_strong(&c->rc, &none, rc))
		c->bad = block;
	return rc;
}

int page_check(struct page_check *c, uint64_t off, uint64_t len, unsigned char **room)
{
	int rc = 0;

	if (!*room && !(*room = malloc(CKPT_PAGE_SUM_BYTES)))
		return -ENOMEM;
	for (size_t b = off / CKPT_PAGE_SUM_BYTES; !rc && b * CKPT_PAGE_SUM_BYTES < off + len; b++)
		if (b >= c->n)
			rc = -EBADMSG;
		else if (!atomic_load(&c->fine[b]))
			rc = block_check(c, b, *room);
	return rc;
}

int page_checks_failed(const struct image *img, const struct page_check *c, struct ckpt_err *err)
{
	for (size_t i = 0; i < img->sources.n; i++) {
		int rc = atomic_load(&c[i].rc);

		if (rc)
			return image_bad_block(c[i].source->path, &c[i].source->pages, c[i].bad, rc,
					       err);
	}
	return 0;
}

void page_checks_close(const struct image *img, struct page_check *c)
{
	for (size_t i = 0; c && i < img->sources.n; i++) {
		free(c[i].sums);
		free(c[i].fine);
	}
	free(c);
}
