
// SPDX-License-Identifier: GPL-2.0-only
/*
 * dump --pre, and increments that copy ahead by themselves (pre.h).
 */
#include "dump/pre.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

struct pre_task *pre_task_find(struct dump_pre *p, int pid)
{
	for (size_t i = 0; i < p->tasks.n; i++)
		if (p->tasks.v[i]->pid == pid)
			return p->tasks.v[i];
	return NULL;
}

struct pre_task *pre_task_new(struct dump_pre *p, int pid)
{
	struct pre_task *t = calloc(1, sizeof(*t));
	struct pre_task **slot = t ? vec_push(&p->tasks) : NULL;

	if (!slot) {
		free(t);
		return NULL;
	}
	t->pid = pid;
	t->fd = -1;
	t->own = TRACKER_NONE;
	*slot = t;
	return t;
}

struct pre_task *pre_task_get(struct dump_pre *p, int pid)
{
	struct pre_task *t = pre_task_find(p, pid);

	return t ? t : pre_task_new(p, pid);
}

struct pre_task *pre_object_find(const struct dump_pre *p, const struct notes_object *o)
{
	for (size_t i = 0; i < p->tasks.n; i++)
		if (p->tasks.v[i]->object == o)
			return p->tasks.v[i];
	return NULL;
}

/* ---- what the dump asks ---------------------------------------------------------------------- */

static int pre_tracker(struct dump_tracking *tr, struct target_task *task, bool again,
		       struct tracker **ret, bool *ret_fresh, struct ckpt_err *err)
{
	struct dump_pre *p = (struct dump_pre *)tr; /* its first member */
	struct pre_task *t = pre_task_find(p, task->pid);

	/* Another address space: what was copied is of the one before. */
	if (t && again)
		vec_free(&t->have);
	if (p->session) {
		int rc = p->session->tracker(p->session, task, again, ret, ret_fresh, err);

		*ret_fresh |= t && t->lost;
		return rc;
	}
	*ret = NULL;
	*ret_fresh = false;
	if (t && !again && t->own.ops)
		*ret = &t->own;
	return 0;
}

static bool pre_known(struct dump_tracking *tr, int pid)
{
	struct dump_tracking *s = ((struct dump_pre *)tr)->session;

	return s && s->known && s->known(s, pid);
}

static void pre_settled(struct dump_tracking *tr, int pid)
{
	struct dump_tracking *s = ((struct dump_pre *)tr)->session;

	if (s && s->settled)
		s->settled(s, pid);
}

/* The runs of @l that end behind @addr begin here. */
static size_t run_at(const struct run_list *l, uint64_t addr)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (l->v[mid].vaddr + (uint64_t)l->v[mid].npages * CKPT_PAGE <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* How many of @npages from @addr are alike, and whether they were copied. */
static uint64_t alike(const struct run_list *l, uint64_t addr, uint64_t npages, bool *ret_have,
		      const struct ckpt_page_run **ret_run)
{
	size_t i = run_at(l, addr);

	*ret_run = i < l->n ? &l->v[i] : NULL;
	return run_alike(*ret_run, addr, npages, ret_have);
}

/* Of an increment, the parent has the rest. */
static uint64_t pre_had(struct dump_tracking *tr, int pid, uint64_t addr, uint64_t npages,
			bool *ret_had)
{
	struct dump_pre *p = (struct dump_pre *)tr;
	const struct pre_task *t = pre_task_find(p, pid);
	const struct ckpt_page_run *r;

	*ret_had = true;
	if (p->session && p->session->increment)
		return npages;
	*ret_had = false;
	return t ? alike(&t->have, addr, npages, ret_had, &r) : npages;
}

int dump_pre_resolve(const struct dump_pre *p, const struct dump_pages *pages, uint64_t addr,
		     uint64_t npages, struct run_list *ret, uint64_t *ret_left)
{
	const struct pre_task *t = !p          ? NULL
				   : pages->mm ? pre_task_find((struct dump_pre *)p, pages->pid)
				   : pages->known_as ? pre_object_find(p, pages->known_as)
						     : NULL;
	const struct ckpt_page_run *r = NULL;
	bool have = false;
	uint64_t n = t ? alike(&t->have, addr, npages, &have, &r) : npages;
	struct ckpt_page_run run;

	if (!have) {
		*ret_left = n;
		return 0;
	}
	run = *r;
	if (run.kind == CKPT_RUN_DATA)
		run.off += addr - r->vaddr;
	run.vaddr = addr;
	run.npages = (uint32_t)n;
	*ret_left = 0;
	return run_list_add(ret, &run) ? -ENOMEM : (int)(n > INT32_MAX ? INT32_MAX : n);
}

/* ---- a round --------------------------------------------------------------------------------- */

static int note_quiet(struct pre_task *t, uint64_t addr, uint64_t npages, unsigned int flags)
{
	while (npages) {
		uint32_t n = npages > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)npages;
		struct ckpt_page_run r = { .vaddr = addr,
					   .npages = n,
					   .kind = flags & TRACK_GUARD ? CKPT_RUN_GUARD
								       : CKPT_RUN_ZERO };

		if (run_list_add(&t->quiet, &r))
			return -ENOMEM;
		addr += (uint64_t)n * CKPT_PAGE;
		npages -= n;
	}
	return 0;
}

