/* SPDX-License-Identifier: GPL-2.0-only */
/* Controlling terminals: steps of a session leader, while ckpt's descriptors are still its own. */
#ifndef CKPT_KIND_FD_PTY_H
#define CKPT_KIND_FD_PTY_H

#include "kind/kind.h"

/* After setsid and before any child of the session is born: children inherit it. */
void pty_plan_session(struct restore_ctx *r, const Ckpt__Task *leader, struct steps *s);
/* When all groups exist. */
void pty_plan_group(struct restore_ctx *r, const Ckpt__Task *leader, struct steps *s);

#endif
