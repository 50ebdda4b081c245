/* SPDX-License-Identifier: GPL-2.0-only */
/* Descriptors that a process opens itself, for what they show depends on who opened them. */
#ifndef CKPT_KIND_FD_OWN_H
#define CKPT_KIND_FD_OWN_H

#include "kind/kind.h"

/* How @obj gets to number @fdnum of @table. */
struct fd_own {
	bool shared; /* it is a copy of an earlier number: planned, nothing is to be opened */
	int fdnum;
	uint64_t cloexec; /* O_CLOEXEC or 0 */
};
struct fd_own fd_own_plan(const Ckpt__Object *obj, const Ckpt__FdTable *table, int fdnum,
			  struct steps *s);
/* Move what step @opened opened to its number. */
void fd_own_place(const struct fd_own *own, uint32_t opened, struct steps *s);

#endif
