// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages of objects, and increments of them. What belongs to an object and not to an address space
 * (shared anonymous memory, memory files, System V segments, unlinked files) may be written through
 * any mapping, also of a child that came and went or of a program outside the tree, and through
 * descriptors. Where it is not certain that trackers saw all of that (watch.h), the frozen contents
 * are hashed page by page and compared with the hashes that are kept since the parent (notes.h).
 * The hash that is kept is of the very bytes that were copied (image/pages.c), so that it is right
 * even when somebody outside writes at the same time. A migration does the same with what its
 * rounds have sent (tools/migrate/shares.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "dump/watch.h"

#define CHUNK_PAGES 64u /* 256 KiB: read and hashed while it is in the cache */
#define CHUNKS_PER_THREAD 32u
#define MAX_THREADS 16

/* All that is in it, which takes 10 ms a GiB to find out. */
static int add_contents(struct dump_ctx *d, struct dump_pages *p, struct ckpt_err *err)
{
	uint64_t bytes = p->npages * CKPT_PAGE;
	struct page_seg *seg;
	off_t data = 0, hole;

	p->first_seg = d->segs.n;
	while ((data = lseek(p->fd, data, SEEK_DATA)) >= 0 && (uint64_t)data < bytes) {
		hole = lseek(p->fd, data, SEEK_HOLE);
		if (hole < 0 || (uint64_t)hole > bytes)
			hole = (off_t)bytes;
		data &= ~(off_t)(CKPT_PAGE - 1);
		seg = vec_push(&d->segs);
		if (!seg)
			return ckpt_oom(err);
		seg->fd = p->fd;
		seg->addr = (uint64_t)data;
		seg->is_file = true;
		seg->npages = (uint32_t)(((uint64_t)(hole - data) + CKPT_PAGE - 1) / CKPT_PAGE);
		p->nsegs++;
		data = hole;
	}
	/* The segments borrow it until the pages are written; dump_objects_free closes it. */
	return 0;
}

int dump_object_pages(struct dump_ctx *d, Ckpt__Object *obj, int local, uint64_t bytes,
		      struct ckpt_err *err)
{
	struct dump_pages *p;
	struct stat st;
	char path[32];
	int fd;

	/* A description of our own: looking for holes moves its position. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", local);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return ckpt_fail_errno(err, E_LIMIT, -errno,
				       "cannot keep a descriptor for object %u", obj->id);
	p = vec_push(&d->pages);
	if (!p) {
		(void)close(fd);
		return ckpt_oom(err);
	}
	p->object = obj->id;
	p->fd = fd;
	if (fstat(fd, &st))
		return ckpt_fail_errno(err, E_FREEZE, -errno, "cannot stat object %u", obj->id);
	p->dev = st.st_dev;
	p->ino = st.st_ino;
	p->npages = (bytes + CKPT_PAGE - 1) / CKPT_PAGE;
	p->sysv = obj->state && !strcmp(obj->state->kind, "sysv-shm");
	dump_watch_object(d, p, &st);
	/* What was written is known behind the last mapping. */
	return p->watched ? 0 : add_contents(d, p, err);
}

void dump_object_opened(struct dump_ctx *d, uint32_t object)
{
	for (size_t i = 0; i < d->pages.n; i++)
		d->pages.v[i].opened |= d->pages.v[i].object == object;
}

/* Part of a segment of an object that the parent has, too. */
struct chunk {
	size_t seg;
	uint32_t first, npages;
	size_t known; /* index of what the parent knows */
};

struct compare {
	struct dump_ctx *d;
	struct {
		struct chunk *v;
		size_t n, cap;
	} chunks;
	struct {
		struct known {
			const struct dump_pages *pages;
			uint32_t number; /* of whoever has pages of it; 0: the parent has */
		} * v;
		size_t n, cap;
	} known;
	struct page_segs out;
	atomic_size_t next;
	atomic_int rc;
	/* For every segment, one byte a page: it is as it was. NULL: all are new. */
	unsigned char **same;
};

/* What the page at @addr held. */
static const unsigned char *hash_was(const struct compare *c, const struct known *k, uint64_t addr)
{
	struct dump_tracking *tr = c->d->tracking;

	return k->number ? tr->object_hash(tr, k->number, addr)
			 : dump_watch_was(c->d, k->pages, addr / CKPT_PAGE);
}

static int compare_chunk(struct compare *c, const struct chunk *k, unsigned char *buf)
{
	const struct page_seg *s = &c->d->segs.v[k->seg];
	const struct known *known = &c->known.v[k->known];
	uint64_t at = s->addr + (uint64_t)k->first * CKPT_PAGE;
	int rc;

	/* The file may end within the last page. */
	memset(buf + (k->npages - 1) * (size_t)CKPT_PAGE, 0, CKPT_PAGE);
	rc = io_pread_full(s->fd, buf, (size_t)k->npages * CKPT_PAGE, at);
	if (rc && rc != -ENODATA)
		return rc;
	for (uint32_t i = 0; i < k->npages; i++) {
		unsigned char own[CONTENT_HASH_BYTES];
		unsigned char *h =
			s->hash ? s->hash + (size_t)(k->first + i) * CONTENT_HASH_BYTES : own;
		const unsigned char *was = hash_was(c, known, at + i * CKPT_PAGE);

		content_hash(c->d->writer.hash_seed, buf + i * (size_t)CKPT_PAGE, h);
		c->same[k->seg][k->first + i] = was && !memcmp(was, h, CONTENT_HASH_BYTES);
	}
	return 0;
}

static void *compare_worker(void *arg)
{
	struct compare *c = arg;
	auto_free unsigned char *buf = malloc((size_t)CHUNK_PAGES * CKPT_PAGE);
	int rc = buf ? 0 : -ENOMEM;

	while (!rc && !atomic_load(&c->rc)) {
		size_t at = atomic_fetch_add(&c->next, 1);

		if (at >= c->chunks.n)
			break;
		rc = compare_chunk(c, &c->chunks.v[at], buf);
	}
	if (rc)
		atomic_store(&c->rc, rc);
	return NULL;
}

static int compare_all(struct compare *c, struct ckpt_err *err)
{
	size_t threads = c->chunks.n / CHUNKS_PER_THREAD;
	pthread_t tid[MAX_THREADS];
	size_t started = 0;
	int rc;

	if (threads > (size_t)c->d->opts->threads)
		threads = (size_t)c->d->opts->threads;
	if (threads > MAX_THREADS)
		threads = MAX_THREADS;
	for (; started + 1 < threads; started++)
		if (pthread_create(&tid[started], NULL, compare_worker, c))
			break;
	(void)compare_worker(c);
	while (started)
		(void)pthread_join(tid[--started], NULL);
	rc = atomic_load(&c->rc);
	return rc ? ckpt_fail_errno(err, E_MEMORY, rc, "cannot read shared memory") : 0;
}

/* That of whoever has its pages, or 0. */
static uint32_t number_of(struct dump_ctx *d, const struct dump_pages *p)
{
	struct dump_tracking *tr = d->tracking;

	return tr->object(tr, d->objects.v[p->object - 1].msg->state->kind, p->dev, p->ino);
}

/* What is to be compared, if somebody has the object. */
static int prepare(struct compare *c, struct dump_pages *p, struct ckpt_err *err)
{
	struct dump_ctx *d = c->d;
	struct dump_tracking *tr = d->tracking;
	uint32_t number = tr->object ? number_of(d, p) : 0;
	struct known *known;

	for (size_t i = p->first_seg; i < p->first_seg + p->nsegs; i++)
		d->segs.v[i].hash = dump_watch_hash(d, p, d->segs.v[i].addr / CKPT_PAGE);
	if (tr->object ? !number : !p->known_as)
		return 0;
	known = vec_push(&c->known);
	if (!known)
		return ckpt_oom(err);
	*known = (struct known) { p, number };
	p->parent_object = number ? number : p->known_as->object;
	for (size_t i = p->first_seg; i < p->first_seg + p->nsegs; i++) {
		uint32_t n = d->segs.v[i].npages;

		c->same[i] = calloc(n, 1);
		if (!c->same[i])
			return ckpt_oom(err);
		for (uint32_t at = 0; at < n; at += CHUNK_PAGES) {
			struct chunk *k = vec_push(&c->chunks);

			if (!k)
				return ckpt_oom(err);
			*k = (struct chunk) { i, at, n - at < CHUNK_PAGES ? n - at : CHUNK_PAGES,
					      c->known.n - 1 };
		}
	}
	return 0;
}

/* Cut @seg into what stays a segment and what is in the parent. */
static int cut_segment(struct compare *c, struct dump_pages *p, size_t seg)
{
	const struct page_seg *s = &c->d->segs.v[seg];
	const unsigned char *same = c->same[seg];

	for (uint32_t at = 0, n; at < s->npages; at += n) {
		n = 1;
		while (same && at + n < s->npages && same[at + n] == same[at])
			n++;
		if (!same)
			n = s->npages;
		if (same && same[at]) {
			struct ckpt_page_run *r = vec_grow((void **)&p->known, &p->known_n,
							   &p->known_cap, sizeof(*r));

			if (!r)
				return -ENOMEM;
			*r = (struct ckpt_page_run) { .vaddr = s->addr + (uint64_t)at * CKPT_PAGE,
						      .off = c->d->tracking->object
								     ? p->parent_object
								     : 0,
						      .npages = n,
						      .kind = CKPT_RUN_PARENT };
			c->d->stats.pages_scanned += n;
			c->d->stats.pages_parent += n;
			c->d->stats.pages_same += n;
		} else {
			struct page_seg *o = vec_push(&c->out);

			if (!o)
				return -ENOMEM;
			*o = *s;
			o->addr += (uint64_t)at * CKPT_PAGE;
			o->npages = n;
			o->hash += o->hash ? (size_t)at * CONTENT_HASH_BYTES : 0;
			p->nsegs++;
			c->d->stats.pages_scanned += p->watched ? 0 : n;
		}
	}
	return 0;
}

/* The segments anew, without what the parent has. */
static int cut_all(struct compare *c)
{
	struct dump_ctx *d = c->d;

	for (size_t i = 0; i < d->pages.n; i++) {
		struct dump_pages *p = &d->pages.v[i];
		size_t first = p->first_seg, n = p->nsegs;

		p->first_seg = c->out.n;
		p->nsegs = 0;
		for (size_t k = first; k < first + n; k++) {
			struct page_seg *o;

			if (p->object) {
				if (cut_segment(c, p, k))
					return -ENOMEM;
				continue;
			}
			o = vec_push(&c->out);
			if (!o)
				return -ENOMEM;
			*o = d->segs.v[k];
			p->nsegs++;
		}
	}
	free(d->segs.v);
	d->segs = c->out;
	c->out = (struct page_segs) { 0 };
	return 0;
}

static void compare_free(struct compare *c, size_t segs)
{
	for (size_t i = 0; c->same && i < segs; i++)
		free(c->same[i]);
	free(c->same);
	vec_free(&c->known);
	vec_free(&c->chunks);
	vec_free(&c->out);
}

static int uncertain(struct dump_ctx *d, struct dump_pages *p, struct ckpt_err *err)
{
	p->watched = false;
	return add_contents(d, p, err);
}

/* What trackers tell of; where they do not after all, its contents. */
static int find_written(struct dump_ctx *d, struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < d->pages.n; i++) {
		struct dump_pages *p = &d->pages.v[i];

		if (!p->watched)
			continue;
		if (d->tracking->object)
			p->parent_object = number_of(d, p);
		rc = p->opened || (d->tracking->object && !p->parent_object)
			     ? -ESTALE
			     : dump_watch_written(d, p);
		if (rc == -ESTALE)
			rc = uncertain(d, p, err);
		else if (rc)
			rc = ckpt_oom(err);
		else
			ui_note(d->ui, 2, "object %u: trackers tell what was written", p->object);
	}
	return rc;
}

