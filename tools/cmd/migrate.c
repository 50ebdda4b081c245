// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/vec.h"
#include "cmd/cmd.h"
#include "migrate/decision.h"
#include "migrate/delta.h"
#include "migrate/hook.h"
#include "migrate/migrate.h"

enum {
	OPT_TO = 256,
	OPT_KEY,
	OPT_INSECURE,
	OPT_DOWNTIME,
	OPT_ROUNDS,
	OPT_BANDWIDTH,
	OPT_DIVERGE,
	OPT_TCP,
	OPT_CHECK,
	OPT_RESOLVE,
	OPT_COMPRESS,
	OPT_TRACKER,
	OPT_DOUBT,
	OPT_ADDRESS,
	OPT_HOOK,
	OPT_HOOK_TIME,
	OPT_DELTA,
	OPT_TRACK,
};

static const struct cmd_opt opts[] = {
	{ 't', "pid", "PID", "the process to move, with its threads and descendants" },
	{ OPT_TO, "to", "DEST", "HOST[:PORT], ssh://[USER@]HOST or unix:PATH" },
	{ OPT_KEY, "key", "FILE", "this node's half of ckpt keygen" },
	{ OPT_INSECURE, "insecure", NULL, "plain TCP: anybody on the way reads the memory" },
	{ OPT_DOWNTIME, "max-downtime", "TIME",
	  "stop it when the rest takes this long (default 100ms)" },
	{ OPT_ROUNDS, "max-rounds", "N", "copy at most N times while it runs (default 16)" },
	{ OPT_BANDWIDTH, "bandwidth", "SIZE", "bytes a second while it runs (default: all)" },
	{ OPT_DIVERGE, "on-diverge", "stop|fail|throttle",
	  "when it writes faster than the link (default stop)" },
	{ OPT_COMPRESS, "compress", "auto|none|lz4", "pack pages when the link is slower (auto)" },
	{ OPT_DELTA, "delta-cache", "SIZE", "of sent pages, to send differences (default 64M)" },
	{ OPT_TCP, "tcp", "keep|close|refuse", "established TCP connections (default refuse)" },
	{ OPT_ADDRESS, "move-address", "ADDR/PLEN[@DEV]", "an address that moves along (to DEV)" },
	{ OPT_HOOK, "hook", "SCRIPT", "run at prepare, leave, left and back" },
	{ OPT_HOOK_TIME, "hook-timeout", "TIME", "kill it and count it as failed (default 10s)" },
	{ OPT_TRACKER, "tracker", "NAME", "how written pages are found" },
	{ OPT_TRACK, "track", NULL, "go on with increments there (receive --keep-image)" },
	{ OPT_CHECK, "check", NULL, "say what stops it, on both nodes, and do nothing" },
	{ OPT_DOUBT, "resolve-time", "TIME", "ask this long after a cut (default 10s)" },
	{ OPT_RESOLVE, "resolve", "ID|all", "settle a migration that was cut" },
	{ 0 },
};

#define ADDRESSES_MAX 64

struct print {
	struct netaddr addrs[ADDRESSES_MAX];
	struct cmd_common *c;
	int blockers;
};

static void on_event(void *arg, const struct migrate_event *e)
{
	struct print *p = arg;
	char a[16], b[16];

	if (p->c->json) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "event", json_object_new_string(e->what));
		json_object_object_add(o, "round", json_object_new_int((int)e->round));
		json_object_object_add(o, "pages", json_object_new_uint64(e->pages));
		json_object_object_add(o, "zero_pages", json_object_new_uint64(e->zero_pages));
		json_object_object_add(o, "bytes", json_object_new_uint64(e->bytes));
		json_object_object_add(o, "us", json_object_new_uint64(e->us));
		json_object_object_add(o, "link_bytes_s", json_object_new_uint64(e->link_bytes_s));
		json_object_object_add(o, "write_bytes_s",
				       json_object_new_uint64(e->write_bytes_s));
		json_object_object_add(o, "downtime_us", json_object_new_uint64(e->downtime_us));
		json_object_object_add(o, "throttle_percent",
				       json_object_new_int((int)e->throttle));
		cmd_print_line(o);
		return;
	}
	if (!p->c->quiet && !strcmp(e->what, "throttled"))
		printf("it writes faster than the link: it is held still %u %% of the time\n",
		       e->throttle);
	if (p->c->quiet || strcmp(e->what, "round") != 0)
		return;
	cmd_progress_end();
	printf("round %u: %llu pages in %.3f s, %s/s; it writes %s/s; it would stand still for "
	       "%.0f ms\n",
	       e->round, (unsigned long long)e->pages, (double)e->us / 1e6,
	       cmd_human(e->link_bytes_s, a), cmd_human(e->write_bytes_s, b),
	       (double)e->downtime_us / 1e3);
	fflush(stdout);
}

