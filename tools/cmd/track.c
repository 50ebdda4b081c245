// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/vec.h"
#include "cmd/cmd.h"
#include "dump/dump.h"
#include "track/keeper.h"
#include "track/track.h"

enum { OPT_TRACKER = 256 };

static const struct cmd_opt opts[] = {
	{ 't', "pid", "PID", "the process, with its threads and descendants" },
	{ OPT_TRACKER, "tracker", "NAME", "kmod, wp-async, soft-dirty, none (default: best)" },
	{ 0 },
};

static int no_session(int pid, struct ckpt_err *err)
{
	(void)ckpt_fail(err, E_TRACK, -ENOENT, "process %d is not tracked", pid);
	return ckpt_remedy(err, "start tracking: ckpt track start -t %d", pid);
}

static int do_start(const struct cmd_common *c, int pid, const char *tracker, struct ckpt_err *err)
{
	int rc = ckpt_track_start(pid, tracker, (struct ckpt_ui *)&c->ui, err);

	if (!rc && !c->json && !c->quiet)
		printf("process %d is tracked\n", pid);
	return rc;
}

static int do_stop(const struct cmd_common *c, int pid, const char *tracker, struct ckpt_err *err)
{
	int sock, rc = keeper_connect(pid, &sock, err);

	(void)tracker;
	if (rc == -ENOENT)
		return no_session(pid, err);
	if (rc)
		return rc;
	rc = keeper_stop(sock, err);
	(void)close(sock);
	if (!rc && !c->json && !c->quiet)
		printf("process %d is no longer tracked\n", pid);
	return rc;
}

static const char *state_word(const struct keeper_state *s)
{
	if (s->taken)
		return "in use by a dump";
	if (s->broken)
		return "broken: the next checkpoint will be a full one";
	return s->armed ? "armed" : "attached: the first checkpoint will be a full one";
}

static void print_json(int pid, const struct keeper_state *s, const char *id)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "pid", json_object_new_int(pid));
	json_object_object_add(o, "tracker", json_object_new_string(s->backend));
	json_object_object_add(o, "tasks", json_object_new_int64(s->tasks));
	json_object_object_add(o, "armed", json_object_new_boolean(s->armed));
	json_object_object_add(o, "broken", json_object_new_boolean(s->broken));
	json_object_object_add(o, "taken", json_object_new_boolean(s->taken));
	json_object_object_add(o, "checkpoints", json_object_new_int64((int64_t)s->epochs));
	json_object_object_add(o, "keeper", json_object_new_int(s->keeper_pid));
	json_object_object_add(o, "started_ns", json_object_new_int64((int64_t)s->started_ns));
	if (s->armed) {
		json_object_object_add(o, "parent_id", json_object_new_string(id));
		json_object_object_add(o, "parent_path", json_object_new_string(s->armed_path));
	}
	cmd_print_json(o);
}

static int do_status(const struct cmd_common *c, int pid, const char *tracker, struct ckpt_err *err)
{
	char id[2 * KEEPER_ID_BYTES + 1];
	struct keeper_state s;
	int sock, rc = keeper_connect(pid, &sock, err);

	(void)tracker;
	if (rc == -ENOENT)
		return no_session(pid, err);
	if (rc)
		return rc;
	rc = keeper_status(sock, &s, err);
	(void)close(sock);
	if (rc)
		return rc;
	for (size_t i = 0; i < KEEPER_ID_BYTES; i++)
		(void)snprintf(id + 2 * i, 3, "%02x", s.armed_id[i]);
	if (c->json) {
		print_json(pid, &s, id);
	} else if (!c->quiet) {
		printf("process %d: %u task%s tracked by %s, %s\n", pid, s.tasks,
		       s.tasks == 1 ? "" : "s", s.backend, state_word(&s));
		if (s.armed)
			printf("the last checkpoint is %s in %s\n", id, s.armed_path);
	}
	return 0;
}

static const struct {
	const char *name;
	int (*run)(const struct cmd_common *c, int pid, const char *tracker, struct ckpt_err *err);
} actions[] = { { "start", do_start }, { "stop", do_stop }, { "status", do_status } };

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct cmd_common c = { 0 };
	struct ckpt_err err = { 0 };
	const char *tracker = NULL, *what;
	int key, pid = 0;

	while ((key = cmd_getopt(cmd, &c, argc, argv)) != -1) {
		if (key == 't' && !cmd_pid(optarg, &pid))
			return cmd_usage(cmd, "\"%s\" is not a process id", optarg);
		if (key == OPT_TRACKER)
			tracker = optarg;
	}
	what = optind < argc ? argv[optind] : "";
	if (optind + 1 < argc)
		return cmd_usage(cmd, "unexpected argument \"%s\"", argv[optind + 1]);
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		if (strcmp(actions[i].name, what) != 0)
			continue;
		if (!pid)
			return cmd_usage(cmd, "name the process with --pid");
		if (tracker && !track_known(tracker))
			return cmd_usage(cmd, "--tracker takes " TRACKERS ", not \"%s\"", tracker);
		return actions[i].run(&c, pid, tracker, &err) ? cmd_fail(&c, &err) : 0;
	}
	return *what ? cmd_usage(cmd, "say start, stop or status, not \"%s\"", what)
		     : cmd_usage(cmd, "say start, stop or status");
}

const struct cmd cmd_track = { "track", "start|stop|status -t PID [OPTION…]",
			       "tracking sessions: what increments need", opts, run };
