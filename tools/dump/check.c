// SPDX-License-Identifier: GPL-2.0-only
/* What would stop a dump, found on the running target: nothing is frozen or changed. */
#include <ctype.h>
#include <dirent.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kern/ahead.h"
#include "kern/getfd.h"
#include "kern/mounts.h"
#include "kern/sharing.h"
#include "kind/fd/lock.h"

struct findings {
	struct ckpt_err *v;
	size_t n, cap;
	bool incomplete; /* out of memory for more */
};

/* A namespace. */
struct ns_id {
	dev_t dev;
	ino_t ino;
};

/* The first is compared by what is mounted, too. */
static const char *const same_as_own[] = { "mnt", "net", "ipc", "uts", "user", "cgroup" };
/* Two by two: its own, and that of its children. */
static const struct {
	const char *name, *than;
} same_as_root[] = {
	{ "pid", "pid" },
	{ "pid_for_children", "pid" },
	{ "time", "time" },
	{ "time_for_children", "time" },
};

struct checker {
	struct dump_ctx d; /* enough of one for kinds' check functions */
	struct findings found;
	int root; /* a thread of the root task that has not ended */
	struct ns_id own_ns[ARRAY_SIZE(same_as_own)], root_ns[ARRAY_SIZE(same_as_root)];
	struct ns_id alike;       /* a mount namespace that has what ckpt's has */
	struct proc_pids live;    /* one of each process */
	struct family *family;    /* what is seen of all */
	struct dump_iters *iters; /* the caller's */
	struct task_kins kins;    /* while the tree is looked through */
	bool again;               /* opts->series->made */
	bool clean_ns;            /* nothing is to be said of the root's namespaces */
	size_t mappings;          /* read from smaps */
	size_t connections;       /* descriptors of TCP connections */
};

/* Note what stops it; things that ended meanwhile stop nothing. */
static void report(struct checker *c, const struct ckpt_err *why)
{
	struct ckpt_err *slot;

	if (why->id == E_NONE || why->id == E_TARGET_GONE)
		return;
	slot = vec_push(&c->found);
	if (slot)
		*slot = *why;
	else
		c->found.incomplete = true;
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

/* May @pid be a target at all? @again: it was one a moment ago. */
static int check_root(int pid, bool again, struct ckpt_err *err)
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
	if (!proc_live(pid))
		return ckpt_fail(err, E_BAD_TARGET, -EINVAL,
				 "process %d (%s) has already ended (zombie)", pid, st.comm);
	if (pid == getpid() || (!again && is_ancestor(pid)))
		return ckpt_remedy(
			(ckpt_fail(err, E_BAD_TARGET, -EINVAL,
				   "process %d (%s) is an ancestor of ckpt itself", pid, st.comm),
			 err),
			"run ckpt from another shell or session");
	return 0;
}

/* 0 when it cannot be read. */
static struct ns_id ns_of(const char *pid, const char *name)
{
	struct ns_id id = { 0 };
	struct stat st;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%s/ns/%s", pid, name);
	if (!stat(path, &st))
		id = (struct ns_id) { st.st_dev, st.st_ino };
	return id;
}

static bool ns_differ(struct ns_id a, struct ns_id b)
{
	return a.ino && b.ino && (a.ino != b.ino || a.dev != b.dev);
}

static void check_namespaces(struct checker *c, const char *pid)
{
	for (size_t i = 0; i < ARRAY_SIZE(same_as_own); i++) {
		const char *name = same_as_own[i];
		struct ckpt_err e = { 0 };

		if (!ns_differ(ns_of(pid, name), c->own_ns[i]))
			continue;
		if (!strcmp(name, "mnt") && c->alike.ino && !ns_differ(ns_of(pid, name), c->alike))
			continue;
		(void)ckpt_fail(&e, E_UNSUPPORTED, -EOPNOTSUPP,
				"task %s is in another %s namespace than ckpt", pid, name);
		/* A dump enters these three itself; it is a migration that is refused. */
		if (!strcmp(name, "net") || !strcmp(name, "uts") || !strcmp(name, "ipc"))
			(void)ckpt_remedy(
				&e,
				"run both ends inside: nsenter -t %s --net --uts --ipc "
				"ckpt migrate --to unix:… (docs/migration.md, Namespaces)",
				pid);
		else
			(void)ckpt_remedy(&e, "run ckpt inside it: nsenter -t %s --%s ckpt …", pid,
					  !strcmp(name, "mnt") ? "mount" : name);
		report(c, &e);
	}
}

