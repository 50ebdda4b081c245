// SPDX-License-Identifier: GPL-2.0-only
/* Pending signals keep their siginfo: per thread and per process, realtime ones queued in order,
 * standard ones once, from kill, tgkill, sigqueue, a timer and a child. */
#include "t.h"

static pid_t tid2;
static pthread_barrier_t barrier;
static sigset_t all;

static bool take(siginfo_t *info)
{
	static const struct timespec zero;

	memset(info, 0, sizeof(*info));
	/* Raw: the C library turns SI_TKILL into SI_USER. */
	return syscall(SYS_rt_sigtimedwait, &all, info, &zero, 8) > 0;
}

static void queue_thread(pid_t tid, int sig, int value)
{
	siginfo_t info = { .si_signo = sig, .si_code = SI_QUEUE };

	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_int = value;
	t_sys(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, sig, &info));
}

static void expect(const char *who, int sig, int code, int value)
{
	siginfo_t info;

	if (!t_check(take(&info), "%s: signal %d is pending", who, sig))
		return;
	t_check(info.si_signo == sig && info.si_code == code,
		"%s: signal %d code %d: signal %d code %d", who, sig, code, info.si_signo,
		info.si_code);
	if (code == SI_QUEUE)
		t_check(info.si_int == value && info.si_pid == getpid() && info.si_uid == getuid(),
			"%s: signal %d value %d: %d from %d", who, sig, value, info.si_int,
			info.si_pid);
	if (code == SI_USER || code == SI_TKILL)
		t_check(info.si_pid == getpid(), "%s: signal %d from %d", who, sig, info.si_pid);
}

static void *second(void *arg)
{
	siginfo_t info;

	(void)arg;
	tid2 = t_gettid();
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	/* Own ones first, the lowest number first; the shared ones were taken by now. */
	expect("second", SIGUSR1, SI_TKILL, 0);
	for (int i = 0; i < 50; i++)
		expect("second", SIGRTMIN + 3, SI_QUEUE, 1000 + i);
	t_check(!take(&info), "second: nothing else is pending: %d", info.si_signo);
	return NULL;
}

int main(int argc, char **argv)
{
	union sigval v;
	pthread_t thread;
	siginfo_t info;
	sigset_t old;
	pid_t child;

	t_init(argc, argv);
	sigfillset(&all);
	t_sys(sigprocmask(SIG_BLOCK, &all, &old));
	sigdelset(&all, SIGTERM);
	t_zero(pthread_barrier_init(&barrier, NULL, 2));
	thread = t_thread(second, NULL);
	pthread_barrier_wait(&barrier);

	/* To the process. */
	for (int i = 0; i < 100; i++) {
		v.sival_int = i;
		t_sys(sigqueue(getpid(), SIGRTMIN + 1 + i % 2, v));
	}
	t_sys(kill(getpid(), SIGUSR2));
	t_sys(kill(getpid(), SIGUSR2)); /* standard signals do not queue */
	v.sival_int = 4242;
	t_sys(sigqueue(getpid(), SIGHUP, v));
	child = t_fork();
	if (child == 0)
		_exit(7);
	t_until(strchr(t_proc("self/status", "ShdPnd"), '1') != NULL, "SIGCHLD is pending");
	t_reap(child, 7);
	/* To threads. */
	t_sys(syscall(SYS_tgkill, getpid(), tid2, SIGUSR1));
	for (int i = 0; i < 50; i++)
		queue_thread(tid2, SIGRTMIN + 3, 1000 + i);
	queue_thread(getpid(), SIGRTMAX, 9);
	t_sys(syscall(SYS_tgkill, getpid(), getpid(), SIGWINCH));

	t_ready();
	expect("main", SIGWINCH, SI_TKILL, 0);
	expect("main", SIGRTMAX, SI_QUEUE, 9);
	expect("main", SIGHUP, SI_QUEUE, 4242);
	expect("main", SIGUSR2, SI_USER, 0);
	if (t_check(take(&info), "SIGCHLD is pending"))
		t_check(info.si_signo == SIGCHLD && info.si_code == CLD_EXITED &&
				info.si_pid == child && info.si_status == 7,
			"SIGCHLD of %d: signal %d code %d pid %d status %d", child, info.si_signo,
			info.si_code, info.si_pid, info.si_status);
	for (int i = 0; i < 100; i += 2)
		expect("main", SIGRTMIN + 1, SI_QUEUE, i);
	for (int i = 1; i < 100; i += 2)
		expect("main", SIGRTMIN + 2, SI_QUEUE, i);
	t_check(!take(&info), "nothing else is pending: %d", info.si_signo);
	pthread_barrier_wait(&barrier);
	t_zero(pthread_join(thread, NULL));
	return t_done();
}
