// SPDX-License-Identifier: GPL-2.0-only
/*
 * A restore into a fresh pid namespace: a small init (pid 1 there) with its own
 * /proc does the restore, then reaps until the root task has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "kern/procfs.h"
#include "restore/restore.h"

/* What the init tells its parent. */
struct report {
	int rc;
	struct ckpt_err err;
	struct restore_result res;
};

static int init_restore(const struct ckpt_restore_opts *opts, struct ckpt_ui *ui,
			struct restore_result *res, struct ckpt_err *err)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("proc", "/proc", "proc", 0, NULL))
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot mount /proc in the new namespace");
	if (ckpt_fault_fail("restore.pidns", E_RESTORE, err))
		return err->code;
	return ckpt_restore(opts, ui, res, err);
}

static void init_main(const struct ckpt_restore_opts *opts, struct ckpt_ui *ui, int out)
{
	struct report rep = { 0 };
	int status = 0, code = 0;
	pid_t pid;

	rep.rc = init_restore(opts, ui, &rep.res, &rep.err);
	if (write(out, &rep, sizeof(rep)) != (ssize_t)sizeof(rep) || rep.rc)
		_exit(1);
	(void)close(out);
	if (opts->detach) {
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		for (int fd = 0; null >= 0 && fd < 3; fd++)
			(void)dup2(null, fd);
		(void)chdir("/");
	}
	for (;;) {
		pid = waitpid(-1, &status, 0);
		if (pid < 0 && errno != EINTR)
			break;
		if (pid == rep.res.pid) {
			code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
			break;
		}
	}
	_exit(code);
}

/* The root task as the caller's namespace sees it. */
static pid_t outer_pid(pid_t init, int inner)
{
	struct ckpt_err ignore = { 0 };
	struct proc_pids kids;
	pid_t ret = 0;

	if (proc_children(init, NULL, &kids, &ignore))
		return 0;
	for (size_t i = 0; i < kids.n; i++) {
		int v = 0;

		if (!proc_inner_pid(kids.v[i], kids.v[i], &v, NULL, &ignore) && v == inner)
			ret = kids.v[i];
	}
	free(kids.v);
	return ret;
}

int ckpt_restore_pidns(const struct ckpt_restore_opts *opts, struct ckpt_ui *ui,
		       struct restore_result *ret, struct ckpt_err *err)
{
	struct report rep;
	auto_fd rd = -1;
	struct image img;
	int p[2], rc;
	bool own;
	pid_t init;

	rc = image_read_inventory(&img, opts->dir, err);
	own = !rc && img.inv->namespaces && img.inv->namespaces->pid;
	image_free(&img);
	if (rc || own) /* it brings one */
		return rc ? rc : ckpt_restore(opts, ui, ret, err);
	if (pipe2(p, O_CLOEXEC))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make a pipe");
	rd = p[0];
	if (unshare(CLONE_NEWPID)) {
		(void)close(p[1]);
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make a pid namespace");
	}
	init = fork();
	if (init == 0) {
		(void)close(rd);
		init_main(opts, ui, p[1]);
	}
	(void)close(p[1]);
	if (init < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot fork");
	if (read(rd, &rep, sizeof(rep)) != (ssize_t)sizeof(rep)) {
		(void)kill(init, SIGKILL);
		(void)waitpid(init, NULL, 0);
		return ckpt_fail(err, E_RESTORE, -ECHILD, "the init of the new pid namespace died");
	}
	if (rep.rc) {
		(void)waitpid(init, NULL, 0);
		*err = rep.err;
		return rep.rc;
	}
	*ret = rep.res;
	ret->pid = outer_pid(init, rep.res.pid);
	ret->wait_for = init;
	return 0;
}