static int compare_objects(struct compare *c, struct ckpt_err *err)
{
	struct dump_ctx *d = c->d;
	int rc = 0;

	for (size_t i = 0; !rc && i < d->pages.n; i++)
		if (d->pages.v[i].object && !d->pages.v[i].watched)
			rc = prepare(c, &d->pages.v[i], err);
	if (!rc)
		rc = compare_all(c, err);
	if (!rc)
		rc = ckpt_fault_fail("track.compared", E_MEMORY, err);
	return !rc && c->chunks.n && cut_all(c) ? ckpt_oom(err) : rc;
}

int dump_compare_objects(struct dump_ctx *d, struct ckpt_err *err)
{
	struct compare c = { .d = d };
	bool any = false;
	size_t segs;
	int rc;

	for (size_t i = 0; i < d->pages.n; i++)
		any |= d->pages.v[i].object != 0;
	/* Nobody will compare with the last checkpoint of a program that ends. */
	if (!any || !d->tracking ||
	    (!d->tracking->object && (!d->session || (!d->parent && !d->tracking->arm))))
		return 0;
	if (d->tracking->object)
		d->writer.hash_seed = d->tracking->seed;
	rc = find_written(d, err);
	if (!rc && d->tracking->arm && dump_watch_room(d))
		rc = ckpt_oom(err);
	if (rc)
		return rc;
	segs = d->segs.n;
	c.same = calloc(segs + 1, sizeof(*c.same));
	rc = c.same ? compare_objects(&c, err) : ckpt_oom(err);
	compare_free(&c, segs);
	return rc ? rc : dump_watch_arm(d, err);
}
