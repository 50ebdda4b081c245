// SPDX-License-Identifier: GPL-2.0-only
/*
 * Life and death of sessions, who may open them, and what the module says to
 * requests that make no sense.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/capability.h>
#include <linux/genetlink.h>

#include "vm.h"

/* ---- targets of these tests -------------------------------------------------------- */

static void setup_small(struct env *e)
{
	e->pages = 512;
	e->base = (uintptr_t)mmap(NULL, e->pages * PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise((void *)e->base, e->pages * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < e->pages; i++)
		touch(e, i);
}

static void step_touch(struct env *e, int step)
{
	touch(e, step);
	touch(e, 400 + step);
}

static const struct path small = { "small", setup_small, step_touch, 0, 0, 0 };

struct armed {
	struct nl nl;
	struct target t;
	uint32_t session, track;
};

static void arm_target(struct armed *a, const struct path *p, uint32_t flags)
{
	struct vnl_result r;

	/* In this order, or the target inherits the socket and keeps it open. */
	target_start(&a->t, p);
	CHECK(!vnl_open(&a->nl));
	CHECK(!vnl_session(&a->nl, flags, &a->session));
	CHECK(!vnl_attach(&a->nl, a->session, a->t.pid, &a->track));
	CHECK(vnl_arm(&a->nl, a->session, &r, 1) == 1);
}

static void collect(struct armed *a, uint32_t flags, struct vnl_result *r)
{
	CHECK(vnl_collect(&a->nl, a->session, flags, r, 1) == 1);
	CHECK(!vnl_runs(&a->nl, a->session, r));
	runs_check_order(r);
}

static void disarm(struct armed *a)
{
	vnl_close(&a->nl);
	target_stop(&a->t);
}

static bool covers_step(struct armed *a, const struct vnl_result *r, int step)
{
	return run_covers(r, a->t.sh->base + step * PAGE, NULL) &&
	       run_covers(r, a->t.sh->base + (400 + step) * PAGE, NULL);
}

/* Reported pages of the target's region. */
static uint64_t arena_pages(struct armed *a, const struct vnl_result *r)
{
	return runs_pages_in(r, a->t.sh->base, a->t.sh->pages);
}

static bool session_exists(uint32_t id)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/ckpt/sessions/%u/arms", id);
	return !access(path, R_OK);
}

/* ---- what a session is ----------------------------------------------------------------- */

static void got_info(const struct nlmsghdr *h, void *arg)
{
	uint64_t *out = arg;

	out[0] = vnl_u32(vnl_attr(h, CKPT_A_VERSION));
	out[1] = vnl_u64(vnl_attr(h, CKPT_A_FEATURES));
}

static void info(const void *unused)
{
	uint64_t out[2] = {};
	struct vnl_msg m;
	struct nl nl;

	(void)unused;
	CHECK(!vnl_open(&nl));
	vnl_begin(&nl, &m, CKPT_CMD_INFO, 0);
	CHECK(!vnl_talk(&nl, &m, got_info, out));
	CHECK(out[0] == CKPT_ABI_VERSION && out[0] == read_number("/sys/kernel/ckpt/version"));
	CHECK(out[1] & CKPT_FEATURE_TRACK && out[1] == read_number("/sys/kernel/ckpt/features"));
}

static void peek(const void *unused)
{
	struct vnl_result r;
	struct armed a;

	(void)unused;
	arm_target(&a, &small, 0);
	target_step(&a.t, 3);
	for (int i = 0; i < 3; i++) {
		collect(&a, 0, &r);
		CHECK(covers_step(&a, &r, 3) && r.epoch == 1);
	}
	target_step(&a.t, 5);
	collect(&a, CKPT_COLLECT_REARM, &r);
	CHECK(covers_step(&a, &r, 3) && covers_step(&a, &r, 5) && r.epoch == 2);
	collect(&a, CKPT_COLLECT_REARM, &r);
	CHECK(r.epoch == 3 && !arena_pages(&a, &r));
	disarm(&a);
}

