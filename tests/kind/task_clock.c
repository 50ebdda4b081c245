// SPDX-License-Identifier: GPL-2.0-only
/* Clocks never run backwards for a restored program, and boot time and monotonic time go on from
 * where they were. */
#include "t.h"

static int64_t read_clock(clockid_t clock, bool raw)
{
	struct timespec ts;

	if (raw)
		t_sys(syscall(SYS_clock_gettime, clock, &ts));
	else
		t_sys(clock_gettime(clock, &ts));
	return ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int main(int argc, char **argv)
{
	static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW,
					    CLOCK_MONOTONIC_COARSE, CLOCK_REALTIME };
	int64_t before[T_ARRAY_SIZE(clocks)], passed;

	t_init(argc, argv);
	for (size_t i = 0; i < T_ARRAY_SIZE(clocks); i++)
		before[i] = read_clock(clocks[i], false);
	t_ready();
	for (size_t i = 0; i < T_ARRAY_SIZE(clocks); i++)
		for (int raw = 0; raw < 2; raw++) {
			passed = read_clock(clocks[i], raw) - before[i];
			t_check(passed >= 0 && passed < 120000000000, "clock %d: %ld ns have passed",
				clocks[i], passed);
		}
	return t_done();
}
