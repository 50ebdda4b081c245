/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One TCP segment without data, to a socket of this machine, as if its peer had sent it. It goes
 * over the loopback with the mark that passes the network lock.
 */
#ifndef CKPT_KERN_TCPRAW_H
#define CKPT_KERN_TCPRAW_H

#include <stdint.h>

#include "kern/netlock.h"

enum { TCPRAW_FIN = 0x01, TCPRAW_ACK = 0x10 };

struct tcpraw_seg {
	uint32_t seq, ack; /* host order, as the peer counts */
	uint16_t window;   /* as in the header: not scaled */
	uint8_t flags;
};

/* To the local end of @c. It was received when this returns. 0 or -errno. */
int tcpraw_send(const struct netlock_conn *c, const struct tcpraw_seg *seg);

#endif