/* What happened to pages that are gone, told by the runs alone. */
static void step_gone(struct env *e, int step)
{
	char *p = (char *)e->base;

	switch (step) {
	case 0:
		madvise(p + 10 * PAGE, 5 * PAGE, MADV_DONTNEED);
		munmap(p + 100 * PAGE, 50 * PAGE);
		munmap(p + 300 * PAGE, 20 * PAGE);
		if (mmap(p + 310 * PAGE, 10 * PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1,
			 0) == MAP_FAILED)
			TFAIL(e, "mmap: %m");
		break;
	case 1: /* back again, empty but for one page */
		if (mmap(p + 100 * PAGE, 50 * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			TFAIL(e, "mmap: %m");
		p[120 * PAGE] = 1;
		break;
	case 2:
		munmap(p, 512 * PAGE);
		break;
	}
}

static void unmapped(const void *unused)
{
	static const struct path p = { "gone", setup_small, step_gone, 0, 0, 0 };
	struct vnl_result r;
	struct armed a;
	uint32_t state;

	(void)unused;
	arm_target(&a, &p, 0);
	target_step(&a.t, 0);
	collect(&a, 0, &r);
	CHECK(!run_covers(&r, a.t.sh->base + 110 * PAGE, NULL));
	for (int round = 0; round < 2; round++) { /* a peek changes nothing */
		collect(&a, CKPT_COLLECT_UNMAPPED | (round ? CKPT_COLLECT_REARM : 0), &r);
		for (size_t i = 0; i < 512; i++) {
			uint32_t want = i >= 10 && i < 15    ? CKPT_RUN_DROPPED :
					i >= 100 && i < 150  ? CKPT_RUN_UNMAPPED :
					i >= 300 && i < 310  ? CKPT_RUN_UNMAPPED :
					i >= 310 && i < 320  ? CKPT_RUN_UNTRACKED : 0;

			state = 0;
			(void)run_covers(&r, a.t.sh->base + i * PAGE, &state);
			if (state != want)
				FAIL("page %zu: state %u, not %u", i, state, want);
		}
	}
	target_step(&a.t, 1);
	collect(&a, CKPT_COLLECT_UNMAPPED | CKPT_COLLECT_REARM, &r);
	for (size_t i = 100; i < 150; i++)
		CHECK(run_covers(&r, a.t.sh->base + i * PAGE, &state) &&
		      state == (i == 120 ? CKPT_RUN_DATA : CKPT_RUN_DROPPED));
	CHECK(!run_covers(&r, a.t.sh->base + 305 * PAGE, NULL));
	target_step(&a.t, 2);
	collect(&a, CKPT_COLLECT_UNMAPPED | CKPT_COLLECT_REARM, &r);
	for (size_t i = 0; i < 512; i++) {
		bool in = run_covers(&r, a.t.sh->base + i * PAGE, &state);

		/* What was unmapped or not tracked when it was armed cannot go. */
		CHECK(in == !(i >= 300 && i < 320) && (!in || state == CKPT_RUN_UNMAPPED));
	}
	disarm(&a);
}

static void unarmed(const void *unused)
{
	struct vnl_result r;
	struct armed a;

	(void)unused;
	CHECK(!vnl_open(&a.nl));
	target_start(&a.t, &small);
	CHECK(!vnl_session(&a.nl, 0, &a.session));
	CHECK(!vnl_attach(&a.nl, a.session, a.t.pid, &a.track));
	collect(&a, 0, &r);
	CHECK(r.flags & CKPT_RESULT_UNARMED);
	for (size_t i = 0; i < a.t.sh->pages; i++)
		CHECK(run_covers(&r, a.t.sh->base + i * PAGE, NULL));
	disarm(&a);
}

static void two_owners(const void *unused)
{
	uint32_t session, track, again;
	struct vnl_result r;
	struct armed a;
	struct nl nl;

	(void)unused;
	arm_target(&a, &small, 0);
	CHECK(!vnl_attach(&a.nl, a.session, a.t.pid, &again) && again == a.track);
	CHECK(!vnl_open(&nl) && !vnl_session(&nl, 0, &session));
	CHECK(vnl_attach(&nl, session, a.t.pid, &track) == -EBUSY && strstr(nl.ext, "another session"));
	/* Nobody but its owner uses a session. */
	CHECK(vnl_collect(&nl, a.session, 0, &r, 1) == -EPERM && nl.ext[0]);
	CHECK(vnl_detach(&nl, a.session, 0) == -EPERM);
	/* With the owner's socket the session goes, and the target is free. */
	CHECK(session_exists(a.session));
	vnl_close(&a.nl);
	CHECK(!session_exists(a.session));
	CHECK(!vnl_attach(&nl, session, a.t.pid, &track));
	CHECK(!vnl_detach(&nl, session, track));
	CHECK(!vnl_attach(&nl, session, a.t.pid, &track));
	CHECK(!vnl_detach(&nl, session, 0) && !session_exists(session));
	target_stop(&a.t);
}

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
	CHECK(vnl_attach(&a.nl, a.session, -5, &track) == -ERANGE);
	CHECK(vnl_attach(&a.nl, a.session + 100, a.t.pid, &track) == -ENOENT);
	CHECK(vnl_detach(&a.nl, a.session, 12345) == -ENOENT && a.nl.ext[0]);
	CHECK(vnl_collect(&a.nl, a.session, 0x80, &r, 1) == -EINVAL);
	vnl_begin(&a.nl, &m, CKPT_CMD_COLLECT, 0);
	CHECK(vnl_talk(&a.nl, &m, NULL, NULL) == -EINVAL && strstr(a.nl.ext, "SESSION"));
	/* An attribute that the command does not know. */
	vnl_begin(&a.nl, &m, CKPT_CMD_ARM, 0);
	vnl_put_u32(&m, CKPT_A_SESSION, a.session);
	vnl_put_u32(&m, CKPT_A_PID, 1);
	CHECK(vnl_talk(&a.nl, &m, NULL, NULL) == -EINVAL);
	vnl_begin(&a.nl, &m, CKPT_CMD_OPEN, 0);
	vnl_put_u32(&m, CKPT_A_SESSION_FLAGS, 0xff00);
	CHECK(vnl_talk(&a.nl, &m, NULL, NULL) == -EINVAL);
	vnl_begin(&a.nl, &m, CKPT_CMD_ARM, 0);
	vnl_put(&m, CKPT_A_SESSION, &zero, 2);
	CHECK(vnl_talk(&a.nl, &m, NULL, NULL) < 0);
	vnl_begin(&a.nl, &m, 77, 0);
	CHECK(vnl_talk(&a.nl, &m, NULL, NULL) == -EOPNOTSUPP);
	/* And the session has not noticed. */
	target_step(&a.t, 1);
	collect(&a, CKPT_COLLECT_REARM, &r);
	CHECK(covers_step(&a, &r, 1) && arena_pages(&a, &r) == 2);
	disarm(&a);
}

static void drop_caps(uint64_t keep)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = {};

	for (int i = 0; i < 2; i++)
		d[i].effective = d[i].permitted = keep >> (32 * i);
	SYS(syscall(SYS_capset, &h, d));
}