/* Pids are restored in one pid namespace, that of the root, and one time namespace. */
static void check_same_as_root(struct checker *c, const char *pid, bool is_root)
{
	for (size_t i = 0; i < ARRAY_SIZE(same_as_root); i++) {
		struct ckpt_err e = { 0 };

		/* It was read of the root. */
		if (is_root && !strcmp(same_as_root[i].name, same_as_root[i].than))
			continue;
		if (!ns_differ(ns_of(pid, same_as_root[i].name), c->root_ns[i]))
			continue;
		(void)ckpt_fail(&e, E_UNSUPPORTED, -EOPNOTSUPP,
				"task %s has a %s namespace apart from that of task %d", pid,
				same_as_root[i].than, c->d.opts->pid);
		report(c, &e);
	}
}

/* What is mounted, where and how; NULL when there is no memory. */
static char *mount_key(const struct mount *m)
{
	char *key;

	return asprintf(&key, "%llx %s %s %s %s %s", (unsigned long long)m->dev, m->root, m->at,
			m->how, m->type, m->source) < 0
		       ? NULL
		       : key;
}

struct mounts {
	char **v;
	size_t n, cap;
};

static int key_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void mounts_free(struct mounts *m)
{
	for (size_t i = 0; i < m->n; i++)
		free(m->v[i]);
	vec_free(m);
}

static bool mounts_read(int pid, struct mounts *m)
{
	auto_free char *text = NULL;
	struct ckpt_err gone = { 0 };
	struct mount mount;
	char *at;

	if (proc_read(pid, "mountinfo", &text, NULL, &gone))
		return false;
	at = text;
	while (mount_next(&at, &mount)) {
		char **slot;

		if (!strcmp(mount.type, "proc"))
			continue; /* each pid namespace has its own */
		slot = vec_push(m);
		if (!slot || !(*slot = mount_key(&mount)))
			return false;
	}
	if (m->n)
		qsort(m->v, m->n, sizeof(*m->v), key_compare);
	return true;
}

/* Does @pid see the same file systems at the same places, but for /proc? Then a path says the same
 * to it and to ckpt. So it is with a program in a pid namespace that a restore or unshare
 * --mount-proc has made. */
static bool mounts_alike(int pid)
{
	struct mounts ours = { 0 }, theirs = { 0 };
	bool same = mounts_read(getpid(), &ours) && mounts_read(pid, &theirs) && ours.n == theirs.n;

	for (size_t i = 0; same && i < ours.n; i++)
		same = !strcmp(ours.v[i], theirs.v[i]);
	mounts_free(&ours);
	mounts_free(&theirs);
	return same;
}

/* What every task is compared with. */
static void read_namespaces(struct checker *c)
{
	char root[16];

	(void)snprintf(root, sizeof(root), "%d", c->root);
	for (size_t i = 0; i < ARRAY_SIZE(same_as_own); i++)
		c->own_ns[i] = ns_of("self", same_as_own[i]);
	for (size_t i = 0; i < ARRAY_SIZE(same_as_root); i += 2)
		c->root_ns[i] = c->root_ns[i + 1] = ns_of(root, same_as_root[i].than);
	c->alike = ns_of(root, "mnt");
	/* In the same one there is nothing to compare. */
	if (!ns_differ(c->alike, c->own_ns[0]) || !mounts_alike(c->root))
		c->alike.ino = 0;
}

/* The init of a pid namespace is made again as one, with a /proc of its own. Who is in a namespace
 * of its own sees what ckpt does not: only there is it a question. */
