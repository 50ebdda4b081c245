// SPDX-License-Identifier: GPL-2.0-only
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/cmd.h"
#include "image/merge.h"
#include "track/keeper.h"

enum { OPT_THREADS = 256, OPT_COMPRESS };

static const struct cmd_opt opts[] = {
	{ 'D', "image", "DIR", "the increment whose chain is folded" },
	{ 'o', "output", "DIR", "where to: a new or empty directory" },
	{ 't', "pid", "PID", "the next increment of this process goes on from it" },
	{ OPT_COMPRESS, "compress", "none|lz4|zstd", "pack the new page file (default none)" },
	{ OPT_THREADS, "threads", "N", "threads that copy memory (default: processors)" },
	{ 0 },
};

static int rebase(int pid, const struct image *img, const struct image_merged *m, const char *dir,
		  struct ckpt_err *err)
{
	auto_free char *path = realpath(dir, NULL);
	auto_fd sock = -1;
	int rc = keeper_connect(pid, &sock, err);

	if (rc == -ENOENT)
		return ckpt_fail(err, E_TRACK, rc, "process %d is not tracked", pid);
	return rc ? rc : keeper_rebase(sock, img->sources.v[0].id, m->id, path ? path : dir, err);
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	int key, rc, pid = 0;
	const char *dir = NULL, *to = NULL;
	struct image_merge_how how = { .threads = (int)sysconf(_SC_NPROCESSORS_ONLN) };
	struct cmd_common c = { 0 };
	struct ckpt_err err = { 0 };
	struct image_merged m;
	struct image img;
	char size[16];

	while ((key = cmd_getopt(cmd, &c, argc, argv)) != -1) {
		if (key == 'D')
			dir = optarg;
		if (key == 'o')
			to = optarg;
		if (key == 't' && !cmd_pid(optarg, &pid))
			return cmd_usage(cmd, "\"%s\" is not a process id", optarg);
		if (key == OPT_COMPRESS && !pack_how_parse(optarg, &how.pack))
			return cmd_usage(cmd, "--compress takes none, lz4 or zstd, not \"%s\"",
					 optarg);
		if (key == OPT_THREADS && !cmd_pid(optarg, &how.threads))
			return cmd_usage(cmd, "\"%s\" is not a number of threads", optarg);
	}
	if (optind < argc)
		return cmd_usage(cmd, "unexpected argument \"%s\"", argv[optind]);
	if (!dir || !to)
		return cmd_usage(cmd, "name the increment with --image, the new one with --output");
	rc = image_read(&img, dir, &err);
	if (!rc)
		rc = image_merge(&img, to, &how, &c.ui, &m, &err);
	if (!rc && pid)
		rc = rebase(pid, &img, &m, to, &err);
	cmd_progress_end();
	if (!rc && c.json) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "image", json_object_new_string(to));
		json_object_object_add(o, "folded", json_object_new_int64((int64_t)img.sources.n));
		json_object_object_add(o, "bytes", json_object_new_int64((int64_t)m.bytes));
		cmd_print_json(o);
	} else if (!rc && !c.quiet) {
		printf("%s holds all of %s: %zu checkpoint%s folded, %s\n", to, dir, img.sources.n,
		       img.sources.n == 1 ? "" : "s", cmd_human(m.bytes, size));
	}
	image_free(&img);
	return rc ? cmd_fail(&c, &err) : 0;
}

const struct cmd cmd_merge = { "merge", "-D DIR -o DIR [-t PID]",
			       "fold the chain of an increment into one checkpoint", opts, run };
