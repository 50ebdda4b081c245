// SPDX-License-Identifier: GPL-2.0-only
/*
 * A root that is the init (pid 1) of a pid namespace. It must be there before anybody else can be
 * in that namespace, and everything else is best done inside: pids are then what the image says,
 * and /proc is the one that the program sees.
 *
 *   ckpt:    a mount namespace ─ clone the root as pid 1; it mounts /proc and waits for its list
 *   worker:  a copy of ckpt in the namespace, under a number that the image does not want:
 *            plan, open, build, let go; reports and ends
 *   ckpt:    waits for the worker. If it fails or dies, the end of the root is that of all.
 *
 * Root, worker and ckpt share their descriptors until the root gets its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "restore/restore.h"

/* For the steps that will be written once the rest of the image is known. */
#define ARENA_MORE (1ull << 30)

/* What the worker tells. */
struct report {
	bool done, owns;
	struct ckpt_err err;
};

static void plan_first(struct restore_ctx *r, struct steps *s)
{
	const Ckpt__Namespaces *ns = r->img->inv->namespaces;

	(void)steps_call(s, "die with ckpt", SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	(void)steps_call(s, "mount /proc", SYS_mount, steps_str(s, "proc"), steps_str(s, "/proc"),
			 steps_str(s, "proc"),
			 ns->proc_flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC |
					   MS_NOATIME | MS_NODIRATIME),
			 *ns->proc_options ? steps_str(s, ns->proc_options) : 0);
	restore_plan_leave(r, s);
}

/* Until it has run its first list. */
static int wait_first(struct restore_ctx *r, struct ckpt_err *err)
{
	const struct ckpt_step *v = arena_local(&r->arena, r->init->steps);
	const struct timespec tick = { .tv_nsec = 20000000 };

	for (;;) {
		uint32_t state = __atomic_load_n(&r->init->state, __ATOMIC_ACQUIRE);

		if (state == CKPT_SLOT_DONE)
			return 0;
		if (state == CKPT_SLOT_FAILED)
			return ckpt_fail_errno(err, E_RESTORE, r->init->err, "task 1: %s",
					       arena_label(&r->arena, &v[r->init->pc]));
		(void)syscall(SYS_futex, &r->init->state, FUTEX_WAIT, state, &tick, NULL, 0);
		if (waitpid(r->root, NULL, WNOHANG) == r->root) {
			r->root = 0;
			return ckpt_fail(err, E_RESTORE, -ECHILD, "task 1 died while it was built");
		}
	}
}

static int make_root(struct restore_ctx *r, struct ckpt_err *err)
{
	sigset_t old;
	struct steps s;
	int rc;

	r->arena_more = ARENA_MORE;
	rc = restore_arena_map(r, err);
	if (rc)
		return rc;
	r->init = arena_slot(&r->arena);
	if (!r->init)
		return ckpt_fail(err, E_NOMEM, -ENOSPC, "the arena is too small");
	r->init->tid = 1;
	r->init->again = 1;
	steps_init(&s, &r->arena);
	plan_first(r, &s);
	rc = steps_commit(&s, r->init, err);
	steps_free(&s);
	if (rc)
		return rc;
	restore_newborn_signals(&old);
	rc = restore_clone(r, r->init, 1, CLONE_FILES | CLONE_NEWPID);
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (rc < 0)
		return ckpt_fail_errno(err, E_RESTORE, rc,
				       "cannot clone the init of a pid namespace");
	r->root = rc;
	return wait_first(r, err);
}

void restore_init_go(struct restore_ctx *r)
{
	__atomic_store_n(&r->arena.base->events, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&r->init->again, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&r->init->state, CKPT_SLOT_NEXT, __ATOMIC_RELEASE);
	(void)syscall(SYS_futex, &r->init->state, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static int pidfd_of(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* The one that made us is in another pid namespace: its number says nothing. */
static bool has_ended(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

static int work(struct restore_ctx *r, struct report *rep, int maker, struct ckpt_err *err)
{
	int rc;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || has_ended(maker))
		return ckpt_fail(err, E_RESTORE, -ECHILD, "ckpt died");
	rc = arena_take_over(&r->arena, err);
	if (rc)
		return rc;
	__atomic_store_n(&rep->owns, true, __ATOMIC_SEQ_CST);
	r->root = 1;
	r->maker_fd = maker;
	rc = ckpt_fault_fail("restore.worker", E_RESTORE, err);
	return rc ? rc : restore_whole(r, err);
}

static pid_t fork_as(pid_t pid)
{
	struct clone_args args = {
		.flags = CLONE_FILES,
		.exit_signal = SIGCHLD,
		.set_tid = (uintptr_t)&pid,
		.set_tid_size = 1,
	};
	pid_t child = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

	return child < 0 ? -errno : child;
}

/* It is our child as well, and has ended by now. */
static void reap_guard(const struct restore_ctx *r)
{
	siginfo_t si = { 0 };

	while (!waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT | __WALL) && si.si_pid &&
	       si.si_pid != r->root)
		(void)waitpid(si.si_pid, NULL, __WALL);
}

static int run_worker(struct restore_ctx *r, struct report *rep, struct ckpt_err *err)
{
	auto_fd root = pidfd_of(r->root);
	auto_fd self = pidfd_of(getpid());
	pid_t pid;
	int status;

	if (root < 0 || self < 0 || setns(root, CLONE_NEWPID))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot enter the pid namespace");
	pid = fork_as(restore_spare_tid(r));
	if (!pid) {
		rep->done = !work(r, rep, self, &rep->err);
		restore_end(r);
		_exit(0);
	}
	if (pid < 0)
		return ckpt_fail_errno(err, E_RESTORE, pid, "cannot fork into the pid namespace");
	while (waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
		;
	reap_guard(r);
	/* A root that gives up takes the worker with it, which has said why by then. */
	if (!rep->done && !rep->err.code)
		return ckpt_fail(err, E_RESTORE, -ECHILD,
				 "the helper in the new pid namespace died");
	if (!rep->done)
		*err = rep->err;
	return rep->done ? 0 : err->code;
}

int restore_as_init(struct restore_ctx *r, struct restore_result *ret, struct ckpt_err *err)
{
	struct report *rep =
		mmap(NULL, sizeof(*rep), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int rc = rep == MAP_FAILED ? ckpt_oom(err) : 0;

	if (rc)
		return rc;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make a mount namespace");
	if (!rc)
		rc = make_root(r, err);
	if (!rc)
		rc = ckpt_fault_fail("restore.init", E_RESTORE, err);
	if (!rc)
		rc = run_worker(r, rep, err);
	if (rep->owns)
		arena_forget();
	if (!rc) {
		ret->pid = ret->wait_for = r->root;
	} else if (r->root > 0) {
		(void)kill(r->root, SIGKILL);
		/* It ends when everybody in its namespace was waited for, and a guard is ours. */
		while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
			;
	}
	(void)munmap(rep, sizeof(*rep));
	return rc;
}
