/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A connection as a message, and a socket that goes on with it, by the kernel's repair mode: in it
 * a socket neither sends nor waits, its queues and numbers can be read and set, and closing it
 * tells nobody. The network lock holds meanwhile.
 */
#ifndef CKPT_KIND_FD_TCPREPAIR_H
#define CKPT_KIND_FD_TCPREPAIR_H

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "fd_tcp.pb-c.h"
#include "kind/kind.h"

enum { REPAIR_OFF_NO_PROBE = -1, REPAIR_OFF = 0, REPAIR_ON = 1 };

/* Set an integer option of IPPROTO_TCP. 0 or -errno. */
int tcp_set(int fd, int name, int v);
/* In repair mode: the next numbers to be sent and received. It is left at the queue of what is to
 * be sent. 0 or -errno. */
int tcp_set_numbers(int fd, uint32_t send, uint32_t receive);

/* TCP_ESTABLISHED …, or -1. */
int tcp_state(int fd);

/* A socket of a frozen program, and what is to be said of it. */
struct tcp_conn {
	int fd;
	Ckpt__FdTcp *m;
};

/*
 * Fill each m but for names and options. A socket is in repair mode for as long as this takes, by a
 * helper that a kill of ckpt does not reach. A failure is that of *ret_at.
 */
int tcp_capture_all(const struct tcp_conn *v, size_t n, size_t *ret_at,
		    struct ckpt_err *err) __must_check;
int tcp_capture(int fd, Ckpt__FdTcp *m, struct ckpt_err *err) __must_check;

/* Make the new socket @fd, bound to nothing so far, the connection of @m. It stays in repair mode.
 * @early: its address is not here yet; what needs it is left to tcp_arrive(). */
int tcp_rebuild(int fd, const Ckpt__FdTcp *m, bool early, struct ckpt_err *err) __must_check;

/* The address is here, the lock still holds: bring it into its state unless it is. 0 or
 * -errno. */
int tcp_arrive(int fd, const Ckpt__FdTcp *m);

/* The way is open: out of repair mode, ask the peer where it stands, send what was not sent. */
void tcp_go(int fd, const Ckpt__FdTcp *m);

/* Put every connection that task @pid holds into repair mode: its end will be silent. */
void tcp_silence_task(int pid);
/* Those that are in repair mode, and whom nobody will take out of it any more, are reset. */
void tcp_reset_task(int pid);

#endif
