/* SPDX-License-Identifier: GPL-2.0-only */
/* What both nodes compare before the first byte of memory is sent. */
#ifndef CKPT_MIGRATE_PREFLIGHT_H
#define CKPT_MIGRATE_PREFLIGHT_H

#include "base/err.h"
#include "migrate.pb-c.h"

/* The source: what the tree below @pid needs. Free with ckpt__mig_offer__free_unpacked(). */
Ckpt__MigOffer *preflight_offer(int pid, const uint8_t *id, struct ckpt_err *err);
/* The peer: everything that stops it here. */
int preflight_check(const Ckpt__MigOffer *offer, Ckpt__MigAnswer *ret,
		    struct ckpt_err *err) __must_check;
void preflight_answer_free(Ckpt__MigAnswer *a);

#endif
