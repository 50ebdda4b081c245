/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A program that writes faster than the link carries is slowed down: stopped for a share of every
 * tenth of a second, by ptrace as for a dump, so that neither it nor its parent is told and a kill
 * of ckpt lets it run.
 */
#ifndef CKPT_MIGRATE_THROTTLE_H
#define CKPT_MIGRATE_THROTTLE_H

#include <stdint.h>

#include "base/ui.h"

#define THROTTLE_MAX 95u

struct throttle;

/* Begin with nothing: 0 %. NULL when out of memory or threads. */
struct throttle *throttle_start(int pid, struct ckpt_ui *ui);
/* How much of the time it stands still from now on. */
void throttle_set(struct throttle *t, uint32_t percent);
uint32_t throttle_get(const struct throttle *t); /* 0 also for NULL */
/* While paused, the tree is not touched; both may be called with NULL. */
void throttle_pause(struct throttle *t);
void throttle_resume(struct throttle *t);
/* It runs on at full speed. Also with NULL. */
void throttle_stop(struct throttle *t);

#endif
