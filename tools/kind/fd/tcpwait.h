/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Connections that wait in the backlog of a listener. Only accept(2) reaches them, and nothing puts
 * one there but a handshake; so they are accepted in the name of the program, and go back by a
 * handshake with the numbers that they had:
 *
 *	a socket of the same addresses goes to TIME_WAIT     by repair mode, and a FIN of the peer
 *	SYN of the peer        the kernel answers with the number of TIME_WAIT + 65537: ours
 *	ACK with the data that was not read, FIN, RST        as they came
 *
 * The network lock holds all the time: nothing of this is seen outside.
 */
#ifndef CKPT_KIND_FD_TCPWAIT_H
#define CKPT_KIND_FD_TCPWAIT_H

#include <stdbool.h>
#include <stddef.h>

#include "fd_inet.pb-c.h"
#include "kind/kind.h"

/* Those that were taken. They go back when ckpt is killed, or by tcp_wait_end(). */
struct tcp_wait;

/* Take what waits at @fd, a listener of a frozen program, into @m. *@w is made when there is none.
 */
int tcp_wait_take(struct tcp_wait **w, int fd, Ckpt__FdInet *m, struct ckpt_err *err) __must_check;
/* Will they live elsewhere? Then they do not go back. */
void tcp_wait_give(struct tcp_wait *w, bool elsewhere);
/* Put back what was not given away, and forget all. How many of it are lost. @w may be NULL. */
size_t tcp_wait_end(struct tcp_wait *w);

/* Does all that waits in @m belong to the listener that it is? An image is not to make connections
 * to somebody else. */
int tcp_wait_check(const Ckpt__FdInet *m, struct ckpt_err *err) __must_check;
/* Put connections into the backlog of who listens there, in this order. How many of them are lost:
 * where the kernel keeps no TIME_WAIT, where the backlog is shorter than it was. */
size_t tcp_wait_put(Ckpt__FdTcp *const *v, size_t n);

#endif
