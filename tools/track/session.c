// SPDX-License-Identifier: GPL-2.0-only
/* The side of ckpt: starting a keeper and talking to it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/vec.h"
#include "track/wire.h"

void keeper_tasks_free(struct keeper_tasks *tasks)
{
	for (size_t i = 0; i < tasks->n; i++)
		if (tasks->v[i].fd >= 0)
			(void)close(tasks->v[i].fd);
	vec_free(tasks);
}

static int fail_keeper(struct ckpt_err *err, int rc)
{
	(void)ckpt_fail_errno(err, E_TRACK, rc,
			      "the keeper of the tracking session does not answer");
	return ckpt_remedy(
		err,
		"end the session and make a full checkpoint: ckpt track stop, ckpt dump --track");
}

static int address(int pid, struct sockaddr_un *a)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	keeper_socket_path(pid, a->sun_path, sizeof(a->sun_path));
	return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
}

/* -ENOENT: there is none. -ECONNREFUSED: there is the socket of one that is dead, or not yet up. */
static int connect_once(int pid, struct sockaddr_un *a, int *ret_sock, struct ckpt_err *err)
{
	struct timeval patience = { .tv_sec = 30 };
	auto_fd s = address(pid, a);

	if (s < 0)
		return ckpt_fail_errno(err, E_TRACK, -errno, "cannot make a socket");
	if (connect(s, (struct sockaddr *)a, sizeof(*a))) {
		if (errno == ENOENT || errno == ENOTDIR)
			return -ENOENT;
		if (errno == ECONNREFUSED)
			return -ECONNREFUSED;
		return ckpt_fail_errno(err, E_TRACK, -errno, "cannot reach %s", a->sun_path);
	}
	(void)setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	*ret_sock = take_fd(&s);
	return 0;
}

/* One keeper at a time is being made: the directory is the lock. */
static int run_dir_lock(struct ckpt_err *err)
{
	auto_fd dir = -1;
	struct stat st;

	if (mkdir(KEEPER_RUN_DIR, 0700) && errno != EEXIST)
		return ckpt_fail_errno(err, E_TRACK, -errno, "cannot make " KEEPER_RUN_DIR);
	dir = open(KEEPER_RUN_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &st) || flock(dir, LOCK_EX))
		return ckpt_fail_errno(err, E_TRACK, -errno, "cannot open " KEEPER_RUN_DIR);
	if (st.st_uid != geteuid() || (st.st_mode & 022)) {
		(void)ckpt_fail(err, E_TRACK, -EPERM, KEEPER_RUN_DIR " belongs to somebody else");
		return ckpt_remedy(err, "remove it");
	}
	return take_fd(&dir);
}

int keeper_connect(int pid, int *ret_sock, struct ckpt_err *err)
{
	struct sockaddr_un a;
	int rc = connect_once(pid, &a, ret_sock, err);

	if (rc == -ECONNREFUSED) {
		struct ckpt_err ignore = { 0 };
		auto_fd lock = run_dir_lock(&ignore);

		/* Nobody makes one now: what still refuses is of a keeper that was killed. */
		rc = lock < 0 ? -ENOENT : connect_once(pid, &a, ret_sock, err);
		if (rc == -ECONNREFUSED) {
			(void)unlink(a.sun_path);
			rc = -ENOENT;
		}
	}
	return rc;
}

static int listen_at(int pid, struct sockaddr_un *a, int *ret, struct ckpt_err *err)
{
	auto_fd s = address(pid, a);
	mode_t old;
	int rc;

	if (s < 0)
		return ckpt_fail_errno(err, E_TRACK, -errno, "cannot make a socket");
	/* Nobody answers there: what lies there is of a keeper that was killed. */
	(void)unlink(a->sun_path);
	old = umask(0177);
	rc = bind(s, (struct sockaddr *)a, sizeof(*a)) || listen(s, 8) ? -errno : 0;
	(void)umask(old);
	if (rc)
		return ckpt_fail_errno(err, E_TRACK, rc, "cannot listen at %s", a->sun_path);
	*ret = take_fd(&s);
	return 0;
}

