// SPDX-License-Identifier: GPL-2.0-only
/* A watched descriptor was closed, or its number reused, while a duplicate keeps the watch alive.
 */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int both(int ep, uint32_t *ret_1, uint32_t *ret_2)
{
	struct epoll_event ev[4];
	int n = epoll_wait(ep, ev, 4, 0);

	*ret_1 = *ret_2 = 0;
	for (int i = 0; i < n; i++)
		*(ev[i].data.u64 == 1 ? ret_1 : ret_2) = ev[i].events;
	return n;
}

int main(int argc, char **argv)
{
	int ep, kept, watched, reused, n;
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 1 };
	uint32_t e1, e2;
	uint64_t v;

	fd_init(argc, argv);
	ep = (int)MUST(epoll_create1(0));
	kept = (int)MUST(eventfd(0, EFD_NONBLOCK));
	watched = (int)MUST(dup(kept));
	MUST(epoll_ctl(ep, EPOLL_CTL_ADD, watched, &ev));
	(void)close(watched);
	/* The number is taken by something else, which is watched too. */
	reused = (int)MUST(eventfd(0, EFD_NONBLOCK));
	MUST(reused == watched ? 0 : -1);
	ev.data.u64 = 2;
	MUST(epoll_ctl(ep, EPOLL_CTL_ADD, reused, &ev));

	t_ready();

	t_check(both(ep, &e1, &e2) == 0, "ready without an event");
	MUST(write(kept, &(uint64_t) { 1 }, 8));
	n = both(ep, &e1, &e2);
	t_check(n == 1 && e1 == EPOLLIN && !e2, "the watch of the closed number: %d", n);
	MUST(read(kept, &v, 8));
	MUST(write(reused, &(uint64_t) { 1 }, 8));
	n = both(ep, &e1, &e2);
	t_check(n == 1 && !e1 && e2 == EPOLLIN, "the watch of the number's new owner: %d", n);
	t_check(!epoll_ctl(ep, EPOLL_CTL_DEL, reused, NULL), "delete by number");
	(void)close(kept);
	t_check(epoll_wait(ep, &ev, 1, 0) == 0, "the watch outlived its description");
	return t_done();
}
