// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copying pages into the page file: the output is cut into blocks of
 * CKPT_PAGE_SUM_BYTES, workers take the next block, read its pages, sum them,
 * and write the ones that are not zero. Offsets are known before anything is
 * read, so the workers share nothing but the number of the next block. Each has
 * a file of the page file to itself, as long as there are blocks for it: a file
 * system lets one at a time write to a file.
 */
#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/aio.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/sum.h"
#include "base/vec.h"
#include "image/check.h"
#include "image/content.h"
#include "image/writer.h"

#define BLOCK_PAGES (CKPT_PAGE_SUM_BYTES / CKPT_PAGE)
#define MAX_THREADS 16
#define FEW_BLOCKS 8
#define STRIPE_BLOCKS (CKPT_STRIPE_BYTES / CKPT_PAGE_SUM_BYTES)

struct copy {
	struct image_writer *w;
	const struct page_segs *segs;
	const uint32_t *seg_of_block; /* first segment of each block */
	unsigned char *zero;
	uint64_t base; /* offset of the first page in the page file */
	uint64_t pages, blocks;
	uint64_t *sums;
	struct pack_entry *packed; /* of these blocks; NULL: the page file is not packed */
	/* The blocks that are next in each file of the page file, and their ends: by how many
	 * blocks of the file are before them. */
	atomic_uint_least64_t next[CKPT_STRIPES_MAX];
	uint64_t end[CKPT_STRIPES_MAX];
	atomic_uint_least64_t written;
	atomic_uint_least32_t workers; /* that have begun */
	atomic_int rc;
	atomic_int bad_seg; /* segment that could not be read, for the message; -1: none */
};

/* Memory of a program that runs: pages may go away, and are zeros then. */
static void read_what_is_there(const struct page_seg *seg, uint64_t first, uint64_t n,
			       unsigned char *buf)
{
	for (uint64_t i = 0; i < n; i++)
		if (io_pread_full(seg->fd, buf + i * CKPT_PAGE, CKPT_PAGE,
				  seg->addr + (first + i) * CKPT_PAGE))
			memset(buf + i * CKPT_PAGE, 0, CKPT_PAGE);
}

static int block_read(struct copy *c, uint64_t first, uint64_t n, unsigned char *buf,
		      unsigned char **room)
{
	size_t s = c->seg_of_block[first / BLOCK_PAGES];
	uint64_t page = first;

	while (page < first + n) {
		const struct page_seg *seg = &c->segs->v[s];
		uint64_t seg_first = (seg->off - c->base) / CKPT_PAGE;
		uint64_t skip = page - seg_first;
		uint64_t take = seg->npages - skip;
		int rc;

		if (take > first + n - page)
			take = first + n - page;
		if (seg->is_file)
			memset(buf + (page - first + take - 1) * CKPT_PAGE, 0, CKPT_PAGE);
		rc = seg->check ? page_check(seg->check, seg->at + skip * CKPT_PAGE,
					     take * CKPT_PAGE, room)
				: 0;
		if (rc) {
			atomic_store(&c->bad_seg, (int)s);
			return rc;
		}
		if (seg->data)
			memcpy(buf + (page - first) * CKPT_PAGE, seg->data + skip * CKPT_PAGE,
			       take * CKPT_PAGE);
		else
			rc = io_pread_full(seg->fd, buf + (page - first) * CKPT_PAGE,
					   take * CKPT_PAGE, seg->addr + skip * CKPT_PAGE);
		if (rc == -ENODATA && seg->is_file)
			rc = 0;
		if (rc && seg->moving) {
			read_what_is_there(seg, skip, take, buf + (page - first) * CKPT_PAGE);
			rc = 0;
		}
		if (rc) {
			atomic_store(&c->bad_seg, (int)s);
			return rc;
		}
		for (uint64_t k = 0; seg->hash && k < take; k++)
			content_hash(c->w->hash_seed, buf + (page - first + k) * CKPT_PAGE,
				     seg->hash + (skip + k) * CONTENT_HASH_BYTES);
		page += take;
		s++;
	}
	return 0;
}

/* Where one worker's pages go: its own queue on the page file, or the stream that all share. */
struct out {
	struct image_sink *sink;
	enum pack_how how;
	struct aio queue;
	unsigned char *buf;  /* of a stream, or what is to be packed */
	int nr;              /* the queue's number of the current buffer */
	unsigned char *room; /* of page_check() */
};

/* A ring pays when the kernel can write while we read on. On tmpfs it would only hand each write to
 * another thread, and for a few blocks it takes longer to make than to use. */
static bool ring_pays(const struct image_writer *w, uint64_t blocks)
{
	struct statfs fs;

	return blocks > FEW_BLOCKS && !fstatfs(w->pages_fd[0], &fs) && fs.f_type != TMPFS_MAGIC;
}

