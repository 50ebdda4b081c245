/* SPDX-License-Identifier: GPL-2.0-only */
/* The thread that stands by: every job runs once, in order, unless it was taken back before it began. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/standby.h"

#define JOBS 500

static int ran[JOBS], n_ran;

struct numbered {
	struct standby_job job;
	int number;
};

static void note(void *arg)
{
	const struct numbered *j = arg;

	ran[n_ran++] = j->number;
}

static void number(struct numbered *j, int n)
{
	*j = (struct numbered) { .job = { .run = note, .arg = j }, .number = n };
}

/* Alerted or not, and after it has fallen asleep. */
static void all_run_in_order(void **state)
{
	struct standby *s = standby_new();
	struct numbered *v = calloc(JOBS, sizeof(*v));

	(void)state;
	assert_non_null(s);
	n_ran = 0;
	for (int i = 0; i < JOBS; i++) {
		number(&v[i], i);
		if (i % 3 == 0)
			standby_alert(s);
		while (!standby_post(s, &v[i].job))
			standby_wait(&v[i - 1].job);
		if (i % 7 == 0)
			standby_wait(&v[i].job);
	}
	for (int i = 0; i < JOBS; i++)
		standby_wait(&v[i].job);
	assert_int_equal(n_ran, JOBS);
	for (int i = 0; i < JOBS; i++)
		assert_int_equal(ran[i], i);
	standby_free(s);
	free(v);
}

struct gate {
	struct standby_job job;
	sem_t inside, open;
};

static void pass(void *arg)
{
	struct gate *g = arg;

	(void)sem_post(&g->inside);
	while (sem_wait(&g->open))
		;
}

/* What has not begun is taken back, what has is not; and there is an end to what may wait. */
static void taken_back(void **state)
{
	struct standby *s = standby_new();
	struct gate g = { .job = { .run = pass, .arg = &g } };
	struct numbered *v = calloc(JOBS, sizeof(*v));
	int posted = 0, back = 0;

	(void)state;
	assert_non_null(s);
	n_ran = 0;
	(void)sem_init(&g.inside, 0, 0);
	(void)sem_init(&g.open, 0, 0);
	assert_true(standby_post(s, &g.job));
	while (sem_wait(&g.inside))
		;
	assert_false(standby_retract(s, &g.job));
	for (; posted < JOBS; posted++) {
		number(&v[posted], posted);
		if (!standby_post(s, &v[posted].job))
			break;
	}
	assert_in_range(posted, 16, JOBS - 1);
	for (int i = 0; i < posted; i += 2, back++) {
		assert_true(standby_retract(s, &v[i].job));
		assert_false(standby_retract(s, &v[i].job));
	}
	(void)sem_post(&g.open);
	standby_wait(&g.job);
	for (int i = 0; i < posted; i++)
		standby_wait(&v[i].job);
	assert_int_equal(n_ran, posted - back);
	for (int i = 0; i < n_ran; i++)
		assert_int_equal(ran[i], 2 * i + 1);
	standby_free(s);
	(void)sem_destroy(&g.inside);
	(void)sem_destroy(&g.open);
	free(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_run_in_order),
		cmocka_unit_test(taken_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
