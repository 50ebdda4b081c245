// SPDX-License-Identifier: GPL-2.0-only
/* How many pages a fault opens, and what a scan teaches. */
#include <kunit/test.h>

#include "../granule.c"

/* Faults at pages that follow each other's openings, from @own on: how many until the chunk is full? */
static unsigned int faults_of_sequence(struct ckpt_chunk *chunk, unsigned int own,
				       unsigned int granule)
{
	unsigned int first, end, faults = 0;

	for (; own < CKPT_CHUNK_PAGES; own = end, faults++)
		granule_range(chunk, own, granule, CKPT_GRANULE_ADAPTIVE, &first, &end);
	return faults;
}

static struct ckpt_chunk *chunk_of(struct kunit *test)
{
	struct ckpt_chunk *chunk = kunit_kzalloc(test, sizeof(*chunk), GFP_KERNEL);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, chunk);
	return chunk;
}

/* The granule that the page lies in, aligned, and the chunk remembers nothing. */
static void fixed(struct kunit *test)
{
	struct ckpt_chunk *chunk = chunk_of(test);
	unsigned int granule, own, first, end;

	for (granule = 1; granule <= CKPT_CHUNK_PAGES; granule *= 2)
		for (own = 0; own < CKPT_CHUNK_PAGES; own++) {
			granule_range(chunk, own, granule, CKPT_GRANULE_FIXED, &first, &end);
			KUNIT_ASSERT_EQ(test, first % granule, 0U);
			KUNIT_ASSERT_EQ(test, end - first, granule);
			KUNIT_ASSERT_LE(test, first, own);
			KUNIT_ASSERT_LT(test, own, end);
			KUNIT_ASSERT_LE(test, end, (unsigned int)CKPT_CHUNK_PAGES);
		}
	KUNIT_EXPECT_EQ(test, (int)chunk->next, 0);
}

/* One page, then 2, 4, 8 … up to the granule, and never beyond the chunk. */
static void sequence_doubles(struct kunit *test)
{
	unsigned int first, end, own = 3, want = 1, granule = 16;
	struct ckpt_chunk *chunk = chunk_of(test);

	while (own < CKPT_CHUNK_PAGES) {
		granule_range(chunk, own, granule, CKPT_GRANULE_ADAPTIVE, &first, &end);
		KUNIT_ASSERT_EQ(test, first, own);
		KUNIT_ASSERT_EQ(test, end, min_t(unsigned int, own + want, CKPT_CHUNK_PAGES));
		want = min(want * 2, granule);
		own = end;
	}
}

/* A whole chunk written in order: 512 pages in 1 + 2 + … + 256 + 1, a granule of 64 KiB a sixteenth and a few. */
static void sequence_costs(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, faults_of_sequence(chunk_of(test), 0, 1), 512U);
	KUNIT_EXPECT_EQ(test, faults_of_sequence(chunk_of(test), 0, 16), 36U);
	KUNIT_EXPECT_EQ(test, faults_of_sequence(chunk_of(test), 0, 512), 10U);
	KUNIT_EXPECT_EQ(test, faults_of_sequence(chunk_of(test), 511, 512), 1U);
}

/* Faults that do not follow each other open nothing but their own page. */
static void random_stays_narrow(struct kunit *test)
{
	struct ckpt_chunk *chunk = chunk_of(test);
	unsigned int first, end, own, i;

	for (i = 0; i < 2000; i++) {
		own = i * 37 % CKPT_CHUNK_PAGES;
		granule_range(chunk, own, 512, CKPT_GRANULE_ADAPTIVE, &first, &end);
		KUNIT_ASSERT_EQ(test, first, own);
		KUNIT_ASSERT_EQ(test, end, own + 1);
	}
}

