// SPDX-License-Identifier: GPL-2.0-only
/* POSIX timers: every clock and way of notification, ids with gaps, intervals, time left,
 * disarmed ones, overruns of a pending signal; and they go on firing. */
#include "t.h"

enum { RT = 34 }; /* SIGRTMIN of the C library */

struct timer {
	const char *name;
	int clock, notify, signo;
	int64_t first, interval; /* seconds; 0: disarmed */
	bool cpu;
	int id;
	struct itimerspec set;
};

static struct timer timers[] = {
	{ "realtime, signal", CLOCK_REALTIME, SIGEV_SIGNAL, RT + 1, 1000, 50, false },
	{ "monotonic, signal", CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 2000, 0, false },
	{ "boottime, none", CLOCK_BOOTTIME, SIGEV_NONE, 0, 3000, 100, false },
	{ "monotonic, thread", CLOCK_MONOTONIC, SIGEV_THREAD_ID, RT + 2, 4000, 7, false },
	{ "process CPU time", CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, RT + 3, 5000, 1, true },
	{ "thread CPU time", CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL, RT + 4, 6000, 2, true },
	{ "disarmed", CLOCK_MONOTONIC, SIGEV_SIGNAL, RT + 5, 0, 0, false },
	{ "to be deleted", CLOCK_MONOTONIC, SIGEV_SIGNAL, RT + 5, 10, 0, false },
	{ "realtime, none", CLOCK_REALTIME, SIGEV_NONE, 0, 7000, 0, false },
	{ "alarm clock", CLOCK_REALTIME_ALARM, SIGEV_SIGNAL, RT + 6, 8000, 9, false },
};

static pid_t second;
static pthread_barrier_t barrier;

static void *thread(void *arg)
{
	(void)arg;
	second = t_gettid();
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return NULL;
}

/* The raw calls: the kernel's ids matter, not the C library's. */
static int create(int clock, int notify, int signo, uintptr_t value, pid_t tid)
{
	struct sigevent ev = { .sigev_notify = notify, .sigev_signo = signo };
	int id = -1;

	ev.sigev_value.sival_ptr = (void *)value;
	ev._sigev_un._tid = tid;
	if (syscall(SYS_timer_create, clock, &ev, &id) < 0)
		return -1;
	return id;
}

int main(int argc, char **argv)
{
	struct itimerspec quick = { { 0, 2000000 }, { 0, 1000000 } }, got;
	int tick, overrun;
	pthread_t th;
	siginfo_t si;
	char path[64];
	sigset_t all, set;

	t_init(argc, argv);
	sigfillset(&all);
	t_sys(sigprocmask(SIG_BLOCK, &all, NULL));
	t_zero(pthread_barrier_init(&barrier, NULL, 2));
	th = t_thread(thread, NULL);
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < T_ARRAY_SIZE(timers); i++) {
		struct timer *t = &timers[i];

		t->id = create(t->clock, t->notify, t->signo, 0xabc00000 + i, second);
		if (t->id < 0 && t->clock == CLOCK_REALTIME_ALARM)
			continue; /* no real-time clock that could wake the machine */
		t_check(t->id >= 0, "%s: timer_create, errno %d", t->name, errno);
		t->set.it_value.tv_sec = t->first;
		t->set.it_interval.tv_sec = t->interval;
		t->set.it_interval.tv_nsec = t->interval ? 123456789 : 0;
		if (t->first)
			t_sys(syscall(SYS_timer_settime, t->id, 0, &t->set, NULL));
	}
	t_sys(syscall(SYS_timer_delete, timers[7].id));
	/* One that has expired many times: its signal is pending, the rest is overrun. */
	tick = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 8, 0x1234, 0);
	t_check(tick >= 0, "timer_create, errno %d", errno);
	t_sys(syscall(SYS_timer_settime, tick, 0, &quick, NULL));
	for (int i = 0; i < 20; i++)
		t_tick();

	t_ready();
	for (int i = 0; i < 10; i++)
		t_tick();
	for (size_t i = 0; i < T_ARRAY_SIZE(timers); i++) {
		struct timer *t = &timers[i];
		long r;

		if (t->id < 0)
			continue;
		memset(&got, 0, sizeof(got));
		r = syscall(SYS_timer_gettime, t->id, &got);
		if (i == 7) {
			t_check(r < 0 && errno == EINVAL, "a deleted timer is not there");
			continue;
		}
		if (!t_check(r == 0, "%s: timer_gettime, errno %d", t->name, errno))
			continue;
		t_check(got.it_interval.tv_sec == t->set.it_interval.tv_sec &&
				got.it_interval.tv_nsec == t->set.it_interval.tv_nsec,
			"%s: interval %ld: %ld.%09ld", t->name, t->interval, got.it_interval.tv_sec,
			got.it_interval.tv_nsec);
		t_check(got.it_value.tv_sec <= t->first &&
				got.it_value.tv_sec >= t->first - 60,
			"%s: %ld s left: %ld", t->name, t->first, got.it_value.tv_sec);
		t_check(t->first || (got.it_value.tv_sec == 0 && got.it_value.tv_nsec == 0),
			"%s: disarmed: %ld s left", t->name, got.it_value.tv_sec);
	}
	/* The pending expiry comes first and carries its overruns; then it goes on ticking. */
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 8);
	for (int i = 0; i < 5; i++) {
		memset(&si, 0, sizeof(si));
		t_sys(syscall(SYS_rt_sigtimedwait, &set, &si, NULL, 8));
		t_check(si.si_code == SI_TIMER && si.si_ptr == (void *)0x1234 && si.si_timerid == tick,
			"expiry %d: code %d value %p timer %d", i, si.si_code, si.si_ptr,
			si.si_timerid);
		overrun = (int)syscall(SYS_timer_getoverrun, tick);
		/* Expiries before a dump are not told by the kernel; those since a restore count. */
		t_check(i > 0 || (si.si_overrun >= 5 && overrun >= 5), "overruns of the first: %d, %d",
			si.si_overrun, overrun);
	}
	/* Notification still goes where it went: the thread, with its value. */
	quick = (struct itimerspec){ { 0, 0 }, { 0, 1000000 } };
	t_sys(syscall(SYS_timer_settime, timers[3].id, 0, &quick, NULL));
	(void)snprintf(path, sizeof(path), "self/task/%d/status", second);
	t_until(strtoull(t_proc(path, "SigPnd"), NULL, 16) >> (SIGRTMIN + 1) & 1,
		"signal to the thread");
	quick = (struct itimerspec){ { 0, 0 }, { 0, 1000000 } };
	t_sys(syscall(SYS_timer_settime, timers[1].id, 0, &quick, NULL));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	t_sys(syscall(SYS_rt_sigtimedwait, &set, &si, NULL, 8));
	t_check(si.si_ptr == (void *)0xabc00001, "value: %p", si.si_ptr);
	pthread_barrier_wait(&barrier);
	t_zero(pthread_join(th, NULL));
	return t_done();
}