static void check_init(struct checker *c, int pid)
{
	struct ckpt_err e = { 0 };
	bool nested = false;
	int vpid = 0;

	if (proc_inner_pid(pid, pid, &vpid, &nested, &e) || !nested || vpid != 1)
		return;
	if (!c->d.opts->ns)
		(void)ckpt_fail(&e, E_UNSUPPORTED, -EOPNOTSUPP,
				"task %d is the init (pid 1) of a pid namespace of its own, which "
				"does not migrate",
				pid);
	else if (!dump_ns_own_proc(pid))
		(void)ckpt_fail(&e, E_UNSUPPORTED, -EOPNOTSUPP,
				"task %d is the init (pid 1) of a pid namespace of its own, but "
				"its /proc is that of another one",
				pid);
	report(c, &e);
}

/* Descriptors of a process in which nothing was found, ascending; of what its children have by the
 * same numbers from it, nothing else can be said. */
struct clean_fds {
	int pid;
	struct proc_pids fds;
};

static int fd_compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static bool is_inherited(const struct clean_fds *of, int pid, int fd)
{
	return of && of->fds.n && bsearch(&fd, of->fds.v, of->fds.n, sizeof(fd), fd_compare) &&
	       syscall(SYS_kcmp, pid, of->pid, KCMP_FILE, fd, fd) == 0;
}

/* True: nothing is to be said of it, nor of the same in a child. */
static bool check_fd(struct checker *c, int pid, int fd)
{
	auto_free char *link = NULL;
	auto_free char *fdinfo = NULL;
	struct ckpt_err err = { 0 };
	const struct fd_kind *kind;
	struct fd_facts f;

	if (fd_facts_read(pid, fd, -1, &f, &link, &fdinfo, &err))
		return false; /* closed meanwhile; the dump itself will see */
	c->connections += f.tcp_state > 0;
	kind = dump_fd_kind(&c->d, &f);
	if (!kind)
		(void)ckpt_fail(&err, E_UNSUPPORTED, -EOPNOTSUPP, "fd %d (%s) cannot be saved", fd,
				link);
	else if (!lock_check(&f, &err) && (!kind->check || !kind->check(&c->d, &f, &err)))
		return !strstr(fdinfo, "lock:");
	(void)ckpt_ctx(&err, "task %d", pid);
	report(c, &err);
	return false;
}

static void check_fds(struct checker *c, int pid, const struct clean_fds *of_parent,
		      struct clean_fds *ret)
{
	char path[64];
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int *slot;

	*ret = (struct clean_fds) { .pid = pid };
	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		int fd = atoi(e->d_name);

		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		if (!is_inherited(of_parent, pid, fd) && !check_fd(c, pid, fd))
			continue;
		slot = vec_push(&ret->fds);
		if (slot)
			*slot = fd;
	}
	if (ret->fds.n)
		qsort(ret->fds.v, ret->fds.n, sizeof(int), fd_compare);
}

/* Of so many mappings smaps takes longer than making an iterator ready. */
#define ITER_MAPPINGS 512u

