// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every back end of tools/track against everything a program does to its memory: what was
 * written is reported, what is gone is not, and what the back end is able to tell apart is
 * reported as unwritten.
 */
#include "track/track_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static void test_writes(void **state)
{
	struct fixture *f = *state;
	struct iovec local = { "hello", 5 }, remote = { BASE + 30 * PAGE, 5 };
	struct seen s;

	arm_base(f, &s);
	tell(f, 'n');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "", 0, 0);
	tell(f, 'w');
	tell(f, 'r');
	assert_int_equal(process_vm_writev(f->pid, &local, 1, &remote, 1, 0), 5);
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "\5\24\36", 0, 0);
	tell(f, 'p');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "\6", 0, 0);
	tell(f, 'f');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "\2", 0, 0);
}

/* What was written is counted without arming, and reported alone. */
static void test_count(void **state)
{
	struct fixture *f = *state;
	uint64_t start = (uintptr_t)BASE, end = start + PAGES * PAGE, n = 0;
	struct seen s;

	arm_base(f, &s);
	if (!f->ops->count) {
		assert_int_equal(tracker_count(&f->t, start, end, &n), -EOPNOTSUPP);
		return;
	}
	tell(f, 'w');
	tell(f, 'd');
	assert_int_equal(tracker_begin(&f->t), 0);
	for (uint64_t i = 1; i <= 2; i++) {
		assert_int_equal(tracker_count(&f->t, start, end, &n), 0);
		assert_int_equal(n, i);
	}
	memset(&s, 0, sizeof(s));
	s.base = start;
	assert_int_equal(tracker_collect(&f->t, start, end,
					 TRACK_ARM | TRACK_ANON | TRACK_KNOWN | TRACK_WRITES, note, &s),
			 0);
	for (int i = 0; i < PAGES; i++)
		assert_int_equal(s.map[i], i == 5 ? 'w' : 0);
	n = 0;
	assert_int_equal(tracker_count(&f->t, start, end, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "", 8, 4);
	tell(f, 'm');
	assert_int_equal(tracker_begin(&f->t), 0);
	assert_int_equal(tracker_count(&f->t, start, end, &n), -ESTALE);
}

static void test_drops(void **state)
{
	struct fixture *f = *state;
	struct seen s;

	arm_base(f, &s);
	tell(f, 'd');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "", 8, 4);
	tell(f, 'D');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "\11", 8, 4);
	tell(f, 'Z');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	assert_int_equal(s.map[24], 0);
	assert_int_not_equal(s.map[25], 'c');
	assert_int_not_equal(s.map[25], 0);
	tell(f, 'm');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	assert_int_equal(s.map[16], 0);
	assert_int_equal(s.map[17], 'w');
	assert_int_equal(s.map[18], 0);
	tell(f, 'g');
	assert_int_equal(pass(f, false, BASE, (PAGES + 4) * PAGE, &s), 0);
	for (int i = PAGES; i < PAGES + 4; i++)
		assert_int_equal(s.map[i], 'w');
	tell(f, 'n');
	assert_int_equal(pass(f, false, BASE, (PAGES + 4) * PAGE, &s), 0);
	for (int i = PAGES; i < PAGES + 4; i++)
		assert_int_equal(s.map[i], exact(f) ? 'c' : 'w');
}

static void test_guards(void **state)
{
	struct fixture *f = *state;
	struct seen s;

	arm_base(f, &s);
	tell(f, 'k');
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
		if (s.map[40] != 'g') /* older than 6.13: no guards */
			return;
		assert_int_equal(s.map[40], 'g');
		assert_int_equal(s.map[41], 'g');
		assert_int_equal(s.map[42], exact(f) ? 'c' : 'w');
	}
}

