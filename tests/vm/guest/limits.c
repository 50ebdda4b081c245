// SPDX-License-Identifier: GPL-2.0-only
/* Sizes that are out of the ordinary, a log that is full, settings, and granules. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm.h"

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

/* What no file takes, whatever it is for; and a file that is only read takes nothing. */
static int refuse_garbage(const char *dir)
{
	static const char *const garbage[] = { "garbage", "-1", "0x", "1e3", "18446744073709551616", " ", "\n" };
	char path[384], before[64], after[64];
	struct dirent *e;
	int n = 0;
	DIR *d = opendir(dir);

	CHECK(d);
	while ((e = readdir(d))) {
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		SYS(lstat(path, &st));
		if (!S_ISREG(st.st_mode))
			continue;
		n++;
		if (!(st.st_mode & 0222)) {
			if (write_file(path, "0") != -EACCES)
				FAIL("%s takes a value", path);
			continue;
		}
		CHECK((st.st_mode & 0777) == 0644 && read_file(path, before, sizeof(before)) > 0);
		for (size_t i = 0; i < sizeof(garbage) / sizeof(*garbage); i++)
			if (write_file(path, garbage[i]) != -EINVAL)
				FAIL("%s takes \"%s\"", path, garbage[i]);
		CHECK(read_file(path, after, sizeof(after)) > 0 && !strcmp(before, after));
	}
	closedir(d);
	return n;
}

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
		{ "log_limit_bytes", "-1" },	  { "log_limit_bytes", "9223372036854775808" },
		{ "cow_pool_pages", "-1" },	  { "cow_pool_pages", "1152921504606846976" },
		{ "cow_pool_pages", "8192 9" },	  { "thp_mode", "split whole" },
		{ "granule_mode", "" },		  { "granule_bytes", "4096 65536" },
	};
	char path[96], before[64], after[64];

	struct armed a;

	(void)unused;
	CHECK(refuse_garbage("/sys/kernel/ckpt") == 7);
	arm_target(&a, &small, CKPT_SESSION_COW);
	snprintf(path, sizeof(path), "/sys/kernel/ckpt/sessions/%u", a.session);
	CHECK(refuse_garbage(path) == 15);
	disarm(&a);
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

/* ---- huge pages ----------------------------------------------------------------------------------- */

static void setup_huge(struct env *e)
{
	region(e, 1024, 0);
	madvise((void *)e->base, e->pages * PAGE, MADV_HUGEPAGE);
	fill(e);
}

enum { HUGE_AGAIN, HUGE_CHILDREN, HUGE_EXEC };

static char *const sleeper[] = { "sleep", "1000", NULL };

