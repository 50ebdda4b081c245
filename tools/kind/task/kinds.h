/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_KIND_TASK_KINDS_H
#define CKPT_KIND_TASK_KINDS_H

#include "kind/kind.h"

extern const struct task_kind task_kind_layout;
extern const struct task_kind task_kind_memlock;
extern const struct task_kind task_kind_fs;
extern const struct task_kind task_kind_sigaction;
extern const struct task_kind task_kind_comm;
extern const struct task_kind task_kind_altstack;
extern const struct task_kind task_kind_thread_ids;
extern const struct task_kind task_kind_cgroups;
extern const struct task_kind task_kind_creds;
extern const struct task_kind task_kind_itimers;
extern const struct task_kind task_kind_limits;
extern const struct task_kind task_kind_pending;
extern const struct task_kind task_kind_pending_shared;
extern const struct task_kind task_kind_sched;
extern const struct task_kind task_kind_seccomp;
extern const struct task_kind task_kind_task_traits;
extern const struct task_kind task_kind_thread_traits;
extern const struct task_kind task_kind_timers;

#endif
