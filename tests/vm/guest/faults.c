// SPDX-License-Identifier: GPL-2.0-only
/*
 * Failing allocations, one after the other: /proc/self/fail-nth lets the n-th of a
 * task fail, so a request is repeated with n = 1, 2, … until none is left to fail.
 * Each time it either succeeds or says why not, nothing is lost, and the next
 * request finds everything in order. Only where the kernel can inject faults.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

#define MOST 400 /* more allocations than any request makes */

static int fail_fd(void)
{
	return open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
}

static void fail_next(int fd, int n)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", n);
	if (pwrite(fd, text, strlen(text), 0) < 0)
		_exit(3);
}

/* Was there an n-th allocation? From here on none fails. */
static bool failed(int fd)
{
	char text[16] = "";
	bool yes;

	if (pread(fd, text, sizeof(text) - 1, 0) < 0)
		_exit(3);
	yes = atoi(text) == 0;
	fail_next(fd, 0);
	return yes;
}

static int prepare(void)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc" };
	static const struct {
		const char *file, *value;
	} set[] = { { "ignore-gfp-wait", "N" }, { "ignore-gfp-highmem", "N" }, { "min-order", "0" },
		    { "verbose", "0" } };
	char path[96];
	int fd = fail_fd();

	if (fd < 0)
		SKIP("this kernel injects no faults");
	(void)mount("debug", "/sys/kernel/debug", "debugfs", 0, NULL);
	for (size_t k = 0; k < 2; k++)
		for (size_t i = 0; i < sizeof(set) / sizeof(*set); i++) {
			snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", kinds[k], set[i].file);
			(void)write_file(path, set[i].value);
		}
	return fd;
}

/* ---- the owner's allocations fail ------------------------------------------------------- */

static void setup(struct env *e)
{
	region(e, 2048, 0);
	fill(e);
}

static void step(struct env *e, int nr)
{
	for (size_t i = nr; i < e->pages; i += 64)
		touch(e, i);
	madvise((void *)(e->base + (nr + 3) * PAGE), PAGE, MADV_DONTNEED);
	touched(e, nr + 3);
}

static const struct path path = { "faults", setup, step, 0, 0, 0 };

struct owner {
	struct nl nl;
	struct target t;
	uint32_t session, track;
	struct vnl_result r;
};

/* What is left of answers that were not heard to their end, and the descriptors they named. */
static void drain(struct nl *nl)
{
	char buf[8192], path[32];
	ssize_t n;

	while (recv(nl->fd, buf, sizeof(buf), MSG_DONTWAIT) > 0 || errno == ENOBUFS)
		;
	for (int fd = 3; fd < 256; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, buf, sizeof(buf) - 1);
		buf[n > 0 ? n : 0] = 0;
		if (strstr(buf, "ckpt-snapshot"))
			close(fd);
	}
}

static int op_session(struct owner *o)
{
	struct nl nl;
	uint32_t session, track;
	int err = vnl_open(&nl);

	if (err)
		return err;
	err = vnl_session(&nl, CKPT_SESSION_COW | CKPT_SESSION_FOLLOW_FORKS, &session);
	if (!err) {
		err = vnl_attach(&nl, session, o->t.pid, &track);
		err = err == -EBUSY ? 0 : err;
	}
	vnl_close(&nl);
	return err;
}

static int op_attach(struct owner *o)
{
	int err = vnl_detach(&o->nl, o->session, o->track);

	/* Gone already, by a request whose answer was lost. */
	if (err && err != -ENOENT)
		return err;
	err = vnl_attach(&o->nl, o->session, o->t.pid, &o->track);
	return err;
}

static int op_arm(struct owner *o)
{
	struct vnl_result r;
	int n = vnl_arm(&o->nl, o->session, &r, 1);

	return n < 0 ? n : 0;
}

static int collect_with(struct owner *o, uint32_t flags)
{
	int n = vnl_collect(&o->nl, o->session, flags, &o->r, 1);

	if (n == 1)
		n = vnl_runs(&o->nl, o->session, &o->r);
	return n < 0 ? n : 0;
}