int pre_note_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct dump_pre *p = arg;

	if (!(flags & TRACK_WRITTEN))
		return 0;
	/* Nothing to copy, but not what the parent has there. */
	if ((flags & TRACK_GUARD) || ((flags & TRACK_ZERO) && !p->backed))
		return note_quiet(p->at, addr, npages, flags);
	while (npages) {
		uint32_t n = npages > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)npages;
		struct page_seg *s = vec_push(&p->segs);
		struct pre_task **owner = s ? vec_push(&p->owner) : NULL;

		if (!owner)
			return -ENOMEM;
		*owner = p->at;
		*s = (struct page_seg) { .fd = p->mem_fd,
					 .addr = addr,
					 .npages = n,
					 .moving = true,
					 .backed = p->backed };
		addr += (uint64_t)n * CKPT_PAGE;
		npages -= n;
	}
	return 0;
}

bool pre_wanted(const struct proc_vma *v)
{
	const struct vma_kind *kind = vma_kind_match(v);

	return kind && kind->private_pages && dump_vma_tracked(v);
}

/* [r->vaddr, …) was copied anew: what was there before is of no use. */
static int have_put(struct run_list *l, struct run_list *fresh)
{
	struct run_list out = { 0 };
	size_t i = 0, k = 0;
	int rc = 0;

	while (!rc && (i < l->n || k < fresh->n)) {
		struct ckpt_page_run r;
		uint64_t end, cut;

		if (i == l->n || (k < fresh->n && fresh->v[k].vaddr <= l->v[i].vaddr)) {
			const struct ckpt_page_run *f = &fresh->v[k++];

			rc = run_list_add(&out, f);
			end = f->vaddr + (uint64_t)f->npages * CKPT_PAGE;
			for (; i < l->n && l->v[i].vaddr < end; i++) {
				uint64_t l_end =
					l->v[i].vaddr + (uint64_t)l->v[i].npages * CKPT_PAGE;

				if (l_end <= end)
					continue;
				cut = end - l->v[i].vaddr;
				l->v[i].vaddr = end;
				l->v[i].npages -= (uint32_t)(cut / CKPT_PAGE);
				if (l->v[i].kind == CKPT_RUN_DATA)
					l->v[i].off += cut;
				break;
			}
			continue;
		}
		r = l->v[i];
		end = r.vaddr + (uint64_t)r.npages * CKPT_PAGE;
		if (k < fresh->n && fresh->v[k].vaddr < end) {
			cut = fresh->v[k].vaddr - r.vaddr;
			r.npages = (uint32_t)(cut / CKPT_PAGE);
			l->v[i].vaddr += cut;
			l->v[i].npages -= r.npages;
			if (l->v[i].kind == CKPT_RUN_DATA)
				l->v[i].off += cut;
		} else {
			i++;
		}
		rc = run_list_add(&out, &r);
	}
	vec_free(l);
	*l = out;
	return rc;
}

