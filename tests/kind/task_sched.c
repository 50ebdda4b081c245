// SPDX-License-Identifier: GPL-2.0-only
/* Scheduling of each thread: policy, priority, nice, affinity, reset-on-fork, I/O priority and
 * timer slack. */
#include "t.h"

#include <sys/prctl.h>
#include <sys/resource.h>

struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

struct want {
	const char *name;
	int policy, priority, nice, ioprio;
	bool reset_on_fork, one_cpu;
	unsigned long slack;
};

enum { IOPRIO_RT = 1 << 13, IOPRIO_BE = 2 << 13, IOPRIO_IDLE = 3 << 13 };

static const struct want wants[] = {
	{ "other", SCHED_OTHER, 0, 0, 0, false, false, 50000 },
	{ "nice 7", SCHED_OTHER, 0, 7, IOPRIO_BE | 6, false, true, 123456 },
	{ "nice -5", SCHED_OTHER, 0, -5, IOPRIO_RT | 2, true, false, 1 },
	{ "batch", SCHED_BATCH, 0, 3, IOPRIO_IDLE | 7, false, true, 99999999 },
	{ "idle", SCHED_IDLE, 0, 19, IOPRIO_BE | 0, false, false, 77 },
	{ "fifo", SCHED_FIFO, 9, 0, 0, false, true, 50000 },
	{ "rr", SCHED_RR, 42, 0, IOPRIO_BE | 3, true, false, 50000 },
};

static pthread_barrier_t barrier;

static void *run(void *arg)
{
	const struct want *w = arg;
	struct attr a = { .size = 48, .policy = (uint32_t)w->policy, .nice = w->nice,
			  .priority = (uint32_t)w->priority, .flags = w->reset_on_fork };
	struct attr got = { 0 }, set;
	cpu_set_t cpus, now;
	unsigned long slack;
	long io;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	if (w->one_cpu)
		t_sys(sched_setaffinity(0, sizeof(cpus), &cpus));
	else
		t_sys(sched_getaffinity(0, sizeof(cpus), &cpus));
	t_sys(prctl(PR_SET_TIMERSLACK, w->slack));
	if (w->ioprio)
		t_sys(syscall(SYS_ioprio_set, 1, 0, w->ioprio));
	t_sys(syscall(SYS_sched_setattr, 0, &a, 0));
	t_sys(syscall(SYS_sched_getattr, 0, &set, sizeof(set), 0));
	pthread_barrier_wait(&barrier);

	pthread_barrier_wait(&barrier);
	t_sys(syscall(SYS_sched_getattr, 0, &got, sizeof(got), 0));
	t_check((int)got.policy == w->policy, "%s: policy %d: %u", w->name, w->policy, got.policy);
	t_check((int)got.priority == w->priority, "%s: priority: %u", w->name, got.priority);
	t_check(got.nice == set.nice, "%s: nice %d: %d", w->name, set.nice, got.nice);
	t_check(got.flags == set.flags, "%s: flags %#lx: %#lx", w->name, set.flags, got.flags);
	t_sys(sched_getaffinity(0, sizeof(now), &now));
	t_check(CPU_EQUAL(&cpus, &now), "%s: affinity", w->name);
	slack = (unsigned long)prctl(PR_GET_TIMERSLACK);
	/* A realtime thread has no slack, and says so since 6.12. */
	t_check(slack == w->slack || w->priority, "%s: timer slack %lu: %lu", w->name, w->slack,
		slack);
	io = syscall(SYS_ioprio_get, 1, 0);
	t_check(!w->ioprio || io == w->ioprio, "%s: I/O priority %#x: %#lx", w->name, w->ioprio, io);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th[T_ARRAY_SIZE(wants)];
	cpu_set_t cpus, now;
	struct rlimit lim;

	t_init(argc, argv);
	t_sys(getrlimit(RLIMIT_RTPRIO, &lim));
	CPU_ZERO(&cpus);
	CPU_SET(1, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
		t_skip("a second CPU");
	CPU_SET(0, &cpus);
	t_sys(sched_setaffinity(0, sizeof(cpus), &cpus));
	t_zero(pthread_barrier_init(&barrier, NULL, T_ARRAY_SIZE(wants) + 1));
	for (size_t i = 0; i < T_ARRAY_SIZE(wants); i++)
		th[i] = t_thread(run, (void *)&wants[i]);
	pthread_barrier_wait(&barrier);
	CPU_CLR(0, &cpus);
	t_sys(sched_setaffinity(0, sizeof(cpus), &cpus));
	t_sys(setpriority(PRIO_PROCESS, 0, 4));
	t_ready();
	t_sys(sched_getaffinity(0, sizeof(now), &now));
	t_check(CPU_EQUAL(&cpus, &now), "main: affinity");
	t_check(getpriority(PRIO_PROCESS, 0) == 4, "main: nice");
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < T_ARRAY_SIZE(wants); i++)
		t_zero(pthread_join(th[i], NULL));
	return t_done();
}
