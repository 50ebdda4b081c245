/* SPDX-License-Identifier: GPL-2.0-only */
/* What the kinds of internet sockets share; inet.c. */
#ifndef CKPT_KIND_FD_INET_H
#define CKPT_KIND_FD_INET_H

#include <sys/socket.h>

#include "kern/sockdiag.h"
#include "kind/kind.h"

/* "10.0.0.1:80" for messages */
void inet_address_print(const struct sockaddr_storage *ss, char *ret, size_t size);
/* Its addresses as the network lock wants them, of a listener the local one. False for none. */
bool inet_diag_conn(const struct tcp_diag *t, struct netlock_conn *ret);
/* What getsockname(2) or getpeername(2) gives; empty when there is no port. */
int inet_address_dump(int fd, int (*get)(int, struct sockaddr *, socklen_t *),
		      ProtobufCBinaryData *ret, struct ckpt_err *err) __must_check;
int inet_bind(int fd, const ProtobufCBinaryData *name, struct ckpt_err *err) __must_check;
/* Is its address, whatever the port, one of this network namespace now? */
bool inet_is_here(const ProtobufCBinaryData *name);
/* Let @fd bind and connect from @name though the address comes later (opts->addresses_later); false
 * when there is no need. Undo it once connected. */
bool inet_borrow(struct restore_ctx *r, int fd, const ProtobufCBinaryData *name);
void inet_return(int fd);
/* Make the new socket @fd one whose connection was reset after @unread (may be NULL) had come. */
int inet_connection_over(int family, int fd, const ProtobufCBinaryData *unread);

#endif
