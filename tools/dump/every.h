/* SPDX-License-Identifier: GPL-2.0-only */
/* Checkpoints at an interval: DIR/000001, DIR/000002, … with retention and bounded chains. */
#ifndef CKPT_DUMP_EVERY_H
#define CKPT_DUMP_EVERY_H

#include "dump/dump.h"

struct every_opts {
	struct ckpt_dump_opts
		dump; /* dir: where the numbered directories are; parent, track unused */
	uint64_t interval_us;
	unsigned int keep;  /* newest checkpoints that stay restorable */
	unsigned int count; /* end after so many; 0: when the program ends or a signal comes */
	/* After each checkpoint. */
	void (*made)(void *arg, const char *dir, const Ckpt__Stats *stats);
	void *arg;
};

/*
 * Make checkpoints until the program ends, SIGINT, SIGTERM or SIGHUP arrives (then what has begun
 * is finished), or one fails. A full one first, then increments; what is in DIR from an earlier run
 * is continued. DIR/latest is a link to the newest. When the chain behind the newest grows long it
 * is folded while the program runs. Returns 0 or -errno; the last complete checkpoint is unharmed.
 */
int ckpt_dump_every(const struct every_opts *o, struct ckpt_ui *ui, unsigned int *ret_made,
		    struct ckpt_err *err) __must_check;

#endif
