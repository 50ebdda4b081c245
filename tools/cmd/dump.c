// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/vec.h"
#include "cmd/cmd.h"
#include "dump/dump.h"
#include "dump/every.h"

enum {
	OPT_KILL = 256,
	OPT_TCP,
	OPT_STORE,
	OPT_GHOST,
	OPT_THREADS,
	OPT_COMPRESS,
	OPT_PARENT,
	OPT_TRACK,
	OPT_TRACKER,
	OPT_EVERY,
	OPT_KEEP,
	OPT_COUNT,
	OPT_EXTERNAL,
	OPT_PRE,
	OPT_NO_PRE,
	OPT_MAX_PAUSE,
	OPT_LONG_PAUSE
};

static const struct cmd_opt opts[] = {
	{ 't', "pid", "PID", "the process, with its threads and descendants" },
	{ 'D', "image", "DIR", "where to: a new or empty directory" },
	{ OPT_TRACK, "track", NULL, "from now on, track what the program writes" },
	{ OPT_PARENT, "parent", "DIR", "save what was written since this checkpoint" },
	{ OPT_TRACKER, "tracker", "NAME", "kmod, wp-async, soft-dirty, none (default: best)" },
	{ OPT_EVERY, "every", "TIME", "again and again: DIR/000001, … (500ms, 10s, 5m)" },
	{ OPT_KEEP, "keep", "N", "with --every: newest checkpoints to keep (default 3)" },
	{ OPT_COUNT, "count", "N", "with --every: end after so many" },
	{ OPT_PRE, "pre", NULL, "copy memory ahead while the program runs" },
	{ OPT_NO_PRE, "no-pre", NULL, "do not; increments do where it pays" },
	{ OPT_MAX_PAUSE, "max-pause", "TIME", "how long the program may stand still (20ms)" },
	{ OPT_LONG_PAUSE, "on-long-pause", "fail|go", "when that is not enough (default fail)" },
	{ OPT_KILL, "kill", NULL, "end the program once the checkpoint is on disk" },
	{ 's', "leave-stopped", NULL, "leave the program stopped (SIGSTOP)" },
	{ 'R', "leave-running", NULL, "let it run on (this is the default)" },
	{ OPT_TCP, "tcp", "keep|close|refuse", "established TCP connections (default refuse)" },
	{ OPT_STORE, "store-files", NULL, "keep the contents of mapped files in the image" },
	{ OPT_GHOST, "ghost-limit", "SIZE", "largest removed file to keep (default 64M)" },
	{ OPT_COMPRESS, "compress", "none|lz4|zstd", "pack the page file (default none)" },
	{ OPT_EXTERNAL, "external", "NAME",
	  "leave this descriptor out; the restore hands one over" },
	{ OPT_THREADS, "threads", "N", "threads that copy memory (default: processors)" },
	{ 0 },
};

struct made {
	const struct cmd_common *c;
	int pid;
};

/* One checkpoint, in one line. */
static void print_made(void *arg, const char *dir, const Ckpt__Stats *st)
{
	const struct made *m = arg;
	char bytes[16], size[16], kept[64] = "", packed[32] = "";

	cmd_progress_end();
	if (m->c->json) {
		struct json_object *j = json_object_new_object();

		json_object_object_add(j, "image", json_object_new_string(dir));
		json_object_object_add(j, "stats", cmd_message_json(&st->base));
		cmd_print_json(j);
	} else if (!m->c->quiet) {
		if (st->pages_parent)
			(void)snprintf(kept, sizeof(kept),
				       " of %llu written pages (%llu unchanged)",
				       (unsigned long long)st->pages_written,
				       (unsigned long long)st->pages_parent);
		if (st->bytes_packed)
			(void)snprintf(packed, sizeof(packed), " in %s",
				       cmd_human(st->bytes_packed, size));
		printf("saved process %d to %s: %llu task%s, %llu thread%s, %s%s%s; it stood still "
		       "for %llu.%01llu ms\n",
		       m->pid, dir, (unsigned long long)st->tasks, st->tasks == 1 ? "" : "s",
		       (unsigned long long)st->threads, st->threads == 1 ? "" : "s",
		       cmd_human(st->bytes_pages, bytes), kept[0] ? kept : " of memory", packed,
		       (unsigned long long)st->pause_us / 1000,
		       (unsigned long long)st->pause_us / 100 % 10);
		if (st->network_lock && st->network_lock[0])
			printf("%llu TCP connection%s held back by the nftables table %s until the "
			       "restore; by hand: nft delete table inet %s\n",
			       (unsigned long long)st->connections,
			       st->connections == 1 ? " is" : "s are", st->network_lock,
			       st->network_lock);
	}
	(void)fflush(stdout);
	if (m->c->verbose)
		cmd_print_phases(stderr, st);
}

