// SPDX-License-Identifier: GPL-2.0-only
/*
 * Write tracking by the kernel module. One session of the module per address
 * space; it lives as long as its netlink socket, which is the tracker's
 * descriptor.
 *
 * The module reports a whole address space at once, at a cost that follows what
 * changed: the first collect of a pass asks for all, the others look into the
 * answer. What no run covers is as it was at the last arm, holes included, so
 * nobody looks at the pages there when the caller takes ranges.
 *
 * Of a target that runs, the answer is of the instant of the arm, and what is
 * looked up in the page map is of a later one. A page that came in between is
 * told as unwritten and is in the next answer; one that went is not told, and
 * in the next answer, too. What a mapping that came in between held is in this
 * answer and nobody asks for it: the caller must not take pages that he was
 * never given for known.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "kern/kmod.h"
#include "kern/pagemap.h"
#include "kern/procfs.h"
#include "track/track.h"

#define PAGE 4096u
#define POOL_SHARE 8
#define POOL_PAGES_MIN 256

struct pass {
	struct kmod *kmod;
	bool asked; /* in this pass */
	bool all;   /* everything changed, or nobody knows */
	bool lost;  /* an answer was incomplete: nothing is known until the next arm */
	uint32_t track;
	bool kept; /* the last collect took a snapshot */
	struct {
		struct ckpt_run *v;
		size_t n, cap;
	} runs;
	size_t at; /* first run that ends behind what was asked for last */
};

static struct pass *pass_new(struct kmod *kmod)
{
	struct pass *p = calloc(1, sizeof(*p));

	if (p)
		p->kmod = kmod;
	else
		kmod_close(kmod);
	return p;
}

/* Pages for snapshots of what changed, of a process of this size: an eighth, at most what the
 * module is set to. */
static uint64_t pool_for(int pid)
{
	auto_free char *text = NULL;
	struct ckpt_err ignore = { 0 };
	unsigned long long size, resident;

	if (proc_read(pid, "statm", &text, NULL, &ignore) ||
	    sscanf(text, "%llu %llu", &size, &resident) != 2)
		return POOL_PAGES_MIN;
	return resident / POOL_SHARE > POOL_PAGES_MIN ? resident / POOL_SHARE : POOL_PAGES_MIN;
}

static int kmod_attach_task(struct tracker *t, struct target_task *task, struct ckpt_err *err)
{
	struct kmod *k = NULL;
	uint32_t track = 0;
	int rc = kmod_open(false, pool_for(task->pid), &k, err);

	if (rc == -ENOMEM) {
		ckpt_err_clear(err);
		rc = kmod_open(false, 0, &k, err);
	}
	if (!rc)
		rc = kmod_attach(k, task->pid, &track, err);
	if (!rc) {
		t->fd = fcntl(kmod_fd(k), F_DUPFD_CLOEXEC, 3);
		if (t->fd < 0)
			rc = ckpt_fail_errno(err, E_TRACK, -errno, "cannot keep a netlink socket");
	}
	if (rc) {
		kmod_close(k);
		return rc;
	}
	t->state = pass_new(k);
	return t->state ? 0 : ckpt_oom(err);
}

static int kmod_begin(struct tracker *t)
{
	struct ckpt_err ignore = { 0 };
	struct pass *p = t->state;
	struct kmod *k = NULL;

	if (!p) {
		auto_fd fd = fcntl(t->fd, F_DUPFD_CLOEXEC, 3);
		int rc = fd < 0 ? -errno : kmod_adopt(fd, &k, &ignore);

		/* Its target ended, or the module was removed. */
		if (rc)
			return rc == -ENOENT ? -ESTALE : rc;
		(void)take_fd(&fd);
		t->state = p = pass_new(k);
		if (!p)
			return -ENOMEM;
	}
	p->asked = false;
	p->at = 0;
	return 0;
}

static int keep_runs(const struct kmod_result *result, const struct ckpt_run *runs, size_t n,
		     void *arg, struct ckpt_err *err)
{
	struct pass *p = arg;

	if (result->flags & CKPT_RESULT_GONE)
		return -ESTALE;
	p->all |= (result->flags & (CKPT_RESULT_ALL | CKPT_RESULT_UNARMED)) != 0;
	p->track = result->track;
	p->kept = result->flags & CKPT_RESULT_SNAPSHOT;
	for (size_t i = 0; !p->all && i < n; i++) {
		struct ckpt_run *r = vec_push(&p->runs);

		if (!r)
			return ckpt_oom(err);
		*r = runs[i];
	}
	return 0;
}

