/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_KERN_GETFD_H
#define CKPT_KERN_GETFD_H

/* A pidfd through which descriptors of @pid can be taken (pidfd_getfd); or -errno. Before Linux 6.9
 * -EINVAL for the number of a thread that is not the first of its process. */
int fd_holder(int pid);
/* A duplicate of descriptor @fd of process @pid, close-on-exec; or -errno. */
int fd_take(int pid, int fd);
/* @fd, close-on-exec now; -1 stays -1, with errno as it is. What asks for it when it makes a
 * description (eventfd2, TIOCGPTPEER …) keeps it among the flags of that for good, where it looks
 * like that of every number. */
int fd_private(int fd);

#endif
