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
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "kern/kmod.h"
#include "kern/pagemap.h"
#include "track/track.h"

#define PAGE 4096u

struct pass {
	struct kmod *kmod;
	bool asked; /* in this pass */
	bool all;   /* everything changed, or nobody knows */
	bool lost;  /* an answer was incomplete: nothing is known until the next arm */
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

static int kmod_attach_task(struct tracker *t, struct target_task *task, struct ckpt_err *err)
{
	struct kmod *k = NULL;
	uint32_t track = 0;
	int rc = kmod_open(false, &k, err);

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
	return t->state ? 0 : ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
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
	for (size_t i = 0; !p->all && i < n; i++) {
		struct ckpt_run *r = vec_push(&p->runs);

		if (!r)
			return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
		*r = runs[i];
	}
	return 0;
}

static int ask(struct pass *p, bool arm)
{
	struct ckpt_err ignore = { 0 };
	int rc;

	p->runs.n = 0;
	p->all = p->lost;
	rc = kmod_collect(p->kmod, 0, arm, keep_runs, p, &ignore);
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
		rc = pagemap_anon(&pm, start, end, looked, &l);
	pagemap_close(&pm);
	return rc;
}

static int kmod_collect_range(struct tracker *t, uint64_t start, uint64_t end, unsigned int how,
			      track_fn fn, void *arg)
{
	struct pass *p = t->state;
	int rc = p->asked ? 0 : ask(p, how & TRACK_ARM);

	if (!rc && p->all)
		return look(t, start, end, TRACK_WRITTEN, fn, arg);
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
			rc = r->state == CKPT_RUN_DATA
				     ? fn(arg, start, (until - start) / PAGE, TRACK_WRITTEN)
				     : look(t, start, until, TRACK_WRITTEN, fn, arg);
		}
		start = until;
	}
	return rc;
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
	.live = false,
	.attach = kmod_attach_task,
	.begin = kmod_begin,
	.collect = kmod_collect_range,
	.detach = kmod_detach_task,
};
