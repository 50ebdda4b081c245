// SPDX-License-Identifier: GPL-2.0-only
/*
 * The log against a plain bitmap of what it was told: it may say more, never
 * less. Addresses are made up, no address space is looked at.
 */
#include <kunit/test.h>
#include <linux/prandom.h>

#include "../log.c"

#define PAGES (20 * CKPT_CHUNK_PAGES)	/* of the made-up region; more chunks than a zap takes one by one */
#define BASE (1UL << 40)
#define PG(n) (BASE + ((unsigned long)(n) << PAGE_SHIFT))

/* What log.c has from the rest of the module. */
struct ckpt_settings ckpt_settings;
static int events;

void ckpt_track_event(struct ckpt_track *t, int event)
{
	if (!test_and_set_bit(event, &t->events))
		events++;
}

/* Kernels run the suites of a module before or after its init: both make do with this. */
static int log_suite_init(struct kunit_suite *suite)
{
	return ckpt_log_cache_init();
}

static void log_suite_exit(struct kunit_suite *suite)
{
	ckpt_log_cache_exit();
}

static int log_init(struct kunit *test)
{
	struct ckpt_track *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	if (!t)
		return -ENOMEM;
	t->session = kunit_kzalloc(test, sizeof(*t->session), GFP_KERNEL);
	if (!t->session)
		return -ENOMEM;
	ckpt_settings.log_limit_bytes = 1 << 20;
	events = 0;
	ckpt_log_init(&t->log);
	test->priv = t;
	return 0;
}

static void log_exit(struct kunit *test)
{
	struct ckpt_track *t = test->priv;

	if (t && t->session)
		ckpt_log_destroy(&t->log);
}

static bool in_ranges(const struct ckpt_ranges *set, unsigned long addr)
{
	unsigned int i;

	for (i = 0; i < set->nr; i++)
		if (addr >= set->r[i].start && addr < set->r[i].end)
			return true;
	return false;
}

/* Does the log say that the content of @addr was replaced, and will a scan find it? */
static bool said(struct ckpt_log *log, unsigned long addr)
{
	unsigned long index = addr >> CKPT_CHUNK_SHIFT;
	struct ckpt_chunk *chunk = xa_load(&log->chunks, index);

	if (test_bit(CKPT_LOG_FORCE_ALL, &log->flags) || in_ranges(&log->zapped, addr))
		return true;
	return chunk && test_bit((addr & ~CKPT_CHUNK_MASK) >> PAGE_SHIFT, chunk->must) &&
	       test_bit(CKPT_CHUNK_TOUCHED, &chunk->state) &&
	       xa_get_mark(&log->chunks, index, CKPT_TOUCHED);
}

static unsigned int said_pages(struct ckpt_log *log)
{
	unsigned int i, n = 0;

	for (i = 0; i < PAGES; i++)
		n += said(log, PG(i));
	return n;
}

/* Exactly the pages of the range, wherever it begins and ends in words and chunks. */
static void zap_is_exact(struct kunit *test)
{
	static const unsigned int at[] = { 0, 1, 63, 64, 65, 511, 512, 513, 1000, 2047 };
	static const unsigned int len[] = { 1, 2, 63, 64, 65, 448, 511, 512, 513, 1024, 3000 };
	unsigned int a, l, i;

	for (a = 0; a < ARRAY_SIZE(at); a++)
		for (l = 0; l < ARRAY_SIZE(len); l++) {
			struct ckpt_track *t = test->priv;
			unsigned int from = at[a], to = from + len[l];

			ckpt_log_zap(t, PG(from), PG(to));
			for (i = from ? from - 1 : 0; i <= to; i++)
				KUNIT_ASSERT_EQ_MSG(test, said(&t->log, PG(i)), i >= from && i < to,
						    "page %u of [%u, %u)", i, from, to);
			KUNIT_ASSERT_EQ(test, said_pages(&t->log), len[l]);
			ckpt_log_destroy(&t->log);
			memset(&t->log, 0, sizeof(t->log));
			ckpt_log_init(&t->log);
		}
}

/* Bytes within pages count as whole pages; an empty range as nothing. */
static void zap_of_bytes(struct kunit *test)
{
	struct ckpt_track *t = test->priv;

	ckpt_log_zap(t, PG(5) + 100, PG(5) + 100);
	KUNIT_EXPECT_EQ(test, said_pages(&t->log), 1U);
	ckpt_log_zap(t, PG(7), PG(7));
	KUNIT_EXPECT_EQ(test, said_pages(&t->log), 1U);
	ckpt_log_zap(t, PG(8) + 4095, PG(9) + 1);
	KUNIT_EXPECT_EQ(test, said_pages(&t->log), 3U);
	KUNIT_EXPECT_TRUE(test, said(&t->log, PG(8)) && said(&t->log, PG(9)));
}

