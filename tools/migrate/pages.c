// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages of a round on their way to the peer. One thread reads them from the program, many runs with
 * one system call; another one looks which are zero, packs, sums and sends.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sum.h"
#include "image/content.h"
#include "kern/procfs.h"
#include "migrate/pump.h"
#include "migrate/rounds.h"

#define XOR_EVERY 64u          /* runs between two looks whether differences pay */
#define RUNS_MAX MIG_PAGES_MAX /* of a parcel: enough even if each page is one */
#define FEW_PAGES 1024u        /* are not worth a thread */

/* Pages of one task, read at once. */
struct parcel {
	const struct round_task *t;
	struct round_run runs[RUNS_MAX];
	uint32_t n, pages;
	char *data; /* MIG_PAGES_MAX pages */
};

/* How many of the @n pages from @p on differ little from what was sent last; the differences are in
 * r->xor. A page more than half of which is new is sent whole. */
static uint32_t delta_run(struct rounds *r, uint32_t pid, uint64_t addr, const char *p, uint32_t n)
{
	uint32_t k = 0;

	for (; k < n; k++) {
		size_t at = (size_t)k * CKPT_PAGE;
		const void *base = delta_find(r->cache, pid, addr + at);

		if (!base || delta_xor(r->xor +at / sizeof(*r->xor), p + at, base) > CKPT_PAGE / 16)
			break;
	}
	return k;
}

static void cache_update(struct rounds *r, uint32_t pid, uint64_t addr, const char *p, uint32_t n)
{
	if (!r->cache || !r->cache_all)
		return;
	for (uint32_t k = 0; k < n; k++)
		delta_keep(r->cache, pid, addr + (uint64_t)k * CKPT_PAGE,
			   p + (size_t)k * CKPT_PAGE);
}

/* Pages with contents, as differences where that is less. */
static int send_changed(struct rounds *r, uint32_t pid, uint64_t addr, const char *p, uint32_t n)
{
	bool look = r->cache && (r->xor_pays || !(r->xor_try++ % XOR_EVERY));
	uint32_t at = 0, whole = 0; /* pages before @at that go out as they are */
	int rc = 0;

	while (!rc && at < n) {
		const char *q = p + (size_t)at * CKPT_PAGE;
		uint32_t k =
			look ? delta_run(r, pid, addr + (uint64_t)at * CKPT_PAGE, q, n - at) : 0;

		if (k && whole)
			rc = source_send_pages(r->s, pid, addr + (uint64_t)(at - whole) * CKPT_PAGE,
					       q - (size_t)whole * CKPT_PAGE, whole);
		if (k && !rc) {
			whole = 0;
			rc = source_send_delta(r->s, pid, addr + (uint64_t)at * CKPT_PAGE, r->xor,
					       sum_bytes(q, (size_t)k * CKPT_PAGE), k);
			r->xor_pays = rc == 0;
			look = look && r->xor_pays;
		}
		if (!k || rc == 1) {
			rc = 0;
			k += !k;
			whole += k;
		}
		at += k;
	}
	if (!rc && whole)
		rc = source_send_pages(r->s, pid, addr + (uint64_t)(n - whole) * CKPT_PAGE,
				       p + (size_t)(n - whole) * CKPT_PAGE, whole);
	cache_update(r, pid, addr, p, n);
	return rc;
}

static int send_zeros(struct rounds *r, uint32_t pid, uint64_t addr, uint32_t n)
{
	for (uint32_t k = 0; r->cache && k < n; k++)
		delta_drop(r->cache, pid, addr + (uint64_t)k * CKPT_PAGE);
	return source_send_pages(r->s, pid, addr, NULL, n);
}

/* Zero pages need no bytes, but where a hole shows a file they are content. */
static int send_block(struct rounds *r, const struct round_task *t, uint64_t addr, const char *data,
		      uint32_t n, bool backed)
{
	struct ckpt_err oom_err = { 0 };
	uint32_t at = 0;

	while (at < n) {
		const char *p = data + (size_t)at * CKPT_PAGE;
		bool zero = !backed && page_is_zero(p);
		uint32_t k = 1;
		int rc;

		while (at + k < n &&
		       (!backed && page_is_zero(data + (size_t)(at + k) * CKPT_PAGE)) == zero)
			k++;
		rc = zero ? send_zeros(r, (uint32_t)t->vpid, addr + (uint64_t)at * CKPT_PAGE, k)
			  : send_changed(r, (uint32_t)t->vpid, addr + (uint64_t)at * CKPT_PAGE, p,
					 k);
		if (rc)
			return rc;
		if (store_note(&r->sent, (uint32_t)t->vpid, addr + (uint64_t)at * CKPT_PAGE, k,
			       &oom_err))
			return -ENOMEM;
		at += k;
	}
	return 0;
}

/* What may not be read by the program itself can be read through its file. A page that went away
 * meanwhile is left out: were it to come back, it would be written. */