static void access_check(const void *unused)
{
	uint32_t session, track;
	struct target t;
	struct nl nl;

	(void)unused;
	target_start(&t, &small);
	SYS(prctl(PR_SET_KEEPCAPS, 1));
	SYS(setresgid(1000, 1000, 1000));
	SYS(setresuid(1000, 1000, 1000));
	/* The family is open to this capability, somebody else's process is not. */
	drop_caps(1ULL << CAP_CHECKPOINT_RESTORE);
	CHECK(!vnl_open(&nl));
	CHECK(!vnl_session(&nl, 0, &session));
	CHECK(vnl_attach(&nl, session, t.pid, &track) == -EPERM && strstr(nl.ext, "traced"));
	vnl_close(&nl);
	drop_caps(0);
	CHECK(!vnl_open(&nl));
	CHECK(vnl_session(&nl, 0, &session) == -EPERM && strstr(nl.ext, "CAP_"));
}

/* A socket that root opened gives nothing to whoever inherits it without rights. */
static void access_inherited(const void *unused)
{
	uint32_t session;
	struct nl nl;

	(void)unused;
	CHECK(!vnl_open(&nl));
	drop_caps(0);
	CHECK(vnl_session(&nl, 0, &session) == -EPERM);
}

/* ---- targets come and go ------------------------------------------------------------------ */

static int events_open(struct nl *nl)
{
	CHECK(!vnl_open(nl));
	CHECK(nl->events_group);
	SYS(setsockopt(nl->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &nl->events_group, sizeof(int)));
	return nl->fd;
}

/* Wait for an event of this type; @ret_child gets its CHILD_PID. */
static void expect_event(struct nl *nl, uint32_t type, int32_t *ret_child)
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

