// SPDX-License-Identifier: GPL-2.0-only
#include "kern/taskiter.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/quiet.h"
#include "base/vec.h"

/* Their argument: { struct bpf_iter_meta { seq, … } *, task * }, the last NULL at the end. A record
 * of @bytes lies below r10, and a word to work with, at @work, below that. r6: the argument, r7:
 * the task. */
#define BEGIN(body) COPY(6, 1), LOAD(7, 6, 8), IF_NULL(7, body)
#define BEGIN_INSNS 3
/* Pids are numbered by namespace; ours is that of whoever reads. r8: the task's struct pid. */
#define FETCH_PID(to, l, work)                                                                     \
	CALL(BPF_FUNC_get_current_task), COPY(9, 0), FETCH(work, 8, 9, (l).thread_pid),            \
		LOAD(9, 10, work), FETCH(work, 4, 9, (l).level), LOAD(9, 10, work),                \
		MUL(9, (int)(l).upid_bytes), ADD_REG(9, 8), FETCH(to, 4, 9, (l).numbers + (l).nr)
#define END(bytes)                                                                                 \
	LOAD(1, 6, 0), LOAD(1, 1, 0), COPY(2, 10), ADD(2, -(int)(bytes)), SET(3, bytes),           \
		CALL(BPF_FUNC_seq_write), SET(0, 0), EXIT()
#define END_INSNS 2 /* of those: where the end of all goes */

/* The numbers of a task. */
struct pid_layout {
	int thread_pid;     /* in struct task_struct */
	int level, numbers; /* in struct pid */
	int nr, ns;         /* in struct upid */
	uint32_t upid_bytes;
};

/* What the iterator calls, and the numbers. 0: the kernel's types are others. */
static uint32_t find_func(struct btf *b, struct pid_layout *ret)
{
	uint32_t pid, upid;

	if (btf_load(b))
		return 0;
	pid = btf_struct(b, "pid");
	upid = btf_struct(b, "upid");
	*ret = (struct pid_layout) {
		.thread_pid = btf_offset(b, btf_struct(b, "task_struct"), "thread_pid"),
		.level = btf_offset(b, pid, "level"),
		.numbers = btf_offset(b, pid, "numbers"),
		.nr = btf_offset(b, upid, "nr"),
		.ns = btf_offset(b, upid, "ns"),
		.upid_bytes = btf_size(b, upid),
	};
	if (ret->thread_pid < 0 || ret->level < 0 || ret->numbers < 0 || ret->nr < 0 ||
	    ret->ns < 0 || !ret->upid_bytes)
		return 0;
	return btf_find(b, BTF_KIND_FUNC, "bpf_iter_task");
}

/* Records that begin with a pid, ascending. The caller frees *ret. */
static int read_by_pid(int prog_fd, enum bpf_iter_of of, int pid, size_t bytes, size_t max,
		       void **ret, size_t *ret_n)
{
	const struct bpf_iter_records as = { .bytes = bytes, .max = max };
	int rc = bpf_iter_read(prog_fd, of, pid, &as, ret, ret_n);

	if (!rc)
		qsort(*ret, *ret_n, bytes, bpf_record_compare);
	return rc;
}

/* ---- whom a task shares with ---------------------------------------------------------------- */

#define KIN(member) ((int)offsetof(struct task_kin, member) - (int)sizeof(struct task_kin))
#define KIN_WORK (-(int)sizeof(struct task_kin) - 8)
#define KIN_BODY 101 /* instructions between the first jump and the end */

int task_iter_open(struct btf *types)
{
	struct pid_layout p;
	uint32_t func = find_func(types, &p), task = func ? btf_struct(types, "task_struct") : 0;
	const int vm = btf_offset(types, task, "mm"), files = btf_offset(types, task, "files"),
		  fs = btf_offset(types, task, "fs"), ns = btf_offset(types, task, "nsproxy"),
		  cred = btf_offset(types, task, "real_cred"),
		  user_ns = btf_offset(types, btf_struct(types, "cred"), "user_ns");
	const struct bpf_insn insns[] = {
		BEGIN(KIN_BODY),
		FETCH(KIN(vm), 8, 7, vm),
		FETCH(KIN(files), 8, 7, files),
		FETCH(KIN(fs), 8, 7, fs),
		FETCH(KIN(ns), 8, 7, ns),
		FETCH(KIN_WORK, 8, 7, cred),
		LOAD(8, 10, KIN_WORK),
		FETCH(KIN(user_ns), 8, 8, user_ns),
		FETCH(KIN_WORK, 8, 7, p.thread_pid),
		LOAD(8, 10, KIN_WORK),
		FETCH(KIN_WORK, 4, 8, p.level),
		LOAD(9, 10, KIN_WORK),
		MUL(9, (int)p.upid_bytes),
		ADD_REG(9, 8),
		FETCH(KIN(pid_ns), 8, 9, p.numbers + p.ns),
		FETCH_PID(KIN(pid), p, KIN_WORK),
		END(sizeof(struct task_kin)),
	};

	_Static_assert(ARRAY_SIZE(insns) == BEGIN_INSNS + KIN_BODY + END_INSNS, "the jump");
	if (!func || vm < 0 || files < 0 || fs < 0 || ns < 0 || cred < 0 || user_ns < 0)
		return -EOPNOTSUPP;
	return bpf_iter_program("ckpt_kin", func, insns, ARRAY_SIZE(insns));
}

