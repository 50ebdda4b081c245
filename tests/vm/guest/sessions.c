// SPDX-License-Identifier: GPL-2.0-only
/* Life and death of sessions, who may open them, and targets that come and go. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/capability.h>
#include <linux/genetlink.h>

#include "vm.h"

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

struct status {
	int n;
	uint32_t owner, track, flags;
	int32_t pid;
	uint64_t epoch;
};

static void got_status(const struct nlmsghdr *h, void *arg)
{
	struct status *s = arg;

	s->n++;
	s->owner = vnl_u32(vnl_attr(h, CKPT_A_OWNER));
	s->track = vnl_u32(vnl_attr(h, CKPT_A_TRACK));
	s->flags = vnl_u32(vnl_attr(h, CKPT_A_RESULT_FLAGS));
	s->pid = (int32_t)vnl_u32(vnl_attr(h, CKPT_A_PID));
	s->epoch = vnl_u64(vnl_attr(h, CKPT_A_EPOCH));
}

static struct status status_of(struct nl *nl, uint32_t session)
{
	struct status s = {};
	struct vnl_msg m;

	vnl_begin(nl, &m, CKPT_CMD_STATUS, NLM_F_DUMP);
	vnl_put_u32(&m, CKPT_A_SESSION, session);
	CHECK(!vnl_talk(nl, &m, got_status, &s));
	return s;
}

/* What a session says of itself, in sysfs and to everybody who asks. */
static void counters(const void *unused)
{
	static const char *const grow[] = { "arms", "arm_ns", "collects", "collect_ns", "chunks", "pages", "faults" };
	uint64_t before[7], pages = 0;
	struct vnl_result r;
	struct status s;
	struct armed a;
	struct nl other;

	(void)unused;
#define FILE_OF(name) read_number("/sys/kernel/ckpt/sessions/%u/%s", a.session, name)
	arm_target(&a, &small, CKPT_SESSION_COW);
	CHECK(FILE_OF("arms") == 1 && FILE_OF("arm_ns") && !FILE_OF("collects") && !FILE_OF("collect_ns"));
	CHECK(FILE_OF("owner_port") == a.nl.port && FILE_OF("flags") == CKPT_SESSION_COW);
	CHECK(FILE_OF("cow_pool_free_pages") == read_number("/sys/kernel/ckpt/cow_pool_pages"));
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 7; i++)
			before[i] = FILE_OF(grow[i]);
		target_step(&a.t, round);
		CHECK(FILE_OF("faults") >= before[6] + 2);
		collect(&a, CKPT_COLLECT_REARM, &r);
		pages += r.pages;
		free(r.runs);
		CHECK(FILE_OF("arms") == 1 && FILE_OF("arm_ns") == before[1]);
		CHECK(FILE_OF("collects") == round + 1UL && FILE_OF("collect_ns") == before[3] + r.wall_ns);
		CHECK(FILE_OF("chunks") > before[4] && FILE_OF("pages") == pages);
		CHECK(!FILE_OF("widened_pages") && !FILE_OF("widened_clean_pages") && !FILE_OF("overflows"));
		CHECK(!FILE_OF("cow_pages") && !FILE_OF("cow_lost_pages"));
	}
#undef FILE_OF
	/* Not its owner alone may ask. */
	CHECK(!vnl_open(&other));
	s = status_of(&other, a.session);
	CHECK(s.n == 1 && s.owner == a.nl.port && s.track == a.track && s.pid == a.t.pid && s.epoch == 4 && !s.flags);
	CHECK(status_of(&other, 0xffffff).n == 0);
	kill(a.t.pid, SIGKILL);
	SYS(waitid(P_PID, a.t.pid, &(siginfo_t){}, WEXITED | WNOWAIT));
	s = status_of(&other, a.session);
	CHECK(s.n == 1 && s.flags == CKPT_RESULT_GONE);
	disarm(&a);
	CHECK(status_of(&other, a.session).n == 0);
	vnl_close(&other);
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

/* Nobody is better placed to see that nothing is lost than who tracks himself. */
static void itself(const void *unused)
{
	volatile char *mem = map_at(64 * PAGE, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint32_t session, track;
	struct vnl_result r;
	struct nl nl;

	(void)unused;
	CHECK(mem);
	madvise((void *)mem, 64 * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < 64; i++)
		mem[i * PAGE] = 1;
	CHECK(!vnl_open(&nl) && !vnl_session(&nl, CKPT_SESSION_COW, &session));
	CHECK(!vnl_attach(&nl, session, getpid(), &track) && vnl_arm(&nl, session, &r, 1) == 1);
	for (int round = 0; round < 20; round++) {
		mem[round * PAGE] = round;
		CHECK(vnl_collect(&nl, session, CKPT_COLLECT_REARM | CKPT_COLLECT_SNAPSHOT, &r, 1) == 1);
		CHECK(!vnl_runs(&nl, session, &r) && !(r.flags & CKPT_RESULT_ALL));
		for (int i = 0; i < 64; i++)
			CHECK(run_covers(&r, (uintptr_t)mem + i * PAGE, NULL) == (i == round));
		free(r.runs);
	}
	vnl_close(&nl);
}

static void drop_caps(uint64_t keep)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = {};

	for (int i = 0; i < 2; i++)
		d[i].effective = d[i].permitted = keep >> (32 * i);
	SYS(syscall(SYS_capset, &h, d));
}

