// SPDX-License-Identifier: GPL-2.0-only
/* The keeper process: a loop over a few descriptors. It knows nothing of memory or images. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/vec.h"
#include "track/wire.h"

#define CLIENTS 8

struct client {
	int fd;
	bool owns; /* it began and neither committed nor released */
	struct keeper_tasks incoming;
};

struct keeper {
	const char *path;
	int pidfd, listener;
	struct keeper_msg state; /* without tasks */
	struct keeper_tasks tasks;
	struct vma_iter iter;
	struct {
		struct pollfd *v;
		size_t n, cap;
	} polled;
	struct client clients[CLIENTS];
	struct keeper_msg msg;
	bool stop;
};

static struct client *owner(struct keeper *k)
{
	for (size_t i = 0; i < CLIENTS; i++)
		if (k->clients[i].fd >= 0 && k->clients[i].owns)
			return &k->clients[i];
	return NULL;
}

static void client_drop(struct keeper *k, struct client *c)
{
	/* It may have armed what it does not tell about. */
	if (c->owns)
		k->state.broken = 1;
	keeper_tasks_free(&c->incoming);
	(void)close(c->fd);
	*c = (struct client) { .fd = -1 };
}

static int reply_state(struct keeper *k, const struct client *c, uint32_t total, bool refused)
{
	struct keeper_msg *m = &k->msg;

	*m = k->state;
	m->op = KEEPER_STATE;
	m->count = 0;
	m->total = total;
	m->taken = owner(k) != NULL;
	m->refused = refused;
	m->reserved = 0;
	for (size_t i = 0; i < k->tasks.n; i++)
		m->reserved += k->tasks.v[i].pid > 0;
	return keeper_send(c->fd, m);
}

static int do_status(struct keeper *k, struct client *c)
{
	return reply_state(k, c, 0, false);
}

static int do_begin(struct keeper *k, struct client *c)
{
	int rc;

	if (owner(k))
		return reply_state(k, c, 0, true);
	rc = ckpt_fault("keeper.begin");
	if (rc)
		return rc;
	rc = reply_state(k, c, (uint32_t)k->tasks.n, false);
	for (size_t at = 0; !rc && at < k->tasks.n;) {
		size_t n = k->tasks.n - at > KEEPER_BATCH ? KEEPER_BATCH : k->tasks.n - at;

		k->msg.op = KEEPER_TASKS;
		k->msg.count = (uint32_t)n;
		memcpy(k->msg.tasks, k->tasks.v + at, n * sizeof(*k->tasks.v));
		rc = keeper_send(c->fd, &k->msg);
		at += n;
	}
	c->owns = !rc;
	return rc;
}

static int do_tasks(struct keeper *k, struct client *c)
{
	int rc = c->owns ? 0 : -EPROTO;

	for (uint32_t i = 0; i < k->msg.count; i++) {
		struct keeper_task *t = rc ? NULL : vec_push(&c->incoming);

		if (t) {
			*t = k->msg.tasks[i];
			continue;
		}
		rc = rc ? rc : -ENOMEM;
		if (k->msg.tasks[i].fd >= 0)
			(void)close(k->msg.tasks[i].fd);
	}
	return rc;
}

static int do_commit(struct keeper *k, struct client *c)
{
	int rc = c->owns ? ckpt_fault("keeper.commit") : -EPROTO;

	if (rc)
		return rc;
	keeper_tasks_free(&k->tasks);
	k->tasks = c->incoming;
	memset(&c->incoming, 0, sizeof(c->incoming));
	c->owns = false;
	k->state.broken = 0;
	k->state.armed = k->msg.armed;
	k->state.epochs += k->msg.armed != 0;
	memcpy(k->state.id, k->msg.id, sizeof(k->state.id));
	memcpy(k->state.path, k->msg.path, sizeof(k->state.path));
	return reply_state(k, c, 0, false);
}

static int do_release(struct keeper *k, struct client *c)
{
	if (!c->owns)
		return -EPROTO;
	keeper_tasks_free(&c->incoming);
	c->owns = false;
	return reply_state(k, c, 0, false);
}

static int do_stop(struct keeper *k, struct client *c)
{
	struct client *o = owner(k);

	if (o && o != c)
		return reply_state(k, c, 0, true);
	k->stop = true;
	/* Who is told that it stopped finds no trace of it. */
	keeper_tasks_free(&k->tasks);
	/* Who is told that it stopped may start another. */
	(void)unlink(k->path);
	return reply_state(k, c, 0, false);
}

/* The same instant as the armed checkpoint, in another directory. */
static int do_rebase(struct keeper *k, struct client *c)
{
	const struct client *o = owner(k);

	if ((o && o != c) || !k->state.armed || k->state.broken ||
	    memcmp(k->state.id, k->msg.old_id, sizeof(k->state.id)) != 0)
		return reply_state(k, c, 0, true);
	memcpy(k->state.id, k->msg.id, sizeof(k->state.id));
	memcpy(k->state.path, k->msg.path, sizeof(k->state.path));
	return reply_state(k, c, 0, false);
}

static int do_iter(struct keeper *k, struct client *c)
{
	struct keeper_msg *m = &k->msg;

	memset(m, 0, sizeof(*m));
	m->op = KEEPER_ITER;
	m->count = 1;
	m->tasks[0].fd = k->iter.prog_fd;
	memcpy(m->path, &k->iter, sizeof(k->iter));
	return keeper_send(c->fd, m);
}

static int (*const ops[])(struct keeper *k, struct client *c) = {
	[KEEPER_STATUS] = do_status, [KEEPER_BEGIN] = do_begin,     [KEEPER_TASKS] = do_tasks,
	[KEEPER_COMMIT] = do_commit, [KEEPER_RELEASE] = do_release, [KEEPER_STOP] = do_stop,
	[KEEPER_REBASE] = do_rebase, [KEEPER_ITER] = do_iter,
};

