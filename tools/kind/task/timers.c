// SPDX-License-Identifier: GPL-2.0-only
/*
 * Timers of a process: the three of setitimer(2) and those of timer_create(2).
 * What is left of each is kept, so a program sees no expiry that is due to the
 * time it was not running. A timer whose signal is pending at the dump is made
 * to fire at once, so that the kernel knows whose signal it is and counts the
 * overruns (from the restore on: earlier ones are not told to anybody).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "kind/task/kinds.h"
#include "kind/task/pending.h"
#include "task_timers.pb-c.h"

#define NS 1000000000ull

/* ---- setitimer -------------------------------------------------------------------------- */

static int itimer_ask(struct dump_ctx *d, const struct task_facts *f, struct steps *s,
		      uint64_t *priv, struct ckpt_err *err)
{
	struct itimerval *local;
	uint64_t at = steps_room(s, 3 * sizeof(*local), &local);

	(void)d;
	(void)f;
	(void)err;
	for (uint64_t i = 0; i < 3; i++)
		(void)steps_call(s, "getitimer", SYS_getitimer, i, at + i * sizeof(*local));
	priv[0] = (uint64_t)local;
	return 0;
}

static uint64_t usec(const struct timeval *tv)
{
	return (uint64_t)tv->tv_sec * 1000000 + (uint64_t)tv->tv_usec;
}

/* Real time goes on while the program is stopped. When the timer expired after it was asked, its
 * signal is pending now and was not before; it must not come twice. */
static int itimer_fired(const struct task_facts *f, bool *ret, struct ckpt_err *err)
{
	uint64_t before = 0;

	(void)proc_field_num(f->status, "ShdPnd", 0, 16, &before);
	*ret = false;
	return before >> (SIGALRM - 1) & 1 ? 0 : pending_find(f, SIGALRM, SI_KERNEL, ret, err);
}

/* ITIMER_REAL goes on when the signal of its last expiry is taken, and says 0 until then. */
static bool waits_for_signal(uint32_t which, const struct itimerval *v)
{
	return which == ITIMER_REAL && usec(&v->it_interval);
}

static int itimer_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		       const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		       struct ckpt_err *err)
{
	struct itimerval told[3] = { 0 };
	const struct itimerval *v = f->process ? told : (const struct itimerval *)priv[0];
	Ckpt__TaskItimers *m = msg;
	bool fired;
	int rc;

	(void)d;
	(void)a;
	(void)slot;
	/* It has none of CPU time: proc_view_plain(). */
	if (f->process)
		proc_view_real(f->process, &told[ITIMER_REAL]);
	for (uint32_t i = 0; i < 3; i++) {
		Ckpt__IntervalTimer *t;

		if (!usec(&v[i].it_value) && !waits_for_signal(i, &v[i]))
			continue;
		t = kind_msg_new(&ckpt__interval_timer__descriptor);
		if (!t || kind_push(&m->n_timers, &m->timers, t)) {
			free(t);
			return ckpt_oom(err);
		}
		t->which = i;
		t->value_us = usec(&v[i].it_value);
		t->interval_us = usec(&v[i].it_interval);
		if (i != ITIMER_REAL)
			continue;
		rc = itimer_fired(f, &fired, err);
		if (rc)
			return rc;
		if (fired || !t->value_us)
			t->value_us = t->interval_us;
	}
	return m->n_timers ? 0 : 1;
}

static int itimer_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		       const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__TaskItimers *m = msg;

	(void)r;
	(void)thread;
	for (size_t i = 0; i < m->n_timers; i++) {
		const Ckpt__IntervalTimer *t = m->timers[i];
		const struct itimerval v = {
			{ (time_t)(t->interval_us / 1000000),
			  (suseconds_t)(t->interval_us % 1000000) },
			{ (time_t)(t->value_us / 1000000), (suseconds_t)(t->value_us % 1000000) },
		};

		if (t->which > 2)
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
					 "interval timer %u of task %d", t->which, task->pid);
		(void)steps_call(s, "setitimer", SYS_setitimer, t->which,
				 steps_data(s, &v, sizeof(v)));
	}
	return 0;
}

const struct task_kind task_kind_itimers = {
	.name = "itimers",
	.desc = &ckpt__task_itimers__descriptor,
	.scope = SCOPE_TASK,
	.phase = PHASE_LAST,
	.ask = itimer_ask,
	.dump = itimer_dump,
	.plan = itimer_plan,
};

/* ---- timer_create ----------------------------------------------------------------------- */

/* One paragraph of /proc/PID/timers. */
struct timer_text {
	int id, clock, target;
	unsigned int signo;
	uint64_t sigval;
	char how[16], whom[8];
};

