// SPDX-License-Identifier: GPL-2.0-only
/* What the module says to requests that make no sense: wrong, random, cut, doubled and in any order. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/genetlink.h>

#include "vm.h"

/* ---- requests that make no sense ---------------------------------------------------------------- */

static void bad_requests(const void *unused)
{
	uint32_t track, zero = 0;
	struct vnl_result r;
	struct vnl_msg m;
	struct armed a;

	(void)unused;
	arm_target(&a, &small, 0);
	CHECK(vnl_attach(&a.nl, a.session, 2, &track) == -ESRCH && strstr(a.nl.ext, "kernel thread"));
	CHECK(vnl_attach(&a.nl, a.session, 999999, &track) == -ESRCH && a.nl.ext[0]);
	CHECK(vnl_attach(&a.nl, a.session, -5, &track) == -ERANGE && a.nl.ext[0]);
	CHECK(vnl_attach(&a.nl, a.session + 100, a.t.pid, &track) == -ENOENT && a.nl.ext[0]);
	CHECK(vnl_detach(&a.nl, a.session, 12345) == -ENOENT && a.nl.ext[0]);
	CHECK(vnl_collect(&a.nl, a.session, 0x80, &r, 1) == -EINVAL && a.nl.ext[0]);
	vnl_begin(&a.nl, &m, CKPT_CMD_COLLECT, 0);
	CHECK(vnl_talk(&a.nl, &m, NULL, NULL) == -EINVAL && strstr(a.nl.ext, "SESSION"));
	/* An attribute that the command does not know. */
	vnl_begin(&a.nl, &m, CKPT_CMD_ARM, 0);
	vnl_put_u32(&m, CKPT_A_SESSION, a.session);
	vnl_put_u32(&m, CKPT_A_PID, 1);
	CHECK(vnl_talk(&a.nl, &m, NULL, NULL) == -EINVAL && a.nl.ext[0]);
	vnl_begin(&a.nl, &m, CKPT_CMD_OPEN, 0);
	vnl_put_u32(&m, CKPT_A_SESSION_FLAGS, 0xff00);
	CHECK(vnl_talk(&a.nl, &m, NULL, NULL) == -EINVAL && a.nl.ext[0]);
	vnl_begin(&a.nl, &m, CKPT_CMD_ARM, 0);
	vnl_put(&m, CKPT_A_SESSION, &zero, 2);
	CHECK(vnl_talk(&a.nl, &m, NULL, NULL) < 0 && a.nl.ext[0]);
	vnl_begin(&a.nl, &m, 77, 0);
	CHECK(vnl_talk(&a.nl, &m, NULL, NULL) == -EOPNOTSUPP);
	/* And the session has not noticed. */
	target_step(&a.t, 1);
	collect(&a, CKPT_COLLECT_REARM, &r);
	CHECK(covers_step(&a, &r, 1) && arena_pages(&a, &r) == 2);
	disarm(&a);
}

/* ---- a result that is overtaken while it is read ------------------------------------------------- */

static void setup_large(struct env *e)
{
	region(e, REGION_PAGES_MAX, 0);
	fill(e);
}

/* As many runs as there can be: more than two datagrams hold. */
static void step_every_other(struct env *e, int step)
{
	for (size_t i = step; i < e->pages; i += 2)
		touch(e, i);
}

/* A reader of runs never gets some of one result and some of the next: he is told to begin again. */
static void overtaken(const void *unused)
{
	static const struct path p = { "large", setup_large, step_every_other, 0, 0, 0 };
	static _Alignas(NLMSG_ALIGNTO) char buf[1 << 16];
	struct vnl_result r;
	struct vnl_msg m;
	struct armed a;
	uint32_t dump;
	int parts = 0, end = 0;

	(void)unused;
	arm_target(&a, &p, 0);
	target_step(&a.t, 0);
	CHECK(vnl_collect(&a.nl, a.session, 0, &r, 1) == 1 && r.nruns >= REGION_PAGES_MAX / 2);
	vnl_begin(&a.nl, &m, CKPT_CMD_RUNS, NLM_F_DUMP);
	vnl_put_u32(&m, CKPT_A_SESSION, a.session);
	vnl_put_u32(&m, CKPT_A_TRACK, a.track);
	((struct nlmsghdr *)m.buf)->nlmsg_len = m.len;
	dump = a.nl.seq;
	SYS(send(a.nl.fd, m.buf, m.len, 0));
	while (!end) {
		ssize_t n = SYS(recv(a.nl.fd, buf, sizeof(buf), 0));

		for (struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
			if (h->nlmsg_seq != dump)
				continue;
			if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
				end = *(int *)NLMSG_DATA(h) ?: 1;
			else
				parts++;
		}
		if (parts != 1 || end)
			continue;
		vnl_begin(&a.nl, &m, CKPT_CMD_COLLECT, 0);
		vnl_put_u32(&m, CKPT_A_SESSION, a.session);
		((struct nlmsghdr *)m.buf)->nlmsg_len = m.len;
		SYS(send(a.nl.fd, m.buf, m.len, 0));
	}
	if (end != -EAGAIN)
		FAIL("after %d parts the dump ended with %d", parts, end);
	/* Whoever begins again gets all of it. */
	collect(&a, 0, &r);
	for (size_t i = 0; i < REGION_PAGES_MAX; i += 2)
		CHECK(run_covers(&r, a.t.sh->base + i * PAGE, NULL));
	disarm(&a);
}