static void on_blocker(void *arg, const struct ckpt_err *why, bool there)
{
	struct print *p = arg;

	p->blockers++;
	if (p->c->json) {
		struct json_object *o = cmd_err_json(why);

		json_object_object_add(o, "event", json_object_new_string("blocker"));
		json_object_object_add(o, "node",
				       json_object_new_string(there ? "peer" : "source"));
		cmd_print_line(o);
		return;
	}
	fprintf(stderr, "%s: %s: %s%s%s\n  → %s\n", there ? "there" : "here",
		ckpt_err_name(why->id), why->where, why->where[0] ? ": " : "", why->msg,
		ckpt_err_remedy(why));
}

static int resolve_one(struct cmd_common *c, const char *id, const struct migrate_opts *o)
{
	enum migrate_outcome out;
	struct ckpt_err err = { 0 };

	if (ckpt_migrate_resolve(id, o->to, o->auth.key || o->auth.insecure ? &o->auth : NULL,
				 &c->ui, &out, &err))
		return cmd_fail(c, &err);
	if (c->json) {
		struct json_object *j = json_object_new_object();

		json_object_object_add(j, "event", json_object_new_string("resolved"));
		json_object_object_add(j, "id", json_object_new_string(id));
		json_object_object_add(
			j, "runs", json_object_new_string(out == MIGRATE_THERE ? "there" : "here"));
		cmd_print_line(j);
	} else {
		printf("%s: it runs %s\n", id,
		       out == MIGRATE_THERE ? "there; the copy here is ended" : "here");
	}
	return 0;
}

static int resolve(struct cmd_common *c, const char *id, const struct migrate_opts *o)
{
	struct ckpt_err err = { 0 };
	char **ids = NULL;
	size_t n = 0;
	int rc = 0;

	if (strcmp(id, "all") != 0)
		return resolve_one(c, id, o);
	if (decision_list(&ids, &n, &err))
		return cmd_fail(c, &err);
	for (size_t i = 0; i < n; i++) {
		int one = resolve_one(c, ids[i], o);

		rc = one ? one : rc;
		free(ids[i]);
	}
	free(ids);
	if (!n && !c->quiet && !c->json)
		printf("nothing is in doubt here\n");
	return rc;
}

