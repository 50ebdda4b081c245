/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_KERN_GETFD_H
#define CKPT_KERN_GETFD_H

/* A pidfd through which descriptors of @pid can be taken (pidfd_getfd); or -errno. Before Linux 6.9
 * -EINVAL for the number of a thread that is not the first of its process. */
int fd_holder(int pid);
/* A duplicate of descriptor @fd of process @pid, close-on-exec; or -errno. */
int fd_take(int pid, int fd);

#endif
