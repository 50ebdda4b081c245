// SPDX-License-Identifier: GPL-2.0-only
/* Epoll: events and data words, edge and one-shot state, nesting, one watch for each duplicate. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static void watch(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
}

/* The events of the entry with @data among what is ready now. */
static uint32_t ready(int ep, uint64_t data)
{
	struct epoll_event ev[16];
	uint32_t ret = 0;
	int n = epoll_wait(ep, ev, 16, 0);

	for (int i = 0; i < n; i++)
		if (ev[i].data.u64 == data)
			ret |= ev[i].events;
	return ret;
}

static bool present(int ep, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		return errno == EEXIST;
	(void)epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL);
	return false;
}

int main(int argc, char **argv)
{
	int ep, inner, outer, edge, once, fired, a, b, dup_a, silent, excl, empty, et, lt;
	struct epoll_event ev;

	fd_init(argc, argv);
	empty = (int)MUST(epoll_create1(0));
	ep = (int)MUST(epoll_create1(EPOLL_CLOEXEC));
	a = (int)MUST(eventfd(1, EFD_NONBLOCK));
	watch(ep, a, EPOLLIN, 0xa000000000000001);
	dup_a = (int)MUST(dup(a)); /* the same description, watched by another number */
	watch(ep, dup_a, EPOLLIN | EPOLLOUT, 0xa2);
	b = (int)MUST(eventfd(0, EFD_NONBLOCK));
	watch(ep, b, EPOLLIN | EPOLLPRI | EPOLLRDHUP, 0xb);
	silent = (int)MUST(eventfd(5, 0));
	watch(ep, silent, 0, 0xc);
	excl = (int)MUST(eventfd(5, 0));
	watch(ep, excl, EPOLLIN | EPOLLEXCLUSIVE, 0xe);

	/* One-shot: one entry waits for its shot, one has had it. */
	once = (int)MUST(epoll_create1(0));
	watch(once, a, EPOLLIN | EPOLLONESHOT, 1);
	watch(once, b, EPOLLIN | EPOLLONESHOT, 2);
	fired = (int)MUST(eventfd(1, 0));
	watch(once, fired, EPOLLIN | EPOLLONESHOT, 3);
	MUST(epoll_ctl(once, EPOLL_CTL_DEL, a, NULL));
	MUST(ready(once, 3) ? 0 : -1);
	watch(once, a, EPOLLIN | EPOLLONESHOT, 1);

	edge = (int)MUST(epoll_create1(0));
	et = (int)MUST(eventfd(0, EFD_NONBLOCK));
	lt = (int)MUST(eventfd(1, EFD_NONBLOCK));
	watch(edge, et, EPOLLIN | EPOLLET, 1);
	watch(edge, lt, EPOLLIN, 2);

	inner = (int)MUST(epoll_create1(0));
	outer = (int)MUST(epoll_create1(0));
	watch(inner, b, EPOLLIN, 0x1);
	watch(outer, inner, EPOLLIN, 0x2);

	t_ready();

	t_check(fcntl(ep, F_GETFD) == FD_CLOEXEC, "close-on-exec");
	t_check(epoll_wait(empty, &ev, 1, 0) == 0, "empty set");
	t_check(ready(ep, 0xa000000000000001) == EPOLLIN, "first watch");
	t_check(ready(ep, 0xa2) == (EPOLLIN | EPOLLOUT), "watch of the duplicate");
	t_check(ready(ep, 0xc) == 0 && present(ep, silent), "watch for nothing");
	t_check(ready(ep, 0xe) == EPOLLIN, "exclusive watch");
	ev = (struct epoll_event) { .events = EPOLLIN };
	t_check(epoll_ctl(ep, EPOLL_CTL_MOD, excl, &ev) < 0 && errno == EINVAL,
		"the exclusive watch can be modified");
	t_check(ready(ep, 0xb) == 0 && present(ep, b), "quiet watch");
	MUST(write(b, &(uint64_t) { 1 }, 8));
	t_check(ready(ep, 0xb) == EPOLLIN, "watch wakes up");

	t_check(ready(once, 3) == 0, "the one-shot watch fired twice");
	t_check(present(once, fired), "the fired watch is gone");
	ev = (struct epoll_event) { .events = EPOLLIN, .data.u64 = 3 };
	t_check(!epoll_ctl(once, EPOLL_CTL_MOD, fired, &ev) && ready(once, 3) == EPOLLIN,
		"the fired watch cannot be armed again");
	t_check(!epoll_ctl(once, EPOLL_CTL_DEL, fired, NULL), "delete");

	MUST(write(et, &(uint64_t) { 1 }, 8));
	t_check(ready(edge, 1) == EPOLLIN, "edge");
	t_check(ready(edge, 1) == 0, "edge is level-triggered now");
	t_check(ready(edge, 2) && ready(edge, 2), "level is edge-triggered now");

	t_check(ready(outer, 2) == EPOLLIN, "outer set");
	t_check(ready(inner, 1) == EPOLLIN, "inner set");
	return t_done();
}
