// SPDX-License-Identifier: GPL-2.0-only
/* Descriptors: what the kernel tells of each number of a process, and the table of them. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kern/getfd.h"
#include "kind/fd/lock.h"
#include "kind/fd/sockopt.h"
#include "kind/fd/tcprepair.h"

static void read_socket(struct fd_facts *f)
{
	auto_fd own = f->local < 0 ? fd_take(f->pid, f->fd) : -1;
	int fd = f->local < 0 ? own : f->local;

	f->family = sockopt_get(fd, SOL_SOCKET, SO_DOMAIN);
	if (f->family != AF_INET && f->family != AF_INET6)
		return;
	f->protocol = sockopt_get(fd, SOL_SOCKET, SO_PROTOCOL);
	if (f->protocol == IPPROTO_TCP)
		f->tcp_state = tcp_state(fd);
}

static void read_fdinfo(struct fd_facts *f, char *text)
{
	uint64_t v = 0;

	f->fdinfo = text;
	if (proc_field_num(text, "pos", 0, 10, &v))
		f->pos = v;
	v = 0;
	if (proc_field_num(text, "flags", 0, 8, &v))
		f->flags = (uint32_t)v & ~(uint32_t)O_CLOEXEC;
	f->cloexec = v & O_CLOEXEC;
}

int fd_facts_read(int pid, int fd, int local, struct fd_facts *ret, char **ret_link,
		  char **ret_fdinfo, struct ckpt_err *err)
{
	char name[64];
	int rc;

	memset(ret, 0, sizeof(*ret));
	ret->pid = pid;
	ret->fd = fd;
	ret->local = local;
	ret->family = ret->protocol = ret->tcp_state = -1;
	(void)snprintf(name, sizeof(name), "fd/%d", fd);
	rc = proc_readlink(pid, name, ret_link, err);
	if (rc)
		return rc;
	(void)snprintf(name, sizeof(name), "fdinfo/%d", fd);
	rc = proc_read(pid, name, ret_fdinfo, NULL, err);
	if (rc)
		return rc;
	ret->link = *ret_link;
	read_fdinfo(ret, *ret_fdinfo);
	if (local >= 0) {
		rc = fstat(local, &ret->st);
	} else {
		(void)snprintf(name, sizeof(name), "/proc/%d/fd/%d", pid, fd);
		rc = stat(name, &ret->st);
	}
	if (rc)
		return ckpt_fail_errno(err, E_UNSUPPORTED, -errno, "fd %d (%s): cannot stat it", fd,
				       *ret_link);
	if (S_ISSOCK(ret->st.st_mode))
		read_socket(ret);
	return 0;
}

const struct fd_kind *dump_fd_kind(struct dump_ctx *d, const struct fd_facts *f)
{
	for (size_t i = 0; i < d->opts->n_external; i++)
		if (!strcmp(d->opts->external[i], f->link)) {
			d->external_seen |= 1ull << i;
			return fd_kind_by_name("external");
		}
	return fd_kind_match(f);
}

static int pidfd_of(int pid, struct ckpt_err *err)
{
	int fd = fd_holder(pid);

	return fd < 0 ? ckpt_fail_errno(err, E_KERNEL, fd, "cannot open a pidfd for task %d", pid)
		      : fd;
}

/*
 * Some system calls (eventfd2, TIOCGPTPEER …) keep close-on-exec, which is of a number, among the
 * flags of the description as well, and fdinfo shows the two as one.
 */
static bool is_doubtful(const struct fd_facts *f)
{
	int flags = !f->cloexec ? 0 : f->view ? (int)f->view->flags : fcntl(f->local, F_GETFL);

	return flags > 0 && flags & O_CLOEXEC;
}

/* *ret_doubt: close-on-exec may be wrong. */
static int object_fd(struct dump_ctx *d, struct fd_seen *s, Ckpt__Fd *msg, bool *ret_doubt,
		     struct ckpt_err *err)
{
	const struct fd_facts *f = &s->facts;
	struct fd_seen *outer = d->ahead;
	bool owns;
	int rc;

	d->connections += f->tcp_state > 0;
	if (f->view)
		d->socket_dev = f->st.st_dev;
	msg->fd = (uint32_t)f->fd;
	msg->cloexec = f->cloexec;
	*ret_doubt = is_doubtful(f);
	rc = lock_dump_posix(f, msg, err);
	if (rc)
		return rc;
	/* The options of a socket are its kind's, which asks for them by sockopts_dump(). */
	d->ahead = s;
	rc = dump_object_of(d, f, &s->link, &s->fdinfo, &msg->object, &owns, err);
	d->ahead = outer;
	if (owns)
		(void)take_fd(&s->local);
	return rc;
}

