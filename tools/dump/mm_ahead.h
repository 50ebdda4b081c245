/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The mappings and pages of a process that need not be entered, looked at (and, when few, copied)
 * by a second thread of ckpt while the one that makes the dump has to do with its descriptors and
 * threads. For trackers that know the process already: what is found is written by no one in
 * between, for all stand still.
 */
#ifndef CKPT_DUMP_MM_AHEAD_H
#define CKPT_DUMP_MM_AHEAD_H

#include "dump/walk.h"

struct mm_ahead;

/* In a series. Takes *maps over, the text of its maps, or NULL: then it is read. NULL, which is
 * fine for the others, when it is not worth it, there is no thread to be had, or a killed ckpt left
 * something in the process; then *maps is the caller's again. It is d's: see mm_ahead_settle(). */
struct mm_ahead *mm_ahead_begin(struct dump_ctx *d, struct target_task *task, char **maps);
/* Did it find a process in which a killed ckpt left nothing? Otherwise it looks no further, and
 * nothing of it is of use; if it had not begun, *ret_maps is what it was given. Waits for that, but
 * not for its beginning. */
bool mm_ahead_looks(struct mm_ahead *a, char **ret_maps);
/* Wait for its end. */
void mm_ahead_wait(struct mm_ahead *a);
/* Wait for what it found, after mm_ahead_looks() said yes; walk_free() is the caller's. Its text
 * of maps takes the place of *maps. *ret_walked: also the pages, otherwise the mappings alone (its
 * address space is another than the tracker's).
 */
int mm_ahead_take(struct mm_ahead *a, struct mm_walk *ret, bool *ret_walked, char **maps,
		  struct ckpt_err *err) __must_check;
/* None of them goes on behind this: before the tree may run again. */
void mm_ahead_settle(struct dump_ctx *d);
void mm_ahead_free(struct dump_ctx *d);

#endif