static void check_vmas(struct checker *c, int pid, size_t threads)
{
	struct target_task task = { .pid = pid, .tgid = pid, .vpid = pid, .mem_fd = -1 };
	struct ckpt_err gone = { 0 };
	struct proc_vmas vmas;

	/* Of each thread there is a stack, as a rule, and what guards it. */
	if (c->iters->vma.prog_fd < 0 && 2 * threads >= ITER_MAPPINGS)
		(void)vma_iter_open(&c->iters->vma, &c->iters->types);
	if (proc_vmas_read(pid, &c->iters->vma, &vmas, &gone))
		return;
	/* They will be read again, and then everybody stands still. */
	if (c->iters->vma.prog_fd < 0 && c->mappings < ITER_MAPPINGS &&
	    (c->mappings += vmas.n) >= ITER_MAPPINGS)
		(void)vma_iter_open(&c->iters->vma, &c->iters->types);
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

/* A thread that runs and that nobody traces: the kernel's record tells the rest. */
static const struct thread_view *plain_view(const struct thread_views *views, int tid)
{
	const struct thread_view *v = thread_view_find(views, tid);

	return v && !v->ptrace && !v->exit_state ? v : NULL;
}

/* The same by /proc. False: there is nothing to be said of it. */
static bool read_status(struct checker *c, struct task_facts *f, size_t at,
			struct status_ahead *ahead, char **ret_status)
{
	struct ckpt_err err = { 0 };
	const char *state;
	uint64_t tracer = 0;

	if (status_ahead_take(ahead, f->task->pid, at, f->thread->tid, ret_status, &err))
		return false;
	f->status = *ret_status;
	state = proc_field(f->status, "State");
	if (state && *state == 'Z')
		return false; /* a first thread before others */
	if (proc_field_num(f->status, "TracerPid", 0, 10, &tracer) && tracer &&
	    (int)tracer != getpid()) {
		(void)ckpt_fail(&err, E_ALREADY_TRACED, -EPERM, "task %d is traced by process %d",
				f->thread->tid, (int)tracer);
		report(c, &err);
	}
	return true;
}

/* *ret_status: what /proc says of thread @pid, for the caller to free. */
static void check_threads(struct checker *c, int pid, const struct proc_stat *stat,
			  const struct proc_pids *tids, struct status_ahead *ahead,
			  const struct thread_views *views, char **ret_status)
{
	for (size_t i = 0; i < tids->n; i++) {
		struct target_task task = { .pid = pid, .tgid = pid, .vpid = pid, .mem_fd = -1 };
		struct target_thread th = { .tid = tids->v[i], .vtid = tids->v[i] };
		auto_free char *status = NULL;
		struct task_facts f = {
			.task = &task, .thread = &th, .stat = stat, .main = th.tid == pid
		};

		if (!f.main)
			f.view = plain_view(views, th.tid);
		if (!f.view && !read_status(c, &f, i, ahead, &status))
			continue;
		for (size_t k = 0; task_kinds[k]; k++) {
			struct ckpt_err kerr = { 0 };

			if (!task_kinds[k]->check ||
			    (task_kinds[k]->scope == SCOPE_TASK && !f.main) ||
			    !task_kinds[k]->check(&c->d, &f, &kerr))
				continue;
			(void)ckpt_ctx(&kerr, "task %d", th.tid);
			report(c, &kerr);
		}
		if (f.main)
			*ret_status = take_ptr(status);
	}
}

/* Of so many processes one look at all tasks is quicker than to ask of each. */
#define KIN_TASKS 16u

static void look_at_kins(struct checker *c)
{
	free(c->kins.v);
	c->kins = (struct task_kins) { 0 };
	if (c->iters->kin_fd < 0)
		c->iters->kin_fd = task_iter_open(&c->iters->types);
	if (c->iters->kin_fd >= 0 && task_iter_read(c->iters->kin_fd, &c->kins))
		c->kins.n = 0;
}

/* Is it in the root's namespaces, which are right? */
static bool in_namespaces_of_root(const struct checker *c, int pid)
{
	const struct task_kin *root = c->clean_ns ? task_kin_find(&c->kins, c->root) : NULL;
	const struct task_kin *kin = root ? task_kin_find(&c->kins, pid) : NULL;

	return kin && kin->ns && kin->ns == root->ns && kin->user_ns == root->user_ns &&
	       kin->pid_ns == root->pid_ns;
}

/* Its first thread has ended while others go on: descriptors must be taken from another one. */
static void check_headless(struct checker *c, int pid, int live)
{
	auto_fd holder = fd_holder(live);
	struct ckpt_err e = { 0 };

	if (holder >= 0)
		return;
	(void)ckpt_fail(&e, E_UNSUPPORTED, -EOPNOTSUPP,
			"the first thread of task %d has ended while others go on, and kernels "
			"before 6.9 do not give out the descriptors of such a process",
			pid);
	report(c, &e);
}

/* What a process has. Descriptors of which nothing else is to be said go to *ret_clean. */
static void check_task(struct checker *c, int pid, int live, const struct proc_stat *of_live,
		       const struct clean_fds *of_parent, struct clean_fds *ret_clean,
		       char **ret_status)
{
	struct thread_views views = { 0 };
	struct status_ahead *ahead = NULL;
	struct ckpt_err gone = { 0 };
	struct proc_pids tids;

	if (proc_threads(live, &tids, &gone))
		tids = (struct proc_pids) { 0 };
	if (!dump_iters_threads(c->iters, tids.n, c->d.opts->series != NULL))
		ahead = status_ahead_begin(live, tids.v, tids.n);
	else if (thread_iter_read(&c->iters->threads, pid, tids.n, &views))
		views.n = 0;
	check_fds(c, live, of_parent, ret_clean);
	check_vmas(c, live, tids.n);
	check_threads(c, live, of_live, &tids, ahead, &views, ret_status);
	status_ahead_end(ahead);
	free(views.v);
	vec_free(&tids);
}

/* As dump_family_see(); again, nobody asks for it. */
static int see(struct checker *c, int pid, int live, int ppid, const struct proc_stat *st,
	       const char *status)
{
	return c->again ? 0 : dump_family_see(c->family, pid, live, ppid, st, status);
}

/* @ppid: its parent, as see() calls it. */
static void check_tree(struct checker *c, int pid, int ppid, const struct clean_fds *of_parent)
{
	auto_free char *status = NULL;
	struct clean_fds clean = { 0 };
	struct ckpt_err gone = { 0 };
	struct proc_stat st, of_live;
	struct proc_pids kids;
	int live = pid, vpid = 0, *slot;
	char name[16];

	if (proc_stat_read(pid, &st, &gone)) {
		(void)see(c, pid, 0, ppid, NULL, NULL);
		return;
	}
	of_live = st;
	if (st.state == 'Z' || st.state == 'X') {
		live = proc_live(pid);
		vpid = see(c, pid, live, ppid, &st, NULL);
		if (!live || proc_stat_read(live, &of_live, &gone))
			return;
	}
	slot = vec_push(&c->live);
	if (slot)
		*slot = live;
	if (live != pid)
		check_headless(c, pid, live);
	if (c->live.n == KIN_TASKS)
		look_at_kins(c);
	(void)snprintf(name, sizeof(name), "%d", live);
	if (!in_namespaces_of_root(c, live)) {
		size_t found = c->found.n;

		check_namespaces(c, name);
		check_same_as_root(c, name, live == c->root);
		c->clean_ns |= live == c->root && c->found.n == found && !c->found.incomplete;
	}
	if (!c->again)
		check_task(c, pid, live, &of_live, of_parent, &clean, &status);
	if (live == pid)
		vpid = see(c, pid, live, ppid, &st, status);
	if (!proc_children(pid, NULL, &kids, &gone)) {
		for (size_t i = 0; i < kids.n; i++)
			check_tree(c, kids.v[i], vpid, &clean);
		vec_free(&kids);
	}
	vec_free(&clean.fds);
}

#define VFORK_US 1000000u

int dump_refuse_vm(int pid, int other, struct ckpt_err *err)
{
	return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
			 "task %d shares its memory with task %d (CLONE_VM, or a vfork that has "
			 "not called exec)",
			 pid, other);
}