static int op_collect(struct owner *o)
{
	return collect_with(o, CKPT_COLLECT_REARM | CKPT_COLLECT_UNMAPPED);
}

static int op_snapshot(struct owner *o)
{
	static char page[64 * PAGE];
	int err = collect_with(o, CKPT_COLLECT_REARM | CKPT_COLLECT_SNAPSHOT), fd;

	if (err || !(o->r.flags & CKPT_RESULT_SNAPSHOT))
		return err;
	fd = vnl_snapshot(&o->nl, o->session, o->track, NULL, NULL);
	if (fd < 0)
		return fd;
	for (uint64_t i = 0; i < o->r.nruns; i++)
		if (o->r.runs[i].state == CKPT_RUN_DATA && o->r.runs[i].pages <= 64 &&
		    pread(fd, page, o->r.runs[i].pages * PAGE, o->r.runs[i].start) < 0)
			err = -errno;
	close(fd);
	return err;
}

static void walk(const void *arg)
{
	int (*const *op)(struct owner *) = arg;
	int fd = prepare(), n, injected = 0, refused = 0, told = 0;
	struct owner o = {};
	bool more = true, reports = *op == op_collect || *op == op_snapshot;

	CHECK(!write_file("/sys/kernel/ckpt/cow_pool_pages", "32"));
	target_start(&o.t, &path);
	CHECK(!vnl_open(&o.nl) && !vnl_session(&o.nl, CKPT_SESSION_COW, &o.session));
	CHECK(!vnl_attach(&o.nl, o.session, o.t.pid, &o.track));
	CHECK(!op_arm(&o));
	for (n = 1; more && n < MOST; n++) {
		struct image *before = reports ? image_take(o.t.pid) : NULL, *after;
		int err;

		memset(o.t.sh->touched, 0, sizeof(o.t.sh->touched));
		target_step(&o.t, n % 64);
		after = reports ? image_take(o.t.pid) : NULL;
		o.r = (struct vnl_result){};
		fail_next(fd, n);
		err = (*op)(&o);
		more = failed(fd);
		injected += more;
		refused += err != 0;
		told += err == -ENOMEM && strstr(o.nl.ext, "no memory");
		if (err && err != -ENOMEM && err != -ENOBUFS && err != -EBADMSG && err != -ENFILE)
			FAIL("allocation %d: %s (%s)", n, strerror(-err), o.nl.ext);
		if (err && !more)
			FAIL("nothing failed but the request: %s (%s)", strerror(-err), o.nl.ext);
		/* What it reports is complete. */
		if (!err && reports)
			image_check(before, after, &o.r);
		free(o.r.runs);
		if (reports) {
			image_free(before);
			image_free(after);
		}
		/* And all is in order: */
		drain(&o.nl);
		CHECK(!vnl_attach(&o.nl, o.session, o.t.pid, &o.track));
		CHECK(!op_arm(&o));
		memset(o.t.sh->touched, 0, sizeof(o.t.sh->touched));
		target_step(&o.t, n % 64);
		CHECK(!op_collect(&o));
		for (size_t i = 0; i < o.t.sh->pages; i++)
			if (o.t.sh->touched[i] && !run_covers(&o.r, o.t.sh->base + i * PAGE, NULL))
				FAIL("LOST: page %zu, after allocation %d had failed", i, n);
		free(o.r.runs);
	}
	CHECK(!more && injected > 2);
	/* What the module itself asked for was named as the cause. */
	CHECK(told || (*op != op_attach && *op != op_arm));
	test_note("%d allocations failed, %d requests refused", injected, refused);
	vnl_close(&o.nl);
	target_stop(&o.t);
}

/* ---- the target's allocations fail --------------------------------------------------------- */

static void step_failing(struct env *e, int nr)
{
	int fd = fail_fd();

	if (fd < 0)
		TSKIP(e, "this kernel injects no faults");
	for (int n = 1; n < 12; n++) {
		size_t i = (nr * 37 + n * 151) % e->pages;

		/* A fault that finds no memory is tried again, without failing. */
		fail_next(fd, n);
		*(volatile uint64_t *)(e->base + i * PAGE) = ++e->sh->stamp;
		(void)failed(fd);
		touched(e, i);
		i = (i + 700) % e->pages;
		fail_next(fd, n);
		madvise((void *)(e->base + i * PAGE), PAGE, MADV_DONTNEED);
		(void)failed(fd);
		touched(e, i);
	}
	close(fd);
}

