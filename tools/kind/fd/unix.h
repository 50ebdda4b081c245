/* SPDX-License-Identifier: GPL-2.0-only */
/* Between unix.c (what a socket is) and unix_queue.c (what waits in it). */
#ifndef CKPT_KIND_FD_UNIX_H
#define CKPT_KIND_FD_UNIX_H

#include <sys/socket.h>
#include <sys/un.h>

#include "fd_sock.pb-c.h"
#include "kind/kind.h"

/* Fill m->queue with what can be read from @fd, without taking it. @ends: nothing more will come.
 */
int unix_queue_dump(struct dump_ctx *d, int fd, int type, bool ends, Ckpt__FdUnix *m,
		    struct ckpt_err *err) __must_check;
/* Put it back into @fd. @peer_fd: the socket it is connected to, or -1. */
int unix_queue_restore(struct restore_ctx *r, const Ckpt__FdUnix *m, int fd, int peer_fd,
		       struct ckpt_err *err) __must_check;

/* An address of the bound socket @fd that works from anywhere; *ret_file is to be closed after use.
 */
int unix_address(int fd, struct sockaddr_un *ret_sun, socklen_t *ret_len, int *ret_file,
		 struct ckpt_err *err) __must_check;

#endif
