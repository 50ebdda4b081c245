// SPDX-License-Identifier: GPL-2.0-only
/* Timers of setitimer(2): one whose signal waits while it is saved goes on when that is taken, as does one of which ticks are
 * taken all the time; one that has fired for the last time does not fire again. */
#include <sys/time.h>

#include "t.h"

enum { TICK_US = 3000, TICKS = 20 };

static sigset_t alarms;

static bool pending(void)
{
	return strtoull(t_proc("self/status", "ShdPnd"), NULL, 16) >> (SIGALRM - 1) & 1;
}

static void start(bool again)
{
	const struct itimerval it = { { 0, again ? TICK_US : 0 }, { 0, TICK_US } };

	t_sys(setitimer(ITIMER_REAL, &it, NULL));
	t_until(pending(), "the first tick");
}

static void take(void)
{
	const struct timespec most = { 20, 0 };
	int sig = sigtimedwait(&alarms, NULL, &most);

	t_check(sig == SIGALRM, "the next tick: %d, errno %d", sig, errno);
}

static void goes_on(void)
{
	struct itimerval got;

	t_sys(getitimer(ITIMER_REAL, &got));
	t_check(!got.it_interval.tv_sec && got.it_interval.tv_usec == TICK_US, "interval: %ld.%06ld",
		got.it_interval.tv_sec, got.it_interval.tv_usec);
	for (int i = 0; i < TICKS; i++)
		take();
}

static pid_t ticking(void)
{
	sigset_t both = alarms;
	pid_t pid = t_fork();
	int sig;

	if (pid)
		return pid;
	start(true);
	sigaddset(&both, SIGTERM);
	while ((sig = sigwaitinfo(&both, NULL)) != SIGTERM)
		t_check(sig == SIGALRM || errno == EINTR, "signal %d, errno %d", sig, errno);
	goes_on();
	_exit(t_status());
}

static pid_t fired(void)
{
	pid_t pid = t_fork();
	struct itimerval got;

	if (pid)
		return pid;
	start(false);
	t_step_done(1);
	t_wait_go();
	t_check(pending(), "the tick that waited");
	take();
	t_sys(getitimer(ITIMER_REAL, &got));
	t_check(!got.it_value.tv_sec && !got.it_value.tv_usec, "nothing is left of it: %ld.%06ld", got.it_value.tv_sec,
		got.it_value.tv_usec);
	_exit(t_status());
}

int main(int argc, char **argv)
{
	pid_t children[2];

	t_init(argc, argv);
	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	t_sys(sigprocmask(SIG_BLOCK, &alarms, NULL));
	children[0] = ticking();
	children[1] = fired();
	start(true);
	t_until(!access(t_path("step1"), F_OK), "the child's only tick");
	t_ready();
	t_check(pending(), "the tick that waited");
	goes_on();
	for (size_t i = 0; i < T_ARRAY_SIZE(children); i++) {
		t_sys(kill(children[i], SIGTERM));
		t_reap(children[i], 0);
	}
	return t_done();
}
