/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames on a link: { type, len, xxh3 } as in a record file, then the payload. The sum covers the
 * frame's place in the stream, so that a frame lost, repeated or moved is noticed too. Pages are
 * not summed where the link does so itself (TLS).
 *
 *   source                          peer
 *   HELLO ─────────────────────────►
 *         ◄───────────────────────── HELLO
 *   OFFER ─────────────────────────►
 *         ◄───────────────────────── ANSWER      what stops it there
 *   TREE SPACE… SAME… PAGES… ────►               while the program runs, any number of times
 *   SHARE PAGES… … ROUND ────────►
 *         ◄───────────────────────── ROUND
 *   PAGES… RECORDS… INVENTORY ─────►             the program stands still
 *         ◄───────────────────────── RESTORED    whole, stopped, verified
 *   RUN ───────────────────────────►             from here on the source needs a verdict
 *         ◄───────────────────────── RUNNING
 *   DONE ──────────────────────────►             the source has ended its copy
 *
 * Where no kernel answers for the peer (link_ops.mute) it says ALIVE before RESTORED and RUNNING.
 * Instead of OFFER: ASK ──► ◄── VERDICT. Either side at any time: ERROR, and it is over.
 */
#ifndef CKPT_MIGRATE_WIRE_H
#define CKPT_MIGRATE_WIRE_H

#include <protobuf-c/protobuf-c.h>
#include <pthread.h>

#include "image/format.h"
#include "migrate.pb-c.h"
#include "migrate/link.h"

#define MIG_PROTOCOL 7
#define MIG_ID_BYTES 16

enum mig_type {
	MIG_HELLO = 1,
	MIG_ERROR,
	MIG_OFFER,
	MIG_ANSWER,
	MIG_PAGES,
	MIG_ROUND,
	MIG_RECORDS,
	MIG_INVENTORY,
	MIG_RESTORED,
	MIG_RUN,
	MIG_RUNNING,
	MIG_DONE,
	MIG_ASK,
	MIG_VERDICT,
	MIG_SPACE, /* Mm of a task that runs, its id the pid: where memory is to go */
	MIG_TREE,  /* which processes there are */
	MIG_SHARE, /* what several processes share */
	MIG_ALIVE, /* the peer is at work; nobody need do anything */
	MIG_SAME,  /* pages that a child shares with its parent */
	MIG_TYPES
};

/* MIG_XOR: XXH3 of the pages as they are to be, then their difference to the pages that the peer
 * has, by LZ4. Pages that do not come out right there are named in its answer to the round. */
enum mig_coding { MIG_RAW, MIG_LZ4, MIG_ZERO, MIG_XOR, MIG_CODINGS };

/* In front of the bytes of a MIG_PAGES frame. */
struct mig_pages {
	uint64_t addr; /* in the address space of @pid, or in the page file when @pid is 0 */
	uint32_t
		pid; /* of the program's own pid namespace; or MIG_SHARED and a MigShare's number */
	uint32_t npages;
	uint32_t coding; /* enum mig_coding */
	uint32_t bytes;  /* that follow */
};
_Static_assert(sizeof(struct mig_pages) == 24, "pages layout");

/* In front of the bytes of MIG_INVENTORY. */
struct mig_inventory {
	uint64_t pages_bytes;
};

#define MIG_SHARED (1u << 31)
#define MIG_SHARES_MAX (1u << 20)    /* numbers of them */
#define MIG_SHARE_BYTES (1ull << 40) /* of one; what is longer is sent in the end */
#define MIG_PAGES_MAX 256u           /* pages in a frame */
#define MIG_CHUNK (1u << 20)
#define MIG_FRAME_MAX (4u << 20)

struct wire_buf {
	void *data;
	size_t cap;
};

/* 0 or -errno of the link. */
int wire_send(struct link *l, enum mig_type type, const void *head, size_t head_len,
	      const void *data, size_t len);
int wire_send_msg(struct link *l, enum mig_type type, const ProtobufCMessage *msg);
void wire_send_error(struct link *l, const struct ckpt_err *err);
/* The next frame into @b. A broken link, a malformed frame and the peer's MIG_ERROR fail. */
int wire_recv(struct link *l, struct wire_buf *b, enum mig_type *ret_type, size_t *ret_len,
	      struct ckpt_err *err) __must_check;
/* The next frame, which must be @type, unpacked; NULL on failure. @desc NULL: no message. */
void *wire_expect(struct link *l, struct wire_buf *b, enum mig_type type,
		  const ProtobufCMessageDescriptor *desc, struct ckpt_err *err);
/* Say ALIVE now and then, by a thread, until alive_stop(): meanwhile the link is its own. */
struct alive {
	struct link *link; /* NULL: nobody does */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool end;
};
void alive_start(struct alive *a, struct link *l);
void alive_stop(struct alive *a);
/* A send failed with @rc: if the other side said why, that is the error. */
int wire_fail(struct link *l, struct wire_buf *b, int rc, struct ckpt_err *err);
void wire_buf_free(struct wire_buf *b);
/* Both say who they are; the peer's HELLO is the result. */
Ckpt__MigHello *wire_hello(struct link *l, struct wire_buf *b, bool first, struct ckpt_err *err);
/* A ckpt_err as a message and back. */
void wire_error_from(const Ckpt__MigError *m, const char *who, struct ckpt_err *ret);

#endif
