/* SPDX-License-Identifier: GPL-2.0-only */
/* Messages between ckpt and a keeper: one SOCK_SEQPACKET each, descriptors beside it. */
#ifndef CKPT_TRACK_WIRE_H
#define CKPT_TRACK_WIRE_H

#include <stdint.h>

#include "track/keeper.h"

#define KEEPER_VERSION 3u
#define KEEPER_BATCH 200u /* tasks in one message; below SCM_MAX_FD */

enum keeper_op {
	KEEPER_STATUS = 1, /* → STATE */
	KEEPER_BEGIN,      /* → STATE, TASKS… or STATE with taken set by another */
	KEEPER_TASKS,      /* no answer; KEEPER_COMMIT follows */
	KEEPER_COMMIT,     /* → STATE */
	KEEPER_RELEASE,    /* → STATE */
	KEEPER_STOP,       /* → STATE, and the socket closes */
	KEEPER_REBASE,     /* → STATE; refused unless old_id is what is armed */
	KEEPER_STATE,
	KEEPER_ITER, /* → ITER: a struct vma_iter in path, its descriptor that of the one task */
};

struct keeper_msg {
	uint32_t version;
	uint32_t op;
	uint32_t count; /* tasks in this message */
	uint32_t total; /* STATE in answer to BEGIN: tasks that follow */
	uint32_t armed, broken, taken, refused;
	uint64_t epochs, started_ns, dug;
	int32_t keeper_pid;
	uint32_t reserved;
	char backend[16];
	unsigned char id[KEEPER_ID_BYTES];
	unsigned char old_id[KEEPER_ID_BYTES];
	char path[KEEPER_PATH_MAX];
	struct keeper_task tasks[KEEPER_BATCH]; /* only count of them are sent */
};
_Static_assert(sizeof(struct keeper_task) == 16, "no holes");
_Static_assert(__builtin_offsetof(struct keeper_msg, tasks) == 64 + 48 + KEEPER_PATH_MAX,
	       "no holes");

_Static_assert(sizeof(struct vma_iter) <= KEEPER_PATH_MAX, "fits");

/* The descriptors of tasks with fd >= 0 travel with it. 0 or -errno. */
int keeper_send(int sock, struct keeper_msg *m);
/* The tasks' fd are received ones, or -1. -ECONNRESET when the other side is gone. */
int keeper_recv(int sock, struct keeper_msg *m);
/* Socket name of the session of @pid, in its pid namespace. */
void keeper_socket_path(int pid, char *buf, size_t len);
/* The keeper itself; never returns. */
_Noreturn void keeper_main(int pidfd, int listener, const char *socket_path, const char *backend,
			   const struct vma_iter *iter);

#endif
