// SPDX-License-Identifier: GPL-2.0-only
/*
 * Few pages are copied into ckpt's own memory while the program stands still, and
 * into the image when it runs again: the file's fresh pages and the sums take
 * several times as long as the copy. The room is made and touched before the
 * freeze, by what the increment before had to copy.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/io.h"
#include "dump/dump.h"

#define STAGE_MIN (1ull << 20)
#define STAGE_MAX (48ull << 20)
#define STAGE_KEPT (8ull << 20) /* in a series, between its checkpoints */
#define BATCH 512u
#define HUGE_BYTES (2ull << 20)
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

void dump_stage_free(struct dump_stage *s)
{
	if (s->room)
		(void)munmap(s->room, s->bytes);
	*s = (struct dump_stage) { 0 };
}

static struct dump_stage take_stage(struct dump_series *s)
{
	struct dump_stage ret = s->stage;

	s->stage = (struct dump_stage) { 0 };
	return ret;
}

void dump_stage_begin(struct dump_ctx *d)
{
	const Ckpt__Stats *was = d->parent ? d->parent->inv->stats : NULL;
	uint64_t bytes = STAGE_MIN;
	void *p;

	if (d->opts->end != TARGET_RUN || !was)
		return;
	if (was->pages_dirty > STAGE_MAX / CKPT_PAGE)
		return;
	/* Of a full checkpoint this says nothing. */
	if (was->pages_parent)
		bytes += was->pages_dirty * CKPT_PAGE * 3 / 2;
	bytes = (bytes + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
	if (bytes > STAGE_MAX)
		bytes = STAGE_MAX;
	if (d->opts->series)
		d->stage = take_stage(d->opts->series);
	if (d->stage.bytes >= bytes)
		return;
	dump_stage_free(&d->stage);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return;
	(void)madvise(p, bytes, MADV_HUGEPAGE);
	if (madvise(p, bytes, MADV_POPULATE_WRITE)) {
		(void)munmap(p, bytes);
		return;
	}
	d->stage.room = p;
	d->stage.bytes = bytes;
}

static bool can_wait(const struct page_seg *s)
{
	return !s->later && !s->is_file;
}

struct batch {
	int pid; /* whose memory; 0: read seg by seg */
	int mem_fd;
	struct iovec remote[BATCH];
	size_t n, bytes;
	unsigned char *to;
};

/* Many runs by one call, which pins their pages. Should it stop at one (no right to read), the rest
 * is read as usual. */
static int batch_read(struct batch *b)
{
	struct iovec local = { b->to, b->bytes };
	ssize_t got = b->n ? process_vm_readv(b->pid, &local, 1, b->remote, b->n, 0) : 0;
	size_t done = got > 0 ? (size_t)got : 0;
	int rc = 0;

	for (size_t i = 0; !rc && i < b->n; i++) {
		size_t len = b->remote[i].iov_len, had = done < len ? done : len;

		done -= had;
		if (had < len)
			rc = io_pread_full(b->mem_fd, b->to + had, len - had,
					   (uint64_t)b->remote[i].iov_base + had);
		b->to += len;
	}
	b->n = b->bytes = 0;
	return rc;
}

static int stage_one(struct batch *b, struct page_seg *s, unsigned char *to)
{
	size_t len = (size_t)s->npages * CKPT_PAGE;

	if (s->fd != b->mem_fd) {
		int rc = batch_read(b);

		b->to = to + len;
		return rc ? rc : io_pread_full(s->fd, to, len, s->addr);
	}
	b->remote[b->n++] = (struct iovec) { (void *)s->addr, len };
	b->bytes += len;
	return b->n < BATCH ? 0 : batch_read(b);
}

static bool is_unstaged(const struct page_seg *s)
{
	return can_wait(s) && !s->data;
}

static uint64_t unstaged_bytes(const struct page_segs *segs)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < segs->n; i++)
		pages += is_unstaged(&segs->v[i]) ? segs->v[i].npages : 0;
	return pages * CKPT_PAGE;
}

/* To where @b says, one behind the other. 0 or -errno. */
static int stage_all(struct batch *b, struct page_segs *segs)
{
	unsigned char *to = b->to;
	int rc = 0;

	for (size_t i = 0; !rc && i < segs->n; i++) {
		struct page_seg *s = &segs->v[i];

		if (!is_unstaged(s))
			continue;
		rc = stage_one(b, s, to);
		s->data = to;
		to += (size_t)s->npages * CKPT_PAGE;
	}
	return rc ? rc : batch_read(b);
}

/* More may be worth a copy of the address space, which nobody need wait for. */
#define AHEAD_MAX (4ull << 20)

uint64_t dump_stage_ahead(const struct dump_ctx *d, const struct target_task *task,
			  struct page_segs *segs)
{
	struct batch b = { .mem_fd = task->mem_fd, .pid = task->pid, .to = d->stage.room };
	uint64_t bytes = unstaged_bytes(segs);

	if (d->target.tasks.n != 1 || !bytes || bytes > AHEAD_MAX || bytes > d->stage.bytes)
		return 0;
	if (!stage_all(&b, segs))
		return bytes;
	/* Who cannot be read is read again, and told of. */
	for (size_t i = 0; i < segs->n; i++)
		segs->v[i].data = NULL;
	return 0;
}

int dump_stage_pages(struct dump_ctx *d, struct ckpt_err *err)
{
	/* Pinning takes pages that are shared since a fork apart: of a tree, page by page. */
	bool alone = d->target.tasks.n == 1;
	struct batch b = { .mem_fd = alone ? d->target.tasks.v[0].mem_fd : -1,
			   .pid = d->target.tasks.v[0].pid,
			   .to = (unsigned char *)d->stage.room + d->stage_ahead };
	uint64_t bytes = unstaged_bytes(&d->segs) + d->stage_ahead;
	int rc;

	if (!bytes || bytes > d->stage.bytes)
		return 0;
	rc = stage_all(&b, &d->segs);
	if (rc)
		return ckpt_fail_errno(err, E_MEMORY, rc, "cannot read the memory of task %d",
				       b.pid);
	for (size_t i = 0; i < d->segs.n; i++)
		d->segs.v[i].later |= can_wait(&d->segs.v[i]);
	d->staged = true;
	return 0;
}

void dump_stage_end(struct dump_ctx *d)
{
	struct dump_series *series = d->opts->series;

	if (series && d->stage.room && d->stage.bytes <= STAGE_KEPT) {
		series->stage = d->stage;
		d->stage = (struct dump_stage) { 0 };
	}
	dump_stage_free(&d->stage);
}
