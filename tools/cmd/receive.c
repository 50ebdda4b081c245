// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "dump/dump.h"
#include "migrate/hook.h"
#include "migrate/migrate.h"

enum {
	OPT_LISTEN = 256,
	OPT_UNIX,
	OPT_STDIO,
	OPT_KEY,
	OPT_INSECURE,
	OPT_HOOK,
	OPT_HOOK_TIME,
	OPT_KEEP
};

static const struct cmd_opt opts[] = {
	{ OPT_LISTEN, "listen", "ADDR[:PORT]",
	  "wait for a source there (default port " LINK_PORT ")" },
	{ OPT_UNIX, "unix", "PATH", "wait at a unix socket" },
	{ OPT_STDIO, "stdio", NULL, "one source on standard input and output (ssh://)" },
	{ OPT_KEY, "key", "FILE", "this node's half of ckpt keygen" },
	{ OPT_INSECURE, "insecure", NULL, "plain TCP: whoever reaches the port becomes root here" },
	{ OPT_HOOK, "hook", "SCRIPT", "run at prepare, ready, enter and drop" },
	{ OPT_HOOK_TIME, "hook-timeout", "TIME", "kill it and count it as failed (default 10s)" },
	{ OPT_KEEP, "keep-image", "DIR", "checkpoints of tracked programs go below it" },
	{ '1', "once", NULL, "end when one program has moved here" },
	{ 0 },
};

/* What a connection's process ends with; the parent reads it. */
enum { END_FAILED = 1, END_ANSWERED = 10, END_RUNS = 0, END_UNCONFIRMED = 11 };

static void print_moved(const struct cmd_common *c, const struct link *l,
			const struct receive_result *r)
{
	char mem[16];

	if (c->json) {
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "event", json_object_new_string("moved"));
		json_object_object_add(o, "pid", json_object_new_int(r->pid));
		json_object_object_add(o, "from", json_object_new_string(l->peer));
		json_object_object_add(o, "build_us", json_object_new_uint64(r->build_us));
		cmd_print_line(o);
	} else if (!c->quiet) {
		printf("process %d has moved here from %s (%s of memory, built in %llu.%01llu "
		       "ms)\n",
		       r->pid, l->peer, cmd_human(r->memory_bytes, mem),
		       (unsigned long long)r->build_us / 1000,
		       (unsigned long long)r->build_us / 100 % 10);
	}
	fflush(stdout);
}

/* The first checkpoint of a program that is tracked from here on: while it runs, but for a short
 * stop.
 */
static void keep_image(struct cmd_common *c, const struct receive_result *r)
{
	struct ckpt_dump_opts o = {
		.pid = r->pid,
		.dir = r->checkpoint,
		.track = true,
		.end = TARGET_RUN,
		.tcp = CKPT_TCP_KEEP,
		.ghost_limit = 64u << 20,
		.threads = (int)sysconf(_SC_NPROCESSORS_ONLN),
	};
	struct ckpt_err err = { 0 };
	Ckpt__Stats st;

	if (ckpt_dump(&o, &c->ui, &st, &err)) {
		(void)cmd_fail(c, &err);
		return;
	}
	if (c->quiet)
		return;
	if (c->json) {
		struct json_object *j = json_object_new_object();

		json_object_object_add(j, "event", json_object_new_string("tracked"));
		json_object_object_add(j, "pid", json_object_new_int(r->pid));
		json_object_object_add(j, "checkpoint", json_object_new_string(r->checkpoint));
		json_object_object_add(j, "pause_us", json_object_new_uint64(st.pause_us));
		cmd_print_line(j);
	} else {
		printf("process %d is tracked; the next checkpoint: ckpt dump -t %d --parent %s\n",
		       r->pid, r->pid, r->checkpoint);
	}
	fflush(stdout);
}

static int serve(struct cmd_common *c, struct link *l, const struct receive_opts *o)
{
	static const int ends[] = {
		[RECEIVE_FAILED] = END_FAILED,
		[RECEIVE_ANSWERED] = END_ANSWERED,
		[RECEIVE_RUNS] = END_RUNS,
		[RECEIVE_UNCONFIRMED] = END_UNCONFIRMED,
	};
	struct receive_result res;
	struct ckpt_err err = { 0 };
	int rc = ckpt_receive(l, o, &c->ui, &res, &err);

	if (rc)
		(void)cmd_fail(c, &err);
	else if (res.pid)
		print_moved(c, l, &res);
	link_close(l);
	if (!rc && res.pid && *res.checkpoint)
		keep_image(c, &res);
	return rc ? END_FAILED : ends[res.outcome];
}

