// SPDX-License-Identifier: GPL-2.0-only
/*
 * AF_UNIX sockets. Who is connected to whom is the kernel's secret; sock_diag tells the inodes. At
 * restore the two ends of a connection are made together, as they were: by socketpair(2), or by
 * connect(2) and accept(2) on a listener with the right name, in the name of the pid that
 * SO_PEERCRED is to show. Queues are filled when all processes exist; then come half-closed
 * directions and peers that are gone.
 */
#include "kind/fd/unix.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/getfd.h"
#include "kern/guard.h"
#include "kind/fd/kinds.h"
#include "kind/fd/sockopt.h"

#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE (SIOCPROTOPRIVATE + 0)
#endif
#define SUN_PATH_OFF offsetof(struct sockaddr_un, sun_path)
#define NO_READ 1u
#define NO_WRITE 2u

static bool unix_match(const struct fd_facts *f)
{
	return f->family == AF_UNIX && !(f->flags & O_PATH);
}

static bool is_dgram(int fd)
{
	return sockopt_get(fd, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM;
}

/* The listener on which client @ino waits to be accepted. */
static const struct unix_diag *waits_at(const struct unix_diags *all, uint64_t ino)
{
	for (size_t i = 0; i < all->listeners.n; i++) {
		const struct unix_diag *l = sockdiag_unix_find(all, all->listeners.v[i]);

		for (size_t k = 0; l && k < l->n_waiting; k++)
			if (l->waiting[k] == (uint32_t)ino)
				return l;
	}
	return NULL;
}

/* Connected, as its system calls see it, but the peer has no inode: gone, or not accepted yet. */
static bool is_waiting(const struct unix_diag *diag, bool dgram)
{
	return diag->connected && !diag->peer && !dgram && diag->shutdown != (NO_READ | NO_WRITE);
}

static int refuse(const struct fd_facts *f, struct ckpt_err *err, const char *why)
{
	return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP, "fd %d (unix %s): %s", f->fd, f->link,
			 why);
}

static int listener_check(struct dump_ctx *d, const struct fd_facts *f,
			  const struct unix_diag *diag, struct ckpt_err *err)
{
	for (size_t i = 0; i < diag->n_waiting; i++) {
		if (diag->waiting[i] && dump_tree_anon(d, diag->waiting[i]))
			continue;
		(void)refuse(f, err,
			     diag->waiting[i]
				     ? "a client outside the tree waits to be accepted"
				     : "a connection whose client is gone waits to be accepted");
		return ckpt_remedy(err, "repeat when the program has accepted it");
	}
	return 0;
}

/* A client that is not accepted yet: its listener will connect it, and what it sent is out of
 * sight. */
static int waiting_check(struct dump_ctx *d, const struct fd_facts *f, const struct unix_diags *all,
			 const struct unix_diag *diag, int fd, struct ckpt_err *err)
{
	const struct unix_diag *at = waits_at(all, diag->ino);
	int unsent = 0;

	if (!at || !dump_tree_anon(d, at->ino))
		return refuse(f, err, "it waits to be accepted outside the tree");
	if (ioctl(fd, SIOCOUTQ, &unsent) || !unsent)
		return 0;
	(void)refuse(f, err, "it has sent data to a socket that is not accepted yet");
	return ckpt_remedy(err, "repeat when the program has accepted it");
}

static int unix_check(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err)
{
	auto_fd own = f->local < 0 ? fd_take(f->pid, f->fd) : -1;
	int fd = f->local < 0 ? own : f->local;
	const struct unix_diags *all;
	const struct unix_diag *diag;
	bool dgram = is_dgram(fd);

	if (fd < 0)
		return 0; /* closed meanwhile */
	if (dump_unix_diags(d, &all, err))
		return err->code;
	diag = sockdiag_unix_find(all, f->st.st_ino);
	/* Once the tree is frozen unix_dump_late() knows all of it, also sockets on their way. */
	if (!diag || f->local >= 0 || dump_tree_sends_fds(d))
		return 0;
	if (diag->state == TCP_LISTEN)
		return listener_check(d, f, diag, err);
	if (is_waiting(diag, dgram))
		return waiting_check(d, f, all, diag, fd, err);
	if (diag->peer && !dgram && !dump_tree_anon(d, diag->peer)) {
		(void)refuse(f, err, "its peer is outside the tree");
		return ckpt_remedy(err,
				   "dump the process that holds the other end, or leave it out and "
				   "hand one over at the restore: --external '%s'",
				   f->link);
	}
	return 0;
}

