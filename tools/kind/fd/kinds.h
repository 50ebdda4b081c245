/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_KIND_FD_KINDS_H
#define CKPT_KIND_FD_KINDS_H

#include "kind/kind.h"

extern const struct fd_kind fd_kind_pipe;
extern const struct fd_kind fd_kind_chr;
extern const struct fd_kind fd_kind_shmem;
extern const struct fd_kind fd_kind_shmem_inode;
extern const struct fd_kind fd_kind_reg;

#endif