int keeper_start(int pid, const char *backend, const struct vma_iter *iter, struct ckpt_err *err)
{
	struct sockaddr_un a;
	auto_fd lock = -1;
	auto_fd pidfd = -1;
	auto_fd listener = -1;
	auto_fd other = -1;
	int status, rc;
	pid_t child;

	lock = run_dir_lock(err);
	if (lock < 0)
		return lock;
	rc = connect_once(pid, &a, &other, err);
	if (!rc) {
		(void)ckpt_fail(err, E_TRACK, -EEXIST, "process %d is tracked already", pid);
		return ckpt_remedy(err, "see: ckpt track status -t %d", pid);
	}
	if (rc != -ENOENT && rc != -ECONNREFUSED)
		return rc;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return ckpt_fail_errno(err, E_NO_SUCH_PID, -errno, "cannot watch process %d", pid);
	rc = listen_at(pid, &a, &listener, err);
	if (!rc && ckpt_fault_fail("track.listening", E_TRACK, err)) {
		(void)unlink(a.sun_path);
		rc = err->code;
	}
	if (rc)
		return rc;
	/* Twice, so that the keeper is no child of the caller. */
	child = fork();
	if (child < 0)
		return ckpt_fail_errno(err, E_TRACK, -errno, "cannot start a keeper");
	if (!child) {
		pid_t keeper = fork();

		if (keeper)
			_exit(keeper < 0);
		keeper_main(pidfd, listener, a.sun_path, backend, iter);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		(void)unlink(a.sun_path);
		return ckpt_fail(err, E_TRACK, -EAGAIN, "cannot start a keeper");
	}
	return 0;
}

static struct keeper_msg *msg_new(enum keeper_op op, struct ckpt_err *err)
{
	struct keeper_msg *m = calloc(1, sizeof(*m));

	if (m)
		m->op = op;
	else
		(void)ckpt_oom(err);
	return m;
}

/* Send @m and get the state into it. */
static int ask(int sock, struct keeper_msg *m, struct ckpt_err *err)
{
	int rc = keeper_send(sock, m);

	if (!rc)
		rc = keeper_recv(sock, m);
	if (!rc && (m->op != KEEPER_STATE || m->count))
		rc = -EPROTO;
	return rc ? fail_keeper(err, rc) : 0;
}

static void state_take(struct keeper_state *s, const struct keeper_msg *m)
{
	memset(s, 0, sizeof(*s));
	memcpy(s->backend, m->backend, sizeof(s->backend));
	memcpy(s->armed_id, m->id, sizeof(s->armed_id));
	memcpy(s->armed_path, m->path, sizeof(s->armed_path));
	s->epochs = m->epochs;
	s->started_ns = m->started_ns;
	s->dug = m->dug;
	s->keeper_pid = m->keeper_pid;
	s->tasks = m->reserved;
	s->armed = m->armed;
	s->broken = m->broken;
	s->taken = m->taken;
}

static int ask_op(int sock, enum keeper_op op, struct ckpt_err *err)
{
	auto_free struct keeper_msg *m = msg_new(op, err);
	int rc = m ? ask(sock, m, err) : err->code;

	if (!rc && m->refused) {
		(void)ckpt_fail(err, E_TRACK, -EBUSY, "a dump is using the tracking session");
		return ckpt_remedy(err, "wait until it is done");
	}
	return rc;
}

int keeper_status(int sock, struct keeper_state *ret, struct ckpt_err *err)
{
	auto_free struct keeper_msg *m = msg_new(KEEPER_STATUS, err);
	int rc = m ? ask(sock, m, err) : err->code;

	if (!rc)
		state_take(ret, m);
	return rc;
}