static int ask(struct pass *p, unsigned int how)
{
	struct ckpt_err ignore = { 0 };
	int rc;

	p->runs.n = 0;
	p->all = p->lost;
	p->kept = false;
	rc = kmod_collect_flags(p->kmod, 0,
				(how & TRACK_ARM ? CKPT_COLLECT_REARM : 0) |
					(how & TRACK_KEEP ? CKPT_COLLECT_SNAPSHOT : 0),
				keep_runs, p, &ignore);
	p->lost = rc && rc != -ESTALE;
	p->asked = !rc;
	/* The track is gone when its session is, and then its pages are nobody's. */
	return rc == -ENOENT ? -ESTALE : rc;
}

struct looking {
	track_fn fn;
	void *arg;
	unsigned int flags;
};

static int looked(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	const struct looking *l = arg;

	return l->fn(l->arg, addr, npages,
		     l->flags | (flags & PAGEMAP_ZERO ? TRACK_ZERO : 0) |
			     (flags & PAGEMAP_GUARD ? TRACK_GUARD : 0));
}

/* What pages there are in [start, end), reported with @flags. */
static int look(struct tracker *t, uint64_t start, uint64_t end, unsigned int flags, track_fn fn,
		void *arg)
{
	struct looking l = { fn, arg, flags };
	struct pagemap pm;
	int rc = pagemap_open(&pm, t->pid);

	if (!rc)
		rc = pagemap_anon(&pm, start, end, false, looked, &l);
	pagemap_close(&pm);
	return rc;
}

static int kmod_collect_range(struct tracker *t, uint64_t start, uint64_t end, unsigned int how,
			      track_fn fn, void *arg)
{
	struct pass *p = t->state;
	int rc = p->asked ? 0 : ask(p, how);
	unsigned int now = how & TRACK_KEEP ? TRACK_WRITTEN | TRACK_NOW : TRACK_WRITTEN;

	if (!rc && p->all)
		return look(t, start, end, now, fn, arg);
	/* Ranges come in ascending order; if not, from the beginning. */
	if (p->at && p->runs.v[p->at - 1].start >= start)
		p->at = 0;
	while (!rc && start < end) {
		const struct ckpt_run *r = p->at < p->runs.n ? &p->runs.v[p->at] : NULL;
		uint64_t r_end = r ? r->start + (uint64_t)r->pages * PAGE : 0;
		uint64_t until = end;

		if (r && r_end <= start) {
			p->at++;
			continue;
		}
		if (!r || r->start > start) {
			if (r && r->start < end)
				until = r->start;
			rc = how & TRACK_RANGES ? fn(arg, start, (until - start) / PAGE, TRACK_SAME)
						: look(t, start, until, 0, fn, arg);
		} else {
			if (r_end < end)
				until = r_end;
			if (r->state == CKPT_RUN_DATA)
				rc = fn(arg, start, (until - start) / PAGE,
					p->kept ? TRACK_WRITTEN : now);
			else if (r->state == CKPT_RUN_DATA_NOW)
				rc = fn(arg, start, (until - start) / PAGE, now);
			else
				rc = look(t, start, until, now, fn, arg);
		}
		start = until;
	}
	return rc;
}

/* A session that was opened where no memory was to spare has no pool. */
static bool kmod_keeps(struct tracker *t)
{
	struct pass *p = t->state;

	return kmod_pool_pages(p->kmod) > 0;
}

static int kmod_kept(struct tracker *t, int *ret_fd, uint64_t *ret_room)
{
	struct kmod_snapshot snap = { .fd = -1 };
	struct ckpt_err ignore = { 0 };
	struct pass *p = t->state;
	int rc = p && p->kept ? kmod_snapshot(p->kmod, p->track, &snap, &ignore) : -ENODATA;

	if (rc)
		return rc;
	p->kept = false;
	*ret_fd = snap.fd;
	/* Pages that nobody reads here may still change and need room. */
	*ret_room = snap.pages <= snap.pool ? snap.pages : 0;
	return 0;
}

static void kmod_detach_task(struct tracker *t)
{
	struct pass *p = t->state;

	if (!p)
		return;
	kmod_close(p->kmod);
	vec_free(&p->runs);
	free(p);
	t->state = NULL;
}

const struct track_ops track_kmod = {
	.name = "kmod",
	.probe = kmod_present,
	.live = true,
	.finds_new = true,
	.nests = true,
	.attach = kmod_attach_task,
	.begin = kmod_begin,
	.collect = kmod_collect_range,
	.keeps = kmod_keeps,
	.kept = kmod_kept,
	.detach = kmod_detach_task,
};
