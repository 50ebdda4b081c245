// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/vec.h"
#include "cmd/cmd.h"
#include "dump/dump.h"

enum {
	OPT_KILL = 256,
	OPT_TCP,
	OPT_STORE,
	OPT_GHOST,
	OPT_THREADS,
	OPT_PARENT,
	OPT_TRACK,
	OPT_TRACKER
};

static const struct cmd_opt opts[] = {
	{ 't', "pid", "PID", "the process, with its threads and descendants" },
	{ 'D', "image", "DIR", "where to: a new or empty directory" },
	{ OPT_TRACK, "track", NULL, "from now on, track what the program writes" },
	{ OPT_PARENT, "parent", "DIR", "save what was written since this checkpoint" },
	{ OPT_TRACKER, "tracker", "NAME", "how to track: wp-async or none (default: the best)" },
	{ OPT_KILL, "kill", NULL, "end the program once the checkpoint is on disk" },
	{ 's', "leave-stopped", NULL, "leave the program stopped (SIGSTOP)" },
	{ 'R', "leave-running", NULL, "let it run on (this is the default)" },
	{ OPT_TCP, "tcp", "close|refuse", "established TCP connections: drop or refuse" },
	{ OPT_STORE, "store-files", NULL, "keep the contents of mapped files in the image" },
	{ OPT_GHOST, "ghost-limit", "SIZE", "largest removed file to keep (default 64M)" },
	{ OPT_THREADS, "threads", "N", "threads that copy memory (default: processors)" },
	{ 0 },
};

static bool parse_tcp(const char *s, enum ckpt_tcp *ret)
{
	static const struct {
		const char *name;
		enum ckpt_tcp value;
	} modes[] = { { "close", CKPT_TCP_CLOSE }, { "refuse", CKPT_TCP_REFUSE } };

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (!strcmp(s, modes[i].name)) {
			*ret = modes[i].value;
			return true;
		}
	return false;
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct ckpt_dump_opts o = { .ghost_limit = 64u << 20,
				    .threads = (int)sysconf(_SC_NPROCESSORS_ONLN) };
	struct cmd_common c = { 0 };
	struct ckpt_err err = { 0 };
	Ckpt__Stats st;
	char pages[16];
	int key, rc;

	while ((key = cmd_getopt(cmd, &c, argc, argv)) != -1) {
		if (key == 't' && !cmd_pid(optarg, &o.pid))
			return cmd_usage(cmd, "\"%s\" is not a process id", optarg);
		if (key == 'D')
			o.dir = optarg;
		if (key == OPT_TRACK)
			o.track = true;
		if (key == OPT_PARENT)
			o.parent = optarg;
		if (key == OPT_TRACKER)
			o.tracker = optarg;
		if (key == OPT_KILL)
			o.end = TARGET_KILL;
		if (key == 's')
			o.end = TARGET_STOP;
		if (key == 'R')
			o.end = TARGET_RUN;
		if (key == OPT_TCP && !parse_tcp(optarg, &o.tcp))
			return cmd_usage(cmd, "--tcp takes close or refuse, not \"%s\"", optarg);
		if (key == OPT_STORE)
			o.store_files = true;
		if (key == OPT_GHOST && !cmd_size(optarg, &o.ghost_limit))
			return cmd_usage(cmd, "\"%s\" is not a size", optarg);
		if (key == OPT_THREADS && !cmd_pid(optarg, &o.threads))
			return cmd_usage(cmd, "\"%s\" is not a number of threads", optarg);
	}
	if (optind < argc)
		return cmd_usage(cmd, "unexpected argument \"%s\"", argv[optind]);
	if (!o.pid || !o.dir)
		return cmd_usage(cmd, "name the process with --pid and the directory with --image");
	if (o.tracker && !o.track && !o.parent)
		return cmd_usage(cmd, "--tracker goes with --track or --parent");
	if (o.track && o.end == TARGET_KILL)
		return cmd_usage(cmd, "--track and --kill exclude each other");
	rc = ckpt_dump(&o, &c.ui, &st, &err);
	cmd_progress_end();
	if (rc)
		return cmd_fail(&c, &err);
	if (c.json) {
		struct json_object *j = json_object_new_object();

		json_object_object_add(j, "image", json_object_new_string(o.dir));
		json_object_object_add(j, "stats", cmd_message_json(&st.base));
		cmd_print_json(j);
	} else if (!c.quiet) {
		printf("saved process %d to %s: %llu task%s, %llu thread%s, %s of memory; it stood "
		       "still for "
		       "%llu.%01llu ms\n",
		       o.pid, o.dir, (unsigned long long)st.tasks, st.tasks == 1 ? "" : "s",
		       (unsigned long long)st.threads, st.threads == 1 ? "" : "s",
		       cmd_human(st.bytes_pages, pages), (unsigned long long)st.pause_us / 1000,
		       (unsigned long long)st.pause_us / 100 % 10);
	}
	if (c.verbose)
		fprintf(stderr, "freeze %llu µs, collect %llu µs, pages %llu µs, total %llu µs\n",
			(unsigned long long)st.freeze_us, (unsigned long long)st.collect_us,
			(unsigned long long)st.pages_us, (unsigned long long)st.total_us);
	return 0;
}

const struct cmd cmd_dump = { "dump", "-t PID -D DIR [OPTION…]", "save a running program", opts,
			      run };
