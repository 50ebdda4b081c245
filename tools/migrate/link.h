/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A way to the other node: TLS 1.3, a unix socket, the pipes of an ssh child, or plain TCP. Knows
 * bytes and who is at the other end, nothing of what is said.
 */
#ifndef CKPT_MIGRATE_LINK_H
#define CKPT_MIGRATE_LINK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"

struct link;

struct link_ops {
	const char *name;
	/* Bytes moved, 0 at the end of the stream, -EAGAIN when it must be polled, -errno. */
	ssize_t (*read)(struct link *l, void *buf, size_t len);
	ssize_t (*write)(struct link *l, const void *buf, size_t len);
	/* Of several pieces at once. NULL: one after the other. */
	ssize_t (*readv)(struct link *l, const struct iovec *v, int n);
	ssize_t (*writev)(struct link *l, const struct iovec *v, int n);
	/* 0, -EAGAIN, -errno. NULL: what is written is on its way. */
	int (*flush)(struct link *l);
	void (*close)(struct link *l);
	bool mute;   /* no kernel answers for an end that is silent */
	bool sealed; /* what comes is what was sent, or the link fails: nobody need sum it */
};

struct link {
	const struct link_ops *ops;
	int rfd, wfd; /* non-blocking; may be the same */
	pid_t child;  /* ssh; 0 none */
	void *tls;    /* SSL */
	short want;   /* what tls waits for, POLLIN or POLLOUT */
	bool pending; /* tls has bytes that poll() does not see */
	char peer[128];
	uint64_t sent, received;
	uint64_t wseq, rseq; /* of wire.c */
	int timeout_ms;
	int write_timeout_ms; /* without any progress */
	int dead_ms;    /* of silence until the kernel calls the other end dead; 0: not asked */
	uint64_t limit; /* bytes a second, 0 none */
	uint64_t limit_at, limit_sent;
	/* Small reads and writes are gathered. */
	char *out, *in;
	size_t out_len, in_at, in_len;
	int out_failed;
	bool said; /* the other end has said why it is over: wire.c */
};

/* How the other end is known. */
struct link_auth {
	const char *key; /* file of ckpt keygen: a PSK or a certificate pair; NULL none */
	bool insecure;   /* plain TCP is agreed to */
};

#define LINK_PORT "7447"
#define LINK_TIMEOUT_MS 30000
#define LINK_STILL_MS 4000

/* Connect to HOST[:PORT], ssh://[USER@]HOST, unix:PATH. The handshake is done when it returns. */
int link_connect(const char *to, const struct link_auth *auth, struct link *ret,
		 struct ckpt_err *err) __must_check;
/* A listening socket for ADDR[:PORT] or unix:PATH; *ret_name (of 128) says where, with the port. */
int link_listen(const char *at, const struct link_auth *auth, int *ret_fd, char *ret_name,
		struct ckpt_err *err) __must_check;
/* Take over an accepted socket and do the handshake. */
int link_accept(int fd, const struct link_auth *auth, struct link *ret,
		struct ckpt_err *err) __must_check;
/* Standard input and output, the other end of an ssh:// link. */
int link_stdio(struct link *ret, struct ckpt_err *err) __must_check;
void link_close(struct link *l);
/* Somebody stands still meanwhile: a dead link is to be noticed in LINK_STILL_MS and not in
 * LINK_TIMEOUT_MS, also while the other end is busy and says nothing. */
void link_hurry(struct link *l);
/* Is there anything to read, be it the end of the stream? */
bool link_readable(const struct link *l);
/* No more is said. Take in what still comes, for a while: to close a socket with something unread
 * would take away from the other end what it has not read either. */
void link_linger(struct link *l);

/* All bytes or -errno (-ENODATA: the other end closed; -ETIMEDOUT). What is written may wait for
 * link_flush() or the next read. */
int link_read_full(struct link *l, void *buf, size_t len);
int link_write_full(struct link *l, const void *buf, size_t len);
int link_flush(struct link *l);

/* tls.c: put TLS on a connected socket. */
int link_tls(struct link *l, const char *key, bool server, struct ckpt_err *err) __must_check;
/* Can this file be used as a key? E_USAGE says why not, before anybody connects. */
int link_key_check(const char *key, struct ckpt_err *err) __must_check;
/* Make the two files of a pair of certificates, or one pre-shared key. */
int link_keygen_pair(const char *dir, struct ckpt_err *err) __must_check;
int link_keygen_psk(const char *file, struct ckpt_err *err) __must_check;

#endif