static int see_object_fd(struct dump_ctx *d, int pidfd, int pid, int fd,
			 const struct file_view *view, Ckpt__Fd *msg, bool *ret_doubt,
			 struct ckpt_err *err)
{
	const struct file_view *tcp = view && file_view_tcp(&d->iters.files, view) ? view : NULL;
	struct fd_seen seen;
	int rc = 0;

	if (!(tcp ? fd_see_record(d, pid, fd, view, &seen) : fd_see_named(d, pid, fd, view, &seen)))
		rc = fd_see(pidfd, pid, fd, tcp, &seen, err);
	if (!rc)
		rc = object_fd(d, &seen, msg, ret_doubt, err);
	fd_seen_free(&seen);
	return rc;
}

/* The object that @fd of the parent shows, if @pid has the same by this number: most descriptors
 * came by a fork. 0: it has not. */
static uint32_t inherited(const struct dump_ctx *d, const Ckpt__FdTable *of_parent, int pid, int fd)
{
	size_t lo = 0, hi = of_parent ? of_parent->n_fds : 0;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const Ckpt__Fd *f = of_parent->fds[mid];
		const struct dump_object *o;

		if (f->fd != (uint32_t)fd) {
			if (f->fd < (uint32_t)fd)
				lo = mid + 1;
			else
				hi = mid;
			continue;
		}
		o = &d->objects.v[f->object - 1];
		return syscall(SYS_kcmp, pid, o->pid, KCMP_FILE, fd, o->fd) == 0 ? f->object : 0;
	}
	return 0;
}

/* ---- descriptions by their records --------------------------------------------------------- */

static struct dump_file *file_place(struct dump_file *v, size_t cap, uint64_t file)
{
	/* The kernel's addresses: their lowest bits say nothing. */
	size_t at = (size_t)((file >> 6) * 0x9e3779b97f4a7c15u >> 20) & (cap - 1);

	while (v[at].file && v[at].file != file)
		at = (at + 1) & (cap - 1);
	return &v[at];
}

/* The object of the description that @view is of, if it was met before: it is open, for whoever has
 * it stands still. 0: it was not. */
static uint32_t object_of_file(const struct dump_ctx *d, const struct file_view *view)
{
	return view && d->files.n ? file_place(d->files.v, d->files.cap, view->file)->object : 0;
}

/* Who has no place for it is compared by kcmp(2). */
static void file_add(struct dump_ctx *d, const struct file_view *view, uint32_t object)
{
	if (!view || !view->file)
		return;
	if (d->files.n * 2 >= d->files.cap) {
		size_t cap = d->files.cap ? d->files.cap * 2 : 256;
		struct dump_file *v = calloc(cap, sizeof(*v));

		if (!v)
			return;
		for (size_t i = 0; i < d->files.cap; i++)
			if (d->files.v[i].file)
				*file_place(v, cap, d->files.v[i].file) = d->files.v[i];
		free(d->files.v);
		d->files.v = v;
		d->files.cap = cap;
	}
	d->files.n++;
	*file_place(d->files.v, d->files.cap, view->file) =
		(struct dump_file) { view->file, object };
}

/* What belongs to the number, of a descriptor whose object is known. */
static int inherited_fd(int pidfd, int pid, int fd, const struct file_view *view, Ckpt__Fd *msg,
			bool *ret_doubt, struct ckpt_err *err)
{
	struct fd_facts f = { .pid = pid, .fd = fd, .local = -1, .link = "" };
	auto_free char *fdinfo = NULL;
	auto_fd local = -1;
	char name[64];
	int rc;

	*ret_doubt = false;
	if (view && !view->locks) {
		msg->cloexec = file_view_cloexec(view);
		return 0;
	}
	(void)snprintf(name, sizeof(name), "fdinfo/%d", fd);
	rc = proc_read(pid, name, &fdinfo, NULL, err);
	if (rc)
		return rc;
	read_fdinfo(&f, fdinfo);
	if (f.cloexec)
		f.local = local = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (f.cloexec && local < 0)
		return ckpt_fail_errno(err, E_FREEZE, -errno, "cannot take fd %d of task %d", fd,
				       pid);
	msg->cloexec = f.cloexec;
	*ret_doubt = is_doubtful(&f);
	return lock_dump_posix(&f, msg, err);
}

int dump_object_fd(struct dump_ctx *d, int pid, int fd, uint32_t *ret_id, struct ckpt_err *err)
{
	auto_fd pidfd = pidfd_of(pid, err);
	Ckpt__Fd *msg = kind_msg_new(&ckpt__fd__descriptor);
	bool doubt;
	int rc = pidfd;

	if (!msg)
		return ckpt_oom(err);
	if (pidfd >= 0)
		rc = see_object_fd(d, pidfd, pid, fd, NULL, msg, &doubt, err);
	*ret_id = msg->object;
	ckpt__fd__free_unpacked(msg, NULL);
	return rc;
}

