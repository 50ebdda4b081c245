/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A copy-on-write copy of a frozen task's memory, as fork(2) makes one: taken in
 * the time its page tables take to copy, read while the task runs on.
 *
 * The copy is a process that never runs an instruction. It is born by a helper
 * that ends at once and is reaped by the task in the same step list, so the
 * task keeps no child; its parent is then whoever adopts orphans. It shares the
 * task's descriptor table, so it holds no pipe open, and the kernel kills it
 * when ckpt dies.
 */
#ifndef CKPT_KERN_SNAPSHOT_H
#define CKPT_KERN_SNAPSHOT_H

#include "kern/inject.h"

struct snapshot {
	int pid;    /* 0: none */
	int mem_fd; /* its /proc/PID/mem */
};

/* Take one of @task. E_INJECT or E_MEMORY on failure, the task as it was. */
int snapshot_take(struct snapshot *s, struct target_task *task, struct ckpt_err *err) __must_check;
/* It is not needed any more: its end, which takes as long as the copy took, begins without being
 * waited for. snapshot_drop() waits. */
void snapshot_kill(struct snapshot *s);
void snapshot_drop(struct snapshot *s);

#endif