static int bytes_set(ProtobufCBinaryData *ret, const void *data, size_t len, struct ckpt_err *err)
{
	ret->data = malloc(len + 1);
	if (!ret->data)
		return ckpt_oom(err);
	memcpy(ret->data, data, len);
	ret->len = len;
	return 0;
}

/* The name, and the file behind it when it has one. */
static int name_dump(int fd, Ckpt__FdUnix *m, struct ckpt_err *err)
{
	struct sockaddr_un sun = { 0 };
	socklen_t len = sizeof(sun);
	struct stat st, by_name;
	char self[32], path[4096];
	auto_fd file = -1;
	ssize_t n;

	if (getsockname(fd, (void *)&sun, &len))
		return ckpt_fail_errno(err, E_KERNEL, -errno, "getsockname");
	if (len <= SUN_PATH_OFF)
		return 0;
	if (bytes_set(&m->name, sun.sun_path, len - SUN_PATH_OFF, err))
		return err->code;
	if (!sun.sun_path[0]) {
		m->bound = CKPT__FD_UNIX__BOUND__ABSTRACT;
		return 0;
	}
	file = ioctl(fd, SIOCUNIXFILE);
	if (file < 0 || fstat(file, &st))
		return ckpt_fail_errno(err, E_KERNEL, -errno,
				       "cannot find the file of socket \"%.100s\"", sun.sun_path);
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", file);
	n = readlink(self, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = 0;
	m->mode = st.st_mode & 07777;
	m->uid = st.st_uid;
	m->gid = st.st_gid;
	m->bound =
		!lstat(path, &by_name) && by_name.st_dev == st.st_dev && by_name.st_ino == st.st_ino
			? CKPT__FD_UNIX__BOUND__FILE
			: CKPT__FD_UNIX__BOUND__GONE;
	m->path = strdup(path);
	return m->path ? 0 : ckpt_oom(err);
}

static int unix_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		     struct ckpt_err *err)
{
	Ckpt__FdUnix *m = msg;
	const struct unix_diags *all;
	const struct unix_diag *diag;
	struct ucred cred = { .pid = 0, .uid = 0, .gid = 0 };
	struct pollfd p = { .fd = f->local };
	int rc;

	(void)obj;
	rc = dump_unix_diags(d, &all, err);
	if (rc)
		return rc;
	diag = sockdiag_unix_find(all, f->st.st_ino);
	if (!diag)
		return refuse(f, err, "sock_diag does not know it");
	m->type = (uint32_t)sockopt_get(f->local, SOL_SOCKET, SO_TYPE);
	m->shutdown = diag->shutdown;
	m->listening = diag->state == TCP_LISTEN;
	m->backlog = diag->backlog;
	m->reset = poll(&p, 1, 0) > 0 && p.revents & POLLERR;
	if (!getsockopt(f->local, SOL_SOCKET, SO_PEERCRED, &cred, &(socklen_t) { sizeof(cred) })) {
		m->cred_pid = dump_pid_image(d, cred.pid);
		m->cred_uid = cred.uid;
		m->cred_gid = cred.gid;
	}
	rc = name_dump(f->local, m, err);
	if (!rc)
		rc = sockopts_dump(d, f, &m->opts, err);
	if (!rc && !m->listening)
		rc = unix_queue_dump(d, f->local, (int)m->type, diag->shutdown & NO_READ, m, err);
	return rc;
}

static uint32_t object_of(struct dump_ctx *d, const struct fd_facts *f, uint32_t ino)
{
	uint32_t id = 0;
	int pid, fd;

	return dump_object_next(d, f->st.st_dev, ino, &id, &pid, &fd) ? id : 0;
}

static bool same_name(const struct unix_diag *a, const struct unix_diag *b)
{
	return a->name_len && a->name_len == b->name_len &&
	       !memcmp(a->name, b->name, a->name_len) && a->file_ino == b->file_ino &&
	       a->file_dev == b->file_dev;
}

