/* SPDX-License-Identifier: GPL-2.0-only */
/* File locks and leases. Those of a description are its object's, those of a process its
 * descriptor's. */
#ifndef CKPT_KIND_FD_LOCK_H
#define CKPT_KIND_FD_LOCK_H

#include "kind/kind.h"

/* Refuse locks of unknown types, and leases that cannot be taken again. */
int lock_check(const struct fd_facts *f, struct ckpt_err *err) __must_check;
/* flock(2), F_OFD_SETLK and F_SETLEASE. */
int lock_dump_object(const struct fd_facts *f, Ckpt__Object *obj,
		     struct ckpt_err *err) __must_check;
int lock_restore_object(const Ckpt__Object *obj, int fd, struct ckpt_err *err) __must_check;
/* F_SETLEASE: steps in the first task that has the description, as @fd: a signal names this number.
 */
void lock_plan_lease(const Ckpt__Object *obj, uint32_t fd, struct steps *s);
/* F_SETLK: steps in the task that has @fd. */
int lock_dump_posix(const struct fd_facts *f, Ckpt__Fd *fd, struct ckpt_err *err) __must_check;
void lock_plan_posix(const Ckpt__Fd *fd, struct steps *s);

#endif