/* Copy what the round found, and note where it is. */
int pre_copy(struct dump_pre *p, uint64_t *ret_pages, struct ckpt_err *err)
{
	struct dump_ctx *d = p->d;
	uint64_t base = d->writer.pages_bytes, written = 0;
	unsigned char *zero = NULL;
	int rc;

	*ret_pages = 0;
	for (size_t i = 0; i < p->tasks.n; i++) {
		struct pre_task *t = p->tasks.v[i];

		if (t->quiet.n && have_put(&t->have, &t->quiet))
			return ckpt_oom(err);
		t->quiet.n = 0;
	}
	if (!p->segs.n)
		return 0;
	rc = image_pages_write(&d->writer, &p->segs, d->opts->threads, &zero, &written, err);
	for (size_t i = 0, n; !rc && i < p->segs.n; i = n) {
		struct run_list fresh = { 0 };

		for (n = i; !rc && n < p->segs.n && p->owner.v[n] == p->owner.v[i]; n++) {
			const struct page_seg *s = &p->segs.v[n];
			uint64_t first = (s->off - base) / CKPT_PAGE;

			*ret_pages += s->npages;
			for (uint32_t k = 0; !rc && k < s->npages; k++) {
				bool z = zero[(first + k) / 8] & (1u << ((first + k) % 8)) &&
					 !s->backed;
				struct ckpt_page_run r = {
					.vaddr = s->addr + (uint64_t)k * CKPT_PAGE,
					.off = z ? 0 : s->off + (uint64_t)k * CKPT_PAGE,
					.npages = 1,
					.kind = z ? CKPT_RUN_ZERO : CKPT_RUN_DATA
				};

				rc = run_list_add(&fresh, &r) ? ckpt_oom(err) : 0;
			}
		}
		if (!rc && have_put(&p->owner.v[i]->have, &fresh))
			rc = ckpt_oom(err);
		vec_free(&fresh);
	}
	free(zero);
	d->stats.pages_pre += *ret_pages;
	d->stats.pages_written += written;
	return rc;
}

void pre_round_clear(struct dump_pre *p)
{
	for (size_t i = 0; i < p->mems.n; i++)
		if (p->mems.v[i] >= 0)
			(void)close(p->mems.v[i]);
	p->mems.n = p->segs.n = p->owner.n = 0;
}

/* ---- beginning and end ----------------------------------------------------------------------- */

static struct dump_pre *pre_new(struct dump_ctx *d)
{
	struct dump_pre *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	d->pre = p;
	p->d = d;
	p->session = d->tracking;
	p->tracking.tracker = pre_tracker;
	p->tracking.known = pre_known;
	p->tracking.settled = pre_settled;
	p->tracking.had = pre_had;
	p->tracking.increment = true;
	p->tracking.arm = d->tracking && d->tracking->arm;
	return p;
}

static int live_begin(struct dump_ctx *d, struct ckpt_err *err)
{
	uint64_t at = io_now_us();
	struct dump_pre *p = pre_new(d);
	int rc = p ? pre_rounds_live(p, err) : ckpt_oom(err);

	if (!rc && !d->stats.pre_rounds) {
		dump_pre_end(d);
		return 0;
	}
	if (p)
		d->tracking = &p->tracking;
	d->stats.pre_us = io_now_us() - at;
	return rc;
}

int dump_pre_begin(struct dump_ctx *d, struct ckpt_err *err)
{
	uint64_t at = io_now_us();
	struct dump_pre *p;
	int rc;

	if (!d->opts->pre)
		return pre_live_may(d) ? live_begin(d, err) : 0;
	p = pre_new(d);
	if (!p)
		return ckpt_oom(err);
	d->pre_armed = true;
	p->ops = d->tracking ? NULL : track_choose(d->opts->tracker, false, err);
	if (!d->tracking && !p->ops)
		return err->code;
	if (p->ops == &track_none || (d->stats.tracker && !strcmp(d->stats.tracker, "none")))
		return ckpt_fail(err, E_TRACK, -EOPNOTSUPP,
				 "nothing can be copied ahead: this kernel cannot track writes");
	if (p->ops)
		d->stats.tracker = (char *)p->ops->name;
	rc = pre_rounds_stopped(p, err);
	d->tracking = &p->tracking;
	d->stats.pre_us = io_now_us() - at;
	return rc;
}

void dump_pre_end(struct dump_ctx *d)
{
	struct dump_pre *p = d->pre;

	if (!p)
		return;
	d->pre = NULL;
	d->tracking = p->session;
	pre_round_clear(p);
	for (size_t i = 0; i < p->tasks.n; i++) {
		tracker_detach(&p->tasks.v[i]->own);
		if (p->tasks.v[i]->fd >= 0)
			(void)close(p->tasks.v[i]->fd);
		vec_free(&p->tasks.v[i]->spans);
		vec_free(&p->tasks.v[i]->have);
		vec_free(&p->tasks.v[i]->quiet);
		free(p->tasks.v[i]);
	}
	vec_free(&p->tasks);
	vec_free(&p->segs);
	vec_free(&p->owner);
	vec_free(&p->mems);
	free(p);
}
