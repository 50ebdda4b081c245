/* SPDX-License-Identifier: GPL-2.0-only */
/* A migration at its receiving end: what peer.c, intake.c and enter.c share. */
#ifndef CKPT_MIGRATE_PEER_H
#define CKPT_MIGRATE_PEER_H

#include "migrate/migrate.h"
#include "migrate/preflight.h"
#include "migrate/pump.h"
#include "migrate/store.h"
#include "migrate/wire.h"
#include "restore/restore.h"

/* A frame on its way from the link to where it belongs. */
struct peer_frame {
	struct wire_buf buf;
	size_t len;
};

struct peer {
	struct link *link;
	const struct receive_opts *opts;
	struct ckpt_ui *ui;
	struct alive alive; /* says so while we are busy */
	struct wire_buf buf;
	char id[2 * MIG_ID_BYTES + 1];
	int dir_fd, records_fd;
	uint64_t records_bytes, pages_bytes;
	uint64_t memory_bytes;
	struct store store;
	struct pump pump; /* pages on their way into memory, while the next are received */
	struct peer_frame frames[PUMP_PARCELS];
	struct ckpt_err pump_err; /* why it failed */
	void *raw, *base;         /* decompressed pages; what they differ from */
	Ckpt__MigRound lost;      /* since the last round */
	struct restore_ctx restore;
	struct ckpt_restore_opts restore_opts;
	char path[64];
	int root, lone_sid;  /* as the source said */
	Ckpt__MigTree *tree; /* as it was said last, not yet followed */
	struct {
		Ckpt__Mm **v;
		size_t n, cap;
	} spaces;                                 /* the same of address spaces */
	struct netaddr addrs[MOVE_ADDRESSES_MAX]; /* that come with it */
	size_t naddrs;
	int announcer_fd; /* of its addresses; -1: none */
	int held_fd;      /* while we are at work on held processes */
	bool same_ipc;    /* System V segments here are those of the source */
	bool track;       /* a tracking session begins here */
	bool prepared;    /* the script was told, and has not heard the end */
};

int peer_bad_frame(struct peer *p, struct ckpt_err *err, const char *what);
/* peer.c: the hook script hears of @point. */
int peer_hook(struct peer *p, const char *point, struct ckpt_err *err);
void peer_hook_warn(struct peer *p, const char *point);
/* intake.c: everything until the inventory is here, in its place or kept. */
int peer_take_all(struct peer *p, struct ckpt_err *err) __must_check;
/* Pages of @pid go into its memory, if @w (or NULL) has it already, or are kept until it has; @data
 * NULL: they are zero. */
int peer_put_pages(struct peer *p, const struct warm_task *w, uint32_t pid, uint64_t addr,
		   uint32_t npages, const void *data, struct ckpt_err *err) __must_check;
/* Pages that are not there after all: the source hears of it at the end of the round. */
int peer_lost(struct peer *p, uint32_t pid, uint64_t addr, uint32_t npages, struct ckpt_err *err);
/* heirs_peer.c: pages that a child shares with its parent; and: no more of them come. */
int peer_take_same(struct peer *p, const void *data, size_t len, struct ckpt_err *err) __must_check;
int peer_settle_heirs(struct peer *p, struct ckpt_err *err) __must_check;
/* The tasks-to-be are as the image says, and the store knows what they have. */
int peer_settle(struct peer *p, struct ckpt_err *err) __must_check;
void peer_intake_free(struct peer *p);
/* enter.c: the source has decided; the program runs here, or the verdict says otherwise. */
int peer_let_run(struct peer *p, struct ckpt_err *err) __must_check;
void peer_held_done(struct peer *p);
void peer_announce(struct peer *p);

#endif
