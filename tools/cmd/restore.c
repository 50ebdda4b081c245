// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/cmd.h"
#include "restore/restore.h"

enum { OPT_PIDFILE = 256, OPT_PIDNS, OPT_PLAN, OPT_INHERIT, OPT_CGROUP, OPT_JOIN };

static const struct cmd_opt opts[] = {
	{ 'D', "image", "DIR", "the checkpoint" },
	{ 'd', "detach", NULL, "return when it runs; otherwise wait for its end" },
	{ 's', "leave-stopped", NULL, "leave the program stopped (SIGSTOP)" },
	{ OPT_PIDFILE, "pidfile", "FILE", "write the pid of the root process there" },
	{ OPT_PIDNS, "pidns", NULL, "restore into a fresh pid namespace" },
	{ OPT_INHERIT, "inherit-fd", "N:NAME", "hand descriptor N over for the one called NAME" },
	{ OPT_JOIN, "join-ns", "TYPE:PATH", "enter this net, uts or ipc namespace (PATH or host)" },
	{ OPT_CGROUP, "cgroup", "PATH|keep|none", "control group to run in (default keep)" },
	{ OPT_PLAN, "plan", NULL, "print what would be done, and do nothing" },
	{ 0 },
};

static int write_pidfile(const char *path, pid_t pid, struct ckpt_err *err)
{
	auto_file FILE *f = fopen(path, "we");

	if (!f || fprintf(f, "%d\n", pid) < 0 || fflush(f))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot write the pid file %s",
				       path);
	return 0;
}

/* The program was stopped from the terminal: so is this job of the shell. When the shell continues
 * it, the program gets the terminal again. */
static void stop_with(pid_t pid)
{
	auto_fd tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	pid_t group = getpgid(pid);

	if (tty < 0 || group < 0 || group == getpgrp() || getsid(pid) != getsid(0))
		return;
	(void)raise(SIGSTOP);
	if (tcgetpgrp(tty) == getpgrp())
		(void)tcsetpgrp(tty, group);
	(void)kill(-group, SIGCONT);
}

/* Stay until the program ends, and end as it did. */
static int wait_root(pid_t pid)
{
	int status;

	for (;;) {
		if (waitpid(pid, &status, WUNTRACED) < 0) {
			if (errno != EINTR)
				return 1;
		} else if (WIFSTOPPED(status)) {
			stop_with(pid);
		} else {
			break;
		}
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct ckpt_restore_opts o = { 0 };
	struct cmd_common c = { 0 };
	struct ckpt_err err = { 0 };
	struct restore_result res = { 0 };
	struct ckpt_inherit inherit[CKPT_EXTERNAL_MAX];
	int key, rc;

	while ((key = cmd_getopt(cmd, &c, argc, argv)) != -1) {
		if (key == 'D')
			o.dir = optarg;
		if (key == 'd')
			o.detach = true;
		if (key == 's')
			o.leave_stopped = true;
		if (key == OPT_PIDFILE)
			o.pidfile = optarg;
		if (key == OPT_PIDNS)
			o.pidns = true;
		if (key == OPT_PLAN)
			o.plan_only = true;
		if (key == OPT_CGROUP)
			o.cgroup = optarg;
		if (key == OPT_JOIN && !cmd_join(optarg, &o))
			return cmd_usage(
				cmd, "--join-ns takes net:PATH, uts:PATH or ipc:PATH, not \"%s\"",
				optarg);
		if (key == OPT_INHERIT && o.n_inherit == CKPT_EXTERNAL_MAX)
			return cmd_usage(cmd, "--inherit-fd is given too often");
		if (key == OPT_INHERIT && !cmd_inherit(optarg, &inherit[o.n_inherit++]))
			return cmd_usage(cmd,
					 "--inherit-fd takes N:NAME or closed:NAME, not \"%s\"",
					 optarg);
	}
	o.inherit = inherit;
	if (optind < argc)
		return cmd_usage(cmd, "unexpected argument \"%s\"", argv[optind]);
	if (!o.dir)
		return cmd_usage(cmd, "name the checkpoint with --image");
	rc = o.plan_only ? 0 : cmd_need_root(&err);
	if (!rc && !o.plan_only)
		rc = restore_ns_enter(&o, &err);
	if (!rc)
		rc = o.pidns && !o.plan_only ? ckpt_restore_pidns(&o, &c.ui, &res, &err)
					     : ckpt_restore(&o, &c.ui, &res, &err);
	cmd_progress_end();
	if (!rc && o.pidfile && !o.plan_only)
		rc = write_pidfile(o.pidfile, res.pid, &err);
	if (rc)
		return cmd_fail(&c, &err);
	if (o.plan_only)
		return 0;
	if (c.json) {
		struct json_object *j = json_object_new_object();

		json_object_object_add(j, "pid", json_object_new_int(res.pid));
		json_object_object_add(j, "total_us", json_object_new_uint64(res.total_us));
		cmd_print_json(j);
	} else if (!c.quiet) {
		printf("restored process %d from %s in %llu.%01llu ms\n", res.pid, o.dir,
		       (unsigned long long)res.total_us / 1000,
		       (unsigned long long)res.total_us / 100 % 10);
	}
	fflush(stdout);
	return o.detach ? 0 : wait_root(res.wait_for);
}

const struct cmd cmd_restore = { "restore", "-D DIR [OPTION…]", "bring a checkpoint back to life",
				 opts, run };