static int serve_accepted(struct cmd_common *c, int fd, const struct receive_opts *o)
{
	struct link l;
	struct ckpt_err err = { 0 };

	if (!link_accept(fd, &o->auth, &l, &err))
		return serve(c, &l, o);
	(void)cmd_fail(c, &err);
	return END_FAILED;
}

/* One process a connection: it is the parent and the tracer of what it builds. */
static int serve_forever(struct cmd_common *c, int fd, const struct receive_opts *o, bool once)
{
	sigset_t set, old;
	int sfd, status;
	pid_t pid;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &old);
	sfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	for (;;) {
		struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
				       { .fd = sfd, .events = POLLIN } };
		struct signalfd_siginfo si;
		int con;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return 1;
		while (read(sfd, &si, sizeof(si)) == sizeof(si))
			if (si.ssi_signo != SIGCHLD)
				return 0;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (once && WIFEXITED(status) && WEXITSTATUS(status) == END_RUNS)
				return 0;
		if (!(p[0].revents & POLLIN))
			continue;
		con = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (con < 0)
			continue;
		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			(void)close(fd);
			(void)close(sfd);
			sigprocmask(SIG_SETMASK, &old, NULL);
			_exit(serve_accepted(c, con, o));
		}
		(void)close(con);
	}
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct receive_opts o = { .hook_timeout_ms = HOOK_TIMEOUT_MS };
	struct cmd_common c = { .lines = true };
	struct ckpt_err err = { 0 };
	const char *at = NULL, *sock = NULL, *keep = NULL;
	char where[512], dir[PATH_MAX];
	bool use_stdio = false, once = false;
	struct link l;
	int key, fd = -1;

	while ((key = cmd_getopt(cmd, &c, argc, argv)) != -1) {
		if (key == OPT_LISTEN)
			at = optarg;
		if (key == OPT_UNIX)
			sock = optarg;
		if (key == OPT_STDIO)
			use_stdio = true;
		if (key == OPT_KEY)
			o.auth.key = optarg;
		if (key == OPT_INSECURE)
			o.auth.insecure = true;
		if (key == OPT_HOOK)
			o.hook = optarg;
		if (key == OPT_HOOK_TIME && !cmd_hook_timeout(optarg, &o.hook_timeout_ms))
			return cmd_usage(cmd, "--hook-timeout takes a time like 10s, not \"%s\"",
					 optarg);
		if (key == OPT_KEEP)
			keep = optarg;
		if (key == '1')
			once = true;
	}
	if (keep)
		o.keep_image = realpath(keep, dir);
	if (optind < argc)
		return cmd_usage(cmd, "unexpected argument \"%s\"", argv[optind]);
	if (o.hook && (*o.hook != '/' || access(o.hook, X_OK)))
		return cmd_usage(cmd, "--hook takes the full path of a program, not \"%s\"",
				 o.hook);
	if (keep && !o.keep_image)
		return cmd_usage(cmd, "--keep-image takes a directory, not \"%s\"", keep);
	if (!!at + !!sock + use_stdio != 1)
		return cmd_usage(cmd, "say one of --listen, --unix and --stdio");
	if (cmd_need_root(&err))
		return cmd_fail(&c, &err);
	if (use_stdio) {
		c.quiet = true; /* standard output is the link */
		if (link_stdio(&l, &err))
			return cmd_fail(&c, &err);
		return serve(&c, &l, &o);
	}
	(void)snprintf(where, sizeof(where), "%s%s", sock ? "unix:" : "", sock ? sock : at);
	if (link_listen(where, &o.auth, &fd, where, &err))
		return cmd_fail(&c, &err);
	if (c.json) {
		struct json_object *j = json_object_new_object();

		json_object_object_add(j, "event", json_object_new_string("listening"));
		json_object_object_add(j, "at", json_object_new_string(where));
		cmd_print_line(j);
	} else if (!c.quiet) {
		printf("listening on %s\n", where);
		fflush(stdout);
	}
	return serve_forever(&c, fd, &o, once);
}

const struct cmd cmd_receive = { "receive",
				 "--listen ADDR[:PORT] | --unix PATH | --stdio [OPTION…]",
				 "take programs that another node sends", opts, run };
