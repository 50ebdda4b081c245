// SPDX-License-Identifier: GPL-2.0-only
/* Signal actions of every signal (handler, flags, mask, restorer), and the three interval timers. */
#include "t.h"

#include <sys/time.h>

struct kernel_sigaction {
	void *handler;
	unsigned long flags;
	void *restorer;
	uint64_t mask;
};

static volatile int count[65];

static void plain(int sig)
{
	count[sig]++;
}

static void info(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	if (si->si_signo == sig)
		count[sig]++;
}

static void check_timer(int which, const struct itimerval *want)
{
	struct itimerval got;
	int64_t left;

	t_sys(getitimer((__itimer_which_t)which, &got));
	t_check(got.it_interval.tv_sec == want->it_interval.tv_sec &&
			got.it_interval.tv_usec == want->it_interval.tv_usec,
		"timer %d: interval %ld.%06ld", which, got.it_interval.tv_sec,
		got.it_interval.tv_usec);
	left = got.it_value.tv_sec;
	/* Some of it has passed, at most a minute. */
	t_check(left <= want->it_value.tv_sec && left >= want->it_value.tv_sec - 60,
		"timer %d: %ld s of %ld are left", which, left, want->it_value.tv_sec);
}

int main(int argc, char **argv)
{
	static struct kernel_sigaction want[65], got;
	static const struct itimerval timers[] = {
		[ITIMER_REAL] = { { 5000, 123456 }, { 1000, 0 } },
		[ITIMER_VIRTUAL] = { { 0, 0 }, { 2000, 500000 } },
		[ITIMER_PROF] = { { 7, 8 }, { 3000, 0 } },
	};
	struct itimerval quick = { { 0, 0 }, { 0, 20000 } }, old;

	t_init(argc, argv);
	for (int s = 1; s < 65; s++) {
		static const int flags[] = { 0,
					     SA_RESTART,
					     SA_SIGINFO | SA_ONSTACK,
					     (int)SA_RESETHAND,
					     SA_NODEFER | SA_SIGINFO,
					     SA_RESTART | SA_ONSTACK };
		struct sigaction sa = { .sa_flags = flags[s % 6] };

		if (s == SIGKILL || s == SIGSTOP || s == 32 || s == 33)
			continue;
		sigemptyset(&sa.sa_mask);
		for (int m = 1; m < 65; m++)
			if (t_pattern((uint64_t)s) >> (m - 1) & 1)
				sigaddset(&sa.sa_mask, m);
		if (s % 7 == 1)
			sa.sa_handler = SIG_IGN;
		else if (s % 7 == 2)
			sa.sa_handler = SIG_DFL;
		else if (sa.sa_flags & SA_SIGINFO)
			sa.sa_sigaction = info;
		else
			sa.sa_handler = plain;
		if (s == SIGCHLD)
			sa.sa_flags |= SA_NOCLDSTOP | SA_NOCLDWAIT;
		t_sys(sigaction(s, &sa, NULL));
	}
	for (int s = 1; s < 65; s++)
		t_sys(syscall(SYS_rt_sigaction, s, NULL, &want[s], 8));
	for (int i = 0; i < 3; i++)
		t_sys(setitimer((__itimer_which_t)i, &timers[i], NULL));
	t_ready();
	for (int s = 1; s < 65; s++) {
		t_sys(syscall(SYS_rt_sigaction, s, NULL, &got, 8));
		t_check(memcmp(&got, &want[s], sizeof(got)) == 0,
			"action of signal %d: %p %#lx %p %#lx: %p %#lx %p %#lx", s, want[s].handler,
			want[s].flags, want[s].restorer, want[s].mask, got.handler, got.flags,
			got.restorer, got.mask);
	}
	for (int i = 0; i < 3; i++)
		check_timer(i, &timers[i]);
	/* Handlers and timers still do what they are for. */
	t_sys(raise(SIGUSR2));
	t_sys(raise(SIGRTMIN + 5));
	t_check(count[SIGUSR2] == 1 && count[SIGRTMIN + 5] == 1, "handlers ran: %d %d",
		count[SIGUSR2], count[SIGRTMIN + 5]);
	struct sigaction sa = { .sa_handler = plain };

	t_sys(sigaction(SIGALRM, &sa, NULL));
	t_sys(setitimer(ITIMER_REAL, &quick, &old));
	t_check(old.it_interval.tv_sec == 5000, "old interval: %ld", old.it_interval.tv_sec);
	t_until(count[SIGALRM] == 1, "SIGALRM");
	return t_done();
}
