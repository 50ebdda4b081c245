/* SPDX-License-Identifier: GPL-2.0-only */
/* What waits in a pseudo-terminal: taken out, and put in. */
#ifndef CKPT_KIND_FD_PTYQUEUE_H
#define CKPT_KIND_FD_PTYQUEUE_H

#include "fd_pty.pb-c.h"
#include "kind/kind.h"

/* Copy the queues of both directions into @m. They are taken out and put back by a helper that does
 * not end when ckpt is killed. */
int ptyqueue_dump(int master, Ckpt__Pty *m, struct ckpt_err *err) __must_check;
/* Put m's queues in; the settings are m's afterwards. */
int ptyqueue_restore(int master, const Ckpt__Pty *m, struct ckpt_err *err) __must_check;

#endif