static int run_every(const struct cmd *cmd, struct cmd_common *c, struct every_opts *e,
		     const struct ckpt_dump_opts *o)
{
	struct made m = { c, o->pid };
	struct ckpt_err err = { 0 };
	unsigned int made;
	int rc;

	if (o->parent || o->track || o->end != TARGET_RUN)
		return cmd_usage(cmd,
				 "--every excludes --parent, --track, --kill and --leave-stopped");
	e->dump = *o;
	e->keep = e->keep ? e->keep : 3;
	e->made = print_made;
	e->arg = &m;
	rc = ckpt_dump_every(e, &c->ui, &made, &err);
	cmd_progress_end();
	return rc ? cmd_fail(c, &err) : 0;
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct ckpt_dump_opts o = { .ghost_limit = 64u << 20,
				    .threads = (int)sysconf(_SC_NPROCESSORS_ONLN) };
	struct cmd_common c = { 0 };
	struct ckpt_err err = { 0 };
	struct every_opts e = { 0 };
	const char *external[CKPT_EXTERNAL_MAX];
	struct dump_ns ns = { 0 };
	Ckpt__Stats st;
	int key, rc;

	while ((key = cmd_getopt(cmd, &c, argc, argv)) != -1) {
		if (key == 't' && !cmd_pid(optarg, &o.pid))
			return cmd_usage(cmd, "\"%s\" is not a process id", optarg);
		if (key == 'D')
			o.dir = optarg;
		if (key == OPT_EVERY &&
		    (!cmd_time(optarg, 1000000, &e.interval_us) || e.interval_us < 1000))
			return cmd_usage(cmd, "\"%s\" is not a time: 500ms, 10s, 5m", optarg);
		if (key == OPT_KEEP && !cmd_pid(optarg, (int *)&e.keep))
			return cmd_usage(cmd, "\"%s\" is not a number of checkpoints", optarg);
		if (key == OPT_COUNT && !cmd_pid(optarg, (int *)&e.count))
			return cmd_usage(cmd, "\"%s\" is not a number of checkpoints", optarg);
		if (key == OPT_TRACK)
			o.track = true;
		if (key == OPT_PARENT)
			o.parent = optarg;
		if (key == OPT_TRACKER)
			o.tracker = optarg;
		if (key == OPT_TRACKER && !track_known(optarg))
			return cmd_usage(cmd, "--tracker takes " TRACKERS ", not \"%s\"", optarg);
		if (key == OPT_PRE)
			o.pre = true;
		if (key == OPT_NO_PRE)
			o.no_pre = true;
		if (key == OPT_MAX_PAUSE &&
		    (!cmd_time(optarg, 1000, &o.max_pause_us) || !o.max_pause_us))
			return cmd_usage(cmd, "--max-pause takes a time like 20ms, not \"%s\"",
					 optarg);
		if (key == OPT_LONG_PAUSE && strcmp(optarg, "go") && strcmp(optarg, "fail"))
			return cmd_usage(cmd, "--on-long-pause takes fail or go, not \"%s\"",
					 optarg);
		if (key == OPT_LONG_PAUSE)
			o.long_pause = !strcmp(optarg, "go");
		if (key == OPT_KILL)
			o.end = TARGET_KILL;
		if (key == 's')
			o.end = TARGET_STOP;
		if (key == 'R')
			o.end = TARGET_RUN;
		if (key == OPT_TCP && !cmd_tcp(optarg, &o.tcp))
			return cmd_usage(cmd, "--tcp takes keep, close or refuse, not \"%s\"",
					 optarg);
		if (key == OPT_STORE)
			o.store_files = true;
		if (key == OPT_GHOST && !cmd_size(optarg, &o.ghost_limit))
			return cmd_usage(cmd, "\"%s\" is not a size", optarg);
		if (key == OPT_COMPRESS && !pack_how_parse(optarg, &o.compress))
			return cmd_usage(cmd, "--compress takes none, lz4 or zstd, not \"%s\"",
					 optarg);
		if (key == OPT_EXTERNAL && !cmd_list(optarg, external, &o.n_external))
			return cmd_usage(cmd, "--external is given too often");
		if (key == OPT_THREADS && !cmd_pid(optarg, &o.threads))
			return cmd_usage(cmd, "\"%s\" is not a number of threads", optarg);
	}
	o.external = external;
	o.ns = &ns;
	if (optind < argc)
		return cmd_usage(cmd, "unexpected argument \"%s\"", argv[optind]);
	if (!o.pid || !o.dir)
		return cmd_usage(cmd, "name the process with --pid and the directory with --image");
	if (o.tracker && !o.track && !o.parent && !e.interval_us && !o.pre)
		return cmd_usage(cmd, "--tracker goes with --track, --parent, --every or --pre");
	if (o.max_pause_us && o.end != TARGET_RUN)
		return cmd_usage(cmd, "--max-pause excludes --kill and --leave-stopped");
	if (o.pre && o.no_pre)
		return cmd_usage(cmd, "--pre and --no-pre exclude each other");
	if (o.track && o.end == TARGET_KILL)
		return cmd_usage(cmd, "--track and --kill exclude each other");
	if (!e.interval_us && (e.keep || e.count))
		return cmd_usage(cmd, "--keep and --count go with --every");
	dump_ns_enter(o.pid, &ns);
	if (e.interval_us)
		return run_every(cmd, &c, &e, &o);
	o.last = true;
	rc = ckpt_dump(&o, &c.ui, &st, &err);
	cmd_progress_end();
	if (rc)
		return cmd_fail(&c, &err);
	print_made(&(struct made) { &c, o.pid }, o.dir, &st);
	if (st.network_lock && st.network_lock[0])
		free(st.network_lock);
	return 0;
}

const struct cmd cmd_dump = { "dump", "-t PID -D DIR [OPTION…]", "save a running program", opts,
			      run };