static void in_target(const void *unused)
{
	static const struct path p = { "failing", setup, step_failing, 0, 0, 0 };
	int fd = prepare();
	struct owner o = {};

	(void)unused;
	close(fd);
	target_start(&o.t, &p);
	memset(o.t.sh->touched, 0, sizeof(o.t.sh->touched));
	CHECK(!vnl_open(&o.nl) && !vnl_session(&o.nl, CKPT_SESSION_COW, &o.session));
	for (int round = 0; round < 30; round++) {
		struct image *before, *after;

		/* Attached anew: the log is empty and must allocate. */
		CHECK(!vnl_attach(&o.nl, o.session, o.t.pid, &o.track) && !op_arm(&o));
		before = image_take(o.t.pid);
		target_step(&o.t, round);
		after = image_take(o.t.pid);
		CHECK(!op_collect(&o));
		image_check(before, after, &o.r);
		for (size_t i = 0; i < o.t.sh->pages; i++)
			if (o.t.sh->touched[i] && !run_covers(&o.r, o.t.sh->base + i * PAGE, NULL))
				FAIL("LOST: page %zu in round %d", i, round);
		memset(o.t.sh->touched, 0, sizeof(o.t.sh->touched));
		free(o.r.runs);
		image_free(before);
		image_free(after);
		CHECK(!vnl_detach(&o.nl, o.session, o.track));
	}
	test_note("overflows %lu", (unsigned long)read_number("/sys/kernel/ckpt/sessions/%u/overflows",
							     o.session));
	vnl_close(&o.nl);
	target_stop(&o.t);
}

/* ---- a child is lost ------------------------------------------------------------------------------ */

/* counters[] of struct shared: the child, whether an allocation failed, which one it was to be */
enum { CHILD, FAILED, NTH };

enum { STEP_FORK, STEP_END };

static void step_fork(struct env *e, int nr)
{
	static pid_t pid;
	int fd;

	/* It lives until it has been told of. */
	if (nr == STEP_END) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return;
	}
	fd = fail_fd();
	fail_next(fd, e->sh->counters[NTH]);
	pid = fork();
	if (!pid)
		for (prctl(PR_SET_PDEATHSIG, SIGKILL);;)
			pause();
	e->sh->counters[FAILED] = failed(fd);
	e->sh->counters[CHILD] = pid > 0 ? pid : 0;
	close(fd);
}

/* The next event of @track; 0: events were missed. @ret_child: its child, 0 where none is named. */
static uint32_t next_event(struct nl *nl, uint32_t track, int32_t *ret_child)
{
	_Alignas(NLMSG_ALIGNTO) char buf[4096];
	struct nlmsghdr *h = (struct nlmsghdr *)buf;

	for (;;) {
		struct pollfd p = { .fd = nl->fd, .events = POLLIN };

		if (poll(&p, 1, patience_seconds() * 1000) != 1)
			FAIL("no event came");
		if (recv(nl->fd, buf, sizeof(buf), 0) < 0) {
			CHECK(errno == ENOBUFS);
			return 0;
		}
		if (h->nlmsg_type != nl->family || vnl_u32(vnl_attr(h, CKPT_A_TRACK)) != track)
			continue;
		*ret_child = vnl_u32(vnl_attr(h, CKPT_A_CHILD_PID));
		return vnl_u32(vnl_attr(h, CKPT_A_EVENT_TYPE));
	}
}

#define KNOB(name, value) CHECK(!write_file("/sys/kernel/debug/failslab/" name, value))

