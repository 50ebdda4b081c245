/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The administrator's script at the turning points of a migration (--hook): to move addresses,
 * routes, storage. docs/migration.md says what runs where and what a failure does.
 *
 *   source  prepare   nothing was copied yet            failure: nothing moves
 *           leave     stopped, the peer has it whole    failure: it goes on here
 *           back      it goes on here after all         failure: a warning
 *           left      the copy here has ended           failure: a warning
 *   peer    prepare   nothing was received yet          failure: nothing moves
 *           ready     whole, stopped, undecided         failure: it goes on at the source
 *           drop      after "ready": it does not come   failure: a warning
 *           enter     decided: about to run here        failure: a warning
 */
#ifndef CKPT_MIGRATE_HOOK_H
#define CKPT_MIGRATE_HOOK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kern/netaddr.h"

#define HOOK_TIMEOUT_MS 10000u

struct hook {
	const char *path; /* NULL: there is none */
	uint32_t timeout_ms;
	const char *side;            /* "source" or "peer" */
	const char *id;              /* of the migration */
	const char *peer;            /* the other node's name */
	int pid;                     /* the program's root task as this node sees it, 0 not yet */
	const struct netaddr *addrs; /* that move with it */
	size_t naddrs;
};

/* Run it as "PATH POINT" and wait. 0, or E_HOOK: it could not be started, failed, or took too
 * long (then it and what it started in its process group is killed). */
int hook_run(const struct hook *h, const char *point, struct ckpt_err *err) __must_check;

#endif