static void target_exits(const void *unused)
{
	struct vnl_result r;
	struct nl events;
	struct armed a;

	(void)unused;
	events_open(&events);
	arm_target(&a, &small, 0);
	target_stop(&a.t);
	expect_event(&events, CKPT_EVENT_GONE, NULL);
	collect(&a, CKPT_COLLECT_REARM, &r);
	CHECK(r.flags & CKPT_RESULT_GONE && !r.nruns);
	CHECK(!vnl_detach(&a.nl, a.session, a.track));
	vnl_close(&a.nl);
}

static void step_exec(struct env *e, int step)
{
	(void)e;
	(void)step;
	execl("/bin/busybox", "sleep", "1000", NULL);
	_exit(1);
}

static void target_execs(const void *unused)
{
	static const struct path p = { "exec", setup_small, step_exec, 0, 0, 0 };
	struct vnl_result r;
	struct nl events;
	uint32_t track;
	struct armed a;
	char c = 0;

	(void)unused;
	events_open(&events);
	arm_target(&a, &p, 0);
	CHECK(write(a.t.cmd, &c, 1) == 1);
	expect_event(&events, CKPT_EVENT_GONE, NULL);
	expect_event(&events, CKPT_EVENT_EXEC, NULL);
	collect(&a, CKPT_COLLECT_REARM, &r);
	CHECK(r.flags & CKPT_RESULT_GONE);
	/* The new program is a new target. */
	CHECK(!vnl_attach(&a.nl, a.session, a.t.pid, &track) && track != a.track);
	disarm(&a);
}

static void step_fork_child(struct env *e, int step)
{
	static int cmd[2];
	pid_t pid;
	char c = 0;

	if (step == 0) {
		if (pipe(cmd))
			TFAIL(e, "pipe: %m");
		pid = fork();
		if (!pid) {
			while (read(cmd[0], &c, 1) == 1) {
				for (int i = 0; i < 20; i++)
					*(volatile int *)(e->base + (100 + i) * PAGE) = 7777;
				e->sh->counters[1]++;
			}
			_exit(0);
		}
		e->sh->counters[0] = pid;
	} else {
		uint64_t before = e->sh->counters[1];

		if (write(cmd[1], &c, 1) != 1)
			TFAIL(e, "write: %m");
		while (e->sh->counters[1] == before)
			sched_yield();
	}
	touch(e, step);
}

static void follow_forks(const void *unused)
{
	static const struct path p = { "forks", setup_small, step_fork_child, 0, 0, 0 };
	struct vnl_result r[2];
	struct image *before;
	int32_t child = 0;
	struct nl events;
	struct armed a;
	int n;

	(void)unused;
	events_open(&events);
	arm_target(&a, &p, CKPT_SESSION_FOLLOW_FORKS);
	target_step(&a.t, 0);
	expect_event(&events, CKPT_EVENT_FORK, &child);
	pid_wait_reading(child);
	CHECK(child == (int32_t)a.t.sh->counters[0]);
	n = vnl_collect(&a.nl, a.session, CKPT_COLLECT_REARM, r, 2);
	CHECK(n == 2 && r[1].pid == child && r[1].flags & CKPT_RESULT_UNARMED);
	CHECK(!vnl_runs(&a.nl, a.session, &r[1]));
	for (size_t i = 0; i < 512; i++)
		CHECK(run_covers(&r[1], a.t.sh->base + i * PAGE, NULL));
	/* From here on the child is tracked like its parent. */
	before = image_take(child);
	target_step(&a.t, 1);
	pid_wait_reading(child);
	CHECK(vnl_collect(&a.nl, a.session, CKPT_COLLECT_REARM, r, 2) == 2);
	CHECK(!vnl_runs(&a.nl, a.session, &r[0]) && !vnl_runs(&a.nl, a.session, &r[1]));
	image_check(before, image_take(child), &r[1]);
	CHECK(run_covers(&r[0], a.t.sh->base + PAGE, NULL));
	CHECK(!run_covers(&r[0], a.t.sh->base + 110 * PAGE, NULL));
	CHECK(run_covers(&r[1], a.t.sh->base + 110 * PAGE, NULL));
	CHECK(!run_covers(&r[1], a.t.sh->base + 90 * PAGE, NULL));
	disarm(&a);
}

