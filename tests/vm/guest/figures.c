// SPDX-License-Identifier: GPL-2.0-only
/*
 * Figures, each with the bound it must keep. Run under -icount (make bench-vm):
 * then a nanosecond is an instruction and ratios repeat. Elsewhere they skip.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vm.h"

static void need_icount(void)
{
	char line[2048];

	if (read_file("/proc/cmdline", line, sizeof(line)) < 0 || !strstr(line, "vm_icount"))
		SKIP("counts instructions: make bench-vm");
}

/* counters[] of struct shared */
enum { NS, SIZE };

static size_t setup_pages;

static void setup_sized(struct env *e)
{
	char *p = mmap(NULL, setup_pages * PAGE + CHUNK, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	p = (char *)(((uintptr_t)p + CHUNK - 1) & ~(CHUNK - 1));
	madvise(p, setup_pages * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < setup_pages; i++)
		p[i * PAGE] = 1;
	e->base = (uintptr_t)p;
	e->pages = 1;
	e->sh->counters[SIZE] = setup_pages;
}

enum { CLUSTERED, SEQUENTIAL, RANDOM, CLUSTERS };

static void step_write(struct env *e, int step)
{
	size_t n = e->sh->counters[SIZE];
	volatile char *p = (volatile char *)e->base;
	uint64_t begin = now_ns(), state = 7;

	switch (step) {
	case CLUSTERED:
		for (size_t i = 0; i < 100; i++)
			p[(n / 2 + i) * PAGE]++;
		break;
	case SEQUENTIAL:
		for (size_t i = 0; i < n; i++)
			p[i * PAGE]++;
		break;
	case RANDOM:
		for (int i = 0; i < 2000; i++)
			p[rnd(&state) % n * PAGE]++;
		break;
	case CLUSTERS:
		for (int i = 0; i < 64; i++) {
			size_t first = rnd(&state) % (n - 32);

			for (size_t k = 0; k < 32; k++)
				p[(first + k) * PAGE]++;
		}
		break;
	}
	e->sh->counters[NS] = now_ns() - begin;
}

static const struct path sized = { "sized", setup_sized, step_write, 0, 0, 0 };

struct measured {
	struct nl nl;
	struct target t;
	uint32_t session, track;
};

static void start(struct measured *m, size_t pages)
{
	struct vnl_result r;

	setup_pages = pages;
	target_start(&m->t, &sized);
	CHECK(!vnl_open(&m->nl) && !vnl_session(&m->nl, 0, &m->session));
	CHECK(!vnl_attach(&m->nl, m->session, m->t.pid, &m->track));
	CHECK(vnl_arm(&m->nl, m->session, &r, 1) == 1);
}

static void stop(struct measured *m)
{
	vnl_close(&m->nl);
	target_stop(&m->t);
}

/* Collect, rearm and read the runs: what a dump would pay. */
static uint64_t collect_ns(struct measured *m, uint64_t *ret_pages)
{
	uint64_t begin = now_ns(), end;
	struct vnl_result r;

	CHECK(vnl_collect(&m->nl, m->session, CKPT_COLLECT_REARM, &r, 1) == 1);
	CHECK(!vnl_runs(&m->nl, m->session, &r));
	end = now_ns();
	*ret_pages = 0;
	for (uint64_t i = 0; i < r.nruns; i++)
		*ret_pages += r.runs[i].state == CKPT_RUN_UNTRACKED ? 0 : r.runs[i].pages;
	free(r.runs);
	return end - begin;
}

static void clear_refs(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
	CHECK(!write_file(path, "4"));
}

/* The same without the module: read pagemap of the region, then clear_refs. */
static uint64_t soft_dirty_ns(struct target *t, uint64_t *ret_pages)
{
	static uint64_t maps[32768];
	uint64_t begin = now_ns(), n = t->sh->counters[SIZE];
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", t->pid);
	fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
	*ret_pages = 0;
	for (uint64_t i = 0; i < n; i += 32768) {
		size_t part = n - i < 32768 ? n - i : 32768;

		CHECK(pread(fd, maps, part * 8, (t->sh->base / PAGE + i) * 8) ==
		      (ssize_t)(part * 8));
		for (size_t k = 0; k < part; k++)
			*ret_pages += maps[k] >> 55 & 1;
	}
	close(fd);
	clear_refs(t->pid);
	return now_ns() - begin;
}

static void clustered(const void *unused)
{
	static const size_t mib[] = { 64, 512, 4096 };
	uint64_t ns[3] = {}, pages, soft = 0;
	struct measured m;

	(void)unused;
	need_icount();
	for (int i = 0; i < 3; i++) {
		if (mib[i] == 4096 && sysconf(_SC_PHYS_PAGES) < 4600L * 256)
			continue;
		start(&m, mib[i] * 256);
		(void)collect_ns(&m, &pages);
		for (int round = 0; round < 3; round++) {
			target_step(&m.t, CLUSTERED);
			ns[i] = collect_ns(&m, &pages);
			CHECK(pages >= 100 && pages < 140);
		}
		if (mib[i] == 512) {
			vnl_close(&m.nl);
			clear_refs(m.t.pid);
			target_step(&m.t, CLUSTERED);
			soft = soft_dirty_ns(&m.t, &pages);
		}
		stop(&m);
	}
	test_note("100 clustered pages, collect + rearm + runs: %" PRIu64 " / %" PRIu64
		  " / %" PRIu64 " us at 64 / 512 / 4096 MiB; clear_refs + pagemap %" PRIu64
		  " us at 512 MiB: %.0f times",
		  ns[0] / 1000, ns[1] / 1000, ns[2] / 1000, soft / 1000, (double)soft / ns[1]);
	test_row("collect + re-arm of 100 clustered pages in 512 MiB: clear_refs + pagemap / ours",
		 (double)soft / ns[1], "times", '>', 100);
	test_row("the same at 512 MiB / at 64 MiB", (double)ns[1] / ns[0], "ratio", '<', 1.5);
	if (ns[2])
		test_row("the same at 4 GiB / at 64 MiB", (double)ns[2] / ns[0], "ratio", '<', 1.5);
	if (soft < 100 * ns[1])
		FAIL("only %.0f times cheaper than clear_refs + pagemap", (double)soft / ns[1]);
	if (ns[2] && (ns[2] > ns[0] * 3 / 2 || ns[0] > ns[2] * 3 / 2))
		FAIL("not flat: %" PRIu64 " us at 64 MiB, %" PRIu64 " us at 4 GiB", ns[0] / 1000,
		     ns[2] / 1000);
}

#define WRITER_PAGES 16384

/* What the writer pays for its faults, with soft-dirty tracking and with ours. */
static double writer(int step, const char *mode, const char *bytes, double *ret_pages_ratio)
{
	uint64_t soft_ns, ns, soft_pages, pages;
	struct measured m;

	CHECK(!write_file("/sys/kernel/ckpt/granule_mode", "fixed"));
	CHECK(!write_file("/sys/kernel/ckpt/granule_bytes", "4096"));
	start(&m, WRITER_PAGES);
	CHECK(!vnl_detach(&m.nl, m.session, m.track));
	clear_refs(m.t.pid);
	target_step(&m.t, step);
	soft_ns = m.t.sh->counters[NS];
	(void)soft_dirty_ns(&m.t, &soft_pages);

	CHECK(!write_file("/sys/kernel/ckpt/granule_mode", mode));
	CHECK(!write_file("/sys/kernel/ckpt/granule_bytes", bytes));
	struct vnl_result r;
	CHECK(!vnl_attach(&m.nl, m.session, m.t.pid, &m.track));
	CHECK(vnl_arm(&m.nl, m.session, &r, 1) == 1);
	for (int round = 0; round < 2; round++) {
		target_step(&m.t, step);
		ns = m.t.sh->counters[NS];
		(void)collect_ns(&m, &pages);
	}
	stop(&m);
	*ret_pages_ratio = (double)pages / soft_pages;
	return (double)ns / soft_ns;
}

static const struct {
	const char *order;
	int step;
} orders[] = { { "sequential", SEQUENTIAL }, { "random", RANDOM }, { "clustered", CLUSTERS } };

static const struct {
	const char *mode, *bytes, *name;
} granules[] = {
	{ "fixed", "4096", "4 KiB" },        { "fixed", "16384", "16 KiB" },
	{ "fixed", "65536", "64 KiB" },      { "fixed", "2097152", "2 MiB" },
	{ "adaptive", "65536", "adaptive" },
};

/* Every order of writes with every granule; two of them have goals. */
static void writers(const void *unused)
{
	double cost, pages, seq64 = 0, random_cost = 0, random_pages = 0;

	(void)unused;
	need_icount();
	for (size_t o = 0; o < sizeof(orders) / sizeof(*orders); o++) {
		for (size_t g = 0; g < sizeof(granules) / sizeof(*granules); g++) {
			bool adaptive = !strcmp(granules[g].mode, "adaptive");
			bool goal_seq =
				orders[o].step == SEQUENTIAL && !strcmp(granules[g].name, "64 KiB");
			bool goal_random = orders[o].step == RANDOM && adaptive;
			char what[120];

			cost = writer(orders[o].step, granules[g].mode, granules[g].bytes, &pages);
			if (goal_seq)
				seq64 = cost;
			if (goal_random)
				random_cost = cost, random_pages = pages;
			snprintf(what, sizeof(what), "%s writer, granule %s: cost / soft-dirty",
				 orders[o].order, granules[g].name);
			test_row(what, cost, "ratio", goal_seq || goal_random ? '<' : '-',
				 goal_seq ? 0.2 : 1.15);
			snprintf(what, sizeof(what), "%s writer, granule %s: pages / soft-dirty",
				 orders[o].order, granules[g].name);
			test_row(what, pages, "ratio", goal_random ? '<' : '-', 1.2);
		}
	}
	test_note("against soft-dirty = 1: sequential writer at 64 KiB %.2f; random writer, "
		  "adaptive: cost %.2f, pages %.2f",
		  seq64, random_cost, random_pages);
	if (seq64 > 0.2)
		FAIL("a sequential writer at 64 KiB pays %.2f of soft-dirty tracking", seq64);
	if (random_cost > 1.15 || random_pages > 1.2)
		FAIL("a random writer in adaptive mode pays %.2f and reports %.2f of soft-dirty",
		     random_cost, random_pages);
}

static uint64_t untracked_ns(size_t pages)
{
	char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	uint64_t begin, ns;

	madvise(p, pages * PAGE, MADV_NOHUGEPAGE);
	begin = now_ns();
	for (size_t i = 0; i < pages; i++)
		p[i * PAGE] = 1;
	ns = now_ns() - begin;
	munmap(p, pages * PAGE);
	return ns;
}

/* A program that nobody tracks, with another one tracked, and without the module. */
static void untracked(const void *unused)
{
	uint64_t with, without;
	struct measured m;
	int fd;

	(void)unused;
	need_icount();
	start(&m, 256);
	(void)untracked_ns(16384);
	with = untracked_ns(16384);
	stop(&m);
	SYS(syscall(SYS_delete_module, "ckpt", O_NONBLOCK));
	without = untracked_ns(16384);
	fd = SYS(open("/lib/ckpt.ko", O_RDONLY | O_CLOEXEC));
	SYS(syscall(SYS_finit_module, fd, "", 0));
	test_note("a fault of an untracked program: %" PRIu64 " instructions, %" PRIu64
		  " without the module (%+.2f %%)",
		  with / 16384, without / 16384, 100.0 * with / without - 100);
	test_row("a fault of an untracked program, with the module / without",
		 (double)with / without, "ratio", '<', 1.015);
	if (with > without * 1.015)
		FAIL("an untracked program's fault costs %.2f %% more",
		     100.0 * with / without - 100);
}

const struct test figure_tests[] = { { "figure/clustered", clustered, NULL, 400 },
				     { "figure/writers", writers, NULL, 900 },
				     { "figure/untracked", untracked, NULL, 200 },
				     {} };
