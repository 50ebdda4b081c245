/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The log of page faults: of more address spaces than the programs compare one by one, of none that was taken out, and nothing
 * of others. What it tells of each way to write is flow/inc_logged's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kern/faultlog.h"
#include "kern/trial.h"

#define PAGE 4096ul
#define SPACES 7
#define STEPS 3

static char *area;

static bool write_page(void *arg, int step)
{
	(void)arg;
	area[(size_t)step * PAGE] = 1;
	return true;
}

/* How many faults of page @step of @mm are among the entries from @n on. */
static int faults(const struct fault_log *l, uint64_t n, uint64_t mm, int step)
{
	int found = 0;

	for (; n < l->room->n; n++) {
		const struct fault_entry *e = &l->room->entry[n % FAULT_ENTRIES];

		assert_int_equal(e->number, n + 1);
		found += e->mm == mm && e->addr / PAGE == (uintptr_t)area / PAGE + (uintptr_t)step;
	}
	return found;
}

static void spaces(void **state)
{
	struct btf types = { 0 };
	struct mm_watch w;
	struct fault_log l, again;
	struct trial child[SPACES];
	struct mm_stamp stamp[SPACES];
	int fds[FAULT_FDS], rc = mm_watch_open(&w, &types);
	uint64_t misses = 1;

	(void)state;
	if (!rc)
		rc = fault_log_open(&l, &w, &types);
	btf_free(&types);
	if (rc == -EOPNOTSUPP) {
		print_message("this kernel does not tell of page faults\n");
		skip();
	}
	assert_int_equal(rc, 0);
	area = mmap(NULL, STEPS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(area, MAP_FAILED);
	assert_int_equal(madvise(area, STEPS * PAGE, MADV_NOHUGEPAGE), 0);
	for (int i = 0; i < SPACES; i++) {
		assert_int_equal(trial_begin(&child[i], write_page, NULL), 0);
		assert_int_equal(mm_stamp_read(&w, child[i].pid, &stamp[i]), 0);
		if (i)
			assert_int_equal(fault_log_add(&l, stamp[i].mm), 0);
	}
	for (int step = 0; step < STEPS; step++) {
		/* One that is compared, and one that is looked up. */
		if (step == 2) {
			fault_log_remove(&l, stamp[1].mm);
			fault_log_remove(&l, stamp[SPACES - 1].mm);
		}
		for (int i = 0; i < SPACES; i++) {
			uint64_t n = l.room->n;
			bool logged = i && (step < 2 || (i > 1 && i < SPACES - 1));

			assert_true(trial_step(&child[i], step));
			if ((faults(&l, n, stamp[i].mm, step) > 0) != logged)
				fail_msg("process %d, step %d: it is %s", i, step, logged ? "missing" : "there");
		}
	}
	assert_int_equal(fault_log_misses(&l, &misses), 0);
	assert_int_equal(misses, 0);
	/* It goes on by other descriptors. */
	for (int i = 0; i < FAULT_FDS; i++)
		fds[i] = dup(l.fd[i]);
	fault_log_close(&l);
	assert_int_equal(fault_log_adopt(&again, fds), 0);
	misses = again.room->n;
	assert_true(trial_step(&child[2], STEPS - 1) && trial_step(&child[0], 0));
	assert_int_equal(again.room->n, misses);
	for (int i = 0; i < SPACES; i++)
		trial_end(&child[i]);
	fault_log_close(&again);
	(void)munmap(area, STEPS * PAGE);
	mm_watch_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(spaces) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
