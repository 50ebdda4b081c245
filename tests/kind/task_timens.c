// SPDX-License-Identifier: GPL-2.0-only
/* A program in a time namespace of its own keeps its shifted clocks; sleeps and timers end in time. */
#include "t.h"

enum { MONOTONIC_SHIFT = 1000000 };

static int64_t read_clock(clockid_t clock, bool raw)
{
	struct timespec ts;

	if (raw)
		t_sys(syscall(SYS_clock_gettime, clock, &ts));
	else
		t_sys(clock_gettime(clock, &ts));
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void *sleeper(void *arg)
{
	struct timespec ts;
	int64_t *end = arg;

	t_sys(clock_gettime(CLOCK_MONOTONIC, &ts));
	ts.tv_sec += 3;
	t_check(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == 0, "absolute sleep");
	*end = read_clock(CLOCK_MONOTONIC, true) - (ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
	return NULL;
}

int main(int argc, char **argv)
{
	static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME };
	int64_t before[2], passed, late = -1;
	pthread_t th;
	int fd;

	if (argc < 3) {
		static const char text[] = "monotonic 1000000 0\nboottime 2000000 0\n";

		t_init(argc, argv);
		if (unshare(CLONE_NEWTIME) < 0)
			t_skip("time namespaces");
		fd = (int)t_sys(open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC));
		t_check(write(fd, text, sizeof(text) - 1) == sizeof(text) - 1, "set the offsets");
		close(fd);
		/* exec() enters the namespace. */
		execl("/proc/self/exe", argv[0], t_dir(), "inside", NULL);
		t_die(__FILE__, __LINE__, "exec");
	}
	t_init(argc, argv);
	t_check(read_clock(CLOCK_MONOTONIC, true) > MONOTONIC_SHIFT * 1000ll, "shifted");
	for (size_t i = 0; i < 2; i++)
		before[i] = read_clock(clocks[i], false);
	th = t_thread(sleeper, &late);
	t_ready();
	for (size_t i = 0; i < 2; i++)
		for (int raw = 0; raw < 2; raw++) {
			passed = read_clock(clocks[i], raw) - before[i];
			t_check(passed >= 0 && passed < 60000, "clock %d: %ld ms have passed",
				clocks[i], passed);
		}
	t_zero(pthread_join(th, NULL));
	t_check(late >= 0 && late < 10000, "an absolute sleep ends at its time: %ld ms late", late);
	return t_done();
}
