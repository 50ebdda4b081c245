/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a tracking session knows by a log of page faults (kern/faultlog.h), which its keeper holds:
 * where an address space was written to since the last checkpoint, so that nobody need look through
 * all its page tables. A log is begun by the second checkpoint of a large program, takes address
 * spaces in at the end of a stop, and tells of those that it had by the beginning of the next one.
 *
 * From one checkpoint to the next it is certain as long as the stamps are what they were when the
 * program ran on, nobody was noted, and no entry was overwritten or missed. In any other case the
 * trackers look for themselves. What they find where they were told to look is what counts, so an
 * entry too many costs nothing.
 */
#ifndef CKPT_DUMP_LOGGED_H
#define CKPT_DUMP_LOGGED_H

#include "dump/dump.h"
#include "track/keeper.h"

/* Before the freeze; takes what is the log's from @files. 0 or -ENOMEM. */
int dump_log_begin(struct dump_ctx *d, const struct track_ops *ops, struct keeper_tasks *files);
/* While it runs: fewer than @pages pages seem to have been written since the last checkpoint. */
bool dump_log_few(const struct dump_ctx *d, uint64_t pages);
/* The tree stands still, and nothing of it was entered: trackers that can be told are told. */
void dump_log_look(struct dump_ctx *d);
/* Nothing more is done to it before it runs on. */
void dump_log_settle(struct dump_ctx *d);
/* The checkpoint is on disk: what was found is the keeper's, and the descriptors are (still ours,
 * too) among @files. */
void dump_log_commit(struct dump_ctx *d, struct keeper_tasks *files);
void dump_log_free(struct dump_ctx *d);

#endif
