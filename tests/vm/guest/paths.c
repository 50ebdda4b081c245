// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each way in which a page can change (path_*.c). After every step the runs must
 * cover what the target says it touched, what the kernel calls soft-dirty, and
 * every page of the whole program whose content differs; and little else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm.h"

static void check_region(const struct path *p, struct target *t, const struct vnl_result *r,
			 const bool *soft_dirty, int step)
{
	size_t extra = 0;

	for (size_t i = 0; i < t->sh->pages; i++) {
		uintptr_t addr = t->sh->base + i * PAGE;
		bool in = run_covers(r, addr, NULL);

		if (t->sh->touched[i] && !in)
			FAIL("LOST in step %d: the target touched page %zu (%#lx)", step, i, addr);
		if (soft_dirty[i] && !in)
			FAIL("LOST in step %d: page %zu (%#lx) is soft-dirty", step, i, addr);
		extra += in && !t->sh->touched[i];
	}
	if (extra > p->extra_max)
		FAIL("step %d: %zu pages reported that nobody touched (at most %zu)", step, extra,
		     p->extra_max);
}

static void walk_path(const struct path *p)
{
	static bool soft_dirty[REGION_PAGES_MAX];
	struct vnl_result r, arm;
	struct image *before, *after;
	uint32_t session, track;
	struct target t;
	struct nl nl;
	bool vma_sd;

	CHECK(!vnl_open(&nl));
	target_start(&t, p);
	CHECK(!vnl_session(&nl, 0, &session));
	CHECK(!vnl_attach(&nl, session, t.pid, &track));
	CHECK(vnl_arm(&nl, session, &arm, 1) == 1 && arm.epoch == 1 && !arm.flags);
	before = image_take(t.pid);
	for (int step = 0; step < p->steps; step++) {
		memset(t.sh->touched, 0, sizeof(t.sh->touched));
		target_step(&t, step);
		after = image_take(t.pid);
		vma_sd = vma_has_flag(t.pid, t.sh->base, " sd");
		memset(soft_dirty, 0, sizeof(soft_dirty));
		if (!vma_sd)
			pages_soft_dirty(t.pid, t.sh->base, t.sh->pages, soft_dirty);
		CHECK(vnl_collect(&nl, session, CKPT_COLLECT_REARM, &r, 1) == 1);
		CHECK(r.track == track && r.epoch == 2 + (uint64_t)step);
		CHECK(!(r.flags & (CKPT_RESULT_GONE | CKPT_RESULT_UNARMED | CKPT_RESULT_ALL)));
		CHECK(!vnl_runs(&nl, session, &r));
		runs_check_order(&r);
		image_check(before, after, &r);
		check_region(p, &t, &r, soft_dirty, step);
		free(r.runs);
		image_free(before);
		before = after;
	}
	CHECK(!vnl_detach(&nl, session, 0));
	target_stop(&t);
	image_free(before);
	vnl_close(&nl);
}

static void run_path(const void *arg)
{
	static const char *const modes[] = { "split", "whole", "disable" };
	const struct path *p = arg;

	for (int i = 0; i < (p->flags & PATH_THP ? 3 : 1); i++) {
		CHECK(!write_file("/sys/kernel/ckpt/thp_mode", modes[i]));
		walk_path(p);
	}
}

#define N_MAX 100

const struct path *path_number(size_t i)
{
	static const struct path *const tables[] = { path_writes, path_ranges, path_pages };

	for (size_t t = 0; t < sizeof(tables) / sizeof(*tables); t++)
		for (const struct path *p = tables[t]; p->name; p++)
			if (!i--)
				return p;
	return NULL;
}

const struct test *path_table(void)
{
	static char names[N_MAX][64];
	static struct test table[N_MAX + 1];
	const struct path *p;

	for (size_t i = 0; i < N_MAX && (p = path_number(i)); i++) {
		snprintf(names[i], sizeof(names[i]), "path/%s", p->name);
		table[i] = (struct test){ names[i], run_path, p, 0 };
	}
	return table;
}