static void print_result(const struct cmd_common *c, const struct migrate_opts *o,
			 const struct migrate_result *r)
{
	char bytes[16], zero[16], lz4[16], xor[16], same[16];

	if (c->json) {
		struct json_object *j = json_object_new_object();

		json_object_object_add(j, "event", json_object_new_string("moved"));
		json_object_object_add(j, "pid", json_object_new_int(r->pid));
		json_object_object_add(j, "downtime_us", json_object_new_uint64(r->downtime_us));
		json_object_object_add(j, "freeze_us", json_object_new_uint64(r->freeze_us));
		json_object_object_add(j, "collect_us", json_object_new_uint64(r->collect_us));
		json_object_object_add(j, "build_us", json_object_new_uint64(r->build_us));
		json_object_object_add(j, "total_us", json_object_new_uint64(r->total_us));
		json_object_object_add(j, "rounds", json_object_new_int((int)r->rounds));
		json_object_object_add(j, "pages", json_object_new_uint64(r->pages));
		json_object_object_add(j, "zero_pages", json_object_new_uint64(r->zero_pages));
		json_object_object_add(j, "final_pages", json_object_new_uint64(r->final_pages));
		json_object_object_add(j, "processes", json_object_new_int((int)r->processes));
		json_object_object_add(j, "warm_processes", json_object_new_int((int)r->warm));
		json_object_object_add(j, "filled_bytes", json_object_new_uint64(r->filled));
		json_object_object_add(j, "bytes", json_object_new_uint64(r->bytes));
		json_object_object_add(j, "saved_zero_bytes",
				       json_object_new_uint64(r->saved_zero));
		json_object_object_add(j, "saved_lz4_bytes", json_object_new_uint64(r->saved_lz4));
		json_object_object_add(j, "saved_xor_bytes", json_object_new_uint64(r->saved_xor));
		json_object_object_add(j, "saved_shared_bytes",
				       json_object_new_uint64(r->saved_same));
		json_object_object_add(j, "tracker",
				       json_object_new_string(r->tracker ? r->tracker : "none"));
		if (*r->checkpoint)
			json_object_object_add(j, "checkpoint",
					       json_object_new_string(r->checkpoint));
		if (*r->network_lock)
			json_object_object_add(j, "network_lock",
					       json_object_new_string(r->network_lock));
		cmd_print_line(j);
		return;
	}
	if (c->quiet)
		return;
	printf("moved process %d to %s: it stood still for %.1f ms; %s in %.2f s, %u round%s, %llu "
	       "pages "
	       "in the last\n",
	       o->pid, o->to, (double)r->downtime_us / 1e3, cmd_human(r->bytes, bytes),
	       (double)r->total_us / 1e6, r->rounds, r->rounds == 1 ? "" : "s",
	       (unsigned long long)r->final_pages);
	if (r->saved_zero + r->saved_lz4 + r->saved_xor + r->saved_same)
		printf("not sent: %s of zero pages, %s by LZ4, %s by differences, %s that children "
		       "share with their parents\n",
		       cmd_human(r->saved_zero, zero), cmd_human(r->saved_lz4, lz4),
		       cmd_human(r->saved_xor, xor), cmd_human(r->saved_same, same));
	if (*r->checkpoint)
		printf("its first checkpoint there is %s\n", r->checkpoint);
	if (c->verbose)
		fprintf(stderr,
			"freeze %llu µs, collect and copy %llu µs, build there %llu µs; %u of %u "
			"processes were there before, %s was filled in\n",
			(unsigned long long)r->freeze_us, (unsigned long long)r->collect_us,
			(unsigned long long)r->build_us, r->warm, r->processes,
			cmd_human(r->filled, bytes));
}

static bool parse_num(const char *s, uint64_t max, uint64_t *ret)
{
	char *end;
	unsigned long long v = strtoull(s, &end, 10);

	if (*end || end == s || *s == '-' || v > max)
		return false;
	*ret = v;
	return true;
}

