/* SPDX-License-Identifier: GPL-2.0-only */
/* What NETLINK_SOCK_DIAG tells of a socket in this network namespace. */
#ifndef CKPT_KERN_SOCKDIAG_H
#define CKPT_KERN_SOCKDIAG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

struct unix_diag {
	uint32_t ino;
	uint8_t state;     /* TCP_ESTABLISHED, TCP_LISTEN, TCP_CLOSE */
	uint8_t shutdown;  /* 1 no reading, 2 no writing */
	bool connected;    /* it has a peer … */
	uint32_t peer;     /* … of this inode, 0 when the peer is gone */
	uint32_t backlog;  /* of a listener */
	uint32_t *waiting; /* inodes of clients that are not accepted yet, 0 for those gone */
	size_t n_waiting;
	char name[108];    /* sun_path */
	uint32_t name_len; /* 0 for none */
	uint32_t file_ino; /* of the file it is bound to */
	uint32_t file_dev; /* the kernel's notation: major << 20 | minor */
};

struct unix_diags {
	struct unix_diag *v; /* ascending ino */
	size_t n, cap;
	struct {
		uint32_t *v; /* inodes of those that listen */
		size_t n, cap;
	} listeners;
};

/* All AF_UNIX sockets of this network namespace, with one request. */
int sockdiag_unix_read(struct unix_diags *ret, struct ckpt_err *err) __must_check;
/* NULL when there is none with this inode. */
const struct unix_diag *sockdiag_unix_find(const struct unix_diags *all, uint64_t ino);
void sockdiag_unix_free(struct unix_diags *all);

/* A TCP or UDP socket: addresses as in the packets, 16 bytes for IPv6 (also mapped), 4 for IPv4. */
struct tcp_diag {
	uint32_t ino; /* 0: no descriptor, like a connection that is not accepted yet */
	uint8_t family, state;
	bool v6only; /* known of those that are not connected */
	uint8_t local[16], remote[16];
	uint16_t lport, rport; /* network order */
	uint32_t unread;       /* bytes, and one for a FIN */
	uint8_t repeated;      /* how often its SYN and ACK went out again */
};

struct tcp_diags {
	struct tcp_diag *v; /* ascending ino */
	size_t n, cap;
};

/* All TCP sockets of this network namespace whose state is in @states (1 << TCP_ESTABLISHED …). */
int sockdiag_tcp_read(uint32_t states, struct tcp_diags *ret, struct ckpt_err *err) __must_check;
/* One end as getsockname(2) gives it. Its length. */
uint32_t tcp_diag_local(const struct tcp_diag *t, struct sockaddr_storage *ret);
uint32_t tcp_diag_remote(const struct tcp_diag *t, struct sockaddr_storage *ret);
/* All UDP sockets. -ENOENT without an error: this kernel does not tell. */
int sockdiag_udp_read(struct tcp_diags *ret, struct ckpt_err *err) __must_check;

#endif
