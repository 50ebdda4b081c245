/* SPDX-License-Identifier: GPL-2.0-only */
/* What both nodes compare before the first byte of memory is sent. */
#ifndef CKPT_MIGRATE_PREFLIGHT_H
#define CKPT_MIGRATE_PREFLIGHT_H

#include "base/err.h"
#include "migrate.pb-c.h"
#include "migrate/migrate.h"

#define MOVE_ADDRESSES_MAX 64

/* The source: what the tree below opts->pid needs. Free with ckpt__mig_offer__free_unpacked(). */
Ckpt__MigOffer *preflight_offer(const struct migrate_opts *opts, const uint8_t *id,
				struct ckpt_err *err);
/* Addresses and ports of the tree, into the offer; @found: what cannot move. */
/* Names the namespace of this kind ("net") that ckpt is in, over all machines; "" when there is no
 * telling. The caller frees it; NULL: out of memory. */
char *preflight_ns_name(const char *ns);
int preflight_network(const struct migrate_opts *opts, Ckpt__MigOffer *offer,
		      void (*found)(void *arg, const struct ckpt_err *why), void *arg,
		      struct ckpt_err *err) __must_check;
/* The peer: everything that stops it here. @hooked: a script moves addresses, too. @keep_image:
 * where checkpoints go, or NULL. */
int preflight_check(const Ckpt__MigOffer *offer, bool hooked, const char *keep_image,
		    Ckpt__MigAnswer *ret, struct ckpt_err *err) __must_check;
/* Its part about addresses and ports. 0 or -ENOMEM. */
int preflight_check_network(const Ckpt__MigOffer *offer, bool hooked, Ckpt__MigAnswer *ret);
/* One more. 0 or -ENOMEM. */
int preflight_blocker(Ckpt__MigAnswer *a, const struct ckpt_err *why);
/* The addresses of an offer; each with its device here when that can be said. Returns how many, or
 * -errno. */
int preflight_addresses(const Ckpt__MigOffer *offer, struct netaddr *ret);
void preflight_answer_free(Ckpt__MigAnswer *a);

#endif
