/* SPDX-License-Identifier: GPL-2.0-only */
/* System V semaphores and message queues of an IPC namespace that is saved with its tree. */
#ifndef CKPT_KIND_IPC_H
#define CKPT_KIND_IPC_H

#include "base/err.h"
#include "core.pb-c.h"

/* ckpt is in that namespace. Would ipc_dump() refuse something? */
int ipc_check(struct ckpt_err *err) __must_check;
/* Fill sems and queues of @ns; the tree stands still. */
int ipc_dump(Ckpt__Namespaces *ns, struct ckpt_err *err) __must_check;
void ipc_free(Ckpt__Namespaces *ns);
/* Make them in a new namespace, which ckpt is in. */
int ipc_restore(const Ckpt__Namespaces *ns, struct ckpt_err *err) __must_check;

#endif