/* ---- sizes --------------------------------------------------------------------------------- */

#define RESERVED (16UL << 40)

static void setup_reservation(struct env *e)
{
	char *p = mmap(NULL, RESERVED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);

	if (p == MAP_FAILED)
		TSKIP(e, "cannot reserve 16 TiB: %m");
	madvise(p, RESERVED, MADV_NOHUGEPAGE);
	e->base = (uintptr_t)p;
	e->pages = 1;
	for (int i = 0; i < 64; i++)
		p[i * (RESERVED / 64)] = 1;
}

static void step_reservation(struct env *e, int step)
{
	char *p = (char *)e->base;

	if (step == 1)
		madvise(p + RESERVED / 4, RESERVED / 2, MADV_DONTNEED);
	p[RESERVED / 64 * 3] = 2 + step;
	p[RESERVED - PAGE] = 3 + step;
}

static void reservation(const void *unused)
{
	static const struct path p = { "reservation", setup_reservation, step_reservation, 0, 0, 0 };
	struct vnl_result r;
	struct armed a;
	uint32_t state;

	(void)unused;
	arm_target(&a, &p, 0);
	target_step(&a.t, 0);
	collect(&a, CKPT_COLLECT_REARM, &r);
	CHECK(run_covers(&r, a.t.sh->base + RESERVED / 64 * 3, NULL));
	CHECK(run_covers(&r, a.t.sh->base + RESERVED - PAGE, NULL));
	CHECK(r.pages < 100);
	target_step(&a.t, 1);
	collect(&a, CKPT_COLLECT_REARM, &r);
	for (int i = 0; i < 32; i++)
		CHECK(run_covers(&r, a.t.sh->base + RESERVED / 4 + i * (RESERVED / 64), &state) &&
		      state == CKPT_RUN_DROPPED);
	CHECK(r.pages >= RESERVED / 2 / PAGE && r.pages < RESERVED / 2 / PAGE + 100);
	CHECK(r.nruns < 100);
	disarm(&a);
}

/* A tenth of them where everything takes fifty times as long. */
#define MANY (patience_seconds() > 60 ? 10000UL : 100000UL)

