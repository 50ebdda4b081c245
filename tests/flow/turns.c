// SPDX-License-Identifier: GPL-2.0-only
/* Not a test of its own: a program that at some steps must be asked for what the kernel does not tell (a descriptor that
 * may be closed on exec, a timer of timer_create(2)), at others not, and that replaces itself. All the while it writes to its memory, and
 * knows what every page must hold. A file "stepN" in the test's folder says that step N is done. */
#include "t.h"

#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>

enum { PAGES = 900, PAGE = 4096, WRITES = 60, FAR = 100000, LIFE = 8, DESCRIPTORS = 150 };
enum { TICK_US = 2000, TICKS = 10 };
static const struct itimerval alarms[] = {
	{ { 0, 0 }, { 0, 0 } },
	{ { 7, 0 }, { FAR, 0 } },
	{ { 0, TICK_US }, { 0, TICK_US } }, /* soon one waits, and when it is taken the next comes */
};

static char *base;
static uint64_t tag[PAGES], seed, in_event;
static int event = -1, master = -1, peer = -1;
static bool timed;
static timer_t timer;

static uint64_t rnd(uint64_t n)
{
	seed = t_pattern(seed);
	return seed % n;
}

static void change(void)
{
	for (int i = 0; i < WRITES; i++) {
		size_t page = rnd(PAGES);

		tag[page] = rnd(UINT64_MAX) | 1;
		*(uint64_t *)(base + page * PAGE) = tag[page];
	}
}

/* Of both some kernels do not tell whether they are closed on exec, of the terminal all. */
static void toggle_descriptors(void)
{
	if (event >= 0) {
		t_sys(close(event));
		t_sys(close(master));
		t_sys(close(peer));
		event = -1;
		return;
	}
	master = (int)t_sys(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
	t_sys(unlockpt(master));
	peer = (int)t_sys(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
	in_event = rnd(1000) + 1;
	event = (int)t_sys(eventfd((unsigned int)in_event, EFD_CLOEXEC));
}

static void toggle_timer(void)
{
	struct sigevent none = { .sigev_notify = SIGEV_NONE };
	struct itimerspec far = { .it_value.tv_sec = FAR };

	timed = !timed;
	if (!timed) {
		t_sys(timer_delete(timer));
		return;
	}
	t_sys(timer_create(CLOCK_MONOTONIC, &none, &timer));
	t_sys(timer_settime(timer, 0, &far, NULL));
}

static void verify_alarm(const struct itimerval *set)
{
	const struct timespec most = { 20, 0 };
	struct itimerval left;
	sigset_t of_alarm;

	t_sys(getitimer(ITIMER_REAL, &left));
	t_check(!memcmp(&left.it_interval, &set->it_interval, sizeof(left.it_interval)), "interval: %ld.%06ld",
		left.it_interval.tv_sec, left.it_interval.tv_usec);
	if (set->it_value.tv_sec)
		t_check(left.it_value.tv_sec > FAR / 2 && left.it_value.tv_sec <= FAR, "alarm in %ld s", left.it_value.tv_sec);
	sigemptyset(&of_alarm);
	sigaddset(&of_alarm, SIGALRM);
	for (int i = 0; set->it_value.tv_usec && i < TICKS; i++)
		t_check(sigtimedwait(&of_alarm, NULL, &most) == SIGALRM, "tick %d, errno %d", i, errno);
}

static void verify(int step)
{
	verify_alarm(&alarms[step % (int)T_ARRAY_SIZE(alarms)]);
	for (size_t i = 0; i < PAGES; i++)
		if (!t_check(*(volatile uint64_t *)(base + i * PAGE) == tag[i], "page %zu", i))
			break;
	if (event >= 0) {
		uint64_t v = 0;

		t_check((fcntl(event, F_GETFD) & FD_CLOEXEC) && read(event, &v, sizeof(v)) == sizeof(v) && v == in_event,
			"the event: %llu, not %llu", (unsigned long long)v, (unsigned long long)in_event);
		t_check(isatty(peer) && (fcntl(peer, F_GETFD) & FD_CLOEXEC), "the terminal");
	}
	if (timed) {
		struct itimerspec left = { 0 };

		t_check(!timer_gettime(timer, &left) && left.it_value.tv_sec > FAR / 2 && left.it_value.tv_sec <= FAR,
			"the timer: %lld s", (long long)left.it_value.tv_sec);
	}
}

int main(int argc, char **argv)
{
	char name[32], number[16];
	int step = argc > 2 ? atoi(argv[2]) : 0, sig;
	sigset_t set;

	t_init(argc, argv);
	seed = (uint64_t)step + 5;
	/* Many, to look at each takes a while. */
	for (int i = 0; i < DESCRIPTORS; i++)
		t_sys(open("/dev/null", O_RDONLY | O_CLOEXEC));
	base = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	t_check(base != MAP_FAILED, "memory");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGALRM);
	t_zero(sigprocmask(SIG_BLOCK, &set, NULL));
	sigdelset(&set, SIGALRM);
	do {
		change();
		t_sys(setitimer(ITIMER_REAL, &alarms[step % (int)T_ARRAY_SIZE(alarms)], NULL));
		(void)snprintf(name, sizeof(name), "step%d", step);
		t_sys(close((int)t_sys(open(t_path(name), O_CREAT | O_WRONLY, 0600))));
		t_zero(sigwait(&set, &sig));
		if (sig != SIGUSR2)
			break;
		step++;
		if (step % 3 == 2)
			toggle_descriptors();
		if (step / LIFE % 2 && step % 5 == 3)
			toggle_timer();
		(void)snprintf(number, sizeof(number), "%d", step);
		if (step % LIFE == 0)
			t_sys(execl("/proc/self/exe", argv[0], argv[1], number, NULL));
	} while (true);
	verify(step);
	return t_done();
}
