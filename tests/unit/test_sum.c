// SPDX-License-Identifier: GPL-2.0-only
/* The sum by wide vectors is the library's, at any length and alignment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <xxhash.h>

#include "base/sum.h"

static unsigned char data[300000];

static void test_same(void **state)
{
	static const size_t lengths[] = { 0,   1,   3,    8,    16,   17,    128,    129,    240,
					  241, 511, 1024, 4095, 4096, 65537, 262143, 262144, 299999 };

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)(i * 2654435761u >> 13);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		for (size_t at = 0; at < 2 && at + lengths[i] <= sizeof(data); at++)
			assert_int_equal(sum_bytes(data + at, lengths[i]),
					 XXH3_64bits(data + at, lengths[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_same) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
