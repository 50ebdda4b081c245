/* SPDX-License-Identifier: GPL-2.0-only */
/* /proc/PID/task/TID/status of many threads, read by a second thread of ckpt ahead of who needs
 * them. */
#ifndef CKPT_KERN_AHEAD_H
#define CKPT_KERN_AHEAD_H

#include <stddef.h>

#include "base/err.h"

struct status_ahead;

/* Begin with the threads @tids of process @pid, the first of @n to the last. @tids stays the
 * caller's, until the end. NULL, which is fine for the others, when they are too few to be worth a
 * thread or there is none to be had. */
struct status_ahead *status_ahead_begin(int pid, const int *tids, size_t n);
/* The status of thread @tid, the @i-th of them, as it is read now or was since the begin; the
 * caller frees. -ESRCH and E_TARGET_GONE when it is gone. */
int status_ahead_take(struct status_ahead *a, int pid, size_t i, int tid, char **ret,
		      struct ckpt_err *err) __must_check;
void status_ahead_end(struct status_ahead *a);

#endif
