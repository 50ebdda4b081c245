/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One TCP segment to a socket of this machine, as if its peer had sent it. It goes over the
 * loopback with the mark that passes the network lock.
 */
#ifndef CKPT_KERN_TCPRAW_H
#define CKPT_KERN_TCPRAW_H

#include <stddef.h>
#include <stdint.h>

#include "kern/netlock.h"

enum { TCPRAW_FIN = 0x01, TCPRAW_SYN = 0x02, TCPRAW_RST = 0x04, TCPRAW_ACK = 0x10 };

#define TCPRAW_OPTIONS_MAX 40
#define TCPRAW_DATA_MAX 15000

struct tcpraw_seg {
	uint32_t seq, ack; /* host order, as the peer counts */
	uint16_t window;   /* as in the header: not scaled */
	uint8_t flags;
	const uint8_t *options; /* whole words, at most TCPRAW_OPTIONS_MAX bytes */
	size_t n_options;
	const uint8_t *data; /* at most TCPRAW_DATA_MAX bytes */
	size_t n_data;
};

/* To the local end of @c. It was received when this returns. 0 or -errno; -EMSGSIZE: more than the
 * loopback takes at once. */
int tcpraw_send(const struct netlock_conn *c, const struct tcpraw_seg *seg);

#endif
