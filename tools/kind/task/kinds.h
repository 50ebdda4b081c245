/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_KIND_TASK_KINDS_H
#define CKPT_KIND_TASK_KINDS_H

#include "kind/kind.h"

extern const struct task_kind task_kind_layout;
extern const struct task_kind task_kind_fs;
extern const struct task_kind task_kind_sigaction;
extern const struct task_kind task_kind_comm;
extern const struct task_kind task_kind_altstack;
extern const struct task_kind task_kind_thread_ids;

#endif
