// SPDX-License-Identifier: GPL-2.0-only
/*
 * Rounds that stop nothing: of trackers that collect while the program runs. Increments make them
 * by themselves where it pays (live_pays), which is when much was written.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "dump/logged.h"
#include "dump/pre.h"
#include "kern/directio.h"

#define LIVE_MIN 1024u /* pages: fewer are copied under the freeze in the time of a scan or two */
#define LIVE_RESIDENT 2048u /* a program with fewer pages is not looked at */
#define LIVE_PAGE_NS 2500u  /* what it takes to find, copy and arm a page, roughly */
#define LIVE_SHARE 2u       /* the pass may last half the time since the parent */
#define LIVE_WAIT 15u       /* increments without, at most, when it was of no use */
#define LIVE_LOOK_US 1000u  /* between two looks whether it still writes */

/* Anonymous mappings that a tracker looks after, which are adjacent: where they end, or 0. */
static size_t live_group(const struct proc_vmas *vmas, size_t i)
{
	if (!pre_wanted(&vmas->v[i]) || vmas->v[i].ino)
		return 0;
	for (i++; i < vmas->n && vmas->v[i].start == vmas->v[i - 1].end; i++)
		if (!pre_wanted(&vmas->v[i]) || vmas->v[i].ino)
			break;
	return i;
}

struct live {
	struct dump_pre *p;
	uint64_t pages; /* counted */
	bool direct;
};

static int add_pages(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	uint64_t *pages = arg;

	(void)addr;
	(void)flags;
	*pages += npages;
	return 0;
}

static int live_count(void *arg, struct tracker *t)
{
	struct live *l = arg;
	struct ckpt_err gone = { 0 };
	struct proc_vmas vmas = { 0 };
	int rc = tracker_begin(t);

	l->direct = l->direct || directio_possible(t->pid);
	if (!rc)
		rc = proc_vmas_read(t->pid, &l->p->d->iters.vma, &vmas, &gone);
	for (size_t i = 0, next; !rc && i < vmas.n; i = next) {
		next = live_group(&vmas, i);
		/* What is new is for the freeze. */
		if (next)
			(void)tracker_count(t, vmas.v[i].start, vmas.v[next - 1].end, &l->pages);
		else
			next = i + 1;
		if (pre_watched_object(l->p, &vmas.v[i]))
			(void)tracker_shared(t, vmas.v[i].start, vmas.v[i].end, 0, add_pages,
					     &l->pages);
	}
	proc_vmas_free(&vmas);
	return 0;
}

/* Write protects what it reports; a task of which that fails half-way is saved as a whole. */
static int live_collect(void *arg, struct tracker *t)
{
	struct dump_pre *p = ((struct live *)arg)->p;
	struct ckpt_err gone = { 0 };
	struct proc_vmas vmas = { 0 };
	struct pre_task *task = pre_task_get(p, t->pid);
	int *fd = task ? vec_push(&p->mems) : NULL;
	char path[48];
	int rc = fd ? tracker_begin(t) : -ENOMEM;

	if (rc)
		return rc == -ENOMEM ? rc : 0;
	(void)snprintf(path, sizeof(path), "/proc/%d/mem", t->pid);
	*fd = p->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (p->mem_fd < 0 || proc_vmas_read(t->pid, &p->d->iters.vma, &vmas, &gone)) {
		proc_vmas_free(&vmas);
		return 0;
	}
	p->at = task;
	p->backed = false;
	for (size_t i = 0, next; !rc && i < vmas.n; i = next) {
		uint64_t ignore = 0, start = vmas.v[i].start, end;

		next = live_group(&vmas, i);
		if (!next) {
			next = i + 1;
			rc = pre_shared_collect(p, t, &vmas.v[i]);
			continue;
		}
		end = vmas.v[next - 1].end;
		/* All of it is tracked, for this fails where a part is not. */
		if (tracker_count(t, start, end, &ignore) || !ignore)
			continue;
		rc = tracker_collect(t, start, end,
				     TRACK_ARM | TRACK_KNOWN | TRACK_ANON | TRACK_WRITES,
				     pre_note_run, p);
	}
	/* Somebody opened such a file meanwhile: a device may write where it is armed. */
	if (directio_possible(t->pid)) {
		for (size_t i = 0; i < vmas.n; i++) {
			struct notes_object *o = pre_watched_object(p, &vmas.v[i]);

			if (o)
				o->watched = false;
		}
		task->lost = true;
	}
	proc_vmas_free(&vmas);
	if (!rc)
		rc = tracker_armed(t);
	task->lost |= rc != 0;
	return rc == -ENOMEM ? rc : 0;
}

