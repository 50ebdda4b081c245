// SPDX-License-Identifier: GPL-2.0-only
/*
 * The small settings of threads and processes that prctl(2) and /proc know:
 * personality, dumpable, parent-death signal, timer slack, time-stamp counter,
 * machine checks; child subreaper, huge pages, OOM score, core filter, KSM,
 * login uid.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "kind/task/kinds.h"
#include "task_traits.pb-c.h"

/* Newer than Debian 12's headers. */
#ifndef PR_GET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif

/* ---- threads ---------------------------------------------------------------------------- */

enum { ASK_DUMPABLE, ASK_SLACK, ASK_MCE, ASK_DEATHSIG, ASK_TSC, ASK_PERSONALITY };

static int thread_ask(struct dump_ctx *d, const struct task_facts *f, struct steps *s,
		      uint64_t *priv, struct ckpt_err *err)
{
	int *sig, *tsc;
	uint64_t sig_at = steps_room(s, sizeof(*sig), &sig),
		 tsc_at = steps_room(s, sizeof(*tsc), &tsc);

	(void)d;
	(void)f;
	(void)err;
	priv[ASK_PERSONALITY] = steps_call(s, "personality", SYS_personality, 0xffffffffu);
	priv[ASK_DUMPABLE] = steps_call(s, "PR_GET_DUMPABLE", SYS_prctl, PR_GET_DUMPABLE);
	priv[ASK_SLACK] = steps_call(s, "PR_GET_TIMERSLACK", SYS_prctl, PR_GET_TIMERSLACK);
	priv[ASK_MCE] = steps_try(s, "PR_MCE_KILL_GET", SYS_prctl, PR_MCE_KILL_GET);
	(void)steps_call(s, "PR_GET_PDEATHSIG", SYS_prctl, PR_GET_PDEATHSIG, sig_at);
	(void)steps_call(s, "PR_GET_TSC", SYS_prctl, PR_GET_TSC, tsc_at);
	priv[ASK_DEATHSIG] = (uint64_t)sig;
	priv[ASK_TSC] = (uint64_t)tsc;
	return 0;
}

/* Which bit of the flags means what is the kernel's; two threads with the same bits have the same
 * answers. Whether it is dumpable belongs to the memory, which they share. */
static bool thread_alike(const struct thread_view *a, const struct thread_view *b)
{
	return a->flags == b->flags && a->info_flags == b->info_flags &&
	       a->personality == b->personality && a->timer_slack_ns == b->timer_slack_ns &&
	       a->pdeathsig == b->pdeathsig;
}

static void thread_asked(const struct arena *a, const struct ckpt_slot *slot, const uint64_t *priv,
			 Ckpt__ThreadTraits *m)
{
	int64_t mce = slot_ret(a, slot, (uint32_t)priv[ASK_MCE]);

	m->personality = (uint32_t)slot_ret(a, slot, (uint32_t)priv[ASK_PERSONALITY]);
	m->dumpable = (uint32_t)slot_ret(a, slot, (uint32_t)priv[ASK_DUMPABLE]);
	m->timer_slack_ns = (uint64_t)slot_ret(a, slot, (uint32_t)priv[ASK_SLACK]);
	m->mce_kill = mce < 0 ? PR_MCE_KILL_DEFAULT : (uint32_t)mce;
	m->pdeathsig = (uint32_t) * (const int *)priv[ASK_DEATHSIG];
	m->tsc = (uint32_t) * (const int *)priv[ASK_TSC];
}

static void thread_told(const struct task_facts *f, Ckpt__ThreadTraits *m)
{
	m->personality = (uint32_t)f->view->personality;
	m->timer_slack_ns = f->view->timer_slack_ns;
	m->pdeathsig = (uint32_t)f->view->pdeathsig;
	m->dumpable = f->traits->dumpable;
	m->mce_kill = f->traits->mce_kill;
	m->tsc = f->traits->tsc;
}