static void read_each(struct parcel *p, int mem)
{
	struct round_run was[RUNS_MAX];
	uint32_t n = p->n;

	memcpy(was, p->runs, n * sizeof(*was));
	p->n = p->pages = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t left = was[i].npages, got;

		for (uint64_t addr = was[i].addr; left;
		     addr += (uint64_t)got * CKPT_PAGE, left -= got) {
			char *to = p->data + (size_t)p->pages * CKPT_PAGE;
			ssize_t len = pread(mem, to, (size_t)left * CKPT_PAGE, (off_t)addr);
			struct round_run *last = p->n ? &p->runs[p->n - 1] : NULL;

			got = len > 0 ? (uint32_t)((size_t)len / CKPT_PAGE) : 0;
			if (got && last && last->backed == was[i].backed &&
			    last->addr + (uint64_t)last->npages * CKPT_PAGE == addr)
				last->npages += got;
			else if (got)
				p->runs[p->n++] = (struct round_run) { addr, got, was[i].backed };
			p->pages += got;
			got += !got;
		}
	}
}

/*
 * process_vm_readv(2) pins pages, and the kernel makes a copy of one for that if it is shared since
 * a fork: the program would take as much memory as if nothing was.
 */
static bool may_pin(const struct rounds *r, const struct round_task *t)
{
	return r->tree.births.n == 1 && !t->shared;
}

static void read_parcel(const struct rounds *r, struct parcel *p, int mem)
{
	struct iovec to = { p->data, (size_t)p->pages * CKPT_PAGE }, from[RUNS_MAX];

	for (uint32_t i = 0; i < p->n; i++)
		from[i] = (struct iovec) { (void *)(uintptr_t)p->runs[i].addr,
					   (size_t)p->runs[i].npages * CKPT_PAGE };
	if (!may_pin(r, p->t) ||
	    process_vm_readv(p->t->pid, &to, 1, from, p->n, 0) != (ssize_t)to.iov_len)
		read_each(p, mem);
}

static int send_parcel(void *arg, void *parcel)
{
	struct rounds *r = arg;
	const struct parcel *p = parcel;
	const char *data = p->data;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < p->n; i++) {
		const struct round_run *run = &p->runs[i];

		rc = send_block(r, p->t, run->addr, data, run->npages, run->backed);
		data += (size_t)run->npages * CKPT_PAGE;
	}
	return rc;
}

static int flush_parcel(const struct rounds *r, struct pump *pump, struct parcel *p, int mem)
{
	if (!p->n)
		return 0;
	read_parcel(r, p, mem);
	return pump_put(pump);
}

static int send_task(const struct rounds *r, struct pump *pump, const struct round_task *t)
{
	struct ckpt_err gone = { 0 };
	struct parcel *p = pump_next(pump);
	auto_fd mem = -1;
	int rc = 0;

	if (proc_open(t->pid, "mem", O_RDONLY, &mem, &gone))
		return 0;
	p->n = p->pages = 0;
	for (size_t i = 0; !rc && i < t->runs.n; i++) {
		struct round_run left = t->runs.v[i];

		while (!rc && left.npages) {
			uint32_t n = MIG_PAGES_MAX - p->pages;

			if (n > left.npages)
				n = left.npages;
			p->t = t;
			p->runs[p->n++] = (struct round_run) { left.addr, n, left.backed };
			p->pages += n;
			left.addr += (uint64_t)n * CKPT_PAGE;
			left.npages -= n;
			if (p->pages < MIG_PAGES_MAX && p->n < RUNS_MAX)
				continue;
			rc = flush_parcel(r, pump, p, mem);
			p = pump_next(pump);
			p->n = p->pages = 0;
		}
	}
	return rc ? rc : flush_parcel(r, pump, p, mem);
}

int rounds_send_pages(struct rounds *r)
{
	struct parcel parcels[PUMP_PARCELS] = { 0 };
	void *each[PUMP_PARCELS];
	struct pump pump = { 0 };
	uint64_t pages = 0;
	int rc = 0, sent;

	for (size_t i = 0; i < r->tasks.n; i++)
		for (size_t k = 0; !r->tasks.v[i]->lost && k < r->tasks.v[i]->runs.n; k++)
			pages += r->tasks.v[i]->runs.v[k].npages;
	for (size_t i = 0; i < PUMP_PARCELS; i++) {
		parcels[i].data = r->buf + i * MIG_PAGES_MAX * CKPT_PAGE;
		each[i] = &parcels[i];
	}
	pump_start(&pump, each, pages > FEW_PAGES, send_parcel, r);
	for (size_t i = 0; !rc && i < r->tasks.n; i++)
		if (!r->tasks.v[i]->lost)
			rc = send_task(r, &pump, r->tasks.v[i]);
	sent = pump_stop(&pump);
	return rc ? rc : sent;
}