static void client_serve(struct keeper *k, struct client *c)
{
	int rc = keeper_recv(c->fd, &k->msg);

	if (!rc && k->msg.op != KEEPER_TASKS)
		for (uint32_t i = 0; i < k->msg.count; i++)
			if (k->msg.tasks[i].fd >= 0)
				(void)close(k->msg.tasks[i].fd);
	if (!rc && (k->msg.op >= ARRAY_SIZE(ops) || !ops[k->msg.op]))
		rc = -EPROTO;
	if (!rc)
		rc = ops[k->msg.op](k, c);
	if (rc)
		client_drop(k, c);
}

static void client_accept(struct keeper *k)
{
	struct ucred who = { .uid = (uid_t)-1 };
	struct timeval patience = { .tv_sec = 10 };
	socklen_t len = sizeof(who);
	int fd = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	/* A client that does not read must not stop the others. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) && who.uid == geteuid())
		for (size_t i = 0; i < CLIENTS; i++)
			if (k->clients[i].fd < 0) {
				k->clients[i] = (struct client) { .fd = fd };
				return;
			}
	(void)close(fd);
}

/* Who dropped pages, or made a hole, waits until somebody has read that he is about to. */
static void read_events(struct keeper *k, const struct keeper_tasks *tasks)
{
	for (size_t i = 0; i < tasks->n; i++)
		if (tasks->v[i].pid < 0)
			k->state.dug += tracker_events(tasks->v[i].fd);
}

static bool poll_add(struct keeper *k, int fd)
{
	struct pollfd *p = vec_push(&k->polled);

	if (p)
		*p = (struct pollfd) { .fd = fd, .events = POLLIN };
	return p;
}

static bool poll_events(struct keeper *k, const struct keeper_tasks *tasks)
{
	bool ok = true;

	for (size_t i = 0; ok && i < tasks->n; i++)
		if (tasks->v[i].pid < 0)
			ok = poll_add(k, tasks->v[i].fd);
	return ok;
}

/* Its own two, the clients, and what gives events. */
static bool poll_all(struct keeper *k)
{
	bool ok;

	k->polled.n = 0;
	ok = poll_add(k, k->pidfd) && poll_add(k, k->listener);
	for (size_t i = 0; ok && i < CLIENTS; i++)
		ok = poll_add(k, k->clients[i].fd);
	ok = ok && poll_events(k, &k->tasks);
	for (size_t i = 0; ok && i < CLIENTS; i++)
		ok = poll_events(k, &k->clients[i].incoming);
	return ok && (poll(k->polled.v, k->polled.n, -1) >= 0 || errno == EINTR);
}

static void keeper_run(struct keeper *k)
{
	while (!k->stop && poll_all(k)) {
		const struct pollfd *p = k->polled.v;

		if (p[0].revents)
			break;
		/* Before anybody is told how many there were. */
		read_events(k, &k->tasks);
		for (size_t i = 0; i < CLIENTS; i++)
			read_events(k, &k->clients[i].incoming);
		for (size_t i = 0; i < CLIENTS && !k->stop; i++)
			if (k->clients[i].fd >= 0 && p[2 + i].revents)
				client_serve(k, &k->clients[i]);
		if (p[1].revents)
			client_accept(k);
	}
}

/* Nothing of the caller may stay open: a pipe that never ends would be noticed. */
static void leave_caller(int *pidfd, int *listener, int *prog)
{
	struct rlimit rl;
	int null;

	(void)setsid();
	(void)chdir("/");
	*pidfd = fcntl(*pidfd, F_DUPFD_CLOEXEC, 6);
	*listener = fcntl(*listener, F_DUPFD_CLOEXEC, 6);
	*prog = fcntl(*prog, F_DUPFD_CLOEXEC, 6);
	if (*pidfd < 0 || *listener < 0)
		_exit(1);
	(void)dup3(*pidfd, 3, O_CLOEXEC);
	(void)dup3(*listener, 4, O_CLOEXEC);
	(void)dup3(*prog, 5, O_CLOEXEC);
	*pidfd = 3;
	*listener = 4;
	(void)close_range(*prog < 0 ? 5 : 6, ~0u, 0);
	*prog = *prog < 0 ? -1 : 5;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd < 3; fd++)
		(void)dup2(null, fd);
	(void)close(null);
	if (!getrlimit(RLIMIT_NOFILE, &rl)) {
		rl.rlim_cur = rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
	}
	for (int sig = 1; sig < NSIG; sig++)
		(void)signal(sig, sig == SIGCHLD ? SIG_DFL : SIG_IGN);
	(void)signal(SIGTERM, SIG_DFL);
	(void)prctl(PR_SET_NAME, "ckpt-keeper");
}

_Noreturn void keeper_main(int pidfd, int listener, const char *socket_path, const char *backend,
			   const struct vma_iter *iter)
{
	struct keeper *k = calloc(1, sizeof(*k));
	struct timespec now;

	if (!k)
		_exit(1);
	k->iter = *iter;
	leave_caller(&pidfd, &listener, &k->iter.prog_fd);
	k->path = socket_path;
	k->pidfd = pidfd;
	k->listener = listener;
	for (size_t i = 0; i < CLIENTS; i++)
		k->clients[i].fd = -1;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	k->state.started_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	k->state.keeper_pid = getpid();
	strncpy(k->state.backend, backend, sizeof(k->state.backend) - 1);
	keeper_run(k);
	if (!k->stop)
		(void)unlink(socket_path);
	_exit(0);
}
