// SPDX-License-Identifier: GPL-2.0-only
/* What users rely on in errors: ids are documented with their status and remedy, the first cause
 * wins, and places are named from the outside in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

static char doc[65536];

static void every_id_is_documented(void **state)
{
	FILE *f = fopen("docs/errors.md", "r");

	(void)state;
	assert_non_null(f);
	doc[fread(doc, 1, sizeof(doc) - 1, f)] = 0;
	fclose(f);
	for (int id = E_NONE + 1; id < E_ID_COUNT; id++) {
		struct ckpt_err err = { .id = id };
		char want[512];

		snprintf(want, sizeof(want), "## %s\n", ckpt_err_name(id));
		if (!strstr(doc, want))
			fail_msg("docs/errors.md does not describe %s", ckpt_err_name(id));
		snprintf(want, sizeof(want), "Exit status %d. Remedy unless the message has a better one: %s.",
			 ckpt_err_status(&err), ckpt_err_remedy(&err));
		if (!strstr(doc, want))
			fail_msg("docs/errors.md lacks for %s: %s", ckpt_err_name(id), want);
	}
}

static void first_cause_wins(void **state)
{
	struct ckpt_err err = { 0 };

	(void)state;
	assert_int_equal(ckpt_fail(&err, E_LIMIT, -ENFILE, "first %d", 1), -ENFILE);
	assert_int_equal(ckpt_fail(&err, E_PERM, -EPERM, "second"), -ENFILE);
	assert_int_equal(err.id, E_LIMIT);
	assert_string_equal(err.msg, "first 1");
}

static void places_read_from_outside_in(void **state)
{
	struct ckpt_err err = { 0 };

	(void)state;
	ckpt_fail(&err, E_UNSUPPORTED, -EOPNOTSUPP, "no");
	ckpt_ctx(&err, "fd %d", 7);
	ckpt_ctx(&err, "task %d", 12);
	assert_string_equal(err.where, "task 12: fd 7");
}

static void first_of_many_keeps_its_remedy(void **state)
{
	struct ckpt_err err = { 0 };

	(void)state;
	ckpt_fail(&err, E_UNSUPPORTED, -EOPNOTSUPP, "a thing");
	ckpt_remedy_of_many(&err, 3, "dump", "ckpt check -t 7");
	assert_string_equal(err.remedy, "3 things stop this dump; see them all: ckpt check -t 7");
	ckpt_remedy(&err, "do without it");
	ckpt_remedy_of_many(&err, 2, "dump", "ckpt check -t 7");
	assert_string_equal(err.remedy, "do without it; 2 things stop this dump; see them all: ckpt check -t 7");
}

static void long_texts_are_cut_not_overrun(void **state)
{
	struct ckpt_err err = { 0 };
	char text[4096];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	ckpt_fail_errno(&err, E_PERM, -EPERM, "%s", text);
	for (int i = 0; i < 100; i++)
		ckpt_ctx(&err, "%s", text);
	ckpt_remedy(&err, "%s", text);
	ckpt_remedy_of_many(&err, 2, "dump", text);
	assert_true(strlen(err.msg) < sizeof(err.msg));
	assert_true(strlen(err.where) < sizeof(err.where));
	assert_true(strlen(err.remedy) < sizeof(err.remedy));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_id_is_documented),
		cmocka_unit_test(first_cause_wins),
		cmocka_unit_test(places_read_from_outside_in),
		cmocka_unit_test(first_of_many_keeps_its_remedy),
		cmocka_unit_test(long_texts_are_cut_not_overrun),
	};

	return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
