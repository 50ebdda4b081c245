/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What outlives either ckpt: small files in /run/ckpt (or $CKPT_RUN_DIR), gone with the boot, as
 * the processes they are about.
 *
 *   source-ID   the source's: where the tree may be, its processes, whether RUN was sent, and what
 *               of the network was taken away meanwhile
 *   held-ID     the peer's: processes that would be left stopped if it died now, and addresses
 *               they are to have. Locked (flock) while somebody is at work on them
 *   peer-ID     the peer's verdict. It is made once, by linking a finished file to this name:
 *               whoever comes first, the one that lets it run or the one that answers a source
 *               in doubt, decides, and the other obeys.
 */
#ifndef CKPT_MIGRATE_DECISION_H
#define CKPT_MIGRATE_DECISION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kern/netaddr.h"
#include "kern/netlock.h"
#include "migrate.pb-c.h"
#include "migrate/wire.h"

struct decision_pid {
	int pid;
	uint64_t start_time;
	bool stopped; /* by job control, before any of this */
};

struct decision {
	char id[2 * MIG_ID_BYTES + 1];
	bool run_sent; /* false: the tree may go on here without asking anybody */
	char to[512];
	char key[512];
	bool insecure;
	char lock[NETLOCK_NAME_MAX]; /* nftables table that holds its connections back; "": none */
	char hook[512];              /* "": none */
	uint32_t hook_timeout_ms;
	struct {
		struct netaddr *v;
		size_t n, cap;
	} addrs; /* that this node gives up, each with its device */
	struct {
		struct decision_pid *v;
		size_t n, cap;
	} pids;
};

void decision_id(const uint8_t *id, char *ret); /* hex */
bool decision_id_parse(const char *hex, uint8_t *ret);
/* Write source-ID, durably; the second time only run_sent may be another. */
int decision_write(const struct decision *d, struct ckpt_err *err) __must_check;
void decision_remove(const char *id);
int decision_read(const char *id, struct decision *ret, struct ckpt_err *err) __must_check;
void decision_free(struct decision *d);
/* Write down process @pid. */
int decision_add(struct decision *d, int pid, bool stopped, struct ckpt_err *err) __must_check;
/* Is it still the process that was written down? */
bool decision_same(const struct decision_pid *p);
/* Ids of all decisions of this source. */
int decision_list(char ***ret, size_t *ret_n, struct ckpt_err *err) __must_check;

/* The peer: make @want the verdict unless there is one; *ret is what holds. */
int verdict_make(const char *id, Ckpt__MigState want, Ckpt__MigState *ret,
		 struct ckpt_err *err) __must_check;
void verdict_remove(const char *id);
/* Its processes from the moment on when our death would leave them stopped. The file stays locked
 * for as long as *ret_fd, or a copy of it in a helper, is open. */
int held_write(const char *id, const struct decision *pids, int *ret_fd,
	       struct ckpt_err *err) __must_check;
void held_remove(const char *id);
/* What is left of them, with nobody at work on them any more, goes on (@run) or ends, as the
 * verdict is. Connections that nobody brought back to life are reset. */
void held_settle(const char *id, bool run);

#endif
