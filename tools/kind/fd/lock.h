/* SPDX-License-Identifier: GPL-2.0-only */
/* File locks. Those of a description are its object's, those of a process its descriptor's. */
#ifndef CKPT_KIND_FD_LOCK_H
#define CKPT_KIND_FD_LOCK_H

#include "kind/kind.h"

/* Refuse leases, which cannot be taken on behalf of somebody else. */
int lock_check(const struct fd_facts *f, struct ckpt_err *err) __must_check;
/* flock(2) and F_OFD_SETLK. */
int lock_dump_object(const struct fd_facts *f, Ckpt__Object *obj,
		     struct ckpt_err *err) __must_check;
int lock_restore_object(const Ckpt__Object *obj, int fd, struct ckpt_err *err) __must_check;
/* F_SETLK: steps in the task that has @fd. */
int lock_dump_posix(const struct fd_facts *f, Ckpt__Fd *fd, struct ckpt_err *err) __must_check;
void lock_plan_posix(const Ckpt__Fd *fd, struct steps *s);

#endif
