// SPDX-License-Identifier: GPL-2.0-only
/* Pages set aside: each is there once, and comes back. */
#include <kunit/test.h>

#include "../pool.c"

#define SIZE 37

static void takes_and_gives(struct kunit *test)
{
	struct ckpt_pool *pool = ckpt_pool_new(SIZE);
	struct page *page[SIZE];
	int i, j, round;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, pool);
	for (round = 0; round < 3; round++) {
		KUNIT_EXPECT_EQ(test, ckpt_pool_free_pages(pool), (unsigned long)SIZE);
		for (i = 0; i < SIZE; i++) {
			page[i] = ckpt_pool_take(pool);
			KUNIT_ASSERT_NOT_ERR_OR_NULL(test, page[i]);
			for (j = 0; j < i; j++)
				KUNIT_ASSERT_PTR_NE(test, page[i], page[j]);
			KUNIT_ASSERT_EQ(test, ckpt_pool_free_pages(pool), (unsigned long)(SIZE - i - 1));
		}
		KUNIT_EXPECT_NULL(test, ckpt_pool_take(pool));
		KUNIT_EXPECT_NULL(test, ckpt_pool_take(pool));
		for (i = 0; i < SIZE; i++)
			ckpt_pool_give(pool, page[i]);
	}
	ckpt_pool_put(pool);
}

/* Who holds a page holds the pool. */
static void outlives_its_session(struct kunit *test)
{
	struct ckpt_pool *pool = ckpt_pool_new(2);
	struct page *page;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, pool);
	KUNIT_EXPECT_PTR_EQ(test, ckpt_pool_get(pool), pool);
	page = ckpt_pool_take(pool);
	ckpt_pool_put(pool);
	KUNIT_EXPECT_EQ(test, ckpt_pool_free_pages(pool), 1UL);
	ckpt_pool_give(pool, page);
	KUNIT_EXPECT_EQ(test, ckpt_pool_free_pages(pool), 2UL);
	ckpt_pool_put(pool);
}

static void none(struct kunit *test)
{
	struct ckpt_pool *pool = ckpt_pool_new(0);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, pool);
	KUNIT_EXPECT_NULL(test, ckpt_pool_take(pool));
	ckpt_pool_put(pool);
	ckpt_pool_put(NULL);
	KUNIT_EXPECT_EQ(test, ckpt_pool_free_pages(NULL), 0UL);
}

static struct kunit_case pool_cases[] = {
	KUNIT_CASE(takes_and_gives),
	KUNIT_CASE(outlives_its_session),
	KUNIT_CASE(none),
	{}
};

static struct kunit_suite pool_suite = { .name = "ckpt-pool", .test_cases = pool_cases };

kunit_test_suite(pool_suite);
