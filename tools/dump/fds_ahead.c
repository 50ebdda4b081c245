// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel tells of the descriptors of a process, read by a second thread of ckpt while all
 * stand still: it begins with the last, the one that makes objects of them with the first, and
 * where they meet all are known. A socket of the tree has about sixty options, and each is a call.
 */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/quiet.h"
#include "dump/dump.h"
#include "kind/fd/sockopt.h"

/* Fewer are read before a thread has started. */
#define WORTH_A_THREAD 16u
/* They are open in ckpt until they are asked for: of the numbers that it may use, such a part. */
#define SHARE_OF_LIMIT 8u
/* What ckpt has open besides, at most, or roughly. */
#define OWN_FDS 64

enum { OPEN, READING, READ, OURS };

struct ahead_fd {
	atomic_int state;
	struct fd_seen seen;
	bool known; /* without an error */
};

struct fds_ahead {
	struct dump_ctx *d;
	int pid, pidfd;
	const int *fds;
	size_t n, first; /* of those that are read ahead */
	pthread_t reader;
	struct ahead_fd v[];
};

void fd_seen_free(struct fd_seen *s)
{
	if (s->local >= 0)
		(void)close(s->local);
	free(s->link);
	free(s->fdinfo);
	if (s->opts)
		protobuf_c_message_free_unpacked(&s->opts->base, NULL);
	*s = FD_SEEN_NONE;
}

/* What the record of any file has of it. */
static void facts_of_file(struct fd_facts *f, const struct file_view *v)
{
	f->flags = (uint32_t)v->flags & ~(uint32_t)O_CLOEXEC;
	f->pos = v->pos;
	f->cloexec = file_view_cloexec(v);
}

/* Of a socket /proc tells no more than the kernel's record of it. */
static bool facts_of_view(struct fd_seen *s, const struct file_view *v)
{
	struct fd_facts *f = &s->facts;

	s->fdinfo = strdup("");
	if (!s->fdinfo || asprintf(&s->link, "socket:[%llu]", (unsigned long long)v->ino) < 0) {
		free(take_ptr(s->fdinfo));
		s->link = NULL;
		return false;
	}
	f->link = s->link;
	f->fdinfo = s->fdinfo;
	facts_of_file(f, v);
	f->family = (int)v->family;
	f->protocol = (int)v->protocol;
	f->tcp_state = (int)v->state;
	f->view = v;
	return true;
}

bool fd_see_record(struct dump_ctx *d, int pid, int fd, const struct file_view *view,
		   struct fd_seen *ret)
{
	*ret = FD_SEEN_NONE;
	/* Into a listener its kind looks. */
	if (!view || !d->socket_dev || d->opts->tcp != CKPT_TCP_CLOSE || view->owner ||
	    view->signal || view->state == TCP_LISTEN || !sockopts_known(d, view))
		return false;
	ret->facts = (struct fd_facts) {
		.pid = pid,
		.fd = fd,
		.local = -1,
		.st = { .st_dev = d->socket_dev, .st_ino = view->ino, .st_mode = S_IFSOCK | 0777 },
	};
	return facts_of_view(ret, view);
}

bool fd_see_named(struct dump_ctx *d, int pid, int fd, const struct file_view *view,
		  struct fd_seen *ret)
{
	struct fd_facts *f = &ret->facts;
	struct ckpt_err ignore = { 0 };
	const struct fd_kind *kind;
	char name[32];

	*ret = FD_SEEN_NONE;
	if (!view || view->locks || view->owner || view->signal || d->opts->store_files)
		return false;
	*f = (struct fd_facts) {
		.pid = pid,
		.fd = fd,
		.local = -1,
		.family = -1,
		.protocol = -1,
		.tcp_state = -1,
		.named = true,
	};
	facts_of_file(f, view);
	(void)snprintf(name, sizeof(name), "fd/%d", fd);
	if (proc_readlink(pid, name, &ret->link, &ignore) || ret->link[0] != '/' ||
	    lstat(ret->link, &f->st) || f->st.st_ino != view->ino ||
	    f->st.st_dev != file_view_dev(view) || !(ret->fdinfo = strdup(""))) {
		fd_seen_free(ret);
		return false;
	}
	f->link = ret->link;
	f->fdinfo = ret->fdinfo;
	kind = dump_fd_kind(d, f);
	if (kind && kind->by_name)
		return true;
	fd_seen_free(ret);
	return false;
}