int task_iter_read(int prog_fd, struct task_kins *ret)
{
	void *v = NULL;
	int rc = read_by_pid(prog_fd, BPF_ITER_ALL, 0, sizeof(*ret->v), SIZE_MAX, &v, &ret->n);

	if (!rc)
		ret->v = v;
	return rc;
}

const struct task_kin *task_kin_find(const struct task_kins *k, int pid)
{
	return bpf_record_find(k->v, k->n, sizeof(*k->v), (uint64_t)pid);
}

/* ---- what a thread has set ------------------------------------------------------------------ */

#define VIEW(member) ((int)offsetof(struct thread_view, member) - (int)sizeof(struct thread_view))
#define VIEW_WORK (-(int)sizeof(struct thread_view) - 8)
#define VIEW_BODY 153

/* Members of struct task_struct; these two are in structs within it. */
enum {
	OF_CRED,
	OF_ATOMIC_FLAGS,
	OF_FLAGS,
	OF_PTRACE,
	OF_EXIT_STATE,
	OF_CLEAR_CHILD_TID,
	OF_ALTSTACK_SP,
	OF_ALTSTACK_BYTES,
	OF_ALTSTACK_FLAGS,
	OF_TIMER_SLACK,
	OF_PERSONALITY,
	OF_PDEATHSIG,
	OF_COMM,
	OF_INFO,
	OF_SECCOMP,
	OF_PENDING,
	OF_ALL,
};
static const char *const of_thread[OF_ALL] = {
	[OF_CRED] = "real_cred",
	[OF_ATOMIC_FLAGS] = "atomic_flags",
	[OF_FLAGS] = "flags",
	[OF_PTRACE] = "ptrace",
	[OF_EXIT_STATE] = "exit_state",
	[OF_CLEAR_CHILD_TID] = "clear_child_tid",
	[OF_ALTSTACK_SP] = "sas_ss_sp",
	[OF_ALTSTACK_BYTES] = "sas_ss_size",
	[OF_ALTSTACK_FLAGS] = "sas_ss_flags",
	[OF_TIMER_SLACK] = "timer_slack_ns",
	[OF_PERSONALITY] = "personality",
	[OF_PDEATHSIG] = "pdeath_signal",
	[OF_COMM] = "comm",
	[OF_INFO] = "thread_info",
	[OF_SECCOMP] = "seccomp",
	[OF_PENDING] = "pending",
};

static int thread_program(struct btf *types)
{
	struct pid_layout p;
	uint32_t func = find_func(types, &p), task = func ? btf_struct(types, "task_struct") : 0;
	const int info = btf_offset(types, btf_struct(types, "thread_info"), "flags"),
		  mode = btf_offset(types, btf_struct(types, "seccomp"), "mode"),
		  set = btf_offset(types, btf_struct(types, "sigpending"), "signal");
	int o[OF_ALL], none = info < 0 || mode < 0 || set < 0;

	for (size_t i = 0; i < OF_ALL; i++) {
		o[i] = btf_offset(types, task, of_thread[i]);
		none |= o[i] < 0;
	}
	if (!func || none || ckpt_fault("kern.threads"))
		return -EOPNOTSUPP;

	const struct bpf_insn insns[] = {
		BEGIN(VIEW_BODY),
		FETCH(VIEW(cred), 8, 7, o[OF_CRED]),
		FETCH(VIEW(atomic_flags), 8, 7, o[OF_ATOMIC_FLAGS]),
		FETCH(VIEW(flags), 4, 7, o[OF_FLAGS]),
		FETCH(VIEW(info_flags), 8, 7, o[OF_INFO] + info),
		FETCH(VIEW(ptrace), 4, 7, o[OF_PTRACE]),
		FETCH(VIEW(exit_state), 4, 7, o[OF_EXIT_STATE]),
		FETCH(VIEW(seccomp), 4, 7, o[OF_SECCOMP] + mode),
		FETCH(VIEW(pending), 8, 7, o[OF_PENDING] + set),
		FETCH(VIEW(clear_child_tid), 8, 7, o[OF_CLEAR_CHILD_TID]),
		FETCH(VIEW(altstack_sp), 8, 7, o[OF_ALTSTACK_SP]),
		FETCH(VIEW(altstack_bytes), 8, 7, o[OF_ALTSTACK_BYTES]),
		FETCH(VIEW(altstack_flags), 4, 7, o[OF_ALTSTACK_FLAGS]),
		FETCH(VIEW(timer_slack_ns), 8, 7, o[OF_TIMER_SLACK]),
		FETCH(VIEW(personality), 4, 7, o[OF_PERSONALITY]),
		FETCH(VIEW(pdeathsig), 4, 7, o[OF_PDEATHSIG]),
		FETCH(VIEW(comm), 16, 7, o[OF_COMM]),
		FETCH(VIEW_WORK, 8, 7, p.thread_pid),
		LOAD(8, 10, VIEW_WORK),
		FETCH_PID(VIEW(pid), p, VIEW_WORK),
		END(sizeof(struct thread_view)),
	};

	_Static_assert(ARRAY_SIZE(insns) == BEGIN_INSNS + VIEW_BODY + END_INSNS, "the jump");
	return bpf_iter_program("ckpt_threads", func, insns, ARRAY_SIZE(insns));
}

