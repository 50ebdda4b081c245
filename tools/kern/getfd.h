/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_KERN_GETFD_H
#define CKPT_KERN_GETFD_H

/* A duplicate of descriptor @fd of process @pid, close-on-exec; or -errno. */
int fd_take(int pid, int fd);

#endif