static int out_open(struct out *o, struct image_writer *w, uint64_t blocks)
{
	int rc = 0;

	o->sink = w->sink;
	o->how = w->how;
	if (!o->sink)
		rc = ring_pays(w, blocks) ? aio_open(&o->queue, CKPT_PAGE_SUM_BYTES)
					  : aio_open_plain(&o->queue, CKPT_PAGE_SUM_BYTES);
	if (rc || (!o->sink && o->how == PACK_HOW_NONE))
		return rc;
	o->buf = aligned_alloc(CKPT_PAGE, CKPT_PAGE_SUM_BYTES);
	return o->buf ? 0 : -ENOMEM;
}

static int out_close(struct out *o)
{
	int rc = o->sink ? 0 : aio_flush(&o->queue);

	if (!o->sink)
		aio_close(&o->queue);
	free(o->buf);
	free(o->room);
	return rc;
}

static int out_buffer(struct out *o, unsigned char **ret)
{
	if (o->buf) {
		*ret = o->buf;
		return 0;
	}
	o->nr = aio_buffer(&o->queue, ret);
	return o->nr < 0 ? o->nr : 0;
}

/* @len bytes of one block. */
static int out_put(const struct copy *c, struct out *o, unsigned char *data, size_t len,
		   uint64_t off)
{
	struct page_place at = page_place(c->w->stripes, off);

	return o->sink ? o->sink->pages(o->sink, data, len, off)
		       : aio_write(&o->queue, c->w->pages_fd[at.file], o->nr, data, len, at.off);
}

/* Pack block @block of the copy, to the end of the page file. */
static int out_pack(struct copy *c, struct out *o, uint64_t block, const unsigned char *data)
{
	struct pack_entry *e = c->packed + block;
	unsigned char *to;
	int rc;

	o->nr = aio_buffer(&o->queue, &to);
	if (o->nr < 0)
		return o->nr;
	pack_block(o->how, data, to, e);
	if (e->codec == PACK_ZERO)
		return 0;
	e->off = atomic_fetch_add(&c->w->packed_bytes, e->len);
	rc = aio_write(&o->queue, c->w->pages_fd[0], o->nr, to, e->len, e->off);
	return rc ? rc : aio_submit(&o->queue);
}

static int block_write(struct copy *c, struct out *o, uint64_t first, uint64_t n,
		       unsigned char *buf)
{
	uint64_t i = 0;

	while (i < n) {
		uint64_t run = i;
		int rc;

		if (page_is_zero(buf + i * CKPT_PAGE)) {
			/* Eight pages share a byte, and a block is a multiple of eight pages. */
			c->zero[(first + i) / 8] |= (unsigned char)(1u << ((first + i) % 8));
			i++;
			continue;
		}
		while (i < n && !page_is_zero(buf + i * CKPT_PAGE))
			i++;
		rc = c->packed ? 0
			       : out_put(c, o, buf + run * CKPT_PAGE, (i - run) * CKPT_PAGE,
					 c->base + (first + run) * CKPT_PAGE);
		if (rc)
			return rc;
		atomic_fetch_add(&c->written, i - run);
	}
	if (c->packed)
		return out_pack(c, o, first / BLOCK_PAGES, buf);
	return o->sink ? 0 : aio_submit(&o->queue);
}

static int block_copy(struct copy *c, struct out *o, uint64_t block)
{
	uint64_t first = block * BLOCK_PAGES, n = c->pages - first;
	unsigned char *buf;
	int rc = out_buffer(o, &buf);

	if (n > BLOCK_PAGES)
		n = BLOCK_PAGES;
	if (!rc)
		rc = block_read(c, first, n, buf, &o->room);
	if (rc)
		return rc;
	/* The file is cut to whole blocks: the last one ends in zeros. */
	memset(buf + n * CKPT_PAGE, 0, CKPT_PAGE_SUM_BYTES - n * CKPT_PAGE);
	c->sums[block] = sum_bytes(buf, CKPT_PAGE_SUM_BYTES);
	rc = block_write(c, o, first, n, buf);
	if (!rc && block % 64 == 63)
		ui_progress(c->w->ui, "memory", first * CKPT_PAGE, c->pages * CKPT_PAGE);
	return rc;
}

/* Where each file's part of this copy begins and ends; the files that it needs are made. */
static int files_begin(struct copy *c)
{
	uint64_t end = c->base + c->blocks * CKPT_PAGE_SUM_BYTES;
	int rc = 0;

	for (uint32_t f = 0; !rc && f < c->w->stripes; f++) {
		atomic_init(&c->next[f],
			    page_place_bytes(c->w->stripes, f, c->base) / CKPT_PAGE_SUM_BYTES);
		c->end[f] = page_place_bytes(c->w->stripes, f, end) / CKPT_PAGE_SUM_BYTES;
		if (c->end[f])
			rc = image_open_stripe(c->w, f);
	}
	return rc;
}

