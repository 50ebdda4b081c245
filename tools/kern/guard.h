/* SPDX-License-Identifier: GPL-2.0-only */
/* Helper processes: work that must not stop half-way, and work in the name of another process. */
#ifndef CKPT_KERN_GUARD_H
#define CKPT_KERN_GUARD_H

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

/* In @fn: take these effective ids, or come back to those of ckpt with (-1, -1). 0 or -errno. */
int guard_ids(uid_t uid, gid_t gid);

#endif
