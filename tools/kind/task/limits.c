// SPDX-License-Identifier: GPL-2.0-only
/* Resource limits. Read from /proc/PID/limits: prlimit() on another user's task would need
 * CAP_SYS_RESOURCE. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "kind/task/kinds.h"
#include "task_limits.pb-c.h"

/* As the kernel names them in /proc/PID/limits; the index is the resource. */
static const char *const limit_names[] = {
	[RLIMIT_CPU] = "Max cpu time",
	[RLIMIT_FSIZE] = "Max file size",
	[RLIMIT_DATA] = "Max data size",
	[RLIMIT_STACK] = "Max stack size",
	[RLIMIT_CORE] = "Max core file size",
	[RLIMIT_RSS] = "Max resident set",
	[RLIMIT_NPROC] = "Max processes",
	[RLIMIT_NOFILE] = "Max open files",
	[RLIMIT_MEMLOCK] = "Max locked memory",
	[RLIMIT_AS] = "Max address space",
	[RLIMIT_LOCKS] = "Max file locks",
	[RLIMIT_SIGPENDING] = "Max pending signals",
	[RLIMIT_MSGQUEUE] = "Max msgqueue size",
	[RLIMIT_NICE] = "Max nice priority",
	[RLIMIT_RTPRIO] = "Max realtime priority",
	[RLIMIT_RTTIME] = "Max realtime timeout",
};

static const char *limit_value(const char *p, uint64_t *ret)
{
	char *end;

	p += strspn(p, " ");
	if (!strncmp(p, "unlimited", 9)) {
		*ret = ~0ull;
		return p + 9;
	}
	*ret = strtoull(p, &end, 10);
	return end == p ? NULL : end;
}

static int limits_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		       const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		       struct ckpt_err *err)
{
	Ckpt__TaskLimits *m = msg;
	auto_free char *text = NULL;
	int rc = proc_read(f->task->pid, "limits", &text, NULL, err);

	(void)d;
	(void)a;
	(void)slot;
	(void)priv;
	if (rc)
		return rc;
	for (size_t i = 0; i < ARRAY_SIZE(limit_names); i++) {
		const char *p = strstr(text, limit_names[i]);
		Ckpt__TaskLimit *l = kind_msg_new(&ckpt__task_limit__descriptor);

		if (!l || kind_push(&m->n_limits, &m->limits, l)) {
			free(l);
			return ckpt_oom(err);
		}
		l->resource = (uint32_t)i;
		if (p)
			p = limit_value(p + strlen(limit_names[i]), &l->soft);
		if (!p || !limit_value(p, &l->hard))
			return ckpt_fail(err, E_KERNEL, -EPROTO, "task %d: no \"%s\" in its limits",
					 f->task->pid, limit_names[i]);
	}
	return 0;
}

static bool may_raise(void)
{
	cap_flag_value_t has = CAP_CLEAR;
	cap_t caps = cap_get_proc();

	if (caps)
		(void)cap_get_flag(caps, CAP_SYS_RESOURCE, CAP_EFFECTIVE, &has);
	cap_free(caps);
	return has == CAP_SET;
}

static int limits_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		       const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__TaskLimits *m = msg;

	(void)r;
	(void)thread;
	for (size_t i = 0; i < m->n_limits; i++) {
		const Ckpt__TaskLimit *l = m->limits[i];
		const struct rlimit64 lim = { l->soft, l->hard };
		struct rlimit64 own;

		if (l->resource >= ARRAY_SIZE(limit_names) || l->soft > l->hard)
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "limit %u of task %d",
					 l->resource, task->pid);
		if (getrlimit64((__rlimit_resource_t)l->resource, &own))
			return ckpt_fail_errno(err, E_KERNEL, -errno, "cannot read limit %u",
					       l->resource);
		if (own.rlim_cur == l->soft && own.rlim_max == l->hard)
			continue;
		if (l->hard > own.rlim_max && !may_raise())
			return ckpt_fail(err, E_LIMIT, -EPERM,
					 "cannot restore task %d: \"%s\" was %llu, ckpt's own is "
					 "%llu and it lacks CAP_SYS_RESOURCE",
					 task->pid, limit_names[l->resource],
					 (unsigned long long)l->hard,
					 (unsigned long long)own.rlim_max);
		steps_call(s, limit_names[l->resource], SYS_prlimit64, 0, l->resource,
			   steps_data(s, &lim, sizeof(lim)));
	}
	return 0;
}

const struct task_kind task_kind_limits = {
	.name = "limits",
	.desc = &ckpt__task_limits__descriptor,
	.scope = SCOPE_TASK,
	.phase = PHASE_CREDS,
	.dump = limits_dump,
	.plan = limits_plan,
};
