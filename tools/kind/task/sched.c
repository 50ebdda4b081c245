// SPDX-License-Identifier: GPL-2.0-only
/* Scheduling of a thread: policy, priority, nice, CPU affinity and I/O priority. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kind/task/kinds.h"
#include "task_sched.pb-c.h"

#define CPUS_BYTES 1024u /* 8,192 processors */
#define IOPRIO_THREAD 1
#define FLAG_UTIL_CLAMP 0x60u
#define UTIL_MAX 1024u

/* linux/sched/types.h; its header clashes with the C library's. */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

static long get_attr(int tid, struct attr *a)
{
	memset(a, 0, sizeof(*a));
	return syscall(SYS_sched_getattr, tid, a, sizeof(*a), 0);
}

/* ckpt's own, which do not change while it works. */
static const struct attr *own_attr(void)
{
	static struct attr own;

	return own.size || !get_attr(0, &own) ? &own : NULL;
}

/* All processors that are there: then the thread is not bound at all. */
static bool all_cpus(const unsigned char *mask, size_t len)
{
	static long n; /* asking costs a file in /sys */

	if (!n)
		n = sysconf(_SC_NPROCESSORS_CONF);
	for (long i = 0; i < n; i++)
		if ((size_t)i / 8 >= len || !(mask[i / 8] >> (i % 8) & 1))
			return false;
	return true;
}

static int sched_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		      const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		      struct ckpt_err *err)
{
	Ckpt__TaskSched *m = msg;
	unsigned char mask[CPUS_BYTES] = { 0 };
	const struct attr *own = own_attr();
	struct attr attr;
	long n, io;

	(void)d;
	(void)a;
	(void)slot;
	(void)priv;
	n = syscall(SYS_sched_getaffinity, f->thread->tid, sizeof(mask), mask);
	io = syscall(SYS_ioprio_get, IOPRIO_THREAD, f->thread->tid);
	if (get_attr(f->thread->tid, &attr) || !own || n < 0 || io < 0)
		return ckpt_fail_errno(err, E_KERNEL, -errno,
				       "cannot read the scheduling of thread %d", f->thread->tid);
	m->policy = attr.policy;
	m->flags = attr.flags;
	m->nice = attr.nice;
	m->priority = attr.priority;
	m->deadline = attr.deadline;
	m->period = attr.period;
	/* A fair thread reports the default slice when it has none of its own. */
	m->runtime = attr.policy == SCHED_OTHER && attr.runtime == own->runtime ? 0 : attr.runtime;
	if (attr.util_min != own->util_min || attr.util_max != own->util_max) {
		m->flags |= FLAG_UTIL_CLAMP;
		m->util_min = attr.util_min;
		m->util_max = attr.util_max;
	}
	m->ioprio = (uint32_t)io;
	if (!all_cpus(mask, (size_t)n)) {
		while (n > 1 && !mask[n - 1])
			n--;
		m->cpus.data = malloc((size_t)n);
		if (!m->cpus.data)
			return ckpt_oom(err);
		memcpy(m->cpus.data, mask, (size_t)n);
		m->cpus.len = (size_t)n;
	}
	return 0;
}

static int sched_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		      const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__TaskSched *m = msg;
	unsigned char mask[CPUS_BYTES], now[CPUS_BYTES] = { 0 };
	const struct attr attr = { .size = sizeof(attr),
				   .policy = m->policy,
				   .flags = m->flags,
				   .nice = m->nice,
				   .priority = m->priority,
				   .runtime = m->runtime,
				   .deadline = m->deadline,
				   .period = m->period,
				   .util_min = m->util_min,
				   .util_max = m->util_max };
	const long n = sysconf(_SC_NPROCESSORS_CONF);
	const struct attr *own = own_attr();
	bool possible = false;
	long len;

	(void)r;
	(void)task;
	if (m->cpus.len > CPUS_BYTES || m->util_max > UTIL_MAX)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "scheduling of thread %d",
				 thread->tid);
	memset(mask, m->cpus.len ? 0 : 0xff, sizeof(mask));
	if (m->cpus.len)
		memcpy(mask, m->cpus.data, m->cpus.len);
	for (long i = 0; i < n && i < (long)CPUS_BYTES * 8; i++)
		possible |= mask[i / 8] >> (i % 8) & 1;
	if (!possible)
		return ckpt_remedy(
			(ckpt_fail(
				 err, E_CPU, -EINVAL,
				 "thread %d is bound to processors that this machine does not have",
				 thread->tid),
			 err),
			"bind it to others with taskset before the dump, or restore elsewhere");
	len = syscall(SYS_sched_getaffinity, 0, sizeof(now), now);
	if (m->cpus.len || len < 0 || !all_cpus(now, (size_t)len))
		steps_call(s, "sched_setaffinity", SYS_sched_setaffinity, 0, sizeof(mask),
			   steps_data(s, mask, sizeof(mask)));
	if (!own || own->policy != m->policy || own->nice != m->nice ||
	    own->priority != m->priority || own->flags != m->flags || m->runtime || m->deadline)
		steps_call(s, "sched_setattr", SYS_sched_setattr, 0,
			   steps_data(s, &attr, sizeof(attr)), 0);
	if (syscall(SYS_ioprio_get, IOPRIO_THREAD, 0) != (long)m->ioprio)
		steps_call(s, "ioprio_set", SYS_ioprio_set, IOPRIO_THREAD, 0,
			   m->ioprio >> 13 ? m->ioprio : 0);
	return 0;
}

const struct task_kind task_kind_sched = {
	.name = "sched",
	.desc = &ckpt__task_sched__descriptor,
	.scope = SCOPE_THREAD,
	.phase = PHASE_THREAD,
	.dump = sched_dump,
	.plan = sched_plan,
};