/* There and back, written in between: the kernel drops the registration, we must notice. */
static void test_moves(void **state)
{
	struct fixture *f = *state;
	struct seen s;

	arm_base(f, &s);
	tell(f, 'M');
	assert_int_equal(pass(f, false, AWAY, PAGES * PAGE, &s), 0);
	for (int i = 0; i < PAGES; i++)
		assert_int_equal(s.map[i], 'w');
	tell(f, 'B');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	assert_int_equal(s.map[7], 'w');
	tell(f, 'w');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "\5", 0, 0);
}

static void test_huge(void **state)
{
	struct fixture *f = *state;
	size_t n = HUGE_BYTES / PAGE;
	struct seen s;

	tell(f, 'h');
	assert_int_equal(pass(f, true, HUGE, HUGE_BYTES, &s), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(s.map[i], 'w');
	tell(f, 'H');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	assert_int_equal(s.map[3], 'w');
	assert_int_equal(s.map[600], exact(f) ? 'c' : 'w');
	tell(f, 'c');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	assert_int_equal(s.map[700], 'w');
	tell(f, 'H');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	assert_int_equal(s.map[3], 'w');
}

/* A page table that moves with all its bits, and the zero page in the place of a table. */
static void test_tables(void **state)
{
	struct fixture *f = *state;
	size_t half = HUGE_BYTES / PAGE / 2;
	struct seen s;

	tell(f, 't');
	assert_int_equal(pass(f, true, HUGE, HUGE_BYTES, &s), 0);
	tell(f, 'n');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	for (size_t i = 0; i < 2 * half; i++)
		assert_int_equal(s.map[i], exact(f) ? 'c' : 'w');
	tell(f, 'T');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES / 2, &s), 0);
	for (size_t i = 0; i < half; i++)
		assert_int_equal(s.map[i], 'w');
	tell(f, 'h');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	tell(f, 'z');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	assert_int_not_equal(s.map[9], 'c');
	assert_int_equal(s.map[half + 5], exact(f) ? 'c' : 'w');
}

