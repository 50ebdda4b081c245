// SPDX-License-Identifier: GPL-2.0-only
/* Back ends that look at a target while it runs (wp-async, kmod). */
#include "track_test.h"

#include <string.h>
#include <sys/uio.h>

struct live {
	struct fixture *f;
	unsigned int told;
};

#define LATE 701ul /* a page that is written after the collection told of all, before it ends */

static int write_late(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct iovec local = { "late", 4 }, remote = { HUGE + LATE * PAGE, 4 };
	struct live *l = arg;

	(void)flags;
	l->told += (unsigned int)npages;
	if (addr + npages * PAGE == (uintptr_t)HUGE + 900 * PAGE)
		assert_int_equal(process_vm_writev(l->f->pid, &local, 1, &remote, 1, 0), 4);
	return 0;
}

/* A target that runs writes while a collection of many small runs is under way. */
void test_live(void **state)
{
	struct fixture *f = *state;
	struct live l = { .f = f };
	struct seen s;

	if (!f->ops->live)
		return;
	tell(f, 't');
	assert_int_equal(pass(f, true, HUGE, 900 * PAGE, &s), 0);
	tell(f, 's');
	assert_int_equal(tracker_begin(&f->t), 0);
	assert_int_equal(tracker_collect(&f->t, (uintptr_t)HUGE, (uintptr_t)HUGE + 900 * PAGE,
					 TRACK_ARM | TRACK_ANON | TRACK_KNOWN, write_late, &l),
			 0);
	assert_int_equal(l.told, 900);
	assert_int_equal(pass(f, false, HUGE, 900 * PAGE, &s), 0);
	for (unsigned int i = 0; i < 900; i++)
		assert_int_equal(s.map[i], i == LATE || !exact(f) ? 'w' : 'c');
}

/* Registered at a stop and no more; looked at and armed while it runs. */
static void register_new(struct fixture *f, bool attach, char *base, size_t len)
{
	struct target tg = { 0 };
	struct ckpt_err err = { 0 };
	struct seen s = { .base = (uintptr_t)base };

	if (target_freeze(&tg, f->pid, &err))
		fail_msg("%s: %s", err.where, err.msg);
	if (attach && attach_it(f, &tg, &err))
		fail_msg("%s: %s", err.where, err.msg);
	assert_int_equal(tracker_begin(&f->t), 0);
	if (!f->ops->finds_new)
		assert_int_equal(tracker_collect(&f->t, (uintptr_t)base, (uintptr_t)base + len,
						 TRACK_ARM | TRACK_NEW, note, &s),
				 0);
	target_thaw(&tg, TARGET_RUN);
	target_free(&tg);
	for (size_t i = 0; i < len / PAGE; i++)
		assert_int_equal(s.map[i], 0);
}

static void live_pass(struct fixture *f, char *base, size_t len, struct seen *s)
{
	memset(s, 0, sizeof(*s));
	s->base = (uintptr_t)base;
	assert_int_equal(tracker_begin(&f->t), 0);
	assert_int_equal(tracker_collect(&f->t, (uintptr_t)base, (uintptr_t)base + len,
					 TRACK_ARM | TRACK_ANON | TRACK_KNOWN, note, s),
			 0);
	assert_int_equal(tracker_armed(&f->t), 0);
}

/* All of it counts as written when it is looked at first, whatever it was before; then what is
 * written, and nothing else. */
static void expect_new(struct fixture *f, char *base, size_t pages, size_t at)
{
	struct iovec local = { "new", 3 }, remote = { base + at * PAGE, 3 };
	struct seen s;

	live_pass(f, base, pages * PAGE, &s);
	for (size_t i = 0; i < pages; i++)
		assert_int_equal(s.map[i], 'w');
	for (int again = 0; again < 2; again++) {
		assert_int_equal(process_vm_writev(f->pid, &local, 1, &remote, 1, 0), 3);
		live_pass(f, base, pages * PAGE, &s);
		for (size_t i = 0; i < pages; i++)
			assert_int_equal(s.map[i], i == at ? 'w' : 'c');
	}
	live_pass(f, base, pages * PAGE, &s);
	for (size_t i = 0; i < pages; i++)
		assert_int_equal(s.map[i], 'c');
}

void test_new(void **state)
{
	struct fixture *f = *state;
	size_t pages = HUGE_BYTES / PAGE;
	struct seen s;

	if (!f->ops->live || !exact(f))
		return;
	register_new(f, true, BASE, PAGES * PAGE);
	expect_new(f, BASE, PAGES, 5);
	/* Armed pages that move away: they may come with their protection, and must not count as
	 * armed there. */
	tell(f, 'M');
	register_new(f, false, AWAY, PAGES * PAGE);
	expect_new(f, AWAY, PAGES, 9);
	tell(f, 't');
	register_new(f, false, HUGE, HUGE_BYTES);
	expect_new(f, HUGE, pages, 77);
	tell(f, 'T'); /* a page table as a whole */
	register_new(f, false, HUGE, HUGE_BYTES / 2);
	expect_new(f, HUGE, pages / 2, 78);
	tell(f, 'h');
	register_new(f, false, HUGE, HUGE_BYTES);
	live_pass(f, HUGE, HUGE_BYTES, &s);
	tell(f, 'T'); /* a huge page */
	register_new(f, false, HUGE, HUGE_BYTES / 2);
	expect_new(f, HUGE, pages / 2, 79);
	/* Dropped, and come back, behind the back of who armed nothing of it yet. */
	tell(f, 'h');
	register_new(f, false, HUGE, HUGE_BYTES);
	tell(f, 'z');
	tell(f, 'H');
	live_pass(f, HUGE, HUGE_BYTES, &s);
	assert_int_equal(s.map[3], 'w');
	for (size_t i = pages / 2; i < pages; i++)
		assert_int_equal(s.map[i], 'w');
	tell(f, 'H');
	live_pass(f, HUGE, HUGE_BYTES, &s);
	assert_int_equal(s.map[3], 'w');
	assert_int_equal(s.map[700], 'c');
}