/* Of a connection: is this the end that was accepted? It then has the name of its listener. */
static void accepted_dump(struct dump_ctx *d, const struct fd_facts *f,
			  const struct unix_diags *all, const struct unix_diag *diag,
			  const struct unix_diag *peer, Ckpt__FdUnix *m)
{
	if (!m->name.len || m->type == SOCK_DGRAM)
		return;
	for (size_t i = 0; !m->listener && i < all->listeners.n; i++) {
		const struct unix_diag *l = sockdiag_unix_find(all, all->listeners.v[i]);

		if (l && same_name(l, diag))
			m->listener = object_of(d, f, l->ino);
	}
	/* A client may be bound as well. Then the one with a listener's name is the accepted one,
	 * and of two without one the younger. */
	m->accepted = m->listener || !peer || !peer->name_len || diag->ino > peer->ino;
}

static int peer_outside(int fd, const struct fd_facts *f, Ckpt__FdUnix *m, struct ckpt_err *err)
{
	struct sockaddr_un sun = { 0 };
	socklen_t len = sizeof(sun);

	if (getpeername(fd, (void *)&sun, &len) || len <= SUN_PATH_OFF)
		return refuse(f, err, "its peer is outside the tree and has no name");
	if (sun.sun_path[0] && sun.sun_path[0] != '/')
		return refuse(f, err, "its peer is outside the tree and has a relative name");
	m->link = CKPT__FD_UNIX__LINK__OUTSIDE;
	return bytes_set(&m->peer_name, sun.sun_path, len - SUN_PATH_OFF, err);
}

static int unix_dump_late(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj,
			  void *msg, struct ckpt_err *err)
{
	Ckpt__FdUnix *m = msg;
	const struct unix_diags *all;
	const struct unix_diag *diag, *peer;

	(void)obj;
	if (dump_unix_diags(d, &all, err))
		return err->code;
	diag = sockdiag_unix_find(all, f->st.st_ino);
	if (!diag)
		return refuse(f, err, "sock_diag does not know it");
	if (diag->n_waiting) {
		m->waiting = calloc(diag->n_waiting, sizeof(uint32_t));
		if (!m->waiting)
			return ckpt_oom(err);
		for (size_t i = 0; i < diag->n_waiting; i++) {
			m->waiting[i] = object_of(d, f, diag->waiting[i]);
			m->n_waiting++;
			if (!m->waiting[i])
				return refuse(f, err,
					      "a client outside the tree waits to be accepted");
		}
	}
	if (is_waiting(diag, m->type == SOCK_DGRAM))
		return waiting_check(d, f, all, diag, f->local, err);
	if (m->listening || !diag->connected)
		return 0;
	if (!diag->peer) {
		m->link = CKPT__FD_UNIX__LINK__DEAD;
		accepted_dump(d, f, all, diag, NULL, m);
		return 0;
	}
	m->peer = object_of(d, f, diag->peer);
	if (!m->peer)
		return m->type == SOCK_DGRAM ? peer_outside(f->local, f, m, err)
					     : refuse(f, err, "its peer is outside the tree");
	m->link = CKPT__FD_UNIX__LINK__PAIR;
	peer = sockdiag_unix_find(all, diag->peer);
	if (m->type != SOCK_DGRAM)
		accepted_dump(d, f, all, diag, peer, m);
	else if (peer && peer->peer != diag->ino && !peer->name_len)
		return refuse(f, err,
			      "it is connected to a nameless socket that is not connected to it");
	return 0;
}

/* ---- restore: making them ------------------------------------------------------------------- */

/* What a helper process makes is told by shared memory; the descriptors themselves are shared. */
struct making {
	const Ckpt__FdUnix *m; /* the name to bind; the credentials to take */
	const Ckpt__FdUnix *as;
	int type;
	int fd[2];         /* in and out */
	bool scratch_root; /* bind where nobody sees it */
	char what[64];     /* the call that failed */
};

static int make_fail(struct making *mk, const char *what)
{
	int code = -errno;

	(void)snprintf(mk->what, sizeof(mk->what), "%s", what);
	return code;
}

/* Run @fn as the process of mk->as's credentials and get its results. */
static int make_run(struct making *mk, int (*fn)(void *), struct ckpt_err *err)
{
	struct making *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int rc;

	if (shared == MAP_FAILED)
		return ckpt_oom(err);
	*shared = *mk;
	rc = guard_run_as(mk->as ? mk->as->cred_pid : 0, fn, shared);
	*mk = *shared;
	(void)munmap(shared, sizeof(*shared));
	return rc ? ckpt_fail_errno(err, E_RESTORE, rc, "unix socket: %s", mk->what) : 0;
}

