// SPDX-License-Identifier: GPL-2.0-only
/* A session with one target that is armed: what the tests of sessions begin with. */
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vm.h"

void setup_small(struct env *e)
{
	region(e, 512, 0);
	fill(e);
}

static void step_touch(struct env *e, int step)
{
	touch(e, step);
	touch(e, 400 + step);
}

const struct path small = { "small", setup_small, step_touch, 0, 0, 0 };

void arm_target(struct armed *a, const struct path *p, uint32_t flags)
{
	struct vnl_result r;

	/* In this order, or the target inherits the socket and keeps it open. */
	target_start(&a->t, p);
	CHECK(!vnl_open(&a->nl));
	CHECK(!vnl_session(&a->nl, flags, &a->session));
	CHECK(!vnl_attach(&a->nl, a->session, a->t.pid, &a->track));
	CHECK(vnl_arm(&a->nl, a->session, &r, 1) == 1);
}

void collect(struct armed *a, uint32_t flags, struct vnl_result *r)
{
	CHECK(vnl_collect(&a->nl, a->session, flags, r, 1) == 1);
	CHECK(!vnl_runs(&a->nl, a->session, r));
	runs_check_order(r);
}

void disarm(struct armed *a)
{
	vnl_close(&a->nl);
	target_stop(&a->t);
}

bool covers_step(struct armed *a, const struct vnl_result *r, int step)
{
	return run_covers(r, a->t.sh->base + step * PAGE, NULL) &&
	       run_covers(r, a->t.sh->base + (400 + step) * PAGE, NULL);
}

uint64_t arena_pages(struct armed *a, const struct vnl_result *r)
{
	return runs_pages_in(r, a->t.sh->base, a->t.sh->pages);
}

bool session_exists(uint32_t id)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/ckpt/sessions/%u/arms", id);
	return !access(path, R_OK);
}

void events_open(struct nl *nl)
{
	CHECK(!vnl_open(nl));
	CHECK(nl->events_group);
	SYS(setsockopt(nl->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &nl->events_group, sizeof(int)));
}

void expect_event(struct nl *nl, uint32_t type, int32_t *ret_child)
{
	_Alignas(NLMSG_ALIGNTO) char buf[4096];

	for (;;) {
		struct pollfd p = { .fd = nl->fd, .events = POLLIN };
		struct nlmsghdr *h = (struct nlmsghdr *)buf;

		if (poll(&p, 1, patience_seconds() * 1000) != 1)
			FAIL("event %u did not come", type);
		SYS(recv(nl->fd, buf, sizeof(buf), 0));
		if (h->nlmsg_type != nl->family || vnl_u32(vnl_attr(h, CKPT_A_EVENT_TYPE)) != type)
			continue;
		if (ret_child)
			*ret_child = vnl_u32(vnl_attr(h, CKPT_A_CHILD_PID));
		return;
	}
}
