// SPDX-License-Identifier: GPL-2.0-only
/* What would stop a dump, found on the running target: nothing is frozen or changed. */
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kind/fd/lock.h"

struct checker {
	struct dump_ctx d; /* enough of one for kinds' check functions */
	void (*found)(void *arg, const struct ckpt_err *why);
	void *arg;
	struct ckpt_err *first; /* the first thing found */
	int count;
};

/* Report what stops it; things that ended meanwhile stop nothing. */
static void report(struct checker *c, struct ckpt_err *why)
{
	if (why->id == E_NONE || why->id == E_TARGET_GONE)
		return;
	if (!c->count++)
		*c->first = *why;
	if (c->found)
		c->found(c->arg, why);
}

static bool is_ancestor(int pid)
{
	struct ckpt_err ignore = { 0 };
	struct proc_stat st;
	int at = getpid();

	while (at > 0) {
		if (at == pid)
			return true;
		if (proc_stat_read(at, &st, &ignore))
			return false;
		at = st.ppid;
	}
	return false;
}

/* May @pid be a target at all? */
static int check_root(int pid, struct ckpt_err *err)
{
	struct ckpt_err gone = { 0 };
	struct proc_stat st;

	if (geteuid() != 0)
		return ckpt_fail(err, E_PERM, -EPERM, "ckpt needs the rights of root");
	if (pid <= 0 || proc_stat_read(pid, &st, &gone))
		return ckpt_fail(err, E_NO_SUCH_PID, -ESRCH, "there is no process %d", pid);
	if (st.flags & PROC_PF_KTHREAD)
		return ckpt_fail(err, E_BAD_TARGET, -EINVAL, "process %d (%s) is a kernel thread",
				 pid, st.comm);
	if (pid == 1)
		return ckpt_fail(err, E_BAD_TARGET, -EINVAL,
				 "process 1 is the init of this system");
	if (st.state == 'Z' || st.state == 'X')
		return ckpt_fail(err, E_BAD_TARGET, -EINVAL,
				 "process %d (%s) has already ended (zombie)", pid, st.comm);
	if (pid == getpid() || is_ancestor(pid))
		return ckpt_remedy(
			(ckpt_fail(err, E_BAD_TARGET, -EINVAL,
				   "process %d (%s) is an ancestor of ckpt itself", pid, st.comm),
			 err),
			"run ckpt from another shell or session");
	return 0;
}

static void check_namespaces(struct checker *c, int pid)
{
	static const char *const same[] = { "mnt", "net", "ipc", "uts", "user", "cgroup" };

	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		struct ckpt_err e = { 0 };
		struct stat ours, theirs;
		char path[64];

		(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, same[i]);
		if (stat(path, &theirs))
			continue;
		(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", same[i]);
		if (stat(path, &ours) ||
		    (ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev))
			continue;
		(void)ckpt_fail(&e, E_UNSUPPORTED, -EOPNOTSUPP,
				"task %d is in another %s namespace than ckpt", pid, same[i]);
		(void)ckpt_remedy(&e, "run ckpt inside it: nsenter -t %d --%s ckpt dump …", pid,
				  !strcmp(same[i], "mnt") ? "mount" : same[i]);
		report(c, &e);
	}
}

static void check_fds(struct checker *c, int pid)
{
	char path[64];
	auto_dir DIR *dir = NULL;
	struct dirent *e;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		auto_free char *link = NULL;
		auto_free char *fdinfo = NULL;
		struct ckpt_err err = { 0 };
		const struct fd_kind *kind;
		struct fd_facts f;
		int fd = atoi(e->d_name);

		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		if (fd_facts_read(pid, fd, -1, &f, &link, &fdinfo, &err))
			continue; /* closed meanwhile; the dump itself will see */
		kind = fd_kind_match(&f);
		if (!kind)
			(void)ckpt_fail(&err, E_UNSUPPORTED, -EOPNOTSUPP,
					"fd %d (%s) cannot be saved", fd, link);
		else if (!lock_check(&f, &err) && (!kind->check || !kind->check(&c->d, &f, &err)))
			continue;
		(void)ckpt_ctx(&err, "task %d", pid);
		report(c, &err);
	}
}

