// SPDX-License-Identifier: GPL-2.0-only
/* System calls that a checkpoint interrupts go on: no EINTR, no early or wrong result. Those that
 * need no descriptor: sleeps, futexes, waits for signals and children. */
#include "t.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/select.h>

enum { SECONDS = 3 };

struct waiter {
	const char *name;
	long nr;
	long (*call)(struct waiter *w);
	long want;
	int want_errno;
	bool timed; /* must last SECONDS, measured on CLOCK_MONOTONIC */
	/* run-time */
	pthread_t thread;
	atomic_int tid;
	int word;
	pid_t child;
	int64_t began, ended;
	long ret;
	int err;
	struct timespec rem;
};

static atomic_int going;

static int64_t now_ms(void)
{
	struct timespec ts;

	t_sys(clock_gettime(CLOCK_MONOTONIC, &ts));
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static long do_nanosleep(struct waiter *w)
{
	struct timespec ts = { SECONDS, 0 };

	w->rem = (struct timespec){ -1, -1 };
	return syscall(SYS_nanosleep, &ts, &w->rem);
}

static long do_nanosleep_norem(struct waiter *w)
{
	struct timespec ts = { SECONDS, 0 };

	(void)w;
	return syscall(SYS_nanosleep, &ts, NULL);
}

static long do_clock_relative(struct waiter *w)
{
	struct timespec ts = { SECONDS, 0 };

	(void)w;
	return syscall(SYS_clock_nanosleep, CLOCK_BOOTTIME, 0, &ts, NULL);
}

static long do_clock_absolute(struct waiter *w)
{
	struct timespec ts;

	(void)w;
	t_sys(clock_gettime(CLOCK_REALTIME, &ts));
	ts.tv_sec += SECONDS;
	return syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &ts, NULL);
}

