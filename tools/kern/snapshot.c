// SPDX-License-Identifier: GPL-2.0-only
#include "kern/snapshot.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "kern/procfs.h"

#define SNAPSHOT_ARENA (64u << 10)
#define SNAPSHOT_DEADLINE_US 20000000u
#define CLONE_ARGS_BYTES 88

/* Who is on the way to the copy. */
struct birth {
	int helper, copy; /* as ckpt sees them; 0 not born, helper -1 ended */
	bool copy_stopped;
	unsigned int looks; /* at the task, without news */
};

static void add_clone(struct steps *s, const struct ckpt_slot *who, uint64_t flags,
		      unsigned int step_flags, const char *label)
{
	struct clone_args args = { .flags = flags,
				   .stack = arena_remote(s->arena, who) + sizeof(*who),
				   .stack_size = CKPT_SLOT_STACK };

	(void)steps_add(
		s,
		&(struct ckpt_step) { .op = CKPT_OP_CLONE,
				      .flags = (uint16_t)step_flags,
				      .arg = { steps_data(s, &args, sizeof(args)), CLONE_ARGS_BYTES,
					       arena_remote(s->arena, who) } },
		label);
}

/* The task makes a helper and waits for it; the helper makes the copy and ends; the copy would end
 * as well, should it ever run. */
static int build_lists(struct arena *a, struct ckpt_slot **ret, struct ckpt_err *err)
{
	struct ckpt_slot *slot[3];
	struct steps s[3];
	int rc = 0;

	for (int i = 0; i < 3; i++) {
		slot[i] = arena_slot(a);
		if (!slot[i])
			return ckpt_fail(err, E_NOMEM, -ENOSPC, "no room for a snapshot's steps");
		steps_init(&s[i], a);
	}
	add_clone(&s[0], slot[1], CLONE_VM | CLONE_FILES | CLONE_FS, 0, "clone a helper");
	(void)steps_add(&s[0],
			&(struct ckpt_step) { .op = CKPT_OP_SYSCALL,
					      .nr = SYS_wait4,
					      .refs = 1, /* the result of step 0 */
					      .arg = { 0, 0, __WALL, 0 } },
			"reap the helper");
	add_clone(&s[1], slot[2], CLONE_FILES | CLONE_FS, CKPT_STEP_MAY_FAIL, "copy the memory");
	(void)steps_call(&s[1], NULL, SYS_exit, 0);
	(void)steps_call(&s[2], NULL, SYS_exit_group, 0);
	for (int i = 0; i < 3; i++) {
		if (!rc)
			rc = steps_commit(&s[i], slot[i], err);
		steps_free(&s[i]);
	}
	*ret = slot[0];
	return rc;
}

/* The newborn of a clone event, 0 when @status is no such event. */
static int newborn(int tid, int status)
{
	unsigned long msg = 0;

	if (status >> 16 != PTRACE_EVENT_CLONE || ptrace(PTRACE_GETEVENTMSG, tid, 0, &msg))
		return 0;
	return (int)msg;
}

static int step_task(struct birth *b, int tid)
{
	int status;

	if (waitpid(tid, &status, __WALL | WNOHANG) != tid)
		return ++b->looks % 256 == 0 && thread_has_ended(tid) ? -ESRCH : 0;
	if (!WIFSTOPPED(status))
		return -ESRCH;
	if (!b->helper)
		b->helper = newborn(tid, status);
	return ptrace(PTRACE_CONT, tid, 0, 0) ? -errno : 0;
}

static int step_helper(struct birth *b)
{
	int status;

	if (b->helper <= 0 || waitpid(b->helper, &status, __WALL | WNOHANG) != b->helper)
		return 0;
	if (!WIFSTOPPED(status)) {
		b->helper = -1;
		return 0;
	}
	if (!b->copy)
		b->copy = newborn(b->helper, status);
	return ptrace(PTRACE_CONT, b->helper, 0, 0) ? -errno : 0;
}

static int step_copy(struct birth *b)
{
	int status;

	if (!b->copy || b->copy_stopped || waitpid(b->copy, &status, __WALL | WNOHANG) != b->copy)
		return 0;
	if (!WIFSTOPPED(status))
		return -ESRCH;
	b->copy_stopped = true;
	/* Until now ckpt's death would have let it run, into its exit. */
	return ptrace(PTRACE_SETOPTIONS, b->copy, 0, PTRACE_O_EXITKILL) ? -errno : 0;
}

static int wait_birth(void *arg, struct ckpt_slot *slot, int tid)
{
	struct birth *b = arg;
	uint64_t deadline = io_now_us() + SNAPSHOT_DEADLINE_US;

	for (int spins = 0;; spins++) {
		uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
		int rc;

		if (state >= CKPT_SLOT_DONE && (!b->copy || b->copy_stopped))
			return 0;
		rc = step_task(b, tid);
		if (!rc)
			rc = step_helper(b);
		if (!rc)
			rc = step_copy(b);
		if (rc)
			return rc;
		if (io_now_us() > deadline)
			return -ETIMEDOUT;
		if (spins < 200)
			(void)sched_yield();
		else
			(void)usleep(20);
	}
}

int snapshot_take(struct snapshot *s, struct target_task *task, struct ckpt_err *err)
{
	struct ckpt_err end_err = { 0 };
	struct birth b = { 0 };
	struct ckpt_slot *slot = NULL;
	struct inject in;
	int rc = inject_begin(&in, task, SNAPSHOT_ARENA, err), end;

	s->pid = 0;
	s->mem_fd = -1;
	if (rc)
		return rc;
	rc = build_lists(&in.arena, &slot, err);
	if (!rc)
		rc = inject_run_wait(&in, &task->threads.v[0], slot, wait_birth, &b, err);
	end = inject_end(&in, &end_err);
	if (!rc && end) {
		*err = end_err;
		rc = end;
	}
	s->pid = b.copy;
	if (!rc && !b.copy)
		rc = ckpt_fail(err, E_MEMORY, -EAGAIN, "the memory of task %d cannot be copied",
			       task->pid);
	if (!rc)
		rc = proc_open(b.copy, "mem", O_RDONLY, &s->mem_fd, err);
	if (rc)
		snapshot_drop(s);
	return rc;
}

void snapshot_kill(struct snapshot *s)
{
	if (s->mem_fd >= 0)
		(void)close(s->mem_fd);
	s->mem_fd = -1;
	if (s->pid > 0)
		(void)kill(s->pid, SIGKILL);
}

void snapshot_drop(struct snapshot *s)
{
	int status;

	snapshot_kill(s);
	if (s->pid <= 0)
		return;
	while (waitpid(s->pid, &status, __WALL) == s->pid && WIFSTOPPED(status))
		;
	s->pid = 0;
}