static void check_vmas(struct checker *c, int pid)
{
	struct target_task task = { .pid = pid, .vpid = pid, .mem_fd = -1 };
	struct ckpt_err gone = { 0 };
	struct proc_vmas vmas;

	if (proc_vmas_read(pid, &vmas, &gone))
		return;
	for (size_t i = 0; i < vmas.n; i++) {
		const struct proc_vma *v = &vmas.v[i];
		const struct vma_kind *kind = vma_kind_match(v);
		struct ckpt_err err = { 0 };

		if (!kind)
			(void)ckpt_fail(&err, E_UNSUPPORTED, -EOPNOTSUPP,
					"the mapping %s cannot be saved",
					v->path ? v->path : "(anonymous)");
		else if (!kind->check || !kind->check(&c->d, &task, v, &err))
			continue;
		(void)ckpt_ctx(&err, "task %d: mapping %#llx-%#llx", pid,
			       (unsigned long long)v->start, (unsigned long long)v->end);
		report(c, &err);
	}
	proc_vmas_free(&vmas);
}

static void check_threads(struct checker *c, int pid, const struct proc_stat *stat)
{
	struct ckpt_err gone = { 0 };
	struct proc_pids tids;

	if (proc_threads(pid, &tids, &gone))
		return;
	for (size_t i = 0; i < tids.n; i++) {
		struct target_task task = { .pid = pid, .vpid = pid, .mem_fd = -1 };
		struct target_thread th = { .tid = tids.v[i], .vtid = tids.v[i] };
		auto_free char *status = NULL;
		struct task_facts f = {
			.task = &task, .thread = &th, .stat = stat, .main = th.tid == pid
		};
		struct ckpt_err err = { 0 };
		uint64_t tracer = 0;

		if (dump_facts_status(pid, th.tid, &status, &err))
			continue;
		f.status = status;
		if (proc_field_num(status, "TracerPid", 0, 10, &tracer) && tracer &&
		    (int)tracer != getpid()) {
			(void)ckpt_fail(&err, E_ALREADY_TRACED, -EPERM,
					"task %d is traced by process %d", th.tid, (int)tracer);
			report(c, &err);
		}
		for (size_t k = 0; task_kinds[k]; k++) {
			struct ckpt_err kerr = { 0 };

			if (!task_kinds[k]->check ||
			    (task_kinds[k]->scope == SCOPE_TASK && !f.main) ||
			    !task_kinds[k]->check(&c->d, &f, &kerr))
				continue;
			(void)ckpt_ctx(&kerr, "task %d", th.tid);
			report(c, &kerr);
		}
	}
	vec_free(&tids);
}

static void check_tree(struct checker *c, int pid)
{
	struct ckpt_err gone = { 0 };
	struct proc_pids kids;
	struct proc_stat st;

	if (proc_stat_read(pid, &st, &gone) || st.state == 'Z')
		return;
	check_namespaces(c, pid);
	check_threads(c, pid, &st);
	check_fds(c, pid);
	check_vmas(c, pid);
	if (proc_children(pid, &kids, &gone))
		return;
	for (size_t i = 0; i < kids.n; i++)
		check_tree(c, kids.v[i]);
	vec_free(&kids);
}

int ckpt_dump_check(const struct ckpt_dump_opts *opts, struct ckpt_ui *ui,
		    void (*found)(void *arg, const struct ckpt_err *why), void *arg,
		    struct ckpt_err *err)
{
	struct ckpt_err first = { 0 };
	struct checker c = {
		.d = { .opts = opts, .ui = ui }, .found = found, .arg = arg, .first = &first
	};
	int rc = check_root(opts->pid, &first);

	if (rc) {
		*err = first;
		if (found)
			found(arg, &first);
		return found ? 1 : rc;
	}
	check_tree(&c, opts->pid);
	dump_tree_free(&c.d);
	if (!c.count)
		return 0;
	if (found)
		return c.count;
	*err = first;
	if (c.count > 1)
		(void)ckpt_remedy(err, "%d things stop this dump; see them all: ckpt check -t %d",
				  c.count, opts->pid);
	return err->code;
}