static int become(struct making *mk)
{
	int rc = mk->as ? guard_ids(mk->as->cred_uid, mk->as->cred_gid) : 0;

	return rc ? (errno = -rc, make_fail(mk, "taking the credentials of its maker")) : 0;
}

/* A root directory of our own, to bind names that exist no longer, or more than once. */
static int scratch_root(struct making *mk, const char *name)
{
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path) + 2];
	char *slash;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/proc", "tmpfs", 0, "mode=0755") || chroot("/proc") || chdir("/"))
		return make_fail(mk, "making a scratch directory");
	(void)snprintf(dir, sizeof(dir), "%s", name);
	for (slash = strchr(dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(dir, 0755) && errno != EEXIST)
			return make_fail(mk, "making a scratch directory");
		*slash = '/';
	}
	return 0;
}

/* The directory in which the relative name @name leads to @path. */
static int enter_dir(struct making *mk, const char *name, const char *path)
{
	char dir[4096];
	size_t n = strlen(name), p = strlen(path);

	while (!strncmp(name, "./", 2)) {
		name += 2;
		n -= 2;
	}
	if (p <= n || p >= sizeof(dir) || path[p - n - 1] != '/' ||
	    strcmp(path + p - n, name) != 0) {
		errno = ENOENT;
		return make_fail(mk, "finding the directory of its relative name");
	}
	memcpy(dir, path, p - n);
	dir[p - n] = 0;
	return chdir(dir) ? make_fail(mk, "entering the directory of its name") : 0;
}

/* A socket file of the dumped program is in the way; one that somebody listens on is not ours. */
static int remove_stale(struct making *mk, const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	auto_fd probe = -1;
	auto_fd file = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (file < 0 || fstat(file, &st))
		return errno == ENOENT ? 0 : make_fail(mk, "looking at the file of its name");
	if (!S_ISSOCK(st.st_mode)) {
		errno = EEXIST;
		return make_fail(mk, "bind: a file that is no socket has its name");
	}
	/* A socket of another type cannot connect, but learns whether there is one to connect to.
	 */
	probe = socket(AF_UNIX, (mk->type == SOCK_DGRAM ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC,
		       0);
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d", file);
	if (!connect(probe, (void *)&sun, sizeof(sun)) || errno != ECONNREFUSED) {
		errno = EADDRINUSE;
		return make_fail(mk, "bind: its name is in use");
	}
	return unlink(path) ? make_fail(mk, "removing the old file of its name") : 0;
}

static int make_bind(struct making *mk, int fd)
{
	const Ckpt__FdUnix *m = mk->m;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	bool gone = m->bound == CKPT__FD_UNIX__BOUND__GONE || mk->scratch_root;
	socklen_t len = (socklen_t)(SUN_PATH_OFF + m->name.len);
	int rc = 0;

	if (!m->name.len)
		return 0;
	if (m->name.len > sizeof(sun.sun_path)) {
		errno = EBADMSG;
		return make_fail(mk, "its name is too long");
	}
	memcpy(sun.sun_path, m->name.data, m->name.len);
	if (m->bound == CKPT__FD_UNIX__BOUND__ABSTRACT)
		return bind(fd, (void *)&sun, len) ? make_fail(mk, "bind to its abstract name") : 0;
	if (!memchr(sun.sun_path, 0, sizeof(sun.sun_path)))
		sun.sun_path[sizeof(sun.sun_path) - 1] = 0;
	if (gone)
		rc = scratch_root(mk, sun.sun_path);
	else if (sun.sun_path[0] != '/')
		rc = enter_dir(mk, sun.sun_path, m->path);
	if (!rc && !gone)
		rc = remove_stale(mk, sun.sun_path);
	if (rc)
		return rc;
	(void)umask(077);
	if (bind(fd, (void *)&sun, len))
		return make_fail(mk, "bind to its name");
	if (chmod(sun.sun_path, m->mode & 07777) || lchown(sun.sun_path, m->uid, m->gid))
		return make_fail(mk, "setting the owner of its file");
	if (gone)
		(void)unlink(sun.sun_path);
	return 0;
}

/* fd[0]: a socket, bound and listening if its message says so. */
static int do_single(void *arg)
{
	struct making *mk = arg;
	int rc;

	mk->fd[0] = socket(AF_UNIX, mk->type | SOCK_CLOEXEC, 0);
	if (mk->fd[0] < 0)
		return make_fail(mk, "socket");
	rc = make_bind(mk, mk->fd[0]);
	if (!rc && (mk->m->listening || mk->scratch_root)) {
		rc = become(mk);
		if (!rc && listen(mk->fd[0], mk->m->listening ? (int)mk->m->backlog : 1))
			rc = make_fail(mk, "listen");
	}
	return rc;
}

static int do_pair(void *arg)
{
	struct making *mk = arg;
	int rc = become(mk);

	if (!rc && socketpair(AF_UNIX, mk->type | SOCK_CLOEXEC, 0, mk->fd))
		rc = make_fail(mk, "socketpair");
	return rc;
}

static int do_bind(void *arg)
{
	struct making *mk = arg;

	return make_bind(mk, mk->fd[0]);
}

/* fd[0] connects to listener fd[1]. */
static int do_connect(void *arg)
{
	struct making *mk = arg;
	struct ckpt_err err = { 0 };
	struct sockaddr_un sun;
	socklen_t len;
	int file = -1, rc = unix_address(mk->fd[1], &sun, &len, &file, &err);

	if (!rc)
		rc = become(mk);
	if (!rc && connect(mk->fd[0], (void *)&sun, len))
		rc = make_fail(mk, "connect to its listener");
	if (file >= 0)
		(void)close(file);
	return rc;
}

int unix_address(int fd, struct sockaddr_un *ret_sun, socklen_t *ret_len, int *ret_file,
		 struct ckpt_err *err)
{
	*ret_len = sizeof(*ret_sun);
	if (getsockname(fd, (void *)ret_sun, ret_len))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "getsockname");
	if (*ret_len <= SUN_PATH_OFF || !ret_sun->sun_path[0])
		return 0;
	*ret_file = ioctl(fd, SIOCUNIXFILE);
	if (*ret_file < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno,
				       "cannot find the file of a bound socket");
	*ret_len = (socklen_t)(SUN_PATH_OFF + 1 +
			       (size_t)snprintf(ret_sun->sun_path, sizeof(ret_sun->sun_path),
						"/proc/self/fd/%d", *ret_file));
	return 0;
}