static int thread_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		       const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		       struct ckpt_err *err)
{
	Ckpt__ThreadTraits *m = msg;

	if (f->process)
		thread_told(f, m);
	else
		thread_asked(a, slot, priv, m);
	/* A restore makes children in the first thread, whose end would be that death. */
	if (m->pdeathsig && dump_parent_headless(d, f->task))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "it asks for signal %u at the death of a parent whose first "
				 "thread has ended already",
				 m->pdeathsig);
	return 0;
}

/* In every thread, after its credentials: changing those resets the death signal and dumpable,
 * and the last thread to set the latter does so after the last that changed credentials. */
static int thread_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		       const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__ThreadTraits *m = msg;

	if (m->dumpable > 2 || m->pdeathsig > 64)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "settings of thread %d",
				 thread->tid);
	(void)steps_call(s, "personality", SYS_personality, m->personality);
	/* 2 is what the kernel gives by fs.suid_dumpable; nobody may ask for it. */
	(void)steps_call(s, "PR_SET_DUMPABLE", SYS_prctl, PR_SET_DUMPABLE, m->dumpable == 1);
	if (m->timer_slack_ns)
		(void)steps_call(s, "PR_SET_TIMERSLACK", SYS_prctl, PR_SET_TIMERSLACK,
				 m->timer_slack_ns);
	if (m->mce_kill != PR_MCE_KILL_DEFAULT)
		(void)steps_call(s, "PR_MCE_KILL", SYS_prctl, PR_MCE_KILL, PR_MCE_KILL_SET,
				 m->mce_kill);
	if (m->tsc == PR_TSC_SIGSEGV)
		(void)steps_call(s, "PR_SET_TSC", SYS_prctl, PR_SET_TSC, m->tsc);
	/* The parent of a detached root is ckpt, which ends at once. */
	if (m->pdeathsig && !task->ppid && restore_opts(r)->detach)
		ui_warn(restore_ui(r), "task %d is detached: its parent-death signal %u is dropped",
			task->pid, m->pdeathsig);
	else
		(void)steps_call(s, "PR_SET_PDEATHSIG", SYS_prctl, PR_SET_PDEATHSIG, m->pdeathsig);
	return 0;
}

const struct task_kind task_kind_thread_traits = {
	.name = "thread-traits",
	.desc = &ckpt__thread_traits__descriptor,
	.scope = SCOPE_THREAD,
	.phase = PHASE_LAST,
	.ask = thread_ask,
	.alike = thread_alike,
	.dump = thread_dump,
	.plan = thread_plan,
};

/* ---- processes -------------------------------------------------------------------------- */

enum { ASK_THP, ASK_MERGE, ASK_SUBREAPER };

static int task_ask(struct dump_ctx *d, const struct task_facts *f, struct steps *s, uint64_t *priv,
		    struct ckpt_err *err)
{
	int *sub;
	uint64_t at = steps_room(s, sizeof(*sub), &sub);

	(void)d;
	(void)f;
	(void)err;
	priv[ASK_THP] = steps_call(s, "PR_GET_THP_DISABLE", SYS_prctl, PR_GET_THP_DISABLE);
	priv[ASK_MERGE] = steps_try(s, "PR_GET_MEMORY_MERGE", SYS_prctl, PR_GET_MEMORY_MERGE);
	(void)steps_call(s, "PR_GET_CHILD_SUBREAPER", SYS_prctl, PR_GET_CHILD_SUBREAPER, at);
	priv[ASK_SUBREAPER] = (uint64_t)sub;
	return 0;
}

/* A number from a file below /proc/PID; false when there is no such file. */
static bool file_number(int pid, const char *name, int base, int64_t *ret)
{
	auto_free char *text = NULL;
	struct ckpt_err ignore = { 0 };

	if (proc_read(pid, name, &text, NULL, &ignore) || !*text)
		return false;
	*ret = strtoll(text, NULL, base);
	return true;
}

static int task_dump(struct dump_ctx *d, const struct task_facts *f, const struct arena *a,
		     const struct ckpt_slot *slot, const uint64_t *priv, void *msg,
		     struct ckpt_err *err)
{
	Ckpt__TaskTraits *m = msg;
	int64_t oom = 0, filter = 0, login = 0;

