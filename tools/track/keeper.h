/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The keeper of a tracking session: a small process per target that holds what
 * must stay open between two checkpoints (userfaultfds), and remembers which
 * checkpoint the dirty bits are relative to. It ends with its target.
 *
 *   free ──begin──► taken ──commit──► free, armed by the checkpoint committed
 *                     │  └──release──► free, as before
 *                     └── the dumper is gone without either ──► free, broken
 *
 * Between begin and commit the dumper may have armed the next epoch, so what it
 * collected is nowhere if it dies: a broken session makes the next checkpoint a
 * full one. The socket lies in /run/ckpt, is open to its owner only, and peers
 * of another user are turned away.
 */
#ifndef CKPT_TRACK_KEEPER_H
#define CKPT_TRACK_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kern/vmaiter.h"
#include "track/track.h"

#define KEEPER_RUN_DIR "/run/ckpt" /* there once a keeper was started */
#define KEEPER_ID_BYTES 16
#define KEEPER_PATH_MAX 1024

/* One tracked task; @fd may be -1 (back ends without descriptors). With a negative pid it is what
 * the shared memory of that task is registered with, of which the keeper reads events; with 0 a
 * file that the dumps want back, which of them start_time says. */
struct keeper_task {
	int32_t pid;
	int32_t fd;
	uint64_t start_time;
};

struct keeper_tasks {
	struct keeper_task *v;
	size_t n, cap;
};

struct keeper_state {
	char backend[16];
	unsigned char armed_id[KEEPER_ID_BYTES]; /* content id of the last checkpoint */
	char armed_path[KEEPER_PATH_MAX];        /* where it was */
	uint64_t epochs;                         /* checkpoints of this session */
	uint64_t started_ns;                     /* CLOCK_REALTIME */
	uint64_t dug; /* how often the tasks have dropped pages of shared memory, or made holes */
	int32_t keeper_pid;
	uint32_t tasks;
	bool armed, broken, taken;
};

/* Make a session of process @pid with the back end @name; the keeper is a child of nobody when
 * this returns, and keeps a copy of @iter for the dumps. E_TRACK when there is one already. */
int keeper_start(int pid, const char *backend, const struct vma_iter *iter,
		 struct ckpt_err *err) __must_check;
/* -ENOENT without an error when there is no session; else a socket to its keeper. */
int keeper_connect(int pid, int *ret_sock, struct ckpt_err *err) __must_check;
int keeper_status(int sock, struct keeper_state *ret, struct ckpt_err *err) __must_check;
/* What keeper_start() was given; the caller closes it. */
int keeper_iter(int sock, struct vma_iter *ret, struct ckpt_err *err) __must_check;
/* Take the session: its state and its tasks, whose descriptors are ours to close. E_TRACK when
 * another dump has it. */
int keeper_begin(int sock, struct keeper_state *ret, struct keeper_tasks *ret_tasks,
		 struct ckpt_err *err) __must_check;
/* What the keeper is to have an eye on at once; keeper_commit() need not be told of it again. */
int keeper_give(int sock, const struct keeper_tasks *tasks, struct ckpt_err *err) __must_check;
/* The checkpoint @id in @path is whole: @tasks are armed relative to it. With @id NULL they are
 * attached only. */
int keeper_commit(int sock, const unsigned char *id, const char *path,
		  const struct keeper_tasks *tasks, struct ckpt_err *err) __must_check;
/* Checkpoint @id in @path is the same instant as @old_id, which is armed: increments go on from it.
 * E_PARENT when another one is armed. */
int keeper_rebase(int sock, const unsigned char *old_id, const unsigned char *id, const char *path,
		  struct ckpt_err *err) __must_check;
/* Nothing was armed. */
int keeper_release(int sock, struct ckpt_err *err);
/* End the session. */
int keeper_stop(int sock, struct ckpt_err *err);
/* Close the descriptors and free the list. */
void keeper_tasks_free(struct keeper_tasks *tasks);

#endif