/* An option of ours; a text to complain with, or NULL. */
static const char *take_opt(int key, const char *arg, struct migrate_opts *o,
			    const char **resolve_id)
{
	uint64_t n;

	if (key == 't' && !cmd_pid(arg, &o->pid))
		return "--pid takes a process id";
	if (key == OPT_TO)
		o->to = arg;
	if (key == OPT_KEY)
		o->auth.key = arg;
	if (key == OPT_INSECURE)
		o->auth.insecure = true;
	if (key == OPT_DOWNTIME && !cmd_time(arg, 1000, &o->max_downtime_us))
		return "--max-downtime takes a time like 20ms";
	if (key == OPT_ROUNDS) {
		if (!parse_num(arg, 1000, &n))
			return "--max-rounds takes a number up to 1000";
		o->max_rounds = (uint32_t)n;
	}
	if (key == OPT_DOUBT && !cmd_time(arg, 1000000, &o->resolve_us))
		return "--resolve-time takes a time like 10s";
	if (key == OPT_BANDWIDTH && (!cmd_size(arg, &o->bandwidth) || o->bandwidth < 4096))
		return "--bandwidth takes bytes a second, like 100M";
	if (key == OPT_DIVERGE) {
		o->diverge = !strcmp(arg, "fail")       ? DIVERGE_FAIL
			     : !strcmp(arg, "throttle") ? DIVERGE_THROTTLE
							: DIVERGE_STOP;
		if (o->diverge == DIVERGE_STOP && strcmp(arg, "stop") != 0)
			return "--on-diverge takes stop, fail or throttle";
	}
	if (key == OPT_COMPRESS) {
		o->pack = !strcmp(arg, "lz4")    ? MIG_PACK_LZ4
			  : !strcmp(arg, "none") ? MIG_PACK_NONE
						 : MIG_PACK_AUTO;
		if (o->pack == MIG_PACK_AUTO && strcmp(arg, "auto") != 0)
			return "--compress takes auto, none or lz4";
	}
	if (key == OPT_DELTA && !cmd_size(arg, &o->delta_cache))
		return "--delta-cache takes a size, or 0";
	if (key == OPT_TCP) {
		if (!cmd_tcp(arg, &o->tcp))
			return "--tcp takes keep, close or refuse";
	}
	if (key == OPT_ADDRESS) {
		struct print *p = o->arg;

		if (o->naddrs == ADDRESSES_MAX || !netaddr_parse(arg, &p->addrs[o->naddrs]))
			return "--move-address takes ADDR/PLEN[@DEV], at most 64 times";
		o->naddrs++;
	}
	if (key == OPT_HOOK) {
		o->hook = arg;
		if (*arg != '/' || access(arg, X_OK))
			return "--hook takes the full path of a program";
	}
	if (key == OPT_HOOK_TIME && !cmd_hook_timeout(arg, &o->hook_timeout_ms))
		return "--hook-timeout takes a time like 10s";
	if (key == OPT_TRACKER)
		o->tracker = arg;
	if (key == OPT_TRACK)
		o->track = true;
	if (key == OPT_CHECK)
		o->check_only = true;
	if (key == OPT_RESOLVE)
		*resolve_id = arg;
	return NULL;
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct cmd_common c = { .lines = true };
	struct print p = { .c = &c };
	struct migrate_opts o = { .max_downtime_us = 100000,
				  .max_rounds = 16,
				  .resolve_us = 10000000,
				  .delta_cache = DELTA_CACHE_BYTES,
				  .addrs = p.addrs,
				  .hook_timeout_ms = HOOK_TIMEOUT_MS,
				  .event = on_event,
				  .arg = &p };
	struct migrate_result res;
	struct ckpt_err err = { 0 };
	char doubt[64] = "";
	const char *resolve_id = NULL, *bad;
	int key, rc;

	while ((key = cmd_getopt(cmd, &c, argc, argv)) != -1) {
		bad = take_opt(key, optarg, &o, &resolve_id);
		if (bad)
			return cmd_usage(cmd, "%s, not \"%s\"", bad, optarg);
	}
	if (optind < argc)
		return cmd_usage(cmd, "unexpected argument \"%s\"", argv[optind]);
	if (resolve_id)
		return resolve(&c, resolve_id, &o);
	if (!o.pid || !o.to)
		return cmd_usage(cmd, "name the process with --pid and the other node with --to");
	if (cmd_need_root(&err))
		return cmd_fail(&c, &err);
	if (o.check_only)
		o.blocker = on_blocker;
	rc = ckpt_migrate(&o, &c.ui, &res, doubt, &err);
	cmd_progress_end();
	if (o.check_only && p.blockers)
		return 3;
	if (rc)
		return cmd_fail(&c, &err);
	if (!o.check_only)
		print_result(&c, &o, &res);
	else if (!c.quiet && !c.json)
		printf("nothing stops moving process %d to %s\n", o.pid, o.to);
	return 0;
}

const struct cmd cmd_migrate = { "migrate", "-t PID --to DEST [OPTION…]",
				 "move a running program to another node", opts, run };