/* The next paragraph from *p on: 1, 0 at the end, or -EPROTO. */
static int timer_next(const char **p, struct timer_text *t)
{
	int n = 0;

	if (!**p)
		return 0;
	if (text_scan(*p, "ID: %d\nsignal: %u/%lx\nnotify: %15[a-z]/%7[a-z].%d\nClockID: %d\n%n",
		      &t->id, &t->signo, &t->sigval, t->how, t->whom, &t->target, &t->clock,
		      &n) != 7 ||
	    !n)
		return -EPROTO;
	*p += n;
	return 1;
}

int timers_ids(const struct task_facts *f, int **ret_ids, size_t *ret_n, struct ckpt_err *err)
{
	auto_free char *text = NULL;
	auto_free int *ids = NULL;
	struct timer_text t;
	const char *p;
	size_t n = 0;
	int rc = proc_read(f->task->pid, "timers", &text, NULL, err);

	if (rc)
		return rc;
	for (p = text; timer_next(&p, &t) > 0;)
		n++;
	ids = malloc((n + 1) * sizeof(*ids));
	if (!ids)
		return ckpt_oom(err);
	n = 0;
	for (p = text; timer_next(&p, &t) > 0;)
		ids[n++] = t.id;
	qsort(ids, n, sizeof(*ids), ids_compare);
	*ret_ids = take_ptr(ids);
	*ret_n = n;
	return 0;
}

static int timers_ask(struct dump_ctx *d, const struct task_facts *f, struct steps *s,
		      uint64_t *priv, struct ckpt_err *err)
{
	auto_free char *text = NULL;
	const char *p;
	struct timer_text t;
	struct itimerspec *local = NULL;
	uint64_t at, n = 0;
	int rc = proc_read(f->task->pid, "timers", &text, NULL, err);

	(void)d;
	if (rc)
		return rc;
	for (p = text; (rc = timer_next(&p, &t)) > 0;)
		n++;
	if (rc)
		return ckpt_fail(err, E_KERNEL, rc, "cannot read /proc/%d/timers", f->task->pid);
	if (!n)
		return 0;
	at = steps_room(s, n * sizeof(*local), &local);
	priv[0] = (uint64_t)local;
	priv[1] = n;
	for (p = text; timer_next(&p, &t) > 0; at += sizeof(*local))
		(void)steps_call(s, "timer_gettime", SYS_timer_gettime, (uint64_t)t.id, at);
	return 0;
}

static uint64_t nsec(const struct timespec *ts)
{
	return (uint64_t)ts->tv_sec * NS + (uint64_t)ts->tv_nsec;
}

static int timer_order(const void *a, const void *b)
{
	return ids_compare(&(*(Ckpt__PosixTimer *const *)a)->id,
			   &(*(Ckpt__PosixTimer *const *)b)->id);
}

static int timer_target(const struct task_facts *f, const struct timer_text *t, Ckpt__PosixTimer *x,
			struct ckpt_err *err)
{
	if (strcmp(t->whom, "tid") != 0)
		return 0;
	x->notify |= SIGEV_THREAD_ID;
	for (size_t k = 0; k < f->task->threads.n; k++)
		if (f->task->threads.v[k].tid == t->target)
			x->tid = f->task->threads.v[k].vtid;
	return x->tid ? 0
		      : ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				  "timer %d notifies a thread that is gone", t->id);
}

/* Those whose signal waits: they are to fire at once. */
static int timers_mark(const struct task_facts *f, Ckpt__TaskTimers *m, struct ckpt_err *err)
{
	auto_free int *ids = NULL;
	bool threads = false;
	size_t n = 0;
	int rc;

	for (size_t i = 0; i < m->n_timers; i++)
		threads |= m->timers[i]->tid != 0;
	rc = pending_timer_ids(f, threads, &ids, &n, err);
	for (size_t i = 0; !rc && i < m->n_timers; i++)
		if (bsearch(&m->timers[i]->id, ids, n, sizeof(*ids), ids_compare))
			m->timers[i]->value_ns = 1;
	return rc;
}