/* ---- garbage ---------------------------------------------------------------------------------------- */

static void garbage(const void *unused)
{
	uint64_t state = 20260101, n = 0;
	int rounds = scaled(20000);
	struct vnl_result r;
	struct armed a;
	struct nl nl;

	(void)unused;
	arm_target(&a, &small, 0);
	CHECK(!vnl_open(&nl));
	SYS(fcntl(nl.fd, F_SETFL, O_NONBLOCK));
	for (int round = 0; round < rounds; round++) {
		_Alignas(NLMSG_ALIGNTO) unsigned char buf[512];
		struct nlmsghdr *h = (struct nlmsghdr *)buf;
		size_t len = NLMSG_LENGTH(GENL_HDRLEN);
		char drain[8192];

		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = rnd(&state);
		h->nlmsg_type = nl.family;
		h->nlmsg_flags = NLM_F_REQUEST | (rnd(&state) % 4 ? 0 : NLM_F_DUMP);
		h->nlmsg_pid = 0;
		((struct genlmsghdr *)NLMSG_DATA(h))->cmd = rnd(&state) % (CKPT_CMD_MAX + 2);
		/* Attributes that are nearly right, in any order and number. */
		for (int k = rnd(&state) % 6; k > 0 && len + 64 < sizeof(buf); k--) {
			struct nlattr *at = (struct nlattr *)(buf + len);

			at->nla_type = rnd(&state) % (CKPT_A_MAX + 2);
			at->nla_len = NLA_HDRLEN + (rnd(&state) % 5 ? 4 : rnd(&state) % 20);
			*(uint32_t *)(at + 1) = rnd(&state) % 3 ? rnd(&state) % 8 : rnd(&state);
			if (!(rnd(&state) % 20))
				at->nla_len = rnd(&state);
			len += NLA_ALIGN(NLA_HDRLEN + 4);
		}
		if (!(rnd(&state) % 10))
			len = NLMSG_HDRLEN + rnd(&state) % 64; /* cut anywhere */
		h->nlmsg_len = rnd(&state) % 20 ? len : rnd(&state) % 600;
		n += send(nl.fd, buf, len, 0) > 0;
		while (recv(nl.fd, drain, sizeof(drain), MSG_DONTWAIT) > 0)
			;
	}
	vnl_close(&nl);
	CHECK(n > (uint64_t)rounds / 2);
	target_step(&a.t, 2);
	collect(&a, CKPT_COLLECT_REARM, &r);
	CHECK(covers_step(&a, &r, 2) && arena_pages(&a, &r) == 2 && !r.flags);
	disarm(&a);
}

/* ---- sensible messages, cut, doubled and in any order ------------------------------------------------- */

struct draft {
	unsigned char buf[256];
	size_t len;
};

static void draft(struct draft *d, struct nl *nl, int cmd, int flags, const uint32_t *attrs, size_t n)
{
	struct vnl_msg m;

	vnl_begin(nl, &m, cmd, flags);
	for (size_t i = 0; i < n; i += 2)
		vnl_put_u32(&m, attrs[i], attrs[i + 1]);
	CHECK(m.len <= sizeof(d->buf));
	memcpy(d->buf, m.buf, m.len);
	((struct nlmsghdr *)d->buf)->nlmsg_len = m.len;
	d->len = m.len;
}