/* A big range needs no chunk, and ends where user space does. */
static void zap_of_much(struct kunit *test)
{
	struct ckpt_track *t = test->priv;

	ckpt_log_zap(t, PG(0), ULONG_MAX);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&t->log.nr_chunks), 0L);
	KUNIT_EXPECT_EQ(test, t->log.zapped.nr, 1U);
	KUNIT_EXPECT_EQ(test, t->log.zapped.r[0].end, (unsigned long)TASK_SIZE_MAX);
	KUNIT_EXPECT_EQ(test, said_pages(&t->log), (unsigned int)PAGES);
}

/* Ten thousand of everything in any order, and a scan that forgets chunks now and then. */
static void nothing_is_lost(struct kunit *test)
{
	unsigned long *told = kunit_kzalloc(test, BITS_TO_LONGS(PAGES) * sizeof(long), GFP_KERNEL);
	struct ckpt_track *t = test->priv;
	struct rnd_state rnd;
	unsigned int n, i;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, told);
	prandom_seed_state(&rnd, 4711);
	for (n = 0; n < 10000; n++) {
		unsigned int from = prandom_u32_state(&rnd) % PAGES;
		unsigned int len = 1 + prandom_u32_state(&rnd) % (n % 1000 ? 8 : 17 * 512);
		unsigned long pages[BITS_TO_LONGS(CKPT_CHUNK_PAGES)] = {};
		struct ckpt_chunk *chunk;

		len = min_t(unsigned int, len, PAGES - from);
		switch (prandom_u32_state(&rnd) % 4) {
		case 0:
			ckpt_log_zap(t, PG(from), PG(from + len));
			bitmap_set(told, from, len);
			break;
		case 1:
			set_bit(from % CKPT_CHUNK_PAGES, pages);
			ckpt_log_pages(t, PG(from) & CKPT_CHUNK_MASK, pages);
			set_bit(from, told);
			break;
		case 2:
			rcu_read_lock();
			chunk = ckpt_log_fault(t, PG(from));
			KUNIT_EXPECT_TRUE(test, chunk && test_bit(CKPT_CHUNK_TOUCHED, &chunk->state));
			rcu_read_unlock();
			break;
		default:
			/* Only chunks that nothing was said of may go. */
			chunk = xa_load(&t->log.chunks, PG(from) >> CKPT_CHUNK_SHIFT);
			if (chunk)
				ckpt_log_forget(&t->log, chunk->index, chunk);
		}
	}
	for_each_set_bit(i, told, PAGES)
		KUNIT_ASSERT_TRUE_MSG(test, said(&t->log, PG(i)), "page %u", i);
	KUNIT_EXPECT_EQ(test, (int)t->log.flags, 0);
}

/* A clean chunk goes, from the cache of the fault hook, too; a touched one stays. */
static void forgetting(struct kunit *test)
{
	struct ckpt_track *t = test->priv;
	struct ckpt_log *log = &t->log;
	unsigned long index = PG(0) >> CKPT_CHUNK_SHIFT;
	struct ckpt_chunk *chunk;

	rcu_read_lock();
	chunk = ckpt_log_fault(t, PG(0));
	KUNIT_EXPECT_PTR_EQ(test, ckpt_log_fault(t, PG(1)), chunk);
	rcu_read_unlock();
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, chunk);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&log->nr_chunks), 1L);
	ckpt_log_forget(log, index, chunk);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&log->chunks, index), (void *)chunk);
	clear_bit(CKPT_CHUNK_TOUCHED, &chunk->state);
	set_bit(3, chunk->must);
	ckpt_log_forget(log, index, chunk);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&log->chunks, index), (void *)chunk);
	KUNIT_EXPECT_FALSE(test, test_bit(CKPT_CHUNK_DYING, &chunk->state));
	clear_bit(3, chunk->must);
	ckpt_log_forget(log, index, chunk);
	KUNIT_EXPECT_NULL(test, xa_load(&log->chunks, index));
	KUNIT_EXPECT_NULL(test, log->cache[index % CKPT_LOG_CACHE]);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&log->nr_chunks), 0L);
}