static void step_huge(struct env *e, int step)
{
	pid_t pid;

	switch (step) {
	case HUGE_AGAIN:
		/* Without its page tables: where one is, no huge page comes. */
		if (mmap((void *)e->base, e->pages * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			TFAIL(e, "mmap: %m");
		madvise((void *)e->base, e->pages * PAGE, MADV_HUGEPAGE);
		fill(e);
		break;
	case HUGE_CHILDREN:
		pid = fork();
		if (!pid)
			for (prctl(PR_SET_PDEATHSIG, SIGKILL);;)
				pause();
		e->sh->counters[0] = pid;
		if (posix_spawn(&pid, "/bin/busybox", NULL, NULL, sleeper, NULL))
			TFAIL(e, "posix_spawn: %m");
		e->sh->counters[1] = pid;
		break;
	case HUGE_EXEC:
		execv("/bin/busybox", sleeper);
		_exit(1);
	}
}

/* The number behind @what: in @pid's status, or in its smaps where @addr lies. */
static long said(pid_t pid, uintptr_t addr, const char *what)
{
	char path[64], line[512];
	uintptr_t start, end;
	bool in = !addr;
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, addr ? "smaps" : "status");
	f = fopen(path, "re");
	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		if (addr && sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
			in = addr >= start && addr < end;
		else if (in && !strncmp(line, what, strlen(what)))
			value = strtol(line + strlen(what), NULL, 10);
	}
	fclose(f);
	return value;
}

static void expect_enabled(pid_t pid, const char *who, long want)
{
	uint64_t deadline = now_ns() + patience_seconds() * 1000000000ULL;

	while (said(pid, 0, "THP_enabled:") != want) {
		if (now_ns() > deadline)
			FAIL("%s: THP_enabled is %ld, not %ld", who, said(pid, 0, "THP_enabled:"), want);
		poll(NULL, 0, 1);
	}
}

/* What each mode does to huge pages, and that "disable" ends with the track and stays with the target. */
static void thp_modes(const void *unused)
{
	static const struct path p = { "huge", setup_huge, step_huge, 0, 0, 0 };
	static const struct {
		const char *mode;
		bool after_arm, again;
	} want[] = { { "split", false, true }, { "whole", true, true }, { "disable", false, false } };
	struct armed a;
	char c;

	(void)unused;
	for (size_t i = 0; i < sizeof(want) / sizeof(*want); i++) {
		bool off = !want[i].again;

		CHECK(!write_file("/sys/kernel/ckpt/thp_mode", "whole"));
		arm_target(&a, &p, 0);
		if (said(a.t.pid, a.t.sh->base, "AnonHugePages:") <= 0)
			SKIP("no huge pages");
		CHECK(!vnl_detach(&a.nl, a.session, a.track));
		CHECK(!write_file("/sys/kernel/ckpt/thp_mode", want[i].mode));
		CHECK(!vnl_attach(&a.nl, a.session, a.t.pid, &a.track));
		struct vnl_result r;
		CHECK(vnl_arm(&a.nl, a.session, &r, 1) == 1);
		if ((said(a.t.pid, a.t.sh->base, "AnonHugePages:") > 0) != want[i].after_arm)
			FAIL("%s: %ld KiB of huge pages are armed", want[i].mode,
			     said(a.t.pid, a.t.sh->base, "AnonHugePages:"));
		target_step(&a.t, HUGE_AGAIN);
		if ((said(a.t.pid, a.t.sh->base, "AnonHugePages:") > 0) != want[i].again)
			FAIL("%s: %ld KiB of huge pages came while it was tracked", want[i].mode,
			     said(a.t.pid, a.t.sh->base, "AnonHugePages:"));
		expect_enabled(a.t.pid, want[i].mode, !off);
		target_step(&a.t, HUGE_CHILDREN);
		expect_enabled(a.t.sh->counters[0], "its child", 1);
		expect_enabled(a.t.sh->counters[1], "what its child executes", 1);
		expect_enabled(a.t.pid, want[i].mode, !off);
		CHECK(!vnl_detach(&a.nl, a.session, a.track));
		expect_enabled(a.t.pid, "detached", 1);
		CHECK(!vnl_attach(&a.nl, a.session, a.t.pid, &a.track));
		expect_enabled(a.t.pid, "attached again", !off);
		c = HUGE_EXEC;
		CHECK(write(a.t.cmd, &c, 1) == 1);
		expect_enabled(a.t.pid, "what it executes", 1);
		kill(a.t.sh->counters[0], SIGKILL);
		kill(a.t.sh->counters[1], SIGKILL);
		disarm(&a);
	}
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

const struct test limit_tests[] = {
	{ "session/reservation-16-tib", reservation, NULL, 0 },
	{ "session/100000-vmas", many_vmas, NULL, 0 },
	{ "session/log-overflow", log_overflow, NULL, 0 },
	{ "session/bad-settings", bad_settings, NULL, 0 },
	{ "session/thp-modes", thp_modes, NULL, 0 },
	{ "session/ftrace-stays-on", ftrace_stays_on, NULL, 0 },
	{ "session/granule-4k", granule, "fixed 4096 4200 220", 0 },
	{ "session/granule-64k", granule, "fixed 65536 270 3300", 0 },
	{ "session/granule-2m", granule, "fixed 2097152 20 4200", 0 },
	{ "session/granule-adaptive-64k", granule, "adaptive 65536 420 240", 0 },
	{ "session/granule-adaptive-2m", granule, "adaptive 2097152 150 240", 0 },
	{}
};
