/* SPDX-License-Identifier: GPL-2.0-only */
/* Socket options, for all families. */
#ifndef CKPT_KIND_FD_SOCKOPT_H
#define CKPT_KIND_FD_SOCKOPT_H

#include "fd_sock.pb-c.h"
#include "kind/fd/sockplaces.h"
#include "kind/kind.h"

/* Newer than the headers of Debian 12; more of them in sockopt.c */
#define OPT_SO_RESERVE_MEM 73
#define OPT_IP_RECVFRAGSIZE 25

/* Those that must not be set before a socket has its queue and its peer. */
enum sockopt_when { SOCKOPT_EARLY, SOCKOPT_LATE };

/* Options of the socket @f->local that differ from those of a new socket. */
int sockopts_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__SockOpts **ret,
		  struct ckpt_err *err) __must_check;
/* The same for who reads ahead, without a view, in another thread than the kinds'. */
int sockopts_read(struct dump_ctx *d, const struct fd_facts *f, Ckpt__SockOpts **ret,
		  struct ckpt_err *err) __must_check;
/* Would that ask a connection with this view nothing? Another has said it all. */
bool sockopts_known(struct dump_ctx *d, const struct file_view *view);
/* Option @i of a socket of this family and protocol; false: it has none by this number. */
bool sockopt_nth(size_t i, int family, int protocol, int *ret_level, int *ret_name);
/* What a connection has made of it is no option that was set. */
bool sockopt_of_connection(int level, int name);
/* What dump_sockopt_defaults() and dump_sockopts_asked() gathered. */
void sockopts_forget(struct sockopt_defaults *all, struct sockopts_asked *asked);
/* Leave what also holds when they are compared at another time. */
void sockopts_outlive(struct sockopts_asked **asked);
/* How many sets of options the connections of a dump have, as far as they were told apart. */
size_t sockopts_sets(const struct sockopts_asked *asked);
int sockopts_restore(int fd, const Ckpt__SockOpts *opts, enum sockopt_when when,
		     struct ckpt_err *err) __must_check;

/* An int option; -1 when there is none. */
int sockopt_get(int fd, int level, int name);
/* Room for @bytes to be sent, and back to what it was. */
struct sockopt_room {
	int sndbuf, lock;
};
void sockopt_room_make(int fd, size_t bytes, struct sockopt_room *ret);
void sockopt_room_undo(int fd, const struct sockopt_room *room);

#endif
