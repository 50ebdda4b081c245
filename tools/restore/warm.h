/* SPDX-License-Identifier: GPL-2.0-only */
/* What warm.c, warm_tree.c and warm_fill.c share. */
#ifndef CKPT_RESTORE_WARM_H
#define CKPT_RESTORE_WARM_H

#include "restore/restore.h"

/* Begin a list for any one of the tasks; the list before is over. */
void warm_steps(struct restore_ctx *r, struct steps *s);
/* Let @w run it and wait for its end. */
int warm_run(struct restore_ctx *r, struct warm_task *w, struct steps *s,
	     struct ckpt_err *err) __must_check;
/* A task with a slot that nobody has cloned so far; and the opposite. */
struct warm_task *warm_new(struct restore_ctx *r, int pid, struct warm_task *parent,
			   struct ckpt_err *err);
void warm_forget(struct restore_ctx *r, struct warm_task *w);
/* Append to @ret the mappings of @from. 0 or -errno. */
int warm_mm_copy(Ckpt__Mm *ret, const Ckpt__Mm *from);
/* It was cloned. */
int warm_born(struct restore_ctx *r, struct warm_task *w, struct ckpt_err *err) __must_check;
/* warm_fill.c: what new pages come by; that a kernel has none is no error. */
int warm_uffd_open(struct restore_ctx *r, struct warm_task *w, struct ckpt_err *err) __must_check;
void warm_uffd_register(struct warm_task *w, const Ckpt__Mm *mm);
void warm_uffd_close(struct warm_task *w);

#endif