/* A child of vfork shares its parent's memory for a moment: that is waited for. */
static void check_vm(struct checker *c)
{
	auto_free size_t *first = calloc(c->live.n + 1, sizeof(*first));
	uint64_t deadline = io_now_us() + VFORK_US;
	struct ckpt_err e = { 0 };
	int rc = first ? sharing_find(c->live.v, c->live.n, KCMP_VM, &c->kins, first, &e)
		       : ckpt_oom(&e);

	if (rc)
		report(c, &e);
	for (size_t i = 0; !rc && i < c->live.n; i++) {
		int a = c->live.v[i], b = c->live.v[first[i]];
		struct ckpt_err why = { 0 };

		if (first[i] == i)
			continue;
		while (sharing_same(a, b, KCMP_VM) && io_now_us() < deadline)
			(void)usleep(1000);
		if (!sharing_same(a, b, KCMP_VM))
			continue;
		(void)dump_refuse_vm(a, b, &why);
		report(c, &why);
	}
}

/* Connections that are kept need it. */
static void check_lock(struct checker *c)
{
	struct ckpt_err why = { 0 };
	int rc = netlock_probe();

	if (!rc)
		return;
	(void)ckpt_fail_errno(&why, E_NETLOCK, rc, "cannot hold back the packets of connections");
	report(c, &why);
}