/* A socket by itself: listening, bound, or new. */
static int restore_single(const Ckpt__FdUnix *m, int *ret_fd, struct ckpt_err *err)
{
	struct making mk = {
		.m = m, .as = m->listening ? m : NULL, .type = (int)m->type, .fd = { -1, -1 }
	};
	int rc;

	/* Nothing a helper is needed for. */
	if (!m->name.len && !m->listening) {
		*ret_fd = socket(AF_UNIX, (int)m->type | SOCK_CLOEXEC, 0);
		return *ret_fd < 0 ? ckpt_fail_errno(err, E_RESTORE, -errno,
						     "cannot make a unix socket")
				   : 0;
	}
	rc = make_run(&mk, do_single, err);
	if (rc && mk.fd[0] >= 0)
		(void)close(mk.fd[0]);
	else if (!rc)
		*ret_fd = mk.fd[0];
	return rc;
}

static int bind_to(const Ckpt__FdUnix *m, int fd, struct ckpt_err *err)
{
	struct making mk = { .m = m, .type = (int)m->type, .fd = { fd, -1 } };

	return m->name.len ? make_run(&mk, do_bind, err) : 0;
}

/* Two sockets without a listener. */
static int restore_pair(const Ckpt__FdUnix *a, const Ckpt__FdUnix *b, int *ret_a, int *ret_b,
			struct ckpt_err *err)
{
	struct making mk = { .m = a, .as = a, .type = (int)a->type, .fd = { -1, -1 } };
	int rc = make_run(&mk, do_pair, err);

	if (rc)
		return rc;
	*ret_a = mk.fd[0];
	*ret_b = mk.fd[1];
	rc = bind_to(a, *ret_a, err);
	if (!rc && b)
		rc = bind_to(b, *ret_b, err);
	return rc;
}