static int fd_cmp(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The descriptors of a task that was collected before, or NULL. */
static const Ckpt__FdTable *table_of(const struct dump_ctx *d, int at)
{
	uint32_t id = at >= 0 && (size_t)at < d->tasks.n ? d->tasks.v[at]->fdtable : 0;

	return id ? d->tables.v[id - 1] : NULL;
}

/* The numbers that are open, as /proc lists them. */
static int list_fds(int pid, struct proc_pids *ret, struct ckpt_err *err)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return ckpt_fail_errno(err, E_FREEZE, -errno, "cannot read %s", path);
	while ((e = readdir(dir))) {
		int *fd;

		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		fd = vec_push(ret);
		if (!fd)
			return ckpt_oom(err);
		*fd = atoi(e->d_name);
	}
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(int), fd_cmp);
	return 0;
}

/* The same from the kernel's records, if those are all: since Linux 6.2 the directory's size says
 * how many there are. */
static bool seen_fds(int pid, const struct file_views *views, struct proc_pids *ret)
{
	struct stat st;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	if (!views->n || stat(path, &st) || (uint64_t)st.st_size != views->n)
		return false;
	for (size_t i = 0; i < views->n; i++) {
		int *fd = vec_push(ret);

		if (!fd) {
			vec_free(ret);
			return false;
		}
		*fd = (int)views->v[i].fd;
	}
	return true;
}

int dump_collect_fds(struct dump_ctx *d, struct target_task *task, Ckpt__Task *msg,
		     struct doubtful_fds *ret_doubtful, struct ckpt_err *err)
{
	const Ckpt__FdTable *of_parent = table_of(d, task->parent);
	struct proc_pids fds = { 0 };
	struct file_views views = { 0 };
	Ckpt__FdTable *table = kind_msg_new(&ckpt__fd_table__descriptor);
	Ckpt__FdTable **slot = vec_push(&d->tables);
	auto_fd pidfd = pidfd_of(task->pid, err);
	struct fds_ahead *ahead = NULL;
	int rc = 0;

	if (pidfd < 0)
		return pidfd;
	if (!table || !slot)
		return ckpt_oom(err);
	*slot = table;
	table->id = (uint32_t)d->tables.n;
	msg->fdtable = table->id;
	if (d->iters.files.prog_fd >= 0 && file_iter_read(&d->iters.files, task->pid, &views))
		views.n = 0;
	if (!seen_fds(task->pid, &views, &fds))
		rc = list_fds(task->pid, &fds, err);
	d->descriptors += fds.n;
	/* What a parent has is asked of it; of the others most came by a fork. */
	if (!rc && !of_parent && d->iters.files.prog_fd < 0)
		ahead = fds_ahead_begin(d, pidfd, task->pid, fds.v, fds.n);
	for (size_t i = 0; !rc && i < fds.n; i++) {
		Ckpt__Fd *f = kind_msg_new(&ckpt__fd__descriptor), **doubtful;
		const struct file_view *view = file_view_find(&views, fds.v[i]);
		uint32_t met = object_of_file(d, view);
		struct fd_seen seen = FD_SEEN_NONE;
		bool doubt = false;

		if (!f || kind_push(&table->n_fds, &table->fds, f)) {
			rc = ckpt_oom(err);
			break;
		}
		f->fd = (uint32_t)fds.v[i];
		f->object = met ? met : inherited(d, of_parent, task->pid, fds.v[i]);
		if (f->object)
			rc = inherited_fd(pidfd, task->pid, fds.v[i], view, f, &doubt, err);
		else if (fds_ahead_take(ahead, i, &seen))
			rc = object_fd(d, &seen, f, &doubt, err);
		else
			rc = see_object_fd(d, pidfd, task->pid, fds.v[i], view, f, &doubt, err);
		fd_seen_free(&seen);
		if (!rc && !met)
			file_add(d, view, f->object);
		if (doubt && !(doubtful = vec_push(ret_doubtful)))
			rc = ckpt_oom(err);
		else if (doubt)
			*doubtful = f;
	}
	fds_ahead_end(ahead);
	free(views.v);
	vec_free(&fds);
	return rc;
}

void dump_fds_ask(struct doubtful_fds *doubtful, struct steps *s)
{
	doubtful->first = (uint32_t)s->n;
	for (size_t i = 0; i < doubtful->n; i++)
		(void)steps_call(s, "F_GETFD", SYS_fcntl, doubtful->v[i]->fd, F_GETFD);
}

void dump_fds_answer(const struct doubtful_fds *doubtful, const struct arena *a,
		     const struct ckpt_slot *slot)
{
	for (size_t i = 0; i < doubtful->n; i++)
		doubtful->v[i]->cloexec =
			slot_ret(a, slot, doubtful->first + (uint32_t)i) & FD_CLOEXEC;
}
