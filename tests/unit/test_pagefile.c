// SPDX-License-Identifier: GPL-2.0-only
/* Stripes: written one after the other into the files they belong to, they are where page_place() says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "image/pagefile.h"

#define STEP CKPT_PAGE_SUM_BYTES

static void test_places(void **state)
{
	(void)state;
	for (uint32_t stripes = 1; stripes <= CKPT_STRIPES_MAX; stripes++) {
		uint64_t end[CKPT_STRIPES_MAX] = { 0 }, in_stripe = 0;
		uint32_t file = 0;

		for (uint64_t off = 0; off < 300ull << 20; off += STEP) {
			struct page_place at = page_place(stripes, off + 4096);

			for (uint32_t f = 0; f < CKPT_STRIPES_MAX; f++)
				assert_int_equal(page_place_bytes(stripes, f, off), end[f]);
			assert_int_equal(at.file, file);
			assert_int_equal(at.off, end[file] + 4096);
			if (stripes > 1)
				assert_int_equal(at.room, CKPT_STRIPE_BYTES - in_stripe - 4096);
			else
				assert_true(at.room > 1ull << 40);
			end[file] += STEP;
			in_stripe += STEP;
			if (stripes > 1 && in_stripe == CKPT_STRIPE_BYTES) {
				in_stripe = 0;
				file = (file + 1) % stripes;
			}
		}
	}
}

static void test_names(void **state)
{
	char buf[PAGE_FILE_NAME_BYTES];

	(void)state;
	assert_string_equal(page_file_name(0, buf), "pages");
	assert_string_equal(page_file_name(1, buf), "pages.1");
	assert_string_equal(page_file_name(UINT32_MAX, buf), "pages.4294967295");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_places), cmocka_unit_test(test_names) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