/* Take a block, of file *file as long as it has any. False when none is left. */
static bool block_take(struct copy *c, uint32_t *file, uint64_t *ret_block)
{
	uint32_t n = c->w->stripes;

	for (uint32_t tries = 0; tries < n; tries++, *file = (*file + 1) % n) {
		uint64_t i = atomic_fetch_add(&c->next[*file], 1);

		if (i >= c->end[*file])
			continue;
		if (n > 1) /* stripe by stripe: the others' lie between */
			i = (i / STRIPE_BLOCKS * n + *file) * STRIPE_BLOCKS + i % STRIPE_BLOCKS;
		*ret_block = i - c->base / CKPT_PAGE_SUM_BYTES;
		return true;
	}
	return false;
}

static void *copy_worker(void *arg)
{
	struct copy *c = arg;
	struct out out = { 0 };
	int rc = out_open(&out, c->w, c->blocks), flushed;
	uint32_t file = atomic_fetch_add(&c->workers, 1) % c->w->stripes;
	uint64_t block;

	while (!rc && !atomic_load(&c->rc) && block_take(c, &file, &block))
		rc = c->w->cancel && atomic_load(c->w->cancel) ? -ECANCELED
							       : block_copy(c, &out, block);
	flushed = out_close(&out);
	rc = rc ? rc : flushed;
	if (rc)
		atomic_store(&c->rc, rc);
	return NULL;
}

/* Give every segment its place and find the first segment of every block. */
static int segs_place(struct copy *c, struct page_segs *segs, uint32_t **ret)
{
	uint32_t *first = calloc(c->blocks + 1, sizeof(*first));
	uint64_t page = 0, block = 0;

	if (!first)
		return -ENOMEM;
	for (size_t i = 0; i < segs->n; i++) {
		segs->v[i].off = c->base + page * CKPT_PAGE;
		while (block < c->blocks && block * BLOCK_PAGES < page + segs->v[i].npages)
			first[block++] = (uint32_t)i;
		page += segs->v[i].npages;
	}
	*ret = first;
	return 0;
}

int image_pages_write(struct image_writer *w, struct page_segs *segs, int threads,
		      unsigned char **ret_zero, uint64_t *ret_written, struct ckpt_err *err)
{
	struct copy c = { .w = w, .segs = segs, .base = w->pages_bytes, .bad_seg = -1 };
	pthread_t tid[MAX_THREADS];
	auto_free uint32_t *first = NULL;
	auto_free unsigned char *zero = NULL;
	int started = 0, rc = 0;

	for (size_t i = 0; i < segs->n; i++)
		c.pages += segs->v[i].npages;
	c.blocks = (c.pages + BLOCK_PAGES - 1) / BLOCK_PAGES;
	zero = calloc(c.blocks * BLOCK_PAGES / 8 + 1, 1);
	if (!zero || segs_place(&c, segs, &first))
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory for %zu page runs", segs->n);
	for (uint64_t i = 0; i < c.blocks; i++)
		if (!vec_push(&w->sums))
			return ckpt_oom(err);
	c.sums = w->sums.v + (w->sums.n - c.blocks);
	for (uint64_t i = 0; w->how != PACK_HOW_NONE && i < c.blocks; i++)
		if (!vec_push(&w->packed))
			return ckpt_oom(err);
	if (w->how != PACK_HOW_NONE)
		c.packed = w->packed.v + (w->packed.n - c.blocks);
	c.seg_of_block = first;
	c.zero = zero;
	rc = files_begin(&c);

	if (threads > MAX_THREADS)
		threads = MAX_THREADS;
	if ((uint64_t)threads > c.blocks / 4)
		threads = (int)(c.blocks / 4);
	for (; !rc && started < threads - 1; started++)
		if (pthread_create(&tid[started], NULL, copy_worker, &c))
			break;
	if (!rc)
		(void)copy_worker(&c);
	for (int i = 0; i < started; i++)
		(void)pthread_join(tid[i], NULL);
	rc = rc ? rc : atomic_load(&c.rc);
	if (rc && atomic_load(&c.bad_seg) >= 0)
		return ckpt_fail_errno(err, E_MEMORY, rc, "cannot read memory at %#llx",
				       (unsigned long long)segs->v[atomic_load(&c.bad_seg)].addr);
	if (rc && w->sink)
		return w->sink->pages_failed(w->sink, rc, err);
	if (!rc)
		rc = ckpt_fault("dump.pages");
	if (rc)
		return ckpt_fail_errno(err, E_IMAGE_WRITE, rc, "cannot write %s/" CKPT_FILE_PAGES,
				       w->path);
	/* The next call starts a new block: a sum never spans two calls. */
	w->pages_bytes += c.blocks * CKPT_PAGE_SUM_BYTES;
	*ret_zero = take_ptr(zero);
	*ret_written = atomic_load(&c.written);
	return 0;
}
