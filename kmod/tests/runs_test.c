// SPDX-License-Identifier: GPL-2.0-only
/* Results of a scan: neighbours become one run, and nothing is lost. */
#include <kunit/test.h>

#include "../runs.c"

#define PG(n) ((unsigned long)(n) << PAGE_SHIFT)

static void neighbours_merge(struct kunit *test)
{
	struct ckpt_runs runs = {};

	ckpt_runs_add(&runs, PG(10), PG(11), CKPT_RUN_DATA);
	ckpt_runs_add(&runs, PG(11), PG(20), CKPT_RUN_DATA);
	ckpt_runs_add(&runs, PG(20), PG(21), CKPT_RUN_DROPPED);	/* another state */
	ckpt_runs_add(&runs, PG(22), PG(23), CKPT_RUN_DROPPED);	/* a gap */
	KUNIT_ASSERT_EQ(test, runs.nr, (size_t)3);
	KUNIT_EXPECT_EQ(test, (unsigned long)runs.r[0].start, PG(10));
	KUNIT_EXPECT_EQ(test, runs.r[0].pages, 10U);
	KUNIT_EXPECT_EQ(test, runs.r[1].pages, 1U);
	KUNIT_EXPECT_EQ(test, (unsigned long)runs.r[2].start, PG(22));
	KUNIT_EXPECT_EQ(test, runs.pages, 12ULL);
	KUNIT_EXPECT_FALSE(test, runs.lost);
	ckpt_runs_free(&runs);
	KUNIT_EXPECT_EQ(test, runs.nr, (size_t)0);
	KUNIT_EXPECT_NULL(test, runs.r);
}

/* More runs than the first allocation holds; all of them stay. */
static void many(struct kunit *test)
{
	struct ckpt_runs runs = {};
	size_t i;

	for (i = 0; i < 5000; i++)
		ckpt_runs_add(&runs, PG(3 * i), PG(3 * i + 1 + i % 2), CKPT_RUN_DATA);
	KUNIT_ASSERT_EQ(test, runs.nr, (size_t)5000);
	KUNIT_EXPECT_EQ(test, runs.pages, 7500ULL);
	for (i = 0; i < 5000; i++) {
		KUNIT_ASSERT_EQ(test, (unsigned long)runs.r[i].start, PG(3 * i));
		KUNIT_ASSERT_EQ(test, (size_t)runs.r[i].pages, 1 + i % 2);
	}
	ckpt_runs_free(&runs);
}

/* A run has 32 bits for its length: a longer one becomes several, without a gap. */
static void longer_than_a_run(struct kunit *test)
{
	unsigned long pages = 2UL * U32_MAX + 17, at = 0;
	struct ckpt_runs runs = {};
	size_t i;

	ckpt_runs_add(&runs, 0, PG(pages), CKPT_RUN_UNTRACKED);
	KUNIT_ASSERT_EQ(test, runs.nr, (size_t)3);
	for (i = 0; i < runs.nr; i++) {
		KUNIT_EXPECT_EQ(test, (unsigned long)runs.r[i].start, PG(at));
		at += runs.r[i].pages;
	}
	KUNIT_EXPECT_EQ(test, at, pages);
	/* It goes on as one while 32 bits hold it, and as a new one when they do not. */
	ckpt_runs_add(&runs, PG(at), PG(at + 1), CKPT_RUN_UNTRACKED);
	KUNIT_EXPECT_EQ(test, runs.nr, (size_t)3);
	ckpt_runs_add(&runs, PG(at + 1), PG(at + 1 + U32_MAX), CKPT_RUN_UNTRACKED);
	KUNIT_EXPECT_EQ(test, runs.nr, (size_t)4);
	KUNIT_EXPECT_EQ(test, runs.pages, (u64)pages + 1 + U32_MAX);
	ckpt_runs_free(&runs);
}

/* Once a run was lost the result says "all"; nothing is added to it any more. */
static void lost_stays_lost(struct kunit *test)
{
	struct ckpt_runs runs = { .lost = true };

	ckpt_runs_add(&runs, PG(1), PG(2), CKPT_RUN_DATA);
	KUNIT_EXPECT_EQ(test, runs.nr, (size_t)0);
	KUNIT_EXPECT_TRUE(test, runs.lost);
}

static void known_merges_and_says_when_full(struct kunit *test)
{
	struct ckpt_range room[2];
	struct ckpt_known known = { .r = room, .cap = ARRAY_SIZE(room) };

	ckpt_known_add(&known, PG(1), PG(2));
	ckpt_known_add(&known, PG(2), PG(5));
	ckpt_known_add(&known, PG(7), PG(8));
	KUNIT_EXPECT_EQ(test, known.nr, (size_t)2);
	KUNIT_EXPECT_EQ(test, room[0].end, PG(5));
	KUNIT_EXPECT_FALSE(test, known.lost);
	ckpt_known_add(&known, PG(9), PG(10));
	KUNIT_EXPECT_EQ(test, known.nr, (size_t)2);
	KUNIT_EXPECT_TRUE(test, known.lost);
	/* The last one still grows. */
	ckpt_known_add(&known, PG(8), PG(9));
	KUNIT_EXPECT_EQ(test, room[1].end, PG(9));
}

static struct kunit_case runs_cases[] = {
	KUNIT_CASE(neighbours_merge),
	KUNIT_CASE(many),
	KUNIT_CASE(longer_than_a_run),
	KUNIT_CASE(lost_stays_lost),
	KUNIT_CASE(known_merges_and_says_when_full),
	{}
};

static struct kunit_suite runs_suite = { .name = "ckpt-runs", .test_cases = runs_cases };

kunit_test_suite(runs_suite);