static void disorder(const void *unused)
{
	uint64_t state = 20260202;
	struct vnl_result r;
	struct target own;
	struct armed a;

	(void)unused;
	arm_target(&a, &small, 0);
	target_start(&own, &small);
	for (int round = 0; round < scaled(150); round++) {
		/* Ids of what is made on the way are guessed: they count up. */
		uint32_t s = a.session + 1 + round, t = a.track + rnd(&state) % 40, pid = own.pid;
		struct draft d[10];
		struct nl nl;
		size_t n = 0;

		CHECK(!vnl_open(&nl));
		draft(&d[n++], &nl, CKPT_CMD_OPEN, 0, (uint32_t[]){ CKPT_A_SESSION_FLAGS, round & 1 }, 2);
		draft(&d[n++], &nl, CKPT_CMD_ATTACH, 0, (uint32_t[]){ CKPT_A_SESSION, s, CKPT_A_PID, pid }, 4);
		draft(&d[n++], &nl, CKPT_CMD_ATTACH, 0, (uint32_t[]){ CKPT_A_PID, pid, CKPT_A_SESSION, s }, 4);
		draft(&d[n++], &nl, CKPT_CMD_ARM, 0, (uint32_t[]){ CKPT_A_SESSION, s }, 2);
		draft(&d[n++], &nl, CKPT_CMD_COLLECT, 0,
		      (uint32_t[]){ CKPT_A_COLLECT_FLAGS, rnd(&state) % 8, CKPT_A_SESSION, s }, 4);
		draft(&d[n++], &nl, CKPT_CMD_SNAPSHOT, 0, (uint32_t[]){ CKPT_A_SESSION, s, CKPT_A_TRACK, t }, 4);
		draft(&d[n++], &nl, CKPT_CMD_RUNS, NLM_F_DUMP,
		      (uint32_t[]){ CKPT_A_TRACK, t, CKPT_A_SESSION, s }, 4);
		draft(&d[n++], &nl, CKPT_CMD_STATUS, NLM_F_DUMP, NULL, 0);
		draft(&d[n++], &nl, CKPT_CMD_DETACH, 0, (uint32_t[]){ CKPT_A_SESSION, s, CKPT_A_TRACK, t }, 4);
		draft(&d[n++], &nl, CKPT_CMD_DETACH, 0, (uint32_t[]){ CKPT_A_SESSION, a.session }, 2);
		for (int k = 0; k < 40; k++) {
			unsigned char buf[1024];
			size_t len = 0;

			/* The first half in order, then anyhow; some in one datagram. */
			for (int parts = rnd(&state) % 3; parts >= 0; parts--) {
				const struct draft *one = &d[k < 10 ? (size_t)k : rnd(&state) % n];
				struct nlmsghdr *h = (struct nlmsghdr *)(buf + len);

				memcpy(h, one->buf, one->len);
				len += one->len;
				if (k < 10)
					break;
				if (rnd(&state) % 3 == 0) {
					/* Cut, and the header knows it or does not. */
					size_t cut = rnd(&state) % (one->len - NLMSG_HDRLEN);

					len -= cut;
					if (rnd(&state) % 2)
						h->nlmsg_len -= cut;
					len = NLMSG_ALIGN(len);
				}
			}
			(void)send(nl.fd, buf, len, MSG_DONTWAIT);
			while (recv(nl.fd, buf, sizeof(buf), MSG_DONTWAIT) > 0 || errno == ENOBUFS)
				;
		}
		vnl_close(&nl);
		/* What others own is theirs still. */
		CHECK(session_exists(a.session));
	}
	for (int fd = 3; fd < 1024; fd++) {
		char link[64] = "", path[64];

		/* Snapshots that nobody heard of became descriptors nevertheless. */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, link, sizeof(link) - 1) > 0 && strstr(link, "ckpt-snapshot"))
			close(fd);
	}
	target_step(&a.t, 2);
	collect(&a, CKPT_COLLECT_REARM, &r);
	CHECK(covers_step(&a, &r, 2) && arena_pages(&a, &r) == 2 && !r.flags);
	disarm(&a);
	target_stop(&own);
}

/* ---- a session that is ended while it is opened ------------------------------------------------------- */

struct race {
	struct nl nl;
	volatile uint32_t next; /* the id that comes next */
	volatile int done;
};

/* On the same socket, which a thread of the owner may use: ids count up, so the next is known before it is. */
static void *end_next(void *arg)
{
	struct race *race = arg;

	while (!race->done) {
		struct nl nl = race->nl; /* its own sequence */
		struct vnl_msg m;

		vnl_begin(&nl, &m, CKPT_CMD_DETACH, 0);
		vnl_put_u32(&m, CKPT_A_SESSION, race->next);
		((struct nlmsghdr *)m.buf)->nlmsg_len = m.len;
		(void)send(nl.fd, m.buf, m.len, MSG_DONTWAIT);
	}
	return NULL;
}

static void open_raced(const void *unused)
{
	char drain[8192];
	struct race race = {};
	uint32_t first;
	pthread_t thread;
	struct vnl_msg m;
	struct nl nl;

	(void)unused;
	CHECK(!vnl_open(&race.nl) && !vnl_session(&race.nl, 0, &first));
	race.next = first + 1;
	CHECK(!pthread_create(&thread, NULL, end_next, &race));
	for (int round = scaled(200); round > 0; round--) {
		vnl_begin(&race.nl, &m, CKPT_CMD_OPEN, 0);
		((struct nlmsghdr *)m.buf)->nlmsg_len = m.len;
		if (send(race.nl.fd, m.buf, m.len, MSG_DONTWAIT) > 0)
			race.next++;
		while (recv(race.nl.fd, drain, sizeof(drain), MSG_DONTWAIT) > 0)
			;
	}
	race.done = 1;
	pthread_join(thread, NULL);
	vnl_close(&race.nl);
	/* Whatever became of them: with the socket all are gone, and the next one is in order. */
	CHECK(!session_exists(first));
	CHECK(!vnl_open(&nl) && !vnl_session(&nl, 0, &first) && session_exists(first));
	vnl_close(&nl);
}

const struct test request_tests[] = {
	{ "session/bad-requests", bad_requests, NULL, 0 },
	{ "session/overtaken", overtaken, NULL, 0 },
	{ "session/garbage", garbage, NULL, 0 },
	{ "session/disorder", disorder, NULL, 0 },
	{ "session/open-raced", open_raced, NULL, 900 },
	{}
};