/* @server was accepted on a socket of its name, @client (NULL: it is gone) connected to that. */
static int restore_accepted(struct restore_ctx *r, const Ckpt__FdUnix *server,
			    const Ckpt__FdUnix *client, int *ret_server, int *ret_client,
			    struct ckpt_err *err)
{
	struct making listen_mk = { .m = server,
				    .as = client,
				    .type = (int)server->type,
				    .fd = { -1, -1 },
				    .scratch_root = true };
	struct making mk = { .m = client, .as = server, .type = (int)server->type };
	auto_fd temp = -1;
	int listener, rc;

	if (server->listener) {
		rc = restore_object_fd(r, server->listener, &listener, err);
	} else {
		rc = make_run(&listen_mk, do_single, err);
		listener = temp = listen_mk.fd[0];
	}
	if (!rc) {
		*ret_client = socket(AF_UNIX, (int)server->type | SOCK_CLOEXEC, 0);
		if (*ret_client < 0)
			rc = ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make a unix socket");
	}
	if (!rc && client)
		rc = bind_to(client, *ret_client, err);
	mk.fd[0] = *ret_client;
	mk.fd[1] = listener;
	if (!rc)
		rc = make_run(&mk, do_connect, err);
	if (rc)
		return rc;
	*ret_server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	return *ret_server < 0
		       ? ckpt_fail_errno(err, E_RESTORE, -errno, "cannot accept a unix connection")
		       : 0;
}

static bool is_mutual(const Ckpt__Object *obj, const Ckpt__FdUnix *m, const Ckpt__FdUnix *peer)
{
	return m->link == CKPT__FD_UNIX__LINK__PAIR && peer->link == CKPT__FD_UNIX__LINK__PAIR &&
	       peer->peer == obj->id && m->peer != obj->id;
}

/* Both ends of a connection, or the end and a stand-in for its peer that is gone. */
static int restore_ends(struct restore_ctx *r, const Ckpt__FdUnix *m, const Ckpt__FdUnix *peer,
			int *ret_fd, int *ret_other, struct ckpt_err *err)
{
	if (m->accepted)
		return restore_accepted(r, m, peer, ret_fd, ret_other, err);
	if (peer && peer->accepted)
		return restore_accepted(r, peer, m, ret_other, ret_fd, err);
	return restore_pair(m, peer, ret_fd, ret_other, err);
}

static const Ckpt__FdUnix *peer_msg(struct restore_ctx *r, const Ckpt__FdUnix *m,
				    struct ckpt_err *err)
{
	const Ckpt__Object *o = restore_object(r, m->peer);

	if (!o || strcmp(o->state->kind, "unix") != 0) {
		(void)ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
				"its peer, object %u, is no unix socket", m->peer);
		return NULL;
	}
	return restore_object_msg(r, m->peer, err);
}

static int unix_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdUnix *m = msg, *peer = NULL;
	auto_fd fd = -1;
	auto_fd other = -1;
	bool mutual;
	int rc;

	if (restore_opts(r)->plan_only) {
		/* Names are not taken from anybody for a look at the plan. */
		fd = socket(AF_UNIX, (int)m->type | SOCK_CLOEXEC, 0);
		*ret_fd = take_fd(&fd);
		return *ret_fd < 0 ? ckpt_fail_errno(err, E_RESTORE, -errno,
						     "cannot make a unix socket")
				   : 0;
	}
	if (m->link == CKPT__FD_UNIX__LINK__PAIR && !(peer = peer_msg(r, m, err)))
		return err->code;
	mutual = peer && is_mutual(obj, m, peer);
	if (peer && !mutual && m->type != SOCK_DGRAM)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "its peer is not connected to it");
	if (mutual || m->link == CKPT__FD_UNIX__LINK__DEAD)
		rc = restore_ends(r, m, mutual ? peer : NULL, &fd, &other, err);
	else
		rc = restore_single(m, &fd, err);
	if (!rc)
		rc = sockopts_restore(fd, m->opts, SOCKOPT_EARLY, err);
	if (!rc && mutual) {
		rc = sockopts_restore(other, peer->opts, SOCKOPT_EARLY, err);
		if (!rc)
			rc = restore_object_give(r, m->peer, take_fd(&other), err);
	} else if (!rc && m->link == CKPT__FD_UNIX__LINK__DEAD) {
		rc = restore_object_keep(r, obj->id, take_fd(&other));
		if (rc)
			return ckpt_fail_errno(err, E_LIMIT, rc, "too many descriptors");
	}
	if (!rc)
		*ret_fd = take_fd(&fd);
	return rc;
}

