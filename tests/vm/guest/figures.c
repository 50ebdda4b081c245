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

enum { CLUSTERED, SEQUENTIAL, RANDOM };

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

		CHECK(pread(fd, maps, part * 8, (t->sh->base / PAGE + i) * 8) == (ssize_t)(part * 8));
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
	test_note("100 clustered pages, collect + rearm + runs: %" PRIu64 " / %" PRIu64 " / %" PRIu64
		  " us at 64 / 512 / 4096 MiB; clear_refs + pagemap %" PRIu64 " us at 512 MiB: %.0f times",
		  ns[0] / 1000, ns[1] / 1000, ns[2] / 1000, soft / 1000, (double)soft / ns[1]);
	if (soft < 100 * ns[1])
		FAIL("only %.0f times cheaper than clear_refs + pagemap", (double)soft / ns[1]);
	if (ns[2] && (ns[2] > ns[0] * 3 / 2 || ns[0] > ns[2] * 3 / 2))
		FAIL("not flat: %" PRIu64 " us at 64 MiB, %" PRIu64 " us at 4 GiB", ns[0] / 1000, ns[2] / 1000);
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

static void writers(const void *unused)
{
	double pages, r4, r64, r2m, seq, rnd_cost;

	(void)unused;
	need_icount();
	r4 = writer(SEQUENTIAL, "fixed", "4096", &pages);
	r64 = writer(SEQUENTIAL, "fixed", "65536", &pages);
	r2m = writer(SEQUENTIAL, "fixed", "2097152", &pages);
	seq = writer(SEQUENTIAL, "adaptive", "65536", &pages);
	rnd_cost = writer(RANDOM, "adaptive", "65536", &pages);
	test_note("sequential writer against soft-dirty = 1: 4 KiB %.2f, 64 KiB %.2f, 2 MiB %.2f, adaptive "
		  "64 KiB %.2f; random writer, adaptive: cost %.2f, pages %.2f",
		  r4, r64, r2m, seq, rnd_cost, pages);
	if (r64 > 0.2)
		FAIL("a sequential writer at 64 KiB pays %.2f of soft-dirty tracking", r64);
	if (rnd_cost > 1.15 || pages > 1.2)
		FAIL("a random writer in adaptive mode pays %.2f and reports %.2f of soft-dirty", rnd_cost, pages);
}

static uint64_t untracked_ns(size_t pages)
{
	char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
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
	test_note("a fault of an untracked program: %" PRIu64 " instructions, %" PRIu64 " without the module (%+.2f %%)",
		  with / 16384, without / 16384, 100.0 * with / without - 100);
	if (with > without * 1.015)
		FAIL("an untracked program's fault costs %.2f %% more", 100.0 * with / without - 100);
}

const struct test figure_tests[] = {
	{ "figure/clustered", clustered, NULL, 400 },
	{ "figure/writers", writers, NULL, 400 },
	{ "figure/untracked", untracked, NULL, 200 },
	{}
};
