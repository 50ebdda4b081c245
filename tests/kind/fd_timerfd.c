// SPDX-License-Identifier: GPL-2.0-only
/* Timerfds of every clock: remaining time, interval, absolute times, unread expirations, flags. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/timerfd.h>
#include <time.h>

#ifndef TFD_TIMER_CANCEL_ON_SET
#define TFD_TIMER_CANCEL_ON_SET 2
#endif

static const int clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME_ALARM,
			      CLOCK_BOOTTIME_ALARM };
#define N ((int)(sizeof(clocks) / sizeof(clocks[0])))

int main(int argc, char **argv)
{
	int rel[N], disarmed, ticks, once, abs_mono, cancel, soon;
	struct itimerspec its = { { 5, 250 }, { 3600, 0 } }, got;
	struct timespec now, start, end;
	uint64_t v;

	fd_init(argc, argv);
	for (int i = 0; i < N; i++) {
		rel[i] = (int)MUST(timerfd_create(clocks[i], TFD_CLOEXEC));
		MUST(timerfd_settime(rel[i], 0, &its, NULL));
	}
	disarmed = (int)MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));

	/* Ticks that nobody has read yet. */
	ticks = (int)MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	its = (struct itimerspec) { { 0, 1000000 }, { 0, 1 } };
	MUST(timerfd_settime(ticks, 0, &its, NULL));
	MUST(nanosleep(&(struct timespec) { 0, 20000000 }, NULL));

	once = (int)MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	its = (struct itimerspec) { { 0, 0 }, { 0, 1 } };
	MUST(timerfd_settime(once, 0, &its, NULL));
	MUST(poll(&(struct pollfd) { .fd = once, .events = POLLIN }, 1, 10000) == 1 ? 0 : -1);

	MUST(clock_gettime(CLOCK_MONOTONIC, &start));
	abs_mono = (int)MUST(timerfd_create(CLOCK_MONOTONIC, 0));
	its = (struct itimerspec) { { 0, 0 }, { start.tv_sec + 1000, 0 } };
	MUST(timerfd_settime(abs_mono, TFD_TIMER_ABSTIME, &its, NULL));

	MUST(clock_gettime(CLOCK_REALTIME, &now));
	cancel = (int)MUST(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
	its = (struct itimerspec) { { 0, 0 }, { now.tv_sec + 5000, 0 } };
	MUST(timerfd_settime(cancel, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &its, NULL));

	soon = (int)MUST(timerfd_create(CLOCK_MONOTONIC, 0));
	its = (struct itimerspec) { { 0, 0 }, { 0, 300000000 } };
	MUST(timerfd_settime(soon, 0, &its, NULL));

	t_ready();

	MUST(clock_gettime(CLOCK_MONOTONIC, &end));
	for (int i = 0; i < N; i++) {
		t_check(!timerfd_gettime(rel[i], &got), "clock %d: %s", clocks[i], strerror(errno));
		t_check(got.it_interval.tv_sec == 5 && got.it_interval.tv_nsec == 250,
			"clock %d: interval %ld.%ld", clocks[i], got.it_interval.tv_sec,
			got.it_interval.tv_nsec);
		t_check(got.it_value.tv_sec > 3000 && got.it_value.tv_sec < 3600,
			"clock %d: %ld s left", clocks[i], got.it_value.tv_sec);
		t_check(fd_info(rel[i], "clockid", 10) == clocks[i], "clock %d became %lld",
			clocks[i], fd_info(rel[i], "clockid", 10));
		t_check(fcntl(rel[i], F_GETFD) == FD_CLOEXEC, "close-on-exec");
	}
	t_check(!timerfd_gettime(disarmed, &got) && !got.it_value.tv_sec && !got.it_value.tv_nsec,
		"disarmed timer is armed");
	t_check(read(disarmed, &v, 8) < 0 && errno == EAGAIN, "disarmed timer has expired");
	t_check(read(ticks, &v, 8) == 8 && v >= 19, "%lld unread ticks", (long long)v);
	t_check(!timerfd_gettime(ticks, &got) && got.it_interval.tv_nsec == 1000000,
		"ticking interval");
	t_check(read(once, &v, 8) == 8 && v == 1, "expired one-shot: %lld", (long long)v);
	t_check(!timerfd_gettime(once, &got) && !got.it_value.tv_sec && !got.it_value.tv_nsec,
		"expired one-shot is armed again");
	t_check(!timerfd_gettime(abs_mono, &got) &&
			llabs(got.it_value.tv_sec - (start.tv_sec + 1000 - end.tv_sec)) <= 2,
		"absolute timer: %ld s left", got.it_value.tv_sec);
	t_check(fd_info(abs_mono, "settime flags", 8) == 1, "absolute flag: %lld",
		fd_info(abs_mono, "settime flags", 8));
	t_check(fd_info(cancel, "settime flags", 8) == 3, "cancel-on-set: %lld",
		fd_info(cancel, "settime flags", 8));
	MUST(clock_gettime(CLOCK_REALTIME, &end));
	t_check(!timerfd_gettime(cancel, &got) &&
			llabs(got.it_value.tv_sec - (now.tv_sec + 5000 - end.tv_sec)) <= 2,
		"absolute real-time timer: %ld s left", got.it_value.tv_sec);
	t_check(poll(&(struct pollfd) { .fd = soon, .events = POLLIN }, 1, 10000) == 1 &&
			read(soon, &v, 8) == 8 && v == 1,
		"a short timer never expired");
	return t_done();
}