static long do_futex(struct waiter *w)
{
	return syscall(SYS_futex, &w->word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static long do_futex_relative(struct waiter *w)
{
	struct timespec ts = { SECONDS, 0 };

	return syscall(SYS_futex, &w->word, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0);
}

static long do_futex_absolute(struct waiter *w)
{
	struct timespec ts;

	t_sys(clock_gettime(CLOCK_MONOTONIC, &ts));
	ts.tv_sec += SECONDS;
	return syscall(SYS_futex, &w->word, FUTEX_WAIT_BITSET_PRIVATE, 0, &ts, NULL, ~0u);
}

static long do_futex_shared(struct waiter *w)
{
	return syscall(SYS_futex, &w->word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static long do_poll_nothing(struct waiter *w)
{
	(void)w;
	return syscall(SYS_poll, NULL, 0, SECONDS * 1000);
}

static long do_ppoll_mask(struct waiter *w)
{
	struct timespec ts = { SECONDS, 0 };
	uint64_t mask = ~0ul;

	(void)w;
	return syscall(SYS_ppoll, NULL, 0, &ts, &mask, 8);
}

static long do_select_nothing(struct waiter *w)
{
	struct timeval tv = { SECONDS, 0 };

	(void)w;
	return syscall(SYS_select, 0, NULL, NULL, NULL, &tv);
}

static long do_sigwait(struct waiter *w)
{
	uint64_t set = 1ul << (SIGRTMIN + 6 - 1);

	(void)w;
	return syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 8);
}

static long do_sigwait_timeout(struct waiter *w)
{
	struct timespec ts = { SECONDS, 0 };
	uint64_t set = 1ul << (SIGRTMIN + 7 - 1);

	(void)w;
	return syscall(SYS_rt_sigtimedwait, &set, NULL, &ts, 8);
}

static long child_wait(struct waiter *w, long nr)
{
	siginfo_t si = { 0 };
	int status = 0;
	long r;

	if (nr == SYS_wait4)
		r = syscall(SYS_wait4, w->child, &status, 0, NULL);
	else
		r = syscall(SYS_waitid, P_PID, w->child, &si, WEXITED, NULL);
	if (r == (nr == SYS_wait4 ? w->child : 0))
		return nr == SYS_wait4 ? WEXITSTATUS(status) : si.si_status;
	return r;
}

static long do_wait4(struct waiter *w)
{
	return child_wait(w, SYS_wait4);
}

static long do_waitid(struct waiter *w)
{
	return child_wait(w, SYS_waitid);
}

static struct waiter waiters[] = {
	{ "nanosleep", SYS_nanosleep, do_nanosleep, 0, 0, .timed = true },
	{ "nanosleep, no remainder", SYS_nanosleep, do_nanosleep_norem, 0, 0, .timed = true },
	{ "clock_nanosleep relative", SYS_clock_nanosleep, do_clock_relative, 0, 0, .timed = true },
	{ "clock_nanosleep absolute", SYS_clock_nanosleep, do_clock_absolute, 0, 0, .timed = true },
	{ "futex", SYS_futex, do_futex, 0, 0 },
	{ "futex relative", SYS_futex, do_futex_relative, -1, ETIMEDOUT, .timed = true },
	{ "futex absolute", SYS_futex, do_futex_absolute, -1, ETIMEDOUT, .timed = true },
	{ "futex shared", SYS_futex, do_futex_shared, 0, 0 },
	{ "poll of nothing", SYS_poll, do_poll_nothing, 0, 0, .timed = true },
	{ "ppoll with a mask", SYS_ppoll, do_ppoll_mask, 0, 0, .timed = true },
	{ "select of nothing", SYS_select, do_select_nothing, 0, 0, .timed = true },
	{ "rt_sigtimedwait", SYS_rt_sigtimedwait, do_sigwait, 64, 0 },
	{ "rt_sigtimedwait timeout", SYS_rt_sigtimedwait, do_sigwait_timeout, -1, EAGAIN,
	  .timed = true },
	{ "wait4", SYS_wait4, do_wait4, 23, 0 },
	{ "waitid", SYS_waitid, do_waitid, 23, 0 },
};

static void *run(void *arg)
{
	struct waiter *w = arg;

	w->tid = t_gettid();
	w->began = now_ms();
	w->ret = w->call(w);
	w->err = w->ret == -1 ? errno : 0;
	w->ended = now_ms();
	if (!w->timed)
		t_check(going, "%s: returned only when it should", w->name);
	return NULL;
}

int main(int argc, char **argv)
{
	sigset_t all;

	t_init(argc, argv);
	sigfillset(&all);
	t_sys(sigprocmask(SIG_BLOCK, &all, NULL));
	/* Children first: they would inherit what main has open while it looks into /proc. */
	for (size_t i = 0; i < T_ARRAY_SIZE(waiters); i++) {
		if (waiters[i].nr != SYS_wait4 && waiters[i].nr != SYS_waitid)
			continue;
		waiters[i].child = t_fork();
		if (waiters[i].child == 0) {
			t_wait_go();
			_exit(23);
		}
	}
	for (size_t i = 0; i < T_ARRAY_SIZE(waiters); i++)
		waiters[i].thread = t_thread(run, &waiters[i]);
	for (size_t i = 0; i < T_ARRAY_SIZE(waiters); i++) {
		t_until(waiters[i].tid, "thread runs");
		t_until_asleep(getpid(), waiters[i].tid, waiters[i].nr);
	}
	t_ready();
	going = 1;
	for (size_t i = 0; i < T_ARRAY_SIZE(waiters); i++) {
		struct waiter *w = &waiters[i];

		if (w->child)
			t_sys(kill(w->child, SIGTERM));
		if (w->nr == SYS_futex && !w->timed)
			t_until(syscall(SYS_futex, &w->word,
					w->call == do_futex ? FUTEX_WAKE_PRIVATE : FUTEX_WAKE, 1,
					NULL, NULL, 0) == 1,
				w->name);
		if (w->call == do_sigwait)
			t_sys(syscall(SYS_tgkill, getpid(), w->tid, SIGRTMIN + 6));
	}
	for (size_t i = 0; i < T_ARRAY_SIZE(waiters); i++) {
		struct waiter *w = &waiters[i];
		int64_t took;

		t_zero(pthread_join(w->thread, NULL));
		took = w->ended - w->began;
		if (w->call == do_sigwait)
			w->want = SIGRTMIN + 6;
		t_check(w->ret == w->want && w->err == w->want_errno,
			"%s gives %ld errno %d: %ld errno %d", w->name, w->want, w->want_errno,
			w->ret, w->err);
		/* Late is allowed (a relative sleep may begin again), early is not. */
		t_check(!w->timed || (took >= SECONDS * 1000 - 2 && took < 20000),
			"%s lasts %d s: %ld ms", w->name, SECONDS, took);
	}
	return t_done();
}
