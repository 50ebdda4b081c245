// SPDX-License-Identifier: GPL-2.0-only
/* System calls on descriptors that a checkpoint interrupts go on: read and write on pipes, poll,
 * select, epoll_wait, recv, accept. */
#include "t.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { SECONDS = 3, FULL = 65536 };

struct waiter {
	const char *name;
	long nr;
	long (*call)(struct waiter *w);
	long want;
	int want_errno;
	bool timed;
	/* run-time */
	int fd[2]; /* [0] is waited on, a byte is written to [1] to end it */
	pthread_t thread;
	atomic_int tid;
	int64_t began, ended;
	long ret;
	int err;
	char byte;
};

static atomic_int going;

static int64_t now_ms(void)
{
	struct timespec ts;

	t_sys(clock_gettime(CLOCK_MONOTONIC, &ts));
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static long do_read(struct waiter *w)
{
	return read(w->fd[0], &w->byte, 1);
}

static long do_write(struct waiter *w)
{
	static char full[FULL];

	/* The pipe is full; the other 16 go in when main reads. */
	t_check(write(w->fd[1], full, FULL) == FULL, "fill a pipe");
	return write(w->fd[1], "0123456789abcdef", 16);
}

static long do_poll(struct waiter *w)
{
	struct pollfd p = { w->fd[0], POLLIN, 0 };

	return poll(&p, 1, -1) * 100 + p.revents;
}

static long do_poll_timeout(struct waiter *w)
{
	struct pollfd p = { w->fd[0], POLLIN, 0 };

	return poll(&p, 1, SECONDS * 1000);
}

static long do_ppoll(struct waiter *w)
{
	struct pollfd p = { w->fd[0], POLLIN, 0 };
	sigset_t mask;

	sigfillset(&mask);
	return ppoll(&p, 1, NULL, &mask) * 100 + p.revents;
}

static long do_select(struct waiter *w)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(w->fd[0], &set);
	return select(w->fd[0] + 1, &set, NULL, NULL, NULL);
}

static long do_pselect_timeout(struct waiter *w)
{
	struct timespec ts = { SECONDS, 0 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(w->fd[0], &set);
	return pselect(w->fd[0] + 1, &set, NULL, NULL, &ts, NULL);
}

static long epoll(struct waiter *w, int timeout)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 0x123456789abcdefull };
	int ep = (int)t_sys(epoll_create1(EPOLL_CLOEXEC));
	long r;

	t_sys(epoll_ctl(ep, EPOLL_CTL_ADD, w->fd[0], &e));
	memset(&e, 0, sizeof(e));
	r = epoll_wait(ep, &e, 1, timeout);
	if (r == 1)
		t_check(e.data.u64 == 0x123456789abcdefull, "epoll's data: %#lx", e.data.u64);
	return r;
}

static long do_epoll(struct waiter *w)
{
	return epoll(w, -1);
}

static long do_epoll_timeout(struct waiter *w)
{
	return epoll(w, SECONDS * 1000);
}

static void use_socketpair(struct waiter *w)
{
	close(w->fd[0]);
	close(w->fd[1]);
	t_sys(socketpair(AF_UNIX, SOCK_STREAM, 0, w->fd));
}

static long do_recv(struct waiter *w)
{
	use_socketpair(w);
	return recv(w->fd[0], &w->byte, 1, 0);
}

static long do_recv_timeout(struct waiter *w)
{
	struct timeval tv = { SECONDS, 0 };

	use_socketpair(w);
	t_sys(setsockopt(w->fd[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	return recv(w->fd[0], &w->byte, 1, 0);
}

static struct waiter waiters[] = {
	{ "read", SYS_read, do_read, 1, 0 },
	{ "write", SYS_write, do_write, 16, 0 },
	{ "poll", SYS_poll, do_poll, 100 + POLLIN, 0 },
	{ "poll timeout", SYS_poll, do_poll_timeout, 0, 0, .timed = true },
	{ "ppoll", SYS_ppoll, do_ppoll, 100 + POLLIN, 0 },
	{ "select", SYS_pselect6, do_select, 1, 0 },
	{ "pselect timeout", SYS_pselect6, do_pselect_timeout, 0, 0, .timed = true },
	{ "epoll_wait", SYS_epoll_wait, do_epoll, 1, 0 },
	{ "epoll_wait timeout", SYS_epoll_wait, do_epoll_timeout, 0, 0, .timed = true },
	{ "recv", SYS_recvfrom, do_recv, 1, 0 },
	{ "recv timeout", SYS_recvfrom, do_recv_timeout, -1, EAGAIN, .timed = true },
};

static void *run(void *arg)
{
	struct waiter *w = arg;

	w->tid = t_gettid();
	w->began = now_ms();
	w->ret = w->call(w);
	w->err = w->ret == -1 ? errno : 0;
	w->ended = now_ms();
	if (!w->timed)
		t_check(going, "%s: returned only when it should", w->name);
	return NULL;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);
	for (size_t i = 0; i < T_ARRAY_SIZE(waiters); i++) {
		t_sys(pipe(waiters[i].fd));
		waiters[i].thread = t_thread(run, &waiters[i]);
	}
	for (size_t i = 0; i < T_ARRAY_SIZE(waiters); i++) {
		t_until(waiters[i].tid, "thread runs");
		/* The C library chooses between poll and ppoll, select and pselect. */
		t_until_asleep(getpid(), waiters[i].tid,
			       waiters[i].nr == SYS_pselect6 || waiters[i].nr == SYS_poll ? -1
											 : waiters[i].nr);
	}
	t_ready();
	going = 1;
	for (size_t i = 0; i < T_ARRAY_SIZE(waiters); i++) {
		struct waiter *w = &waiters[i];
		static char buf[FULL + 16];
		size_t n = 0;

		if (w->timed)
			continue;
		if (w->call != do_write) {
			t_check(write(w->fd[1], "x", 1) == 1, "%s: write a byte", w->name);
			continue;
		}
		while (n < sizeof(buf)) {
			ssize_t r = read(w->fd[0], buf + n, sizeof(buf) - n);

			if (!t_check(r > 0, "read what was written: %zd after %zu", r, n))
				break;
			n += (size_t)r;
		}
		t_check(memcmp(buf + FULL, "0123456789abcdef", 16) == 0, "the blocked write's data");
	}
	for (size_t i = 0; i < T_ARRAY_SIZE(waiters); i++) {
		struct waiter *w = &waiters[i];
		int64_t took;

		t_zero(pthread_join(w->thread, NULL));
		took = w->ended - w->began;
		t_check(w->ret == w->want && w->err == w->want_errno,
			"%s gives %ld errno %d: %ld errno %d", w->name, w->want, w->want_errno,
			w->ret, w->err);
		t_check(!w->timed || (took >= SECONDS * 1000 - 2 && took < 20000),
			"%s lasts %d s: %ld ms", w->name, SECONDS, took);
	}
	return t_done();
}