int fd_see(int pidfd, int pid, int fd, const struct file_view *view, struct fd_seen *ret,
	   struct ckpt_err *err)
{
	*ret = FD_SEEN_NONE;
	ret->local = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (ret->local < 0)
		return ckpt_fail_errno(err, E_FREEZE, -errno, "cannot take fd %d of task %d", fd,
				       pid);
	ret->facts = (struct fd_facts) { .pid = pid, .fd = fd, .local = ret->local };
	if (view && !fstat(ret->local, &ret->facts.st) && ret->facts.st.st_ino == view->ino &&
	    facts_of_view(ret, view))
		return 0;
	return fd_facts_read(pid, fd, ret->local, &ret->facts, &ret->link, &ret->fdinfo, err);
}

static bool has_options(const struct fd_facts *f)
{
	return f->family == AF_INET || f->family == AF_INET6 || f->family == AF_UNIX;
}

/* Whatever fails here is met again, and told, by who wants it. */
static void *read_ahead(void *arg)
{
	struct fds_ahead *a = arg;

	for (size_t i = a->n; i-- > a->first;) {
		struct ckpt_err ignore = { 0 };
		struct ahead_fd *f = &a->v[i];
		int was = OPEN;

		if (!atomic_compare_exchange_strong(&f->state, &was, READING))
			break;
		f->known = !fd_see(a->pidfd, a->pid, a->fds[i], NULL, &f->seen, &ignore);
		if (f->known && has_options(&f->seen.facts) &&
		    sockopts_read(a->d, &f->seen.facts, &f->seen.opts, &ignore) && f->seen.opts) {
			protobuf_c_message_free_unpacked(&f->seen.opts->base, NULL);
			f->seen.opts = NULL;
		}
		atomic_store(&f->state, READ);
	}
	return NULL;
}

/* The kernel enlarges the table of a process of several threads only after it has waited for all
 * processors, milliseconds each time: have it large enough before there are two. */
static void make_room(int any, size_t n)
{
	int top = fcntl(any, F_DUPFD_CLOEXEC, (int)n + OWN_FDS);

	if (top >= 0)
		(void)close(top);
}

struct fds_ahead *fds_ahead_begin(struct dump_ctx *d, int pidfd, int pid, const int *fds, size_t n)
{
	struct fds_ahead *a =
		n < WORTH_A_THREAD ? NULL : calloc(1, sizeof(*a) + n * sizeof(a->v[0]));
	struct rlimit rl;

	if (!a)
		return NULL;
	if (!getrlimit(RLIMIT_NOFILE, &rl) && n > rl.rlim_cur / SHARE_OF_LIMIT)
		a->first = n - rl.rlim_cur / SHARE_OF_LIMIT;
	a->d = d;
	a->pidfd = pidfd;
	a->pid = pid;
	a->fds = fds;
	a->n = n;
	for (size_t i = 0; i < n; i++)
		a->v[i].seen = FD_SEEN_NONE;
	make_room(pidfd, n);
	if (!quiet_thread(&a->reader, read_ahead, a))
		return a;
	free(a);
	return NULL;
}

bool fds_ahead_take(struct fds_ahead *a, size_t i, struct fd_seen *ret)
{
	int was = OPEN;

	if (!a || atomic_compare_exchange_strong(&a->v[i].state, &was, OURS))
		return false;
	while (atomic_load(&a->v[i].state) == READING)
		(void)sched_yield();
	if (!a->v[i].known)
		return false;
	*ret = a->v[i].seen;
	a->v[i].seen = FD_SEEN_NONE;
	return true;
}

void fds_ahead_end(struct fds_ahead *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->n; i++) {
		int was = OPEN;

		(void)atomic_compare_exchange_strong(&a->v[i].state, &was, OURS);
	}
	(void)pthread_join(a->reader, NULL);
	for (size_t i = 0; i < a->n; i++)
		fd_seen_free(&a->v[i].seen);
	free(a);
}
