/* SPDX-License-Identifier: GPL-2.0-only */
/* Helper processes: work that must not stop half-way, and work in the name of another process. */
#ifndef CKPT_KERN_GUARD_H
#define CKPT_KERN_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Run @fn in a process of its own that shares memory and descriptors with ckpt, and wait for it. A
 * kill -9 of ckpt does not reach it: what was taken out of a target is put back in any case.
 * Signals are blocked meanwhile. Returns what @fn returned (0 or -errno).
 */
int guard_run(int (*fn)(void *), void *arg);

/*
 * Run @fn in a copy of ckpt whose pid is @pid (0: any; also when @pid is taken). Descriptors are
 * shared: what @fn opens stays open here. Memory, working directory and umask are its own. The
 * kernel remembers this pid as the maker of a socket. Returns what @fn returned (0 or -errno).
 */
int guard_run_as(pid_t pid, int (*fn)(void *), void *arg);

/*
 * A guard that stays: it runs one thing after another, and what it holds by ptrace goes on being
 * held in between. Shares memory and descriptors with ckpt, as above; ckpt sleeps while it runs, so
 * the two never run at once. It is killed when ckpt dies, until guard_survive().
 */
struct guard {
	pid_t pid; /* 0: there is none */
	char *stack;
	pid_t maker;
	int pid_fd;    /* of a sibling; -1: it is our child */
	int maker_fd;  /* a sibling: our parent, with which it dies */
	uint32_t turn; /* whose it is; a futex */
	bool last;     /* it ends after this */
	int (*fn)(void *);
	void *arg;
	int ret;
};

/* With this pid, or (0) any. 0 or -errno. */
int guard_start(struct guard *g, pid_t pid);
/* The same as a child of our parent, behind @parent_fd: should all of us be killed but for the
 * guard that survives, it is not left to the init of our pid namespace. */
int guard_start_sibling(struct guard *g, pid_t pid, int parent_fd);
/* Run @fn in it. Returns what @fn returned, or -ECHILD: the guard has died, and what it held by
 * ptrace was let go of as its options say. */
int guard_call(struct guard *g, int (*fn)(void *), void *arg);
/* In @fn: from here on a kill of ckpt does not reach it; it ends after @fn. -ESRCH: ckpt is dead
 * already. */
int guard_survive(struct guard *g);
/* End it, if there is one. What it held by ptrace is let go of as its options say. */
void guard_end(struct guard *g);

/*
 * A process that sleeps until ckpt dies, and then runs @fn in its stead: what ckpt holds of others
 * is given back. Shares memory and descriptors with ckpt, as above.
 */
struct heir {
	pid_t pid; /* 0: there is none */
	pid_t maker;
	char *stack;
	void (*fn)(void *);
	void *arg;
};

/* 0 or -errno */
int heir_start(struct heir *h, void (*fn)(void *), void *arg);
/* There is nothing left to give back. Also when it was never started. */
void heir_end(struct heir *h);

/* In @fn: take these effective ids, or come back to those of ckpt with (-1, -1). 0 or -errno. */
int guard_ids(uid_t uid, gid_t gid);

#endif