/* ---- restore: when all processes exist --------------------------------------------------------
 */

static int late_opts(const Ckpt__FdUnix *m, int fd, struct ckpt_err *err)
{
	static const int how[] = {
		[NO_READ] = SHUT_RD, [NO_WRITE] = SHUT_WR, [NO_READ | NO_WRITE] = SHUT_RDWR
	};
	int rc = sockopts_restore(fd, m->opts, SOCKOPT_LATE, err);

	if (!rc && (m->shutdown & 3) && shutdown(fd, how[m->shutdown & 3]))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "cannot shut a socket down");
	return rc;
}

/* Datagram sockets: to a peer that is not connected back, to itself, to somebody outside. */
static int connect_dgram(struct restore_ctx *r, const Ckpt__FdUnix *m, int fd, struct ckpt_err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len = (socklen_t)(SUN_PATH_OFF + m->peer_name.len);
	auto_fd file = -1;
	int peer, rc = 0;

	if (m->link == CKPT__FD_UNIX__LINK__OUTSIDE) {
		if (m->peer_name.len > sizeof(sun.sun_path))
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
					 "the name of its peer is too long");
		memcpy(sun.sun_path, m->peer_name.data, m->peer_name.len);
	} else {
		rc = restore_object_fd(r, m->peer, &peer, err);
		if (!rc)
			rc = unix_address(peer, &sun, &len, &file, err);
	}
	if (!rc && connect(fd, (void *)&sun, len))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno,
				     "cannot connect a datagram socket to %.*s",
				     (int)m->peer_name.len, (const char *)m->peer_name.data);
	return rc;
}

static int connect_waiting(struct restore_ctx *r, const Ckpt__FdUnix *m, int fd,
			   struct ckpt_err *err)
{
	for (size_t i = 0; i < m->n_waiting; i++) {
		const Ckpt__FdUnix *client = restore_object_msg(r, m->waiting[i], err);
		struct making mk = { .m = m, .as = m, .fd = { -1, fd } };
		int rc = client ? restore_object_fd(r, m->waiting[i], &mk.fd[0], err) : err->code;

		if (!rc)
			rc = make_run(&mk, do_connect, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* The peer leaves: with everything read, or not. */
static int peer_leaves(struct restore_ctx *r, const Ckpt__Object *obj, const Ckpt__FdUnix *m,
		       int fd)
{
	int *spare = restore_object_spare(r, obj->id);

	if (m->reset && m->type != SOCK_DGRAM)
		(void)send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)close(*spare);
	*spare = -1;
	return 0;
}

static int unix_finish(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int fd,
		       struct ckpt_err *err)
{
	const Ckpt__FdUnix *m = msg, *peer = NULL;
	int other = *restore_object_spare(r, obj->id), rc = 0;
	bool mutual;

	if (m->link == CKPT__FD_UNIX__LINK__PAIR && !(peer = peer_msg(r, m, err)))
		return err->code;
	mutual = peer && is_mutual(obj, m, peer);
	if (mutual && m->peer < obj->id)
		return 0; /* the first of the two did it for both */
	if (mutual)
		rc = restore_object_fd(r, m->peer, &other, err);
	if (!rc)
		rc = unix_queue_restore(r, m, fd, other, err);
	if (!rc && mutual)
		rc = unix_queue_restore(r, peer, other, fd, err);
	if (!rc && (m->link == CKPT__FD_UNIX__LINK__OUTSIDE || (peer && !mutual)))
		rc = connect_dgram(r, m, fd, err);
	if (!rc)
		rc = connect_waiting(r, m, fd, err);
	if (!rc && m->link == CKPT__FD_UNIX__LINK__DEAD)
		rc = peer_leaves(r, obj, m, fd);
	if (!rc)
		rc = late_opts(m, fd, err);
	if (!rc && mutual)
		rc = late_opts(peer, other, err);
	return rc;
}

const struct fd_kind fd_kind_unix = {
	.name = "unix",
	.desc = &ckpt__fd_unix__descriptor,
	.match = unix_match,
	.check = unix_check,
	.dump = unix_dump,
	.dump_late = unix_dump_late,
	.restore = unix_restore,
	.finish = unix_finish,
};