/* After once one, then three, seven and so on. */
static uint64_t live_wait(uint64_t useless)
{
	return useless < 4 ? (1u << useless) - 1 : LIVE_WAIT;
}

/* Is this increment such that copying ahead can pay at all? Costs next to nothing. */
bool pre_live_may(struct dump_ctx *d)
{
	const Ckpt__Stats *was = d->parent ? d->parent->inv->stats : NULL;
	const struct dump_tracking *tr = d->tracking;
	auto_free char *text = NULL;
	struct ckpt_err ignore = { 0 };
	unsigned long long resident = 0;

	if (d->opts->no_pre || d->opts->end != TARGET_RUN || !was || !tr || !tr->increment ||
	    !tr->each || !tr->arm)
		return false;
	/* It was of no use lately: what was copied was written again. */
	d->stats.pre_wait = was->pre_wait ? was->pre_wait - 1 : 0;
	d->stats.pre_useless = was->pre_useless;
	if (was->pages_pre && was->pages_dirty <= was->pages_pre / 2)
		d->stats.pre_useless = 0;
	else if (was->pages_pre)
		d->stats.pre_wait = live_wait(++d->stats.pre_useless);
	/* In a series one is like the one before. */
	if (d->opts->series && d->opts->series->made &&
	    was->pages_dirty + was->pages_pre < LIVE_MIN * 3 / 4)
		return false;
	return !d->stats.pre_wait && !dump_log_few(d, LIVE_MIN) &&
	       !proc_read(d->opts->pid, "statm", &text, NULL, &ignore) &&
	       sscanf(text, "%*u %llu", &resident) == 1 && resident >= LIVE_RESIDENT;
}

static int live_look(struct dump_pre *p, struct live *ret)
{
	*ret = (struct live) { .p = p };
	return p->session->each(p->session, false, live_count, ret);
}

/* @pages came to be written in @ns: could they be copied in a part of that? */
static bool live_outruns(uint64_t pages, uint64_t ns)
{
	return pages * LIVE_PAGE_NS * LIVE_SHARE <= ns;
}

/* Copying what was written takes a while, in which about as much of it is written again as before
 * in such a time; or as now, if it has come to rest. */
static bool live_pays(struct dump_pre *p, const struct live *l)
{
	uint64_t now = dump_clock_ns(CLOCK_REALTIME), was = p->d->parent->inv->created_ns, begin;
	struct live again;

	if (l->direct || l->pages < LIVE_MIN)
		return false;
	if (live_outruns(l->pages, now > was ? now - was : 0))
		return true;
	begin = io_now_us();
	(void)usleep(LIVE_LOOK_US);
	(void)live_look(p, &again);
	return again.pages >= l->pages &&
	       live_outruns(again.pages - l->pages, (io_now_us() - begin) * 1000);
}

int pre_rounds_live(struct dump_pre *p, struct ckpt_err *err)
{
	struct dump_ctx *d = p->d;
	uint64_t last = UINT64_MAX, copied;
	int rc = 0;

	for (unsigned int i = 0; !rc && i < PRE_MAX_ROUNDS; i++) {
		struct live l;

		(void)live_look(p, &l);
		if (l.pages > last / 2 || !live_pays(p, &l))
			break;
		rc = p->session->each(p->session, true, live_collect, &l) || pre_shared_segments(p)
			     ? ckpt_oom(err)
			     : 0;
		if (!rc)
			rc = pre_copy(p, &copied, err);
		pre_round_clear(p);
		if (!rc)
			rc = ckpt_fault_fail("track.pre", E_MEMORY, err);
		d->stats.pre_rounds++;
		last = l.pages;
	}
	return rc;
}