/* A process of the same user with these capabilities. */
static pid_t same_user(uint64_t caps, bool dumpable)
{
	pid_t pid;
	int ready[2];
	char c;

	SYS(pipe(ready));
	pid = SYS(fork());
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		drop_caps(caps);
		SYS(prctl(PR_SET_DUMPABLE, dumpable));
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	CHECK(read(ready[0], &c, 1) == 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void access_check(const void *unused)
{
	const uint64_t cap = 1ULL << CAP_CHECKPOINT_RESTORE;
	pid_t own, secret, mighty;
	uint32_t session, track;
	struct target t;
	struct nl nl;

	(void)unused;
	target_start(&t, &small);
	SYS(prctl(PR_SET_KEEPCAPS, 1));
	SYS(setresgid(1000, 1000, 1000));
	SYS(setresuid(1000, 1000, 1000));
	own = same_user(cap, true);
	secret = same_user(cap, false);
	mighty = same_user(cap | 1ULL << CAP_CHOWN, true);
	/* The family is open to this capability, somebody else's process is not. */
	drop_caps(cap);
	CHECK(!vnl_open(&nl));
	CHECK(!vnl_session(&nl, 0, &session));
	CHECK(vnl_attach(&nl, session, t.pid, &track) == -EPERM && strstr(nl.ext, "traced"));
	/* Nor one of one's own that shows itself to nobody, or that may do more. */
	CHECK(vnl_attach(&nl, session, secret, &track) == -EPERM && strstr(nl.ext, "traced"));
	CHECK(vnl_attach(&nl, session, mighty, &track) == -EPERM && strstr(nl.ext, "traced"));
	if (vnl_attach(&nl, session, own, &track))
		FAIL("a process of one's own: %s", nl.ext);
	kill(own, SIGKILL);
	kill(secret, SIGKILL);
	kill(mighty, SIGKILL);
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

#define UNBOUND "/sys/devices/virtual/workqueue/cpumask"

/*
 * A child that cannot be attached is told of. Somebody else attaches it first: this process is the target, and what
 * attaches its child for the session may run on this processor only, behind it.
 */
static void fork_lost(const void *unused)
{
	struct sched_param normal = {};
	uint32_t ours, theirs, track;
	struct vnl_result r[2];
	struct nl events, a, b;
	int32_t child, told;
	char mask[64], c;
	cpu_set_t one;
	int hold[2], err;

	(void)unused;
	if (read_file(UNBOUND, mask, sizeof(mask)) < 0)
		SKIP("no " UNBOUND);
	events_open(&events);
	CHECK(!vnl_open(&a) && !vnl_session(&a, CKPT_SESSION_FOLLOW_FORKS, &ours));
	CHECK(!vnl_open(&b) && !vnl_session(&b, 0, &theirs));
	CHECK(!vnl_attach(&a, ours, getpid(), &track));
	SYS(pipe(hold));
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	SYS(sched_setaffinity(0, sizeof(one), &one));
	CHECK(!write_file(UNBOUND, "1"));
	run_first();
	child = fork();
	if (!child) {
		vnl_close(&a);
		vnl_close(&b);
		close(hold[1]);
		_exit(read(hold[0], &c, 1) != 0);
	}
	err = child < 0 ? -errno : vnl_attach(&b, theirs, child, &track);
	SYS(sched_setscheduler(0, SCHED_OTHER, &normal));
	CHECK(!write_file(UNBOUND, mask));
	if (err)
		FAIL("the child could not be made or attached first: %s", strerror(-err));
	expect_event(&events, CKPT_EVENT_FORK_LOST, &told);
	CHECK(told == child);
	CHECK(vnl_collect(&a, ours, 0, r, 2) == 1 && r[0].pid == getpid());
	CHECK(vnl_collect(&b, theirs, 0, r, 2) == 1 && r[0].pid == child);
	/* What the event says to do. */
	CHECK(vnl_attach(&a, ours, child, &track) == -EBUSY);
	CHECK(!vnl_detach(&b, theirs, r[0].track) && !vnl_attach(&a, ours, child, &track));
	CHECK(vnl_collect(&a, ours, 0, r, 2) == 2 && r[1].pid == child);
	close(hold[1]);
	SYS(waitpid(child, NULL, 0));
	vnl_close(&a);
	vnl_close(&b);
}

/* ---- a program that forks for days ------------------------------------------------------- */

#define CHILDREN 24

/* Step 0: children that live until step 1 is done. */
static void step_many_children(struct env *e, int step)
{
	static int hold[2];
	char c;

	(void)e;
	if (step) {
		close(hold[1]);
		for (int i = 0; i < CHILDREN; i++)
			wait(NULL);
		return;
	}
	if (pipe(hold))
		TFAIL(e, "pipe: %m");
	for (int i = 0; i < CHILDREN; i++) {
		pid_t pid = fork();

		if (pid < 0)
			TFAIL(e, "fork: %m");
		if (pid)
			continue;
		close(hold[1]);
		_exit(read(hold[0], &c, 1) != 0);
	}
	close(hold[0]);
}

static void count_track(const struct nlmsghdr *h, void *arg)
{
	(void)h;
	++*(int *)arg;
}

static int tracks(struct armed *a)
{
	struct vnl_msg m;
	int n = 0;

	vnl_begin(&a->nl, &m, CKPT_CMD_STATUS, NLM_F_DUMP);
	vnl_put_u32(&m, CKPT_A_SESSION, a->session);
	CHECK(!vnl_talk(&a->nl, &m, count_track, &n));
	return n;
}

static void expect_tracks(struct armed *a, int want)
{
	uint64_t deadline = now_ns() + patience_seconds() * 1000000000ULL;

	while (tracks(a) != want) {
		if (now_ns() > deadline)
			FAIL("%d tracks, not %d", tracks(a), want);
		poll(NULL, 0, 10);
	}
}

/* A session that follows forks does not keep what has ended, but for what it has spoken of and not yet called ended. */
static void forks_for_days(const void *unused)
{
	static const struct path p = { "forks", setup_small, step_many_children, 0, 0, 0 };
	struct vnl_result r[CHILDREN + 1];
	uint32_t track;
	struct armed a;
	int gone = 0;

	(void)unused;
	arm_target(&a, &p, CKPT_SESSION_FOLLOW_FORKS);
	for (int round = 0; round < 3; round++) {
		target_step(&a.t, 0);
		expect_tracks(&a, 1 + CHILDREN);
		target_step(&a.t, 1);
		expect_tracks(&a, 1);
	}
	/* What was collected is told to be gone, once. */
	target_step(&a.t, 0);
	CHECK(vnl_collect(&a.nl, a.session, CKPT_COLLECT_REARM, r, CHILDREN + 1) == CHILDREN + 1);
	track = r[1].track;
	target_step(&a.t, 1);
	CHECK(tracks(&a) == CHILDREN + 1);
	CHECK(vnl_collect(&a.nl, a.session, 0, r, CHILDREN + 1) == CHILDREN + 1);
	for (int i = 0; i <= CHILDREN; i++)
		gone += !!(r[i].flags & CKPT_RESULT_GONE);
	CHECK(gone == CHILDREN && !(r[0].flags & CKPT_RESULT_GONE));
	CHECK(!vnl_runs(&a.nl, a.session, &r[1]) && !r[1].nruns);
	CHECK(vnl_arm(&a.nl, a.session, r, CHILDREN + 1) == 1 && r[0].track == a.track);
	CHECK(vnl_detach(&a.nl, a.session, track) == -ENOENT);
	/* Whom the owner attached, he detaches. */
	target_step(&a.t, 0);
	expect_tracks(&a, 1 + CHILDREN);
	CHECK(vnl_collect(&a.nl, a.session, 0, r, CHILDREN + 1) == CHILDREN + 1);
	CHECK(!vnl_attach(&a.nl, a.session, r[5].pid, &track) && track == r[5].track);
	target_step(&a.t, 1);
	CHECK(vnl_arm(&a.nl, a.session, r, CHILDREN + 1) == CHILDREN + 1);
	CHECK(vnl_arm(&a.nl, a.session, r, CHILDREN + 1) == 2);
	CHECK(r[1].track == track && r[1].flags & CKPT_RESULT_GONE);
	CHECK(!vnl_detach(&a.nl, a.session, track) && tracks(&a) == 1);
	/* The session ends while some are being forgotten. */
	target_step(&a.t, 0);
	expect_tracks(&a, 1 + CHILDREN);
	target_step(&a.t, 1);
	disarm(&a);
}

const struct test session_tests[] = {
	{ "session/info", info, NULL, 0 },
	{ "session/peek", peek, NULL, 0 },
	{ "session/counters", counters, NULL, 0 },
	{ "session/unmapped", unmapped, NULL, 0 },
	{ "session/unarmed", unarmed, NULL, 0 },
	{ "session/two-owners", two_owners, NULL, 0 },
	{ "session/itself", itself, NULL, 0 },
	{ "session/access", access_check, NULL, 0 },
	{ "session/access-inherited-socket", access_inherited, NULL, 0 },
	{ "session/target-exits", target_exits, NULL, 0 },
	{ "session/target-execs", target_execs, NULL, 0 },
	{ "session/follow-forks", follow_forks, NULL, 0 },
	{ "session/fork-lost", fork_lost, NULL, 0 },
	{ "session/forks-for-days", forks_for_days, NULL, 0 },
	{}
};