/* At its limit a log says "look everywhere" for faults, and remembers zaps as ranges. */
static void limit_degrades(struct kunit *test)
{
	struct ckpt_track *t = test->priv;
	unsigned int i;

	ckpt_settings.log_limit_bytes = 3 * sizeof(struct ckpt_chunk);
	rcu_read_lock();
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_NOT_ERR_OR_NULL(test, ckpt_log_fault(t, PG(i * 512)));
	KUNIT_EXPECT_EQ(test, (int)t->log.flags, 0);
	for (i = 3; i < 6; i++)
		KUNIT_EXPECT_NULL(test, ckpt_log_fault(t, PG(i * 512)));
	/* Those that are there serve on. */
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, ckpt_log_fault(t, PG(513)));
	rcu_read_unlock();
	KUNIT_EXPECT_TRUE(test, test_bit(CKPT_LOG_SCAN_ALL, &t->log.flags));
	KUNIT_EXPECT_EQ(test, (int)atomic64_read(&t->session->count.overflows), 1);
	KUNIT_EXPECT_EQ(test, events, 1);
	KUNIT_EXPECT_EQ(test, atomic_long_read(&t->log.nr_chunks), 3L);
	ckpt_log_zap(t, PG(6 * 512 + 5), PG(6 * 512 + 7));
	KUNIT_EXPECT_EQ(test, t->log.zapped.nr, 1U);
	KUNIT_EXPECT_TRUE(test, said(&t->log, PG(6 * 512 + 5)) && said(&t->log, PG(6 * 512 + 6)));
}

/* A fault in a mapping that grew marks its chunk, and changes nothing by itself; without a chunk all of it changed. */
static void grown_is_marked(struct kunit *test)
{
	struct ckpt_track *t = test->priv;
	struct ckpt_chunk *chunk;

	ckpt_settings.log_limit_bytes = sizeof(struct ckpt_chunk);
	rcu_read_lock();
	ckpt_log_grown(t, PG(5));
	chunk = xa_load(&t->log.chunks, PG(0) >> CKPT_CHUNK_SHIFT);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, chunk);
	if (chunk) {
		KUNIT_EXPECT_TRUE(test, test_bit(CKPT_CHUNK_GROWN, &chunk->state));
		KUNIT_EXPECT_TRUE(test, test_bit(CKPT_CHUNK_TOUCHED, &chunk->state));
	}
	KUNIT_EXPECT_EQ(test, said_pages(&t->log), 0U);
	ckpt_log_grown(t, PG(512 + 7));
	rcu_read_unlock();
	KUNIT_EXPECT_TRUE(test, said(&t->log, PG(512)) && said(&t->log, PG(1023)));
	KUNIT_EXPECT_EQ(test, said_pages(&t->log), 512U);
	/* One that is marked is not forgotten before it was looked at. */
	if (chunk)
		ckpt_log_forget(&t->log, chunk->index, chunk);
	KUNIT_EXPECT_PTR_EQ(test, xa_load(&t->log.chunks, PG(0) >> CKPT_CHUNK_SHIFT), (void *)chunk);
}

/* A set of ranges that is full says more than it was told, never less. */
static void ranges_only_grow(struct kunit *test)
{
	struct ckpt_ranges *set = kunit_kzalloc(test, sizeof(*set), GFP_KERNEL);
	struct ckpt_range *told = kunit_kcalloc(test, 300, sizeof(*told), GFP_KERNEL);
	struct rnd_state rnd;
	unsigned int i, p;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, set);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, told);
	prandom_seed_state(&rnd, 42);
	for (i = 0; i < 300; i++) {
		told[i].start = PG(prandom_u32_state(&rnd) % 10000);
		told[i].end = told[i].start + PG(1 + prandom_u32_state(&rnd) % 5) - BASE;
		ckpt_ranges_add(set, told[i].start, told[i].end);
		KUNIT_ASSERT_LE(test, set->nr, (unsigned int)CKPT_RANGES_MAX);
		for (p = 0; p <= i; p++)
			KUNIT_ASSERT_TRUE(test, in_ranges(set, told[p].start) &&
						in_ranges(set, told[p].end - 1));
	}
	*set = (struct ckpt_ranges){};
	ckpt_ranges_add(set, PG(10), PG(20));
	ckpt_ranges_add(set, PG(20), PG(22));
	ckpt_ranges_add(set, PG(5), PG(11));
	KUNIT_EXPECT_EQ(test, set->nr, 1U);
	KUNIT_EXPECT_EQ(test, set->r[0].start, PG(5));
	KUNIT_EXPECT_EQ(test, set->r[0].end, PG(22));
	ckpt_ranges_add(set, PG(23), PG(24));
	KUNIT_EXPECT_EQ(test, set->nr, 2U);
}

static struct kunit_case log_cases[] = {
	KUNIT_CASE(zap_is_exact),
	KUNIT_CASE(zap_of_bytes),
	KUNIT_CASE(zap_of_much),
	KUNIT_CASE(nothing_is_lost),
	KUNIT_CASE(forgetting),
	KUNIT_CASE(limit_degrades),
	KUNIT_CASE(grown_is_marked),
	KUNIT_CASE(ranges_only_grow),
	{}
};

static struct kunit_suite log_suite = {
	.name = "ckpt-log",
	.suite_init = log_suite_init,
	.suite_exit = log_suite_exit,
	.init = log_init,
	.exit = log_exit,
	.test_cases = log_cases,
};

kunit_test_suite(log_suite);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KUnit tests of ckpt");
