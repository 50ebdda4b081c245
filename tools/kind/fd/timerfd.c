// SPDX-License-Identifier: GPL-2.0-only
/*
 * Timerfds. A relative timer keeps the time it had left: for the program no time passed. An
 * absolute timer keeps its date; on CLOCK_MONOTONIC and CLOCK_BOOTTIME that is possible on the boot
 * it was set on only, elsewhere it keeps the time it had left, too.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "fd_timerfd.pb-c.h"
#include "kern/getfd.h"
#include "kind/fd/kinds.h"

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif
#define NS 1000000000ull

/* The clock that tells the time a timer of this clock counts. */
static const struct {
	clockid_t timer, clock;
	bool of_boot;
} clocks[] = {
	{ CLOCK_REALTIME, CLOCK_REALTIME, false },
	{ CLOCK_MONOTONIC, CLOCK_MONOTONIC, true },
	{ CLOCK_BOOTTIME, CLOCK_BOOTTIME, true },
	{ CLOCK_REALTIME_ALARM, CLOCK_REALTIME, false },
	{ CLOCK_BOOTTIME_ALARM, CLOCK_BOOTTIME, true },
};

static bool timerfd_match(const struct fd_facts *f)
{
	return !strcmp(f->link, "anon_inode:[timerfd]");
}

static int clock_find(uint32_t id, struct ckpt_err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(clocks); i++)
		if ((uint32_t)clocks[i].timer == id)
			return (int)i;
	return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "a timerfd of clock %u cannot be saved",
			 id);
}

static uint64_t clock_now(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

static uint64_t to_ns(const struct timespec *ts)
{
	return (uint64_t)ts->tv_sec * NS + (uint64_t)ts->tv_nsec;
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec) { .tv_sec = (time_t)(ns / NS), .tv_nsec = (long)(ns % NS) };
}

static int timerfd_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
			struct ckpt_err *err)
{
	Ckpt__FdTimerfd *m = msg;
	auto_free char *info = NULL;
	struct itimerspec its;
	uint64_t v = 0;
	char path[64];
	int clock;

	(void)d;
	(void)obj;
	/* Asking brings overdue expirations of an interval timer up to date; only then the ticks in
	 * fdinfo are all. */
	if (timerfd_gettime(f->local, &its))
		return ckpt_fail_errno(err, E_KERNEL, -errno, "cannot read the timer");
	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", f->local);
	if (io_read_file(AT_FDCWD, path, &info) < 0 || !proc_field_num(info, "clockid", 0, 10, &v))
		return ckpt_fail(err, E_KERNEL, -EPROTO, "fdinfo has no clockid");
	m->clock = (uint32_t)v;
	clock = clock_find(m->clock, err);
	if (clock < 0)
		return clock;
	if (!proc_field_num(info, "ticks", 0, 10, &m->ticks) ||
	    !proc_field_num(info, "settime flags", 0, 8, &v))
		return ckpt_fail(err, E_KERNEL, -EPROTO, "fdinfo has no ticks or flags");
	m->settime_flags = (uint32_t)v;
	m->value_ns = to_ns(&its.it_value);
	m->interval_ns = to_ns(&its.it_interval);
	if (m->value_ns)
		m->at_ns = clock_now(clocks[clock].clock) + m->value_ns;
	return 0;
}

static int timerfd_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			   int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdTimerfd *m = msg;
	int clock = clock_find(m->clock, err);
	int flags = (int)m->settime_flags & (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	struct itimerspec its = { .it_interval = to_timespec(m->interval_ns) };
	auto_fd fd = -1;

	(void)obj;
	if (clock < 0)
		return clock;
	fd = fd_private(timerfd_create((int)m->clock, 0));
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make a timerfd");
	if (m->value_ns) {
		uint64_t at = m->value_ns;

		if (flags & TFD_TIMER_ABSTIME) {
			at = m->at_ns;
			if (clocks[clock].of_boot && !restore_same_boot(r))
				at = clock_now(clocks[clock].clock) + m->value_ns;
		}
		its.it_value = to_timespec(at);
	}
	if (timerfd_settime(fd, flags, &its, NULL))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot set a timerfd");
	if (m->ticks && ioctl(fd, TFD_IOC_SET_TICKS, &m->ticks))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot set the ticks of a timerfd");
	*ret_fd = take_fd(&fd);
	return 0;
}

const struct fd_kind fd_kind_timerfd = {
	.name = "timerfd",
	.desc = &ckpt__fd_timerfd__descriptor,
	.match = timerfd_match,
	.dump = timerfd_dump,
	.restore = timerfd_restore,
};
