/* SPDX-License-Identifier: GPL-2.0-only */
/* A migration at its source. Only tools/migrate looks inside. */
#ifndef CKPT_MIGRATE_SOURCE_H
#define CKPT_MIGRATE_SOURCE_H

#include <pthread.h>

#include "dump/dump.h"
#include "migrate/decision.h"
#include "migrate/migrate.h"
#include "migrate/wire.h"

struct source {
	const struct migrate_opts *opts;
	struct ckpt_ui *ui;
	struct migrate_result *res;
	struct link link;
	struct wire_buf buf;
	uint8_t id[MIG_ID_BYTES];
	struct decision decision;
	struct image_sink sink;
	pthread_mutex_t lock; /* of the link, while several threads copy pages */
	char *packed;         /* under lock: room for compressed pages */
	struct dump_ctx dump;
	struct ckpt_dump_opts dump_opts;
	struct dump_series
		series;        /* what was loaded for the first look is there for the last stop */
	struct rounds *rounds; /* rounds.c; NULL: all is copied while it stands still */
	uint64_t lz4_try;      /* frames until the next look whether packing pays */
	bool lz4_pays;
	int pages_failed;             /* -errno with which pages of the last part did not go out */
	uint64_t wire_bytes, wire_us; /* of late: what the link takes */
	uint64_t sends_us;            /* that it took, in all */
	bool prepared;                /* the hook was told of a migration that is not over */
	bool dump_over;               /* dump_end() was called */
};

/* Send pages: of task @pid at @addr, or of the page file (@pid 0). Zero pages cost a frame head.
 * 0 or -errno of the link. */
int source_send_pages(struct source *s, uint32_t pid, uint64_t addr, const void *data,
		      uint32_t npages);
/* The same as @xor against what the peer has, @sum being that of the pages themselves. 1 when that
 * does not pay: nothing was sent. */
int source_send_delta(struct source *s, uint32_t pid, uint64_t addr, const void * xor, uint64_t sum,
		      uint32_t npages);
/* handover.c: all is there, whole and stopped. Who runs it? On success it is gone here. */
int source_hand_over(struct source *s, char *ret_in_doubt, struct ckpt_err *err) __must_check;
/* tracked.c: end the tracking sessions of the program. */
int source_untrack(struct source *s, struct ckpt_err *err) __must_check;
/* rounds.c: copy while it runs; then, for the final dump, who knows what was written. */
int rounds_run(struct source *s, struct ckpt_err *err) __must_check;
struct dump_tracking *rounds_tracking(struct source *s);
void rounds_end(struct source *s);
void source_event(struct source *s, const struct migrate_event *e);

#endif