/* From here on that many allocations of the kernel's unbound workers fail. */
static void fail_workers(const char *times)
{
	char path[96], comm[64];

	for (int pid = 1; pid < 4096; pid++) {
		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		if (read_file(path, comm, sizeof(comm)) < 0 || strncmp(comm, "kworker/u", 9))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/make-it-fail", pid);
		(void)write_file(path, "1");
	}
	KNOB("times", times);
	KNOB("task-filter", "Y");
	KNOB("probability", "100");
}

struct forks {
	struct target t;
	struct nl events;
	uint32_t track;
	int32_t child; /* named by the last event, 0 where none is */
};

/* A child, and what is told of it; 0: events were missed. */
static uint32_t one_fork(struct forks *f, const char *times)
{
	uint32_t type = 0;

	if (times)
		fail_workers(times);
	target_step(&f->t, STEP_FORK);
	if (f->t.sh->counters[CHILD])
		type = next_event(&f->events, f->track, &f->child);
	if (times) {
		KNOB("probability", "0");
		KNOB("task-filter", "N");
		KNOB("times", "1");
	}
	if (!f->t.sh->counters[CHILD]) {
		CHECK(!times);
		return 0;
	}
	target_step(&f->t, STEP_END);
	/* One that was attached is told to be gone, and that is no later child's event. */
	if (type == CKPT_EVENT_FORK)
		expect_event(&f->events, CKPT_EVENT_GONE, NULL);
	return type;
}

static void fork_lost(const void *unused)
{
	static const struct path p = { "forks", setup_small, step_fork, 0, 0, 0 };
	int fd = prepare(), lost = 0, tries = 0;
	struct forks f = {};
	uint32_t session, type;
	uint64_t *nth;
	struct nl nl;

	(void)unused;
	close(fd);
	target_start(&f.t, &p);
	nth = (uint64_t *)&f.t.sh->counters[NTH];
	events_open(&f.events);
	CHECK(!vnl_open(&nl) && !vnl_session(&nl, CKPT_SESSION_FOLLOW_FORKS, &session));
	CHECK(!vnl_attach(&nl, session, f.t.pid, &f.track));
	/* What the module remembers of a fork cannot be remembered: the event names the parent. */
	do {
		++*nth;
		type = one_fork(&f, NULL);
		if (!f.t.sh->counters[CHILD])
			continue;
		if (type == CKPT_EVENT_FORK_LOST && !f.child)
			lost++;
		else if (type != CKPT_EVENT_FORK || f.child != (int32_t)f.t.sh->counters[CHILD])
			FAIL("allocation %d: event %u of child %d", (int)*nth, type, f.child);
	} while (f.t.sh->counters[FAILED] && *nth < 5000);
	CHECK(!f.t.sh->counters[FAILED]);
	if (!lost)
		FAIL("%d allocations of fork() failed, and no child was lost", (int)*nth);
	*nth = 0;
	/* What attaches the child finds no memory: the event names the child. Another worker may be hit instead. */
	do {
		type = one_fork(&f, "1");
		CHECK(!type || f.child == (int32_t)f.t.sh->counters[CHILD]);
	} while (type != CKPT_EVENT_FORK_LOST && ++tries < 200);
	CHECK(type == CKPT_EVENT_FORK_LOST);
	/* Nor is there any for the event: who listens is told that he missed something. */
	do
		type = one_fork(&f, "2");
	while (type && ++tries < 400);
	CHECK(!type);
	CHECK(one_fork(&f, NULL) == CKPT_EVENT_FORK && f.child == (int32_t)f.t.sh->counters[CHILD]);
	test_note("%d children lost for want of memory", lost);
	vnl_close(&nl);
	target_stop(&f.t);
}

static int (*const ops[])(struct owner *) = { op_session, op_attach, op_arm, op_collect, op_snapshot };

const struct test fault_tests[] = {
	{ "fault/session", walk, &ops[0], 600 },
	{ "fault/attach", walk, &ops[1], 600 },
	{ "fault/arm", walk, &ops[2], 600 },
	{ "fault/collect", walk, &ops[3], 600 },
	{ "fault/snapshot", walk, &ops[4], 600 },
	{ "fault/target", in_target, NULL, 600 },
	{ "fault/fork-lost", fork_lost, NULL, 600 },
	{}
};
