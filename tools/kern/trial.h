/* SPDX-License-Identifier: GPL-2.0-only */
/* A child of ckpt that does one thing after another, and stands still in between: to see whether
 * the kernel tells of them what ckpt relies on. */
#ifndef CKPT_KERN_TRIAL_H
#define CKPT_KERN_TRIAL_H

#include <stdbool.h>
#include <sys/types.h>

struct trial {
	pid_t pid;
	int sock;
};

/* Start one that calls @act for each step; false from it: it did not work. 0 or -errno, then there
 * is nothing to end. */
int trial_begin(struct trial *ret, bool (*act)(void *arg, int step), void *arg);
/* Have it done. */
bool trial_step(const struct trial *t, int step);
void trial_end(struct trial *t);

#endif
