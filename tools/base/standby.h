/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A thread that stands by: to begin a thread, or to wake one on a processor that sleeps, takes as
 * long as what it is to do while a program stands still. It is alerted a moment before, and then
 * looks for work without sleeping, on another processor than the caller's.
 */
#ifndef CKPT_BASE_STANDBY_H
#define CKPT_BASE_STANDBY_H

#include <semaphore.h>
#include <stdbool.h>

struct standby_job {
	void (*run)(void *arg);
	void *arg;
	sem_t done;
	bool over; /* retracted, or waited for */
};

struct standby;

/* NULL: there is no thread to be had. One other gives it work, and ends it. */
struct standby *standby_new(void);
void standby_free(struct standby *s);
/* There will be work at once. */
void standby_alert(struct standby *s);
/* Have @job->run called, after those before it. False: too many wait already. standby_retract() and
 * standby_wait() must follow before @job may go. */
bool standby_post(struct standby *s, struct standby_job *job);
/* Whoever waits for a thread that has no processor waits for all others that have one: what was not
 * begun is the caller's. True: it was not, and will not be. */
bool standby_retract(struct standby *s, struct standby_job *job);
/* Wait for a job that was not retracted. */
void standby_wait(struct standby_job *job);
/* Wait for what such a job says before its end. */
void standby_await(sem_t *said);

#endif
