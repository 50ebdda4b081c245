// SPDX-License-Identifier: GPL-2.0-only
/* No tracking: every page is written. For kernels without any, and to compare the others with. */
#include <stdlib.h>

#include "kern/pagemap.h"
#include "track/track.h"

static bool none_probe(void)
{
	return true;
}

static int none_attach(struct tracker *t, struct target_task *task, struct ckpt_err *err)
{
	(void)t;
	(void)task;
	(void)err;
	return 0;
}

struct none_arg {
	track_fn fn;
	void *arg;
};

static int none_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	const struct none_arg *a = arg;

	return a->fn(a->arg, addr, npages,
		     TRACK_WRITTEN | (flags & PAGEMAP_ZERO ? TRACK_ZERO : 0) |
			     (flags & PAGEMAP_GUARD ? TRACK_GUARD : 0));
}

static int none_collect(struct tracker *t, uint64_t start, uint64_t end, unsigned int how,
			track_fn fn, void *arg)
{
	struct none_arg a = { fn, arg };
	struct pagemap pm;
	int rc = pagemap_open(&pm, t->pid);

	(void)how;
	if (!rc)
		rc = pagemap_anon(&pm, start, end, false, none_run, &a);
	pagemap_close(&pm);
	return rc;
}

const struct track_ops track_none = {
	.name = "none",
	.probe = none_probe,
	.live = true,
	.attach = none_attach,
	.collect = none_collect,
};