/* What two settings of a thread do to its words. */
static bool view_self(int prog_fd, struct thread_view *ret)
{
	void *v = NULL;
	size_t n = 0;
	bool ok = !read_by_pid(prog_fd, BPF_ITER_THREAD, gettid(), sizeof(*ret), 1, &v, &n);

	if (ok)
		memcpy(ret, v, sizeof(*ret));
	free(v);
	return ok;
}

/* Nothing here may ask for the time: it is read from what is forbidden for a moment. */
static void *learn(void *arg)
{
	static const unsigned long mce[] = { PR_MCE_KILL_DEFAULT, PR_MCE_KILL_EARLY,
					     PR_MCE_KILL_LATE, PR_MCE_KILL_DEFAULT };
	static const unsigned long tsc[] = { PR_TSC_ENABLE, PR_TSC_SIGSEGV, PR_TSC_ENABLE };
	struct thread_iter *it = arg;
	struct thread_view v[ARRAY_SIZE(mce)], w[ARRAY_SIZE(tsc)];
	uint64_t flags = 0, info_flags = 0;
	bool ok = true;

	for (size_t i = 0; ok && i < ARRAY_SIZE(mce); i++)
		ok = !prctl(PR_MCE_KILL, PR_MCE_KILL_SET, mce[i], 0, 0) &&
		     view_self(it->prog_fd, &v[i]);
	for (size_t i = 0; ok && i < ARRAY_SIZE(tsc); i++)
		ok = !prctl(PR_SET_TSC, tsc[i]) && view_self(it->prog_fd, &w[i]);
	(void)prctl(PR_SET_TSC, PR_TSC_ENABLE);
	/* Other bits may have changed in between: then these count as well. */
	for (size_t i = 0; ok && i + 1 < ARRAY_SIZE(mce); i++)
		flags |= v[i].flags ^ v[i + 1].flags;
	for (size_t i = 0; ok && i + 1 < ARRAY_SIZE(tsc); i++)
		info_flags |= w[i].info_flags ^ w[i + 1].info_flags;
	/* Early, late and by default are three: at least two bits. */
	if (flags & (flags - 1))
		it->flags = flags;
	if (info_flags)
		it->info_flags = info_flags;
	return NULL;
}

int thread_iter_open(struct thread_iter *ret, struct btf *types)
{
	struct thread_iter it = { .prog_fd = thread_program(types),
				  .flags = ~0ull,
				  .info_flags = ~0ull };
	pthread_t learner;

	*ret = (struct thread_iter) { .prog_fd = -1 };
	if (it.prog_fd < 0)
		return it.prog_fd;
	if (!quiet_thread(&learner, learn, &it))
		(void)pthread_join(learner, NULL);
	*ret = it;
	return 0;
}

void thread_iter_close(struct thread_iter *it)
{
	if (it->prog_fd >= 0)
		(void)close(it->prog_fd);
	*it = (struct thread_iter) { .prog_fd = -1 };
}

/* Should the iterator begin again, it is not followed for ever; who is seen twice was so both
 * times. */
#define MORE_THREADS 4096u

int thread_iter_read(const struct thread_iter *it, int pid, size_t n, struct thread_views *ret)
{
	void *v = NULL;
	int rc = read_by_pid(it->prog_fd, BPF_ITER_PROCESS, pid, sizeof(*ret->v), n + MORE_THREADS,
			     &v, &ret->n);

	if (rc)
		return rc;
	ret->v = v;
	for (size_t i = 0; i < ret->n; i++) {
		ret->v[i].flags &= it->flags;
		ret->v[i].info_flags &= it->info_flags;
	}
	return 0;
}

const struct thread_view *thread_view_find(const struct thread_views *v, int tid)
{
	return bpf_record_find(v->v, v->n, sizeof(*v->v), (uint64_t)tid);
}