int keeper_iter(int sock, struct vma_iter *ret, struct ckpt_err *err)
{
	auto_free struct keeper_msg *m = msg_new(KEEPER_ITER, err);
	int rc = m ? keeper_send(sock, m) : err->code;

	if (!rc)
		rc = keeper_recv(sock, m);
	if (!rc && (m->op != KEEPER_ITER || m->count != 1))
		rc = -EPROTO;
	if (rc)
		return fail_keeper(err, rc);
	memcpy(ret, m->path, sizeof(*ret));
	ret->prog_fd = m->tasks[0].fd;
	if (ret->learnt_n <= VMA_ITER_LEARNT)
		return 0;
	vma_iter_close(ret);
	return fail_keeper(err, -EPROTO);
}

int keeper_begin(int sock, struct keeper_state *ret, struct keeper_tasks *ret_tasks,
		 struct ckpt_err *err)
{
	auto_free struct keeper_msg *m = msg_new(KEEPER_BEGIN, err);
	struct keeper_tasks tasks = { 0 };
	uint32_t total;
	int rc = m ? ask(sock, m, err) : err->code;

	if (rc)
		return rc;
	if (m->refused) {
		(void)ckpt_fail(err, E_TRACK, -EBUSY, "another dump is using the tracking session");
		return ckpt_remedy(err, "wait until it is done");
	}
	state_take(ret, m);
	total = m->total;
	while (!rc && tasks.n < total) {
		rc = keeper_recv(sock, m);
		if (!rc && (m->op != KEEPER_TASKS || !m->count || m->count > total - tasks.n))
			rc = -EPROTO;
		for (uint32_t i = 0; !rc && i < m->count; i++) {
			struct keeper_task *t = vec_push(&tasks);

			if (t)
				*t = m->tasks[i];
			else
				rc = -ENOMEM;
		}
	}
	if (rc) {
		keeper_tasks_free(&tasks);
		return fail_keeper(err, rc);
	}
	*ret_tasks = tasks;
	return 0;
}

int keeper_give(int sock, const struct keeper_tasks *tasks, struct ckpt_err *err)
{
	auto_free struct keeper_msg *m = msg_new(KEEPER_TASKS, err);
	int rc = m ? 0 : err->code;

	for (size_t at = 0; !rc && at < tasks->n;) {
		size_t n = tasks->n - at > KEEPER_BATCH ? KEEPER_BATCH : tasks->n - at;

		m->count = (uint32_t)n;
		memcpy(m->tasks, tasks->v + at, n * sizeof(*tasks->v));
		rc = keeper_send(sock, m);
		if (rc)
			return fail_keeper(err, rc);
		at += n;
	}
	return rc;
}

int keeper_commit(int sock, const unsigned char *id, const char *path,
		  const struct keeper_tasks *tasks, struct ckpt_err *err)
{
	auto_free struct keeper_msg *m = msg_new(KEEPER_COMMIT, err);
	int rc = m ? keeper_give(sock, tasks, err) : err->code;

	if (rc)
		return rc;
	m->armed = id != NULL;
	if (id)
		memcpy(m->id, id, sizeof(m->id));
	if (path)
		(void)snprintf(m->path, sizeof(m->path), "%s", path);
	return ask(sock, m, err);
}

int keeper_release(int sock, struct ckpt_err *err)
{
	return ask_op(sock, KEEPER_RELEASE, err);
}

int keeper_stop(int sock, struct ckpt_err *err)
{
	return ask_op(sock, KEEPER_STOP, err);
}

int keeper_rebase(int sock, const unsigned char *old_id, const unsigned char *id, const char *path,
		  struct ckpt_err *err)
{
	auto_free struct keeper_msg *m = msg_new(KEEPER_REBASE, err);
	int rc = m ? 0 : err->code;

	if (rc)
		return rc;
	memcpy(m->old_id, old_id, sizeof(m->old_id));
	memcpy(m->id, id, sizeof(m->id));
	(void)snprintf(m->path, sizeof(m->path), "%s", path);
	rc = ask(sock, m, err);
	if (!rc && m->refused) {
		rc = ckpt_fail(err, E_PARENT, -ESTALE,
			       "the session is not armed by the checkpoint that was folded");
		return ckpt_remedy(err, "fold the last checkpoint: see ckpt track status");
	}
	return rc;
}