static int timers_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		       const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		       struct ckpt_err *err)
{
	const struct itimerspec *v = (const struct itimerspec *)priv[0];
	Ckpt__TaskTimers *m = msg;
	auto_free char *text = NULL;
	struct timer_text t;
	const char *p;
	int rc;

	(void)d;
	(void)a;
	(void)slot;
	if (!priv[1])
		return 1;
	rc = proc_read(f->task->pid, "timers", &text, NULL, err);
	if (rc)
		return rc;
	p = text;
	for (uint64_t i = 0; i < priv[1]; i++) {
		Ckpt__PosixTimer *x = kind_msg_new(&ckpt__posix_timer__descriptor);

		if (!x || kind_push(&m->n_timers, &m->timers, x)) {
			free(x);
			return ckpt_oom(err);
		}
		if (timer_next(&p, &t) <= 0)
			return ckpt_fail(err, E_KERNEL, -EPROTO, "the list of timers has changed");
		x->id = t.id;
		x->clock = t.clock;
		x->signo = t.signo;
		x->sigval = t.sigval;
		x->notify = !strcmp(t.how, "none")     ? SIGEV_NONE
			    : !strcmp(t.how, "thread") ? SIGEV_THREAD
						       : SIGEV_SIGNAL;
		x->value_ns = nsec(&v[i].it_value);
		x->interval_ns = nsec(&v[i].it_interval);
		rc = timer_target(f, &t, x, err);
		if (rc)
			return rc;
	}
	/* The kernel lists the newest first. */
	qsort(m->timers, m->n_timers, sizeof(*m->timers), timer_order);
	return timers_mark(f, m, err);
}

#define PR_TIMER_RESTORE_IDS 77 /* Linux 6.15 */
#define RESTORE_IDS_ON 1
#define RESTORE_IDS_OFF 0
#define RESTORE_IDS_GET 2
/* Without it ids are handed out in ascending order, and each gap costs a timer made and deleted. */
#define GAP_MAX 10000

static void step_timer(const Ckpt__PosixTimer *t, struct steps *s, bool by_id)
{
	struct sigevent ev = { .sigev_notify = (int)t->notify, .sigev_signo = (int)t->signo };
	int *id;
	uint64_t at = steps_room(s, sizeof(*id), &id);

	ev.sigev_value.sival_ptr = (void *)t->sigval;
	ev._sigev_un._tid = t->tid;
	if (id && by_id)
		*id = t->id;
	(void)steps_call(s, "timer_create", SYS_timer_create, (uint64_t)(int64_t)t->clock,
			 steps_data(s, &ev, sizeof(ev)), at);
}

/* From Linux 6.15 on the id is asked for; before, a throw-away timer takes each id of a gap. */
static void step_gap(struct steps *s, int id)
{
	const Ckpt__PosixTimer gap = { .clock = CLOCK_MONOTONIC, .notify = SIGEV_NONE };

	step_timer(&gap, s, false);
	(void)steps_call(s, "timer_delete", SYS_timer_delete, (uint64_t)id);
}

static int timers_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		       const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__TaskTimers *m = msg;
	bool by_id = prctl(PR_TIMER_RESTORE_IDS, RESTORE_IDS_GET, 0, 0, 0) >= 0;
	int next = 0;

	(void)r;
	(void)thread;
	if (by_id)
		(void)steps_call(s, "PR_TIMER_CREATE_RESTORE_IDS", SYS_prctl, PR_TIMER_RESTORE_IDS,
				 RESTORE_IDS_ON);
	for (size_t i = 0; i < m->n_timers; i++) {
		const Ckpt__PosixTimer *t = m->timers[i];
		const struct itimerspec v = {
			{ (time_t)(t->interval_ns / NS), (long)(t->interval_ns % NS) },
			{ (time_t)(t->value_ns / NS), (long)(t->value_ns % NS) },
		};

		if (t->id < next || t->signo > 64)
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "timer %d of task %d",
					 t->id, task->pid);
		if (!by_id && t->id - next > GAP_MAX)
			return ckpt_fail(err, E_KERNEL, -EOPNOTSUPP,
					 "cannot restore timer %d of task %d: kernels before 6.15 "
					 "cannot be told the id",
					 t->id, task->pid);
		for (; !by_id && next < t->id; next++)
			step_gap(s, next);
		step_timer(t, s, by_id);
		if (t->value_ns)
			(void)steps_call(s, "timer_settime", SYS_timer_settime, (uint64_t)t->id, 0,
					 steps_data(s, &v, sizeof(v)));
		next = t->id + 1;
	}
	if (by_id)
		(void)steps_call(s, "PR_TIMER_CREATE_RESTORE_IDS", SYS_prctl, PR_TIMER_RESTORE_IDS,
				 RESTORE_IDS_OFF);
	return 0;
}

const struct task_kind task_kind_timers = {
	.name = "timers",
	.desc = &ckpt__task_timers__descriptor,
	.scope = SCOPE_TASK,
	.phase = PHASE_THREAD,
	.ask = timers_ask,
	.dump = timers_dump,
	.plan = timers_plan,
};
