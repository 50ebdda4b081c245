/* SPDX-License-Identifier: GPL-2.0-only */
/* Which processes share what a fork copies. */
#ifndef CKPT_KERN_SHARING_H
#define CKPT_KERN_SHARING_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "kern/taskiter.h"

/* @ret_first[i]: index of the first of @pids that shares @type (KCMP_VM, KCMP_FILES, KCMP_FS) with
 * the i-th, itself as a rule. Of what runs, only a hint. @kins, if it has all of them, spares
 * asking the kernel for each comparison. */
int sharing_find(const int *pids, size_t n, int type, const struct task_kins *kins,
		 size_t *ret_first, struct ckpt_err *err) __must_check;
/* Do the two share it now? */
bool sharing_same(int a, int b, int type);

#endif