	(void)d;
	if (!file_number(f->task->pid, "oom_score_adj", 10, &oom))
		return ckpt_fail(err, E_KERNEL, -ENODATA, "cannot read oom_score_adj");
	m->oom_score_adj = (int32_t)oom;
	/* Absent where the kernel writes no core files. */
	m->coredump_filter =
		file_number(f->task->pid, "coredump_filter", 16, &filter) ? (uint32_t)filter : 0;
	m->has_loginuid = file_number(f->task->pid, "loginuid", 10, &login);
	m->loginuid = (uint32_t)login;
	m->thp_disable = f->process ? f->traits->thp_disable
				    : (uint32_t)slot_ret(a, slot, (uint32_t)priv[ASK_THP]);
	m->memory_merge = f->process ? f->traits->memory_merge
				     : slot_ret(a, slot, (uint32_t)priv[ASK_MERGE]) > 0;
	m->child_subreaper =
		f->process ? f->traits->child_subreaper : *(const int *)priv[ASK_SUBREAPER] != 0;
	return 0;
}

/* Write @text to a file of /proc/self, from inside. */
static void step_write(struct steps *s, const char *path, const char *text, uint16_t flags)
{
	uint32_t open = steps_add(
		s,
		&(struct ckpt_step) { .op = CKPT_OP_SYSCALL,
				      .flags = flags,
				      .nr = SYS_openat,
				      .arg = { (uint64_t)AT_FDCWD, steps_str(s, path), O_WRONLY } },
		path);

	(void)steps_add(s,
			&(struct ckpt_step) { .op = CKPT_OP_SYSCALL,
					      .flags = flags,
					      .nr = SYS_write,
					      .refs = 1,
					      .arg = { open, steps_str(s, text), strlen(text) } },
			path);
	(void)steps_add(s,
			&(struct ckpt_step) { .op = CKPT_OP_SYSCALL,
					      .flags = flags,
					      .nr = SYS_close,
					      .refs = 1,
					      .arg = { open } },
			path);
}

static int task_plan(struct restore_ctx *r, const Ckpt__Task *task, const Ckpt__Thread *thread,
		     const void *msg, struct steps *s, struct ckpt_err *err)
{
	const Ckpt__TaskTraits *m = msg;
	int64_t own = 0;
	char text[32];

	(void)r;
	(void)thread;
	if (m->oom_score_adj < -1000 || m->oom_score_adj > 1000)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "oom_score_adj of task %d",
				 task->pid);
	if (file_number(getpid(), "oom_score_adj", 10, &own) && own != m->oom_score_adj) {
		(void)snprintf(text, sizeof(text), "%d", m->oom_score_adj);
		step_write(s, "/proc/self/oom_score_adj", text, 0);
	}
	if (m->coredump_filter && file_number(getpid(), "coredump_filter", 16, &own) &&
	    (uint32_t)own != m->coredump_filter) {
		(void)snprintf(text, sizeof(text), "0x%x", m->coredump_filter);
		step_write(s, "/proc/self/coredump_filter", text, 0);
	}
	/* The audit system may have been told to keep it as it is. */
	if (m->has_loginuid && file_number(getpid(), "loginuid", 10, &own) &&
	    (uint32_t)own != m->loginuid) {
		(void)snprintf(text, sizeof(text), "%u", m->loginuid);
		step_write(s, "/proc/self/loginuid", text, CKPT_STEP_MAY_FAIL);
	}
	/* The value holds the flags of the call beside bit 0. */
	if (m->thp_disable)
		(void)steps_call(s, "PR_SET_THP_DISABLE", SYS_prctl, PR_SET_THP_DISABLE, 1,
				 m->thp_disable & ~1u);
	if (m->memory_merge)
		(void)steps_call(s, "PR_SET_MEMORY_MERGE", SYS_prctl, PR_SET_MEMORY_MERGE, 1);
	if (m->child_subreaper)
		(void)steps_call(s, "PR_SET_CHILD_SUBREAPER", SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
	return 0;
}

const struct task_kind task_kind_task_traits = {
	.name = "task-traits",
	.desc = &ckpt__task_traits__descriptor,
	.scope = SCOPE_TASK,
	.phase = PHASE_MM,
	.ask = task_ask,
	.dump = task_dump,
	.plan = task_plan,
};
