// SPDX-License-Identifier: GPL-2.0-only
/* What would stop a restore here and now, found before anything is made. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "kern/arch.h"
#include "restore/restore.h"

struct checker {
	void (*found)(void *arg, const struct ckpt_err *why);
	void *arg;
	struct ckpt_err *first;
	int count;
};

static void report(struct checker *c, const struct ckpt_err *why)
{
	if (!c->count++)
		*c->first = *why;
	if (c->found)
		c->found(c->arg, why);
}

/* "nginx" (started 09:12) */
static void describe_owner(int pid, char *buf, size_t len)
{
	struct ckpt_err ignore = { 0 };
	auto_free char *up = NULL;
	struct proc_stat st;
	time_t started;
	struct tm tm;
	char when[16] = "?";

	if (proc_stat_read(pid, &st, &ignore)) {
		(void)snprintf(buf, len, "another task");
		return;
	}
	if (io_read_file(-100, "/proc/uptime", &up) > 0) {
		started = time(NULL) - (time_t)strtod(up, NULL) +
			  (time_t)(st.start_time / (uint64_t)sysconf(_SC_CLK_TCK));
		if (localtime_r(&started, &tm))
			(void)strftime(when, sizeof(when), "%H:%M", &tm);
	}
	(void)snprintf(buf, len, "\"%s\" (started %s%s)", st.comm, when,
		       st.state == 'Z' ? ", a zombie" : "");
}

/* A number is taken as long as a process group has it, though its leader is gone: members that
 * run, or that have ended and wait for their parent. */
static void check_group(struct restore_ctx *r, struct checker *c, int id)
{
	struct ckpt_err e = { 0 };

	if (kill(-id, 0) && errno == ESRCH)
		return;
	(void)ckpt_fail(&e, E_PID_TAKEN, -EEXIST,
			"cannot restore task %d: process group %d still has members", id, id);
	(void)ckpt_remedy(
		&e,
		"see them with: ps -eo pid,pgid,stat,comm | grep ' %d '; or restore into a fresh "
		"pid namespace: ckpt restore --pidns -D %s",
		id, r->opts->dir);
	report(c, &e);
}

static void check_pid(struct restore_ctx *r, struct checker *c, int id, const char *what)
{
	struct ckpt_err e = { 0 };
	char owner[128];

	/* Those that we have made, and the session that a stand-in of ours began for them. */
	if (restore_warm_find(r, id) || (r->warm && id == r->warm->tasks.v[0]->birth_sid))
		return;
	if (kill(id, 0) && errno == ESRCH) {
		check_group(r, c, id);
		return;
	}
	describe_owner(id, owner, sizeof(owner));
	(void)ckpt_fail(&e, E_PID_TAKEN, -EEXIST, "cannot restore %s %d: pid %d belongs to %s",
			what, id, id, owner);
	(void)ckpt_remedy(
		&e, "stop it, or restore into a fresh pid namespace: ckpt restore --pidns -D %s",
		r->opts->dir);
	report(c, &e);
}

static void check_cpu(struct restore_ctx *r, struct checker *c)
{
	uint64_t missing = r->img->inv->xfeatures & ~arch_xfeatures();
	struct ckpt_err e = { 0 };

	if (!missing)
		return;
	(void)ckpt_fail(
		&e, E_CPU, -EOPNOTSUPP,
		"this CPU lacks register sets that the program may use (XSAVE components %#llx)",
		(unsigned long long)missing);
	report(c, &e);
}

int restore_check_image(struct restore_ctx *r, void (*found)(void *arg, const struct ckpt_err *why),
			void *arg, struct ckpt_err *err)
{
	struct ckpt_err first = { 0 };
	struct checker c = { .found = found, .arg = arg, .first = &first };
	const Ckpt__Namespaces *ns = r->img->inv->namespaces;
	bool fresh = r->opts->pidns || (ns && ns->pid); /* all numbers are free */

	if (geteuid() != 0) {
		struct ckpt_err e = { 0 };

		(void)ckpt_fail(&e, E_PERM, -EPERM, "ckpt needs the rights of root");
		report(&c, &e);
	}
	check_cpu(r, &c);
	for (size_t i = 0; !fresh && i < r->img->tasks.n; i++) {
		const Ckpt__Task *t = r->img->tasks.v[i];

		check_pid(r, &c, t->pid, "task");
		/* Threads share the number space; a taken process id was named already. */
		for (size_t k = 1; k < t->n_threads; k++)
			check_pid(r, &c, t->threads[k]->tid, "thread");
	}
	for (size_t i = 0; !fresh && i < r->births.nstandins; i++)
		check_pid(r, &c, r->births.standins[i].pid,
			  r->births.standins[i].session ? "session" : "process group");
	if (!c.count || found)
		return c.count;
	*err = first;
	return err->code;
}

int ckpt_restore_check(const struct ckpt_restore_opts *opts, struct ckpt_ui *ui,
		       void (*found)(void *arg, const struct ckpt_err *why), void *arg,
		       struct ckpt_err *err)
{
	struct image img;
	struct restore_ctx r = { .opts = opts, .ui = ui, .img = &img };
	struct ckpt_err open_err = { 0 };
	int rc = image_read(&img, opts->dir, err), n;

	if (rc) {
		image_free(&img);
		return rc;
	}
	n = restore_births_find(&r, err);
	if (!n)
		n = restore_check_image(&r, found, arg, err);
	/* Opening the objects finds missing and changed files; they are closed again. */
	if (n >= 0 && restore_objects_open(&r, &open_err)) {
		n++;
		if (found)
			found(arg, &open_err);
	}
	restore_objects_close(&r);
	restore_births_free(&r);
	image_free(&img);
	return n;
}
