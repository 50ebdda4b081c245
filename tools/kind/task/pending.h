/* SPDX-License-Identifier: GPL-2.0-only */
/* Pending signals and the timers that send them: which of the two is to be restored. */
#ifndef CKPT_KIND_TASK_PENDING_H
#define CKPT_KIND_TASK_PENDING_H

#include "kind/kind.h"

/* Ids of the timers whose signals wait in the process's queue and, with @threads, in those of its
 * threads; ascending, the caller frees. */
int pending_timer_ids(const struct task_facts *f, bool threads, int **ret_ids, size_t *ret_n,
		      struct ckpt_err *err) __must_check;
/* Does such a signal wait in the process's queue? */
int pending_find(const struct task_facts *f, int sig, int code, bool *ret,
		 struct ckpt_err *err) __must_check;
/* Ids of the process's timers, ascending (timers.c); the caller frees. */
int timers_ids(const struct task_facts *f, int **ret_ids, size_t *ret_n,
	       struct ckpt_err *err) __must_check;
/* Ascending order of int, for qsort() and bsearch(). */
int ids_compare(const void *a, const void *b);

#endif
