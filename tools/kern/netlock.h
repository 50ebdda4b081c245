/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The network lock: packets of some TCP connections, in both directions, are dropped and nobody
 * answers them, as if the cable were out. It is an nftables table of the network namespace that
 * ckpt runs in:
 *
 *	table inet NAME {                       flags owner: gone with the socket that made it
 *		set conn4  { local . port . remote . port }        set conn6 …
 *		set bound4 { local . port }                        set bound6 …   (listeners)
 *		set ports  { port }                                (listeners on any address)
 *		chain in   { hook input;  mark ≠ NETLOCK_MARK and in a set: drop }
 *		chain out  { hook output; the same with local and remote exchanged }
 *	}
 */
#ifndef CKPT_KERN_NETLOCK_H
#define CKPT_KERN_NETLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"

/* Packets with this mark (SO_MARK) pass: ckpt's own, see tcpraw.h. */
#define NETLOCK_MARK 0x636b7074u
#define NETLOCK_NAME_MAX 40

/* One connection, or (rport 0) a port that is listened on. IPv4-mapped addresses are IPv4. */
struct netlock_conn {
	int family;
	uint8_t local[16], remote[16];
	uint16_t lport, rport; /* network order */
};

struct netlock_conns {
	struct netlock_conn *v;
	size_t n, cap;
};

/* An entry from what getsockname(2) and getpeername(2) give; @remote NULL for a listener. False
 * for what is no IP address. */
bool netlock_conn_set(struct netlock_conn *c, const void *local, size_t local_len,
		      const void *remote, size_t remote_len);

struct netlock {
	int fd; /* -1: none */
	bool lifted;
	char name[NETLOCK_NAME_MAX];
};

/* Of ports that are listened on: all packets, or only those that begin a connection, so that those
 * that are being made come into being. */
enum netlock_how { NETLOCK_ALL, NETLOCK_NEW };

/* Lock @v for as long as @l is open: a table that goes with its socket. */
int netlock_take(struct netlock *l, enum netlock_how how, const struct netlock_conn *v, size_t n,
		 struct ckpt_err *err) __must_check;
/* Open the way again at once. */
void netlock_lift(struct netlock *l);
/* The same, and close it, for which the kernel waits for all processors: some 10 ms. Also when it
 * was never taken (fd -1). */
void netlock_drop(struct netlock *l);

/* The name of the lock that belongs to an image or migration: "ckpt-" and 12 digits of @id. */
void netlock_name(const uint8_t *id, char *ret);
/* Lock @v until netlock_remove(). One of that name that is there already is replaced. Here and
 * there the socket of @by is used, if that is open: one of its own would have to be closed. */
int netlock_keep(const struct netlock *by, const char *name, const struct netlock_conn *v, size_t n,
		 struct ckpt_err *err) __must_check;
/* 0, -ENOENT when there is none, or -errno. @by may be NULL. */
int netlock_remove(const struct netlock *by, const char *name);

/* Can this kernel do it, and may we? 0 or -errno. */
int netlock_probe(void);

#endif