static void test_file(void **state)
{
	struct fixture *f = *state;
	struct seen s;

	tell(f, 'F');
	assert_int_equal(pass(f, true, FILEMAP, 8 * PAGE, &s), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(s.map[i], 'w');
	tell(f, 'G');
	assert_int_equal(pass(f, false, FILEMAP, 8 * PAGE, &s), 0);
	assert_int_equal(s.map[0], 0);
	assert_int_equal(s.map[1], 0);
	assert_int_equal(s.map[2], 'w');
	assert_int_equal(s.map[3], 0);
	assert_int_equal(s.map[4], exact(f) ? 'c' : 'w');
}

static void test_exec(void **state)
{
	struct fixture *f = *state;
	struct seen s;
	int rc;

	arm_base(f, &s);
	assert_int_equal(write(f->to, "x", 1), 1);
	tell(f, 'n');
	rc = pass(f, false, BASE, PAGES * PAGE, &s);
	/* The bits of soft-dirty belong to the address space: nothing of it is known as clean. */
	for (int i = 0; !rc && i < PAGES; i++)
		assert_int_equal(s.map[i], 'w');
	if (exact(f) && f->ops != &track_soft_dirty) {
		assert_int_equal(rc, -ESTALE);
		tracker_detach(&f->t);
		arm_base(f, &s);
	}
}

static void test_own_userfaultfd(void **state)
{
	struct fixture *f = *state;
	struct seen s;

	tell(f, 'u');
	assert_int_equal(pass(f, true, BASE, PAGES * PAGE, &s),
			 f->ops == &track_wp_async ? -EBUSY : 0);
}

/* Who takes ranges is told of the same pages, and of what is the same as before. */
static int note_range(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct seen *s = arg;

	if (!(flags & TRACK_SAME))
		return note(arg, addr, npages, flags);
	for (uint64_t i = 0; i < npages; i++)
		s->map[(addr - s->base) / PAGE + i] = '=';
	return 0;
}

static void test_ranges(void **state)
{
	struct fixture *f = *state;
	struct target tg = { 0 };
	struct ckpt_err err = { 0 };
	struct seen s;

	arm_base(f, &s);
	tell(f, 'd');
	tell(f, 'w');
	if (target_freeze(&tg, f->pid, &err))
		fail_msg("%s: %s", err.where, err.msg);
	memset(&s, 0, sizeof(s));
	s.base = (uintptr_t)BASE;
	assert_int_equal(tracker_begin(&f->t), 0);
	assert_int_equal(tracker_collect(&f->t, (uintptr_t)BASE, (uintptr_t)BASE + PAGES * PAGE,
					 TRACK_ARM | TRACK_ANON | TRACK_RANGES, note_range, &s),
			 0);
	assert_int_equal(tracker_armed(&f->t), 0);
	target_thaw(&tg, TARGET_RUN);
	target_free(&tg);
	assert_int_equal(s.map[5], 'w');
	for (int i = 8; i < 12; i++)
		assert_int_equal(s.map[i], 0);
	if (exact(f))
		assert_true(s.map[30] == '=' || s.map[30] == 'c');
}

/* The target sees no descriptor, and after the detach no trace. */
static void test_no_trace(void **state)
{
	struct fixture *f = *state;
	char path[64], line[256];
	struct seen s;
	FILE *smaps;

	arm_base(f, &s);
	for (int fd = 0; fd < 16; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", f->pid, fd);
		n = readlink(path, line, sizeof(line) - 1);
		line[n > 0 ? n : 0] = 0;
		assert_null(strstr(line, "userfaultfd"));
	}
	tracker_detach(&f->t);
	snprintf(path, sizeof(path), "/proc/%d/smaps", f->pid);
	smaps = fopen(path, "re");
	assert_non_null(smaps);
	while (fgets(line, sizeof(line), smaps))
		if (!strncmp(line, "VmFlags:", 8))
			assert_null(strstr(line, " uw"));
	fclose(smaps);
}

static const struct {
	const char *name;
	void (*fn)(void **state);
} cases[] = {
	{ "writes", test_writes },
	{ "count", test_count },
	{ "live", test_live },
	{ "new", test_new },
	{ "drops", test_drops },
	{ "guards", test_guards },
	{ "moves", test_moves },
	{ "huge", test_huge },
	{ "tables", test_tables },
	{ "ranges", test_ranges },
	{ "wild", test_wild },
	{ "file", test_file },
	{ "exec", test_exec },
	{ "own_userfaultfd", test_own_userfaultfd },
	{ "no_trace", test_no_trace },
};
#define CASES (sizeof(cases) / sizeof(cases[0]))

int main(int argc, char **argv)
{
	static struct backend backends[] = {
		{ .title = "kmod", .name = "kmod" },
		{ .title = "wp-async", .name = "wp-async" },
		{ .title = "wp-async, unknown kernel", .name = "wp-async", .facts = 1 },
		{ .title = "soft-dirty", .name = "soft-dirty" },
		{ .title = "none", .name = "none" },
	};
	struct CMUnitTest tests[5 * CASES] = { 0 };
	static char titles[5 * CASES][48];
	char path[512];
	size_t n = 0;
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (argc == 5 && !strcmp(argv[1], "--target"))
		target_main(atoi(argv[2]), atoi(argv[3]), argv[4], argv[0]);
	path[len > 0 ? len : 0] = 0;
	self_path = path;
	for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) {
		struct ckpt_err err = { 0 };
		struct backend *back = &backends[b];

		back->ops = track_choose(back->name, false, &err);
		if (!back->ops) {
			printf("not on this kernel: %s\n", back->name);
			continue;
		}
		for (size_t i = 0; i < CASES; i++) {
			snprintf(titles[n], sizeof(titles[n]), "%s/%s", back->title, cases[i].name);
			tests[n] = (struct CMUnitTest){ titles[n], cases[i].fn, setup, teardown, back };
			n++;
		}
	}
	return _cmocka_run_group_tests("track", tests, n, NULL, NULL);
}