/* A fault elsewhere ends a sequence; page 0 never goes one on, as "next" is 0 where there is none. */
static void sequence_ends(struct kunit *test)
{
	struct ckpt_chunk *chunk = chunk_of(test);
	unsigned int first, end;

	granule_range(chunk, 10, 512, CKPT_GRANULE_ADAPTIVE, &first, &end);
	granule_range(chunk, 11, 512, CKPT_GRANULE_ADAPTIVE, &first, &end);
	KUNIT_EXPECT_EQ(test, end, 13U);
	granule_range(chunk, 300, 512, CKPT_GRANULE_ADAPTIVE, &first, &end);
	KUNIT_EXPECT_EQ(test, end, 301U);
	granule_range(chunk, 13, 512, CKPT_GRANULE_ADAPTIVE, &first, &end);
	KUNIT_EXPECT_EQ(test, end, 14U);
	memset(chunk, 0, sizeof(*chunk));
	granule_range(chunk, 0, 512, CKPT_GRANULE_ADAPTIVE, &first, &end);
	KUNIT_EXPECT_EQ(test, end, 1U);
}

/* Each step of narrow halves the most that a sequence opens. */
static void narrow_limits(struct kunit *test)
{
	unsigned int narrow, first, end, own, widest;

	for (narrow = 0; narrow <= 9; narrow++) {
		struct ckpt_chunk *chunk = chunk_of(test);

		chunk->narrow = narrow;
		for (own = 0, widest = 0; own < CKPT_CHUNK_PAGES; own = end) {
			granule_range(chunk, own, 64, CKPT_GRANULE_ADAPTIVE, &first, &end);
			widest = max(widest, end - first);
		}
		KUNIT_EXPECT_EQ(test, widest, narrow >= 6 ? 1U : 64U >> narrow);
	}
}

static unsigned int judge(struct ckpt_chunk *chunk, unsigned int opened, unsigned int untouched)
{
	bitmap_set(chunk->widened, 100, opened);
	return ckpt_granule_judge(chunk, 0, CKPT_CHUNK_PAGES, untouched);
}

/* Most untouched: narrower. All touched: wider again. In between: as it was. */
static void judging(struct kunit *test)
{
	struct ckpt_chunk *chunk = chunk_of(test);
	int i;

	KUNIT_EXPECT_EQ(test, judge(chunk, 0, 0), 0U);
	KUNIT_EXPECT_EQ(test, (int)chunk->narrow, 0);
	KUNIT_EXPECT_EQ(test, judge(chunk, 10, 6), 6U);
	KUNIT_EXPECT_EQ(test, (int)chunk->narrow, 1);
	KUNIT_EXPECT_TRUE(test, bitmap_empty(chunk->widened, CKPT_CHUNK_PAGES));
	KUNIT_EXPECT_EQ(test, judge(chunk, 10, 5), 5U);
	KUNIT_EXPECT_EQ(test, (int)chunk->narrow, 1);
	KUNIT_EXPECT_EQ(test, judge(chunk, 10, 0), 0U);
	KUNIT_EXPECT_EQ(test, (int)chunk->narrow, 0);
	KUNIT_EXPECT_EQ(test, judge(chunk, 10, 0), 0U);
	KUNIT_EXPECT_EQ(test, (int)chunk->narrow, 0);
	for (i = 0; i < 20; i++)
		judge(chunk, 10, 10);
	KUNIT_EXPECT_EQ(test, (int)chunk->narrow, 9);
}

/* A scan of a part judges that part alone. */
static void judging_a_part(struct kunit *test)
{
	struct ckpt_chunk *chunk = chunk_of(test);

	bitmap_set(chunk->widened, 60, 10);
	KUNIT_EXPECT_EQ(test, ckpt_granule_judge(chunk, 64, 128, 1), 1U);
	KUNIT_EXPECT_EQ(test, (int)bitmap_weight(chunk->widened, CKPT_CHUNK_PAGES), 4);
	KUNIT_EXPECT_EQ(test, ckpt_granule_judge(chunk, 64, 128, 1), 0U);
}

static struct kunit_case granule_cases[] = {
	KUNIT_CASE(fixed),
	KUNIT_CASE(sequence_doubles),
	KUNIT_CASE(sequence_costs),
	KUNIT_CASE(random_stays_narrow),
	KUNIT_CASE(sequence_ends),
	KUNIT_CASE(narrow_limits),
	KUNIT_CASE(judging),
	KUNIT_CASE(judging_a_part),
	{}
};

static struct kunit_suite granule_suite = { .name = "ckpt-granule", .test_cases = granule_cases };

kunit_test_suite(granule_suite);
