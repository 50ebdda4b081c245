// SPDX-License-Identifier: GPL-2.0-only
#include "base/standby.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/quiet.h"

#define JOBS 64u
/* From an alert on, and for a job that is about to end: a sleeping processor of a virtual machine
 * may take 0.2 ms to wake. */
#define AWAKE_US 1500u

struct standby {
	pthread_t thread;
	_Atomic(struct standby_job *) jobs[JOBS]; /* NULL: none, or somebody has it */
	atomic_uint posted, taken;                /* ever */
	atomic_bool alerted, ends;
	atomic_int tid; /* 0: it has not begun */
	sem_t wake;
	cpu_set_t allowed;
};

void standby_await(sem_t *said)
{
	uint64_t until = io_now_us() + AWAKE_US;

	while (sem_trywait(said)) {
		if (io_now_us() < until) {
			(void)sched_yield();
			continue;
		}
		while (sem_wait(said))
			;
		return;
	}
}

/* False: there is none. */
static bool work(struct standby *s)
{
	unsigned int at = atomic_load(&s->taken);
	struct standby_job *job;

	if (at == atomic_load(&s->posted))
		return false;
	job = atomic_exchange(&s->jobs[at % JOBS], NULL);
	atomic_store(&s->taken, at + 1);
	if (job) {
		job->run(job->arg);
		(void)sem_post(&job->done);
	}
	return true;
}

static void *standby_main(void *arg)
{
	struct standby *s = arg;
	uint64_t until = 0;

	atomic_store(&s->tid, gettid());
	while (!atomic_load(&s->ends)) {
		/* Whoever had work is not alerted any more. */
		if (work(s))
			until = 0;
		else if (atomic_exchange(&s->alerted, false))
			until = io_now_us() + AWAKE_US;
		else if (io_now_us() < until)
			(void)sched_yield();
		else
			(void)sem_wait(&s->wake);
	}
	return NULL;
}

struct standby *standby_new(void)
{
	struct standby *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	(void)sem_init(&s->wake, 0, 0);
	if (sched_getaffinity(0, sizeof(s->allowed), &s->allowed))
		CPU_ZERO(&s->allowed);
	if (!quiet_thread(&s->thread, standby_main, s))
		return s;
	(void)sem_destroy(&s->wake);
	free(s);
	return NULL;
}

void standby_free(struct standby *s)
{
	if (!s)
		return;
	atomic_store(&s->ends, true);
	(void)sem_post(&s->wake);
	(void)pthread_join(s->thread, NULL);
	(void)sem_destroy(&s->wake);
	free(s);
}

void standby_alert(struct standby *s)
{
	int cpu = sched_getcpu(), tid = atomic_load(&s->tid);
	cpu_set_t others = s->allowed;

	/* The kernel takes one that sleeps in a virtual machine for busy, and would have both
	 * threads on this one. */
	if (tid && cpu >= 0 && cpu < CPU_SETSIZE) {
		CPU_CLR((unsigned int)cpu, &others);
		if (CPU_COUNT(&others))
			(void)sched_setaffinity(tid, sizeof(others), &others);
	}
	atomic_store(&s->alerted, true);
	(void)sem_post(&s->wake);
}

bool standby_post(struct standby *s, struct standby_job *job)
{
	unsigned int at = atomic_load(&s->posted);

	if (at - atomic_load(&s->taken) == JOBS)
		return false;
	(void)sem_init(&job->done, 0, 0);
	job->over = false;
	atomic_store(&s->jobs[at % JOBS], job);
	atomic_store(&s->posted, at + 1);
	(void)sem_post(&s->wake);
	return true;
}

bool standby_retract(struct standby *s, struct standby_job *job)
{
	for (unsigned int i = 0; !job->over && i < JOBS; i++) {
		struct standby_job *was = job;

		job->over = atomic_compare_exchange_strong(&s->jobs[i], &was, NULL);
		if (job->over)
			return true;
	}
	return false;
}

void standby_wait(struct standby_job *job)
{
	if (!job->over)
		standby_await(&job->done);
	job->over = true;
}
