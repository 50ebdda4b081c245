/* SPDX-License-Identifier: GPL-2.0-only */
/* Moving a running program to another node. docs/migration.md tells the whole story. */
#ifndef CKPT_MIGRATE_MIGRATE_H
#define CKPT_MIGRATE_MIGRATE_H

#include "base/err.h"
#include "base/ui.h"
#include "kern/netaddr.h"
#include "kern/netlock.h"
#include "kind/kind.h"
#include "migrate/link.h"

/* What to do when the program writes faster than the link carries. */
enum migrate_pack { MIG_PACK_AUTO, MIG_PACK_NONE, MIG_PACK_LZ4 };

enum migrate_diverge { DIVERGE_STOP, DIVERGE_FAIL, DIVERGE_THROTTLE };

struct migrate_event {
	const char *what; /* "round", "throttled" */
	uint32_t round;
	uint64_t pages, zero_pages;
	uint64_t bytes;              /* on the wire */
	uint64_t us;                 /* how long this took */
	uint64_t link_us, shared_us; /* of that: to send; to look at shared memory */
	uint64_t link_bytes_s, write_bytes_s;
	uint64_t downtime_us; /* predicted */
	uint32_t throttle;    /* percent of the time in which it is held still */
};

struct migrate_opts {
	int pid;
	const char *to;
	struct link_auth auth;
	uint64_t max_downtime_us;
	uint32_t max_rounds;
	uint64_t bandwidth; /* bytes a second, 0 none */
	enum migrate_diverge diverge;
	enum ckpt_tcp tcp;
	const char *tracker; /* NULL: the best there is */
	bool check_only;
	bool track; /* its increments go on there */
	enum migrate_pack pack;
	uint64_t delta_cache;        /* bytes of pages kept to send differences to; 0 none */
	const struct netaddr *addrs; /* that move with it; .dev is the peer's device */
	size_t naddrs;
	const char *hook; /* hook.h; NULL none */
	uint32_t hook_timeout_ms;
	uint64_t resolve_us; /* how long a broken link is tried again for a verdict */
	void (*event)(void *arg, const struct migrate_event *e);
	/* Something that stops it, found before any memory was sent; @there: at the peer */
	void (*blocker)(void *arg, const struct ckpt_err *why, bool there);
	void *arg;
};

struct migrate_result {
	uint64_t total_us, downtime_us;
	uint64_t freeze_us, collect_us, build_us;
	uint32_t rounds;
	uint64_t pages, zero_pages, final_pages;
	uint64_t bytes;
	uint64_t saved_zero, saved_lz4, saved_xor;
	uint64_t saved_same;      /* of what children share with their parents */
	int pid;                  /* there */
	char checkpoint[256];     /* there, the first of its increments; "": it is not tracked */
	uint32_t processes, warm; /* there; those that existed when the last part came */
	uint64_t filled;          /* bytes of private memory that were not in their place by then */
	const char *tracker;
	char network_lock[NETLOCK_NAME_MAX]; /* that stays at the source; "": none */
};

/* Move the tree below opts->pid. On failure it runs here as before, unless *ret_in_doubt names a
 * migration whose verdict must be asked for: then it stands still here. */
int ckpt_migrate(const struct migrate_opts *opts, struct ckpt_ui *ui, struct migrate_result *ret,
		 char *ret_in_doubt, struct ckpt_err *err) __must_check;

enum migrate_outcome { MIGRATE_HERE, MIGRATE_THERE };

/* Settle the migration @id of this source: ask the peer, then let the program go on here or end
 * it. @to and @auth override what was recorded when not NULL. */
int ckpt_migrate_resolve(const char *id, const char *to, const struct link_auth *auth,
			 struct ckpt_ui *ui, enum migrate_outcome *ret,
			 struct ckpt_err *err) __must_check;

struct receive_opts {
	struct link_auth auth;
	const char *hook;
	const char *keep_image; /* where checkpoints of tracked programs go; NULL nowhere */
	uint32_t hook_timeout_ms;
	void (*note)(void *arg, const char *text);
	void *arg;
};

enum receive_outcome {
	RECEIVE_FAILED,
	RECEIVE_ANSWERED,    /* a question was answered, nothing was moved */
	RECEIVE_RUNS,        /* the program runs here and the source knows */
	RECEIVE_UNCONFIRMED, /* it runs here; the source has not said that it knows */
};

struct receive_result {
	enum receive_outcome outcome;
	int pid;
	uint64_t build_us, memory_bytes;
	char checkpoint[256]; /* to be made now, the first of a tracking session; "": none */
};

/* One connection of a source. */
int ckpt_receive(struct link *l, const struct receive_opts *opts, struct ckpt_ui *ui,
		 struct receive_result *ret, struct ckpt_err *err) __must_check;

#endif
