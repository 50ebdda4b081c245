/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_KIND_FD_KINDS_H
#define CKPT_KIND_FD_KINDS_H

#include "kind/kind.h"

extern const struct fd_kind fd_kind_pipe;
extern const struct fd_kind fd_kind_pipe_inode;
extern const struct fd_kind fd_kind_ghost;
extern const struct fd_kind fd_kind_stored;
extern const struct fd_kind fd_kind_chr;
extern const struct fd_kind fd_kind_shmem;
extern const struct fd_kind fd_kind_shmem_inode;
extern const struct fd_kind fd_kind_sysv_shm; /* kind/vma/sysv.c */
extern const struct fd_kind fd_kind_reg;
extern const struct fd_kind fd_kind_procfs;
extern const struct fd_kind fd_kind_nsfs;
extern const struct fd_kind fd_kind_pty;
extern const struct fd_kind fd_kind_pty_end;
extern const struct fd_kind fd_kind_unix;
extern const struct fd_kind fd_kind_inet;
extern const struct fd_kind fd_kind_tcp;
extern const struct fd_kind fd_kind_netlink;
extern const struct fd_kind fd_kind_refused;
extern const struct fd_kind fd_kind_external;
extern const struct fd_kind fd_kind_eventfd;
extern const struct fd_kind fd_kind_epoll;
extern const struct fd_kind fd_kind_timerfd;
extern const struct fd_kind fd_kind_signalfd;
extern const struct fd_kind fd_kind_inotify;
extern const struct fd_kind fd_kind_pidfd;

#endif
