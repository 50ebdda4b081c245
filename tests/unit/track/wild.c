// SPDX-License-Identifier: GPL-2.0-only
/* A mirror of memory that is mutated at random, brought up to date by what each back end tells. */
#include "track_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a chain of increments would hold of WILD: brought up to date by what is told, it must be what is there. */
struct mirror {
	char *now, *next;
	int mem;
	uint64_t same;
};

static int note_mirror(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct mirror *m = arg;
	size_t off = addr - (uintptr_t)WILD, len = npages * PAGE;

	assert_true(off + len <= WILD_PAGES * PAGE);
	if (flags & (TRACK_SAME | TRACK_WRITTEN | TRACK_ZERO)) {
		if ((flags & TRACK_WRITTEN) && !(flags & TRACK_ZERO))
			assert_int_equal(pread(m->mem, m->next + off, len, (off_t)addr), len);
		else if (flags & TRACK_SAME)
			memcpy(m->next + off, m->now + off, len);
	} else {
		memcpy(m->next + off, m->now + off, len);
	}
	m->same += flags & TRACK_SAME ? npages : 0;
	return 0;
}

/* What is there. Where no page is, reading would make one, and the page table with it. */
static void read_wild(const struct fixture *f, int mem, char *is)
{
	static uint64_t e[WILD_PAGES];
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", f->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, e, sizeof(e), (off_t)((uintptr_t)WILD / PAGE * 8)), sizeof(e));
	close(fd);
	for (size_t i = 0; i < WILD_PAGES; i++)
		if (e[i] >> 63 || (e[i] >> 62 & 1 && (e[i] & 31) != 31))
			assert_int_equal(pread(mem, is + i * PAGE, PAGE, (off_t)(uintptr_t)WILD + (off_t)(i * PAGE)),
					 PAGE);
}

static void wild_pass(struct fixture *f, struct mirror *m, bool attach)
{
	struct target tg = { 0 };
	struct ckpt_err err = { 0 };
	char *swap = m->now, *is = calloc(WILD_PAGES, PAGE);

	if (target_freeze(&tg, f->pid, &err))
		fail_msg("%s: %s", err.where, err.msg);
	if (attach && attach_it(f, &tg, &err))
		fail_msg("%s: %s", err.where, err.msg);
	m->mem = tg.tasks.v[0].mem_fd;
	assert_int_equal(tracker_begin(&f->t), 0);
	/* Who does not arm is told the same, and takes nothing away. */
	if (!attach && f->ops == &track_wp_async) {
		memset(m->next, 0, WILD_PAGES * PAGE);
		assert_int_equal(tracker_collect(&f->t, (uintptr_t)WILD,
						 (uintptr_t)WILD + WILD_PAGES * PAGE,
						 TRACK_ANON | TRACK_RANGES, note_mirror, m),
				 0);
		read_wild(f, m->mem, is);
		assert_int_equal(memcmp(is, m->next, WILD_PAGES * PAGE), 0);
		memset(is, 0, WILD_PAGES * PAGE);
		m->same = 0;
	}
	memset(m->next, 0, WILD_PAGES * PAGE);
	assert_int_equal(tracker_collect(&f->t, (uintptr_t)WILD, (uintptr_t)WILD + WILD_PAGES * PAGE,
					 TRACK_ARM | TRACK_ANON | (attach ? 0 : TRACK_RANGES), note_mirror, m),
			 0);
	assert_int_equal(tracker_armed(&f->t), 0);
	read_wild(f, m->mem, is);
	target_thaw(&tg, TARGET_RUN);
	target_free(&tg);
	for (size_t i = 0; i < WILD_PAGES; i++)
		if (memcmp(is + i * PAGE, m->next + i * PAGE, PAGE) != 0)
			fail_msg("page %zu differs", i);
	free(is);
	m->now = m->next;
	m->next = swap;
}

void test_wild(void **state)
{
	struct fixture *f = *state;
	struct mirror m = { calloc(WILD_PAGES, PAGE), calloc(WILD_PAGES, PAGE), -1, 0 };

	tell(f, 'W');
	wild_pass(f, &m, true);
	for (int i = 0; i < 80; i++) {
		/* Every other time by two threads. */
		f->t.split_bytes = i % 2 ? 4ul << 20 : 0;
		tell(f, 'X');
		wild_pass(f, &m, false);
	}
	/* Nothing happens to half of it, and of the rest there is nothing: that is not looked at. */
	tell(f, 'W');
	wild_pass(f, &m, false);
	m.same = 0;
	wild_pass(f, &m, false);
	if (f->ops == &track_wp_async || f->ops == &track_kmod)
		assert_true(m.same >= WILD_PAGES / 2);
	free(m.now);
	free(m.next);
}
