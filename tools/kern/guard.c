// SPDX-License-Identifier: GPL-2.0-only
/* Processes that outlive a kill of ckpt, or that stand in for a task of the image. */
#include "kern/guard.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kern/arch.h"

#define GUARD_STACK (256u * 1024)

struct guard_call {
	int (*fn)(void *);
	void *arg;
	int ret;
};

static int guard_main(void *arg)
{
	struct guard_call *c = arg;

	c->ret = c->fn(c->arg);
	return 0;
}

static int reap(pid_t pid, int *ret_status)
{
	while (waitpid(pid, ret_status, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int guard_run(int (*fn)(void *), void *arg)
{
	struct guard_call call = { .fn = fn, .arg = arg, .ret = -EINTR };
	char *stack = malloc(GUARD_STACK);
	sigset_t all, old;
	int status, rc;
	pid_t pid;

	if (!stack)
		return -ENOMEM;
	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &old);
	/* CLONE_VFORK: this thread sleeps until the guard is done, so the two never run the same
	 * code on the same thread-local data. No exit signal. */
	pid = clone(guard_main, stack + GUARD_STACK, CLONE_VM | CLONE_FILES | CLONE_VFORK, &call);
	rc = pid < 0 ? -errno : reap(pid, &status);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	free(stack);
	return rc ? rc : call.ret;
}

enum { TURN_MAKER, TURN_GUARD };

static void turn_give(struct guard *g, uint32_t whose)
{
	__atomic_store_n(&g->turn, whose, __ATOMIC_SEQ_CST);
	(void)syscall(SYS_futex, &g->turn, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static bool has_ended(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

/* Does the one live with which it dies? */
static bool maker_lives(const struct guard *g)
{
	return g->maker_fd < 0 ? getppid() == g->maker : !has_ended(g->maker_fd);
}

/* A process group, a session or a terminal that is ended is not to take both. */
static int guard_stay(void *arg)
{
	struct guard *g = arg;

	(void)setsid();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || !maker_lives(g))
		return 1;
	for (;;) {
		while (__atomic_load_n(&g->turn, __ATOMIC_SEQ_CST) != TURN_GUARD)
			(void)syscall(SYS_futex, &g->turn, FUTEX_WAIT, TURN_MAKER, NULL, NULL, 0);
		g->ret = g->fn(g->arg);
		turn_give(g, TURN_MAKER);
		if (g->last)
			return 0;
	}
}

static int start(struct guard *g, pid_t pid, int parent_fd)
{
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_FILES | CLONE_FS | (parent_fd < 0 ? 0 : CLONE_PARENT),
		.stack_size = GUARD_STACK,
		.set_tid = (uintptr_t)&pid,
		.set_tid_size = pid > 0,
	};
	sigset_t all, old;
	int rc;

	*g = (struct guard) {
		.stack = malloc(GUARD_STACK), .maker = getpid(), .pid_fd = -1, .maker_fd = parent_fd
	};
	if (!g->stack)
		return -ENOMEM;
	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &old);
	args.stack = (uintptr_t)g->stack;
	if (!args.set_tid_size)
		args.set_tid = 0;
	rc = arch_clone(&args, guard_stay, g);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	if (rc < 0)
		free(g->stack);
	else
		g->pid = rc;
	if (rc > 0 && parent_fd >= 0) {
		g->pid_fd = (int)syscall(SYS_pidfd_open, rc, 0);
		if (g->pid_fd < 0) {
			rc = -errno;
			guard_end(g);
		}
	}
	return rc < 0 ? rc : 0;
}

int guard_start(struct guard *g, pid_t pid)
{
	return start(g, pid, -1);
}

int guard_start_sibling(struct guard *g, pid_t pid, int parent_fd)
{
	return start(g, pid, parent_fd);
}

/* Has it ended? Then forget it. */
static bool guard_ended(struct guard *g)
{
	if (g->maker_fd < 0 ? waitpid(g->pid, NULL, WNOHANG | __WALL) != g->pid
			    : !has_ended(g->pid_fd))
		return false;
	if (g->pid_fd >= 0)
		(void)close(g->pid_fd);
	g->pid = 0;
	free(g->stack);
	return true;
}

int guard_call(struct guard *g, int (*fn)(void *), void *arg)
{
	const struct timespec tick = { .tv_nsec = 20000000 };
	sigset_t all, old;

	if (!g->pid)
		return -ECHILD;
	g->fn = fn;
	g->arg = arg;
	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &old);
	turn_give(g, TURN_GUARD);
	while (__atomic_load_n(&g->turn, __ATOMIC_SEQ_CST) != TURN_MAKER) {
		(void)syscall(SYS_futex, &g->turn, FUTEX_WAIT, TURN_GUARD, &tick, NULL, 0);
		if (!guard_ended(g))
			continue;
		if (__atomic_load_n(&g->turn, __ATOMIC_SEQ_CST) == TURN_GUARD)
			g->ret = -ECHILD;
		break;
	}
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	return g->ret;
}

int guard_survive(struct guard *g)
{
	g->last = true;
	if (prctl(PR_SET_PDEATHSIG, 0))
		return -errno;
	return maker_lives(g) ? 0 : -ESRCH;
}

void guard_end(struct guard *g)
{
	if (!g->pid)
		return;
	(void)kill(g->pid, SIGKILL);
	while (!guard_ended(g)) {
		struct pollfd p = { .fd = g->pid_fd, .events = POLLIN };

		if (g->pid_fd >= 0)
			(void)poll(&p, 1, -1);
		else
			(void)usleep(20);
	}
}

static int heir_main(void *arg)
{
	struct heir *h = arg;
	const uint64_t death = 1ull << (SIGUSR1 - 1);

	(void)setsid();
	if (prctl(PR_SET_PDEATHSIG, SIGUSR1))
		return 1;
	/* The signal also comes when the thread that made us ends, and not when all was over before
	 * we asked for it. */
	while (getppid() == h->maker)
		(void)syscall(SYS_rt_sigtimedwait, &death, NULL, NULL, sizeof(death));
	h->fn(h->arg);
	return 0;
}

int heir_start(struct heir *h, void (*fn)(void *), void *arg)
{
	sigset_t all, old;
	pid_t pid;
	int rc;

	*h = (struct heir) {
		.stack = malloc(GUARD_STACK), .maker = getpid(), .fn = fn, .arg = arg
	};
	if (!h->stack)
		return -ENOMEM;
	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &old);
	pid = clone(heir_main, h->stack + GUARD_STACK, CLONE_VM | CLONE_FILES, h);
	rc = pid < 0 ? -errno : 0;
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	if (rc)
		free(h->stack);
	else
		h->pid = pid;
	return rc;
}