static void check_external(struct checker *c)
{
	const struct ckpt_dump_opts *o = c->d.opts;

	for (size_t i = 0; i < o->n_external; i++) {
		struct ckpt_err why = { 0 };

		if (c->d.external_seen >> i & 1)
			continue;
		(void)ckpt_fail(&why, E_USAGE, -EINVAL,
				"no descriptor of the tree is called \"%s\"", o->external[i]);
		(void)ckpt_remedy(&why, "see their names: ls -l /proc/%d/fd", o->pid);
		report(c, &why);
	}
}

/* The target runs: what one look finds may be gone in the next instant (a shell between fork and
 * exec holds ends of pipes that it is about to close). Only what is there in every look counts;
 * the dump itself looks once more while all stand still. */
#define LOOKS 3

static void look(struct checker *c, const struct ckpt_dump_opts *opts, struct dump_iters *iters,
		 struct ckpt_ui *ui)
{
	struct ckpt_err family = { 0 }, own_ns = { 0 };

	*c = (struct checker) { .d = { .opts = opts, .ui = ui },
				.iters = iters,
				.again = opts->series && opts->series->made,
				.family = dump_family_new() };
	if (!c->family) {
		c->found.incomplete = true;
		return;
	}
	if (opts->tcp == CKPT_TCP_KEEP)
		check_lock(c);
	c->root = proc_live(opts->pid);
	read_namespaces(c);
	check_init(c, opts->pid);
	check_tree(c, opts->pid, 0, NULL);
	if (c->live.n >= KIN_TASKS)
		look_at_kins(c);
	if (!c->again) {
		check_vm(c);
		check_external(c);
	}
	vec_free(&c->live);
	dump_iters_files(iters, c->connections, 0, opts->series != NULL);
	if (dump_ns_check(opts, &own_ns))
		report(c, &own_ns);
	if (!c->again && dump_family_check(c->family, &c->kins, &family))
		report(c, &family);
	dump_family_free(c->family);
	free(c->kins.v);
	dump_tree_free(&c->d);
}

static bool has(const struct findings *f, const struct ckpt_err *why)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->v[i].id == why->id && !strcmp(f->v[i].msg, why->msg) &&
		    !strcmp(f->v[i].where, why->where))
			return true;
	return false;
}

static void find(struct findings *ret, const struct ckpt_dump_opts *opts, struct dump_iters *iters,
		 struct ckpt_ui *ui)
{
	struct checker c;

	look(&c, opts, iters, ui);
	*ret = c.found;
	for (int again = 1; ret->n && again < LOOKS; again++) {
		size_t n = 0;

		look(&c, opts, iters, ui);
		for (size_t i = 0; i < ret->n; i++)
			if (has(&c.found, &ret->v[i]))
				ret->v[n++] = ret->v[i];
		ret->n = n;
		vec_free(&c.found);
	}
}

int dump_check(const struct ckpt_dump_opts *opts, struct dump_iters *iters, struct ckpt_ui *ui,
	       void (*found)(void *arg, const struct ckpt_err *why), void *arg,
	       struct ckpt_err *err)
{
	struct findings f = { 0 };
	struct ckpt_err root = { 0 };
	int rc = check_root(opts->pid, opts->series && opts->series->made, &root), n;

	if (rc && !found) {
		*err = root;
		return rc;
	}
	if (rc) {
		found(arg, &root);
		return 1;
	}
	find(&f, opts, iters, ui);
	n = (int)f.n;
	for (size_t i = 0; found && i < f.n; i++)
		found(arg, &f.v[i]);
	if (n && !found) {
		*err = f.v[0];
		n = err->code;
		if (f.n > 1) {
			char command[48];

			(void)snprintf(command, sizeof(command), "ckpt check -t %d", opts->pid);
			(void)ckpt_remedy_of_many(err, f.n, "dump", command);
		}
	}
	if (f.incomplete)
		n = ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory for all that stops this dump");
	vec_free(&f);
	return n;
}

int ckpt_dump_check(const struct ckpt_dump_opts *opts, struct ckpt_ui *ui,
		    void (*found)(void *arg, const struct ckpt_err *why), void *arg,
		    struct ckpt_err *err)
{
	struct dump_iters iters = DUMP_ITERS_NONE;
	int rc = dump_check(opts, &iters, ui, found, arg, err);

	dump_iters_close(&iters);
	return rc;
}