static void setup_many(struct env *e)
{
	char *p = mmap(NULL, MANY * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	madvise(p, MANY * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < MANY; i += 2)
		if (mprotect(p + i * PAGE, PAGE, PROT_READ))
			TSKIP(e, "cannot make %zu mappings: %m", MANY);
	e->base = (uintptr_t)p;
	e->pages = 1;
	for (size_t i = 1; i < MANY; i += 100)
		p[i * PAGE] = 1;
}

static void step_many(struct env *e, int step)
{
	for (size_t i = 1; i < MANY; i += 1000)
		((char *)e->base)[i * PAGE] = 2 + step;
}

static void many_vmas(const void *unused)
{
	static const struct path p = { "many", setup_many, step_many, 0, 0, 0 };
	struct vnl_result r;
	struct armed a;

	(void)unused;
	arm_target(&a, &p, 0);
	for (int step = 0; step < 2; step++) {
		target_step(&a.t, step);
		collect(&a, CKPT_COLLECT_REARM, &r);
		for (size_t i = 1; i < MANY; i += 1000)
			CHECK(run_covers(&r, a.t.sh->base + i * PAGE, NULL));
		CHECK(r.pages < 200);
	}
	disarm(&a);
}

/* ---- the log has a limit --------------------------------------------------------------------- */

#define WIDE_CHUNKS 200

static void setup_wide(struct env *e)
{
	char *p = mmap(NULL, WIDE_CHUNKS * CHUNK, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	madvise(p, WIDE_CHUNKS * CHUNK, MADV_NOHUGEPAGE);
	e->base = (uintptr_t)p;
	e->pages = 1;
	for (int i = 0; i < WIDE_CHUNKS; i++)
		p[i * CHUNK] = p[i * CHUNK + 9 * PAGE] = 1;
}

static void step_wide(struct env *e, int step)
{
	for (int i = 0; i < WIDE_CHUNKS; i++)
		((char *)e->base)[i * CHUNK] = 2 + step;
	/* Dropped when no chunk can be had for it. */
	madvise((char *)e->base + (WIDE_CHUNKS - 1) * CHUNK + 9 * PAGE, PAGE, MADV_DONTNEED);
}

static void log_overflow(const void *unused)
{
	static const struct path p = { "wide", setup_wide, step_wide, 0, 0, 0 };
	struct vnl_result r;
	struct nl events;
	struct armed a;

	(void)unused;
	events_open(&events);
	arm_target(&a, &p, 0);
	CHECK(!write_file("/sys/kernel/ckpt/log_limit_bytes", "8192"));
	for (int step = 0; step < 3; step++) {
		target_step(&a.t, step);
		expect_event(&events, CKPT_EVENT_LOG_OVERFLOW, NULL);
		collect(&a, CKPT_COLLECT_REARM, &r);
		CHECK(r.flags & CKPT_RESULT_DEGRADED);
		for (int i = 0; i < WIDE_CHUNKS; i++)
			CHECK(run_covers(&r, a.t.sh->base + i * CHUNK, NULL));
		CHECK(run_covers(&r, a.t.sh->base + (WIDE_CHUNKS - 1) * CHUNK + 9 * PAGE, NULL));
	}
	CHECK(read_number("/sys/kernel/ckpt/sessions/%u/overflows", a.session) >= 3);
	/* With room again the log is exact again. */
	CHECK(!write_file("/sys/kernel/ckpt/log_limit_bytes", "67108864"));
	target_step(&a.t, 5);
	collect(&a, CKPT_COLLECT_REARM, &r);
	CHECK(!r.flags);
	disarm(&a);
}

/* ---- settings ---------------------------------------------------------------------------------- */

static void bad_settings(const void *unused)
{
	static const struct {
		const char *file, *value;
	} bad[] = {
		{ "granule_bytes", "0" },	  { "granule_bytes", "12288" },
		{ "granule_bytes", "4194304" },	  { "granule_bytes", "-4096" },
		{ "granule_bytes", "many" },	  { "granule_bytes", "" },
		{ "granule_mode", "sometimes" },  { "thp_mode", "torn" },
		{ "log_limit_bytes", "0" },	  { "log_limit_bytes", "99999999999999999999" },
	};
	char path[96], before[64], after[64];

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/ckpt/%s", bad[i].file);
		CHECK(read_file(path, before, sizeof(before)) > 0);
		if (bad[i].value[0] && write_file(path, bad[i].value) != -EINVAL)
			FAIL("%s takes \"%s\"", bad[i].file, bad[i].value);
		CHECK(read_file(path, after, sizeof(after)) > 0 && !strcmp(before, after));
	}
	CHECK(!write_file("/sys/kernel/ckpt/granule_bytes", "65536\n"));
	CHECK(read_number("/sys/kernel/ckpt/granule_bytes") == 65536);
	CHECK(!write_file("/sys/kernel/ckpt/granule_mode", "adaptive\n"));
}

/* Switching ftrace off would lose every write: it must be refused. */
static void ftrace_stays_on(const void *unused)
{
	struct vnl_result r;
	struct armed a;

	(void)unused;
	arm_target(&a, &small, 0);
	if (write_file("/proc/sys/kernel/ftrace_enabled", "0") == -ENOENT)
		SKIP("no kernel.ftrace_enabled");
	CHECK(write_file("/proc/sys/kernel/ftrace_enabled", "0") == -EBUSY);
	target_step(&a.t, 1);
	collect(&a, CKPT_COLLECT_REARM, &r);
	CHECK(covers_step(&a, &r, 1));
	disarm(&a);
}

/* ---- granules ------------------------------------------------------------------------------------ */

#define GRAN_PAGES 4096

static void setup_granule(struct env *e)
{
	e->pages = GRAN_PAGES;
	e->base = (uintptr_t)mmap(NULL, (GRAN_PAGES + 512) * PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	e->base = (e->base + CHUNK - 1) & ~(CHUNK - 1);
	madvise((void *)e->base, e->pages * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < e->pages; i++)
		touch(e, i);
}

static void step_granule(struct env *e, int step)
{
	uint64_t state = 99 + step;

	if (step & 1)
		for (size_t i = 0; i < e->pages; i++)
			touch(e, i);
	else
		for (int i = 0; i < 200; i++)
			touch(e, rnd(&state) % e->pages);
}

/* @arg: "mode bytes sequential-faults random-pages", the latter two at most. */
static void granule(const void *arg)
{
	static const struct path p = { "granule", setup_granule, step_granule, 0, 0, 0 };
	uint64_t before, faults, most_faults, most_pages, touched_pages, reported;
	char mode[16], bytes[16];
	struct vnl_result r;
	struct image *img, *now;
	struct armed a;

	CHECK(sscanf(arg, "%15s %15s %" SCNu64 " %" SCNu64, mode, bytes, &most_faults, &most_pages) == 4);
	CHECK(!write_file("/sys/kernel/ckpt/granule_mode", mode));
	CHECK(!write_file("/sys/kernel/ckpt/granule_bytes", bytes));
	arm_target(&a, &p, 0);
	img = image_take(a.t.pid);
	for (int step = 0; step < 4; step++) {
		memset(a.t.sh->touched, 0, sizeof(a.t.sh->touched));
		before = read_number("/sys/kernel/ckpt/sessions/%u/faults", a.session);
		target_step(&a.t, step);
		faults = read_number("/sys/kernel/ckpt/sessions/%u/faults", a.session) - before;
		now = image_take(a.t.pid);
		collect(&a, CKPT_COLLECT_REARM, &r);
		image_check(img, now, &r);
		image_free(img);
		img = now;
		touched_pages = 0;
		for (size_t i = 0; i < GRAN_PAGES; i++) {
			touched_pages += a.t.sh->touched[i];
			if (a.t.sh->touched[i])
				CHECK(run_covers(&r, a.t.sh->base + i * PAGE, NULL));
		}
		if (step & 1 && faults > most_faults)
			FAIL("%" PRIu64 " faults for a sequential write of %d pages", faults, GRAN_PAGES);
		reported = arena_pages(&a, &r);
		if (!(step & 1) && reported > most_pages)
			FAIL("%" PRIu64 " pages reported for %" PRIu64 " random ones", reported,
			     touched_pages);
		if (step == 2)
			test_note("%" PRIu64 " random pages: %" PRIu64 " reported; ", touched_pages, reported);
		if (step == 3)
			test_note("%d sequential pages: %" PRIu64 " faults", GRAN_PAGES, faults);
		free(r.runs);
	}
	disarm(&a);
}

/* ---- garbage ---------------------------------------------------------------------------------------- */

static void garbage(const void *unused)
{
	uint64_t state = 20260101, n = 0;
	struct vnl_result r;
	struct armed a;
	struct nl nl;

	(void)unused;
	arm_target(&a, &small, 0);
	CHECK(!vnl_open(&nl));
	SYS(fcntl(nl.fd, F_SETFL, O_NONBLOCK));
	for (int round = 0; round < 20000; round++) {
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
	CHECK(n > 10000);
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
	for (int round = 0; round < 150; round++) {
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

const struct test session_tests[] = {
	{ "session/info", info, NULL, 0 },
	{ "session/peek", peek, NULL, 0 },
	{ "session/unmapped", unmapped, NULL, 0 },
	{ "session/unarmed", unarmed, NULL, 0 },
	{ "session/two-owners", two_owners, NULL, 0 },
	{ "session/bad-requests", bad_requests, NULL, 0 },
	{ "session/access", access_check, NULL, 0 },
	{ "session/access-inherited-socket", access_inherited, NULL, 0 },
	{ "session/target-exits", target_exits, NULL, 0 },
	{ "session/target-execs", target_execs, NULL, 0 },
	{ "session/follow-forks", follow_forks, NULL, 0 },
	{ "session/reservation-16-tib", reservation, NULL, 0 },
	{ "session/100000-vmas", many_vmas, NULL, 0 },
	{ "session/log-overflow", log_overflow, NULL, 0 },
	{ "session/bad-settings", bad_settings, NULL, 0 },
	{ "session/ftrace-stays-on", ftrace_stays_on, NULL, 0 },
	{ "session/granule-4k", granule, "fixed 4096 4200 220", 0 },
	{ "session/granule-64k", granule, "fixed 65536 270 3300", 0 },
	{ "session/granule-2m", granule, "fixed 2097152 20 4200", 0 },
	{ "session/granule-adaptive-64k", granule, "adaptive 65536 420 240", 0 },
	{ "session/granule-adaptive-2m", granule, "adaptive 2097152 150 240", 0 },
	{ "session/garbage", garbage, NULL, 0 },
	{ "session/disorder", disorder, NULL, 0 },
	{}
};