void heir_end(struct heir *h)
{
	int status;

	if (!h->pid)
		return;
	(void)kill(h->pid, SIGKILL);
	(void)reap(h->pid, &status);
	h->pid = 0;
	free(h->stack);
}

static pid_t clone_as(pid_t pid)
{
	struct clone_args args = { .flags = CLONE_FILES, .exit_signal = 0 };

	if (pid > 0) {
		args.set_tid = (uintptr_t)&pid;
		args.set_tid_size = 1;
	}
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

int guard_run_as(pid_t pid, int (*fn)(void *), void *arg)
{
	pid_t child = clone_as(pid);
	int status, rc;

	if (child < 0 && pid > 0)
		child = clone_as(0);
	if (child < 0)
		return -errno;
	if (!child) {
		rc = fn(arg);
		_exit(rc < 0 ? -rc & 0xff : 0);
	}
	rc = reap(child, &status);
	if (rc)
		return rc;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

int guard_ids(uid_t uid, gid_t gid)
{
	/* The system calls themselves: the library would do it in every thread it believes in. */
	if (uid == (uid_t)-1 && gid == (gid_t)-1) {
		uid = getuid();
		gid = getgid();
		if (syscall(SYS_setresuid, -1, uid, -1) || syscall(SYS_setresgid, -1, gid, -1))
			return -errno;
		return 0;
	}
	if (syscall(SYS_setresgid, -1, gid, -1) || syscall(SYS_setresuid, -1, uid, -1))
		return -errno;
	/* Files are still looked up with the rights of root. */
	(void)syscall(SYS_setfsuid, 0);
	return 0;
}
