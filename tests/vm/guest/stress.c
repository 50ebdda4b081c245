// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything at once. The oracle of a live target is a mirror: after each
 * collect the reported pages are copied, and when the target stands still at
 * the end the mirror must equal it. Every write leaves a number that was never
 * there before, so a page that was lost once shows.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define SPREAD 10		/* pages lie in this many chunks */
#define PER_CHUNK 12
#define N_PAGES (SPREAD * PER_CHUNK)
#define THREADS 3

/* counters[] of struct shared */
enum { STOP, WRITES, SO_FAR };

static uintptr_t page_addr(uintptr_t base, size_t i)
{
	return base + i / PER_CHUNK * CHUNK + i % PER_CHUNK * 7 * PAGE;
}

struct writer {
	struct env *e;
	int nr;
	bool wild;
	char *away; /* room for a page */
};

/* A page that another thread protects or moves at this moment comes back: the write is tried again. */
static void on_segv(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	mprotect((void *)((uintptr_t)info->si_addr & ~(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE);
}

static bool wild_writers, huge_writers;

static void *write_on(void *arg)
{
	struct writer *w = arg;
	struct shared *sh = w->e->sh;
	uint64_t state = w->nr * 77 + 1, n = 0;

	while (!sh->counters[STOP]) {
		size_t i = rnd(&state) % N_PAGES;
		uintptr_t a = page_addr(w->e->base, i);

		*(volatile uint64_t *)a = (uint64_t)(w->nr + 1) << 56 | ++n;
		sh->counters[SO_FAR + w->nr] = n;
		if (w->wild && !(n % 50)) {
			switch (rnd(&state) % 11) {
			case 0:
			case 1:
			case 2:
				madvise((void *)a, PAGE, MADV_DONTNEED);
				break;
			case 3:
				madvise((void *)(a & ~(CHUNK - 1)), CHUNK, MADV_PAGEOUT);
				break;
			case 4:
				(void)mmap((void *)a, PAGE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
				break;
			case 6:
				mprotect((void *)a, PAGE, PROT_READ);
				mprotect((void *)a, PAGE, PROT_READ | PROT_WRITE);
				break;
			case 7:
				if (mremap((void *)a, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, w->away) == w->away)
					(void)mremap(w->away, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)a);
				break;
			case 8:
				if (huge_writers)
					madvise((void *)(a & ~(CHUNK - 1)), CHUNK, MADV_COLLAPSE);
				break;
			case 5: {
				pid_t pid = n % 1000 ? -1 : fork();

				if (!pid)
					_exit(0);
				if (pid > 0)
					waitpid(pid, NULL, 0);
				break;
			}
			}
		}
	}
	__atomic_fetch_add(&sh->counters[WRITES], n, __ATOMIC_SEQ_CST);
	return NULL;
}

static pthread_t threads[THREADS];
static struct writer writers[THREADS];

static void setup_writers(struct env *e)
{
	struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &sa, NULL);
	e->base = (uintptr_t)mmap(NULL, (SPREAD + 1) * CHUNK, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	e->base = (e->base + CHUNK - 1) & ~(CHUNK - 1);
	madvise((void *)e->base, SPREAD * CHUNK, huge_writers ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	e->pages = 1;
	/* All before the first writes: a page that has come back leaves a hole, which mmap() would give away. */
	for (int t = 0; t < THREADS; t++)
		writers[t] = (struct writer){ e, t, wild_writers,
					      mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };
	for (int t = 0; t < THREADS; t++)
		pthread_create(&threads[t], NULL, write_on, &writers[t]);
}

static void step_stop(struct env *e, int step)
{
	(void)step;
	e->sh->counters[STOP] = 1;
	for (int t = 0; t < THREADS; t++)
		pthread_join(threads[t], NULL);
}

static const struct path busy = { "busy", setup_writers, step_stop, 0, 0, 0 };

struct mirror {
	uint64_t value[N_PAGES];
	uint64_t copied;
};

/* Copy the reported pages' numbers, a thousand at a time. */
static void mirror_update(struct mirror *m, struct target *t, const struct vnl_result *r)
{
	static struct iovec local[1024], remote[1024];
	int n = 0;

	for (size_t i = 0; i < N_PAGES; i++) {
		uintptr_t a = page_addr(t->sh->base, i);

		if (!run_covers(r, a, NULL))
			continue;
		local[n] = (struct iovec){ &m->value[i], 8 };
		remote[n++] = (struct iovec){ (void *)a, 8 };
	}
	m->copied += n;
	if (!n || process_vm_readv(t->pid, local, n, remote, n, 0) == n * 8)
		return;
	/* A page is somewhere else at this moment: as it comes back it counts as changed. */
	for (int i = 0; i < n; i++)
		if (process_vm_readv(t->pid, &local[i], 1, &remote[i], 1, 0) != 8 && errno != EFAULT)
			FAIL("process_vm_readv: %m");
}

/* "BRIEF LONG …": how often, and how often with vm_long on the kernel's command line. */
static int rounds(const char *arg)
{
	char *end;
	long brief = strtol(arg, &end, 10), full = strtol(end, NULL, 10);

	return scaled(getenv("VM_LONG") && *getenv("VM_LONG") ? full : brief);
}

/* How often what goes on beside a live test has come round. */
static volatile uint64_t *laps;

/* Every page is moved elsewhere, again and again. */
static void compact(void)
{
	for (; !write_file("/proc/sys/vm/compact_memory", "1"); ++*laps)
		poll(NULL, 0, 2);
}

#define GROUP "/sys/fs/cgroup/press"

/*
 * The memory of this test is taken away, again and again: reclaim of its cgroup alone. Swap is memory here, so a guest
 * that really runs out of it stands still (seen: "System is deadlocked on memory").
 */
static void press(void)
{
	for (;; poll(NULL, 0, 2))
		*laps += !write_file(GROUP "/memory.reclaim", "65536");
}

/* This process, and whom it starts. */
static void join_group(void)
{
	char pid[16], swaps[512];

	/* A line of titles, and one for each. */
	if (read_file("/proc/swaps", swaps, sizeof(swaps)) < 0 || !strstr(swaps, "\n/"))
		SKIP("no swap");
	(void)mkdir(GROUP, 0755);
	snprintf(pid, sizeof(pid), "%d", getpid());
	if (access(GROUP "/memory.reclaim", W_OK) || write_file(GROUP "/cgroup.procs", pid))
		SKIP("no cgroup whose memory can be reclaimed");
}

static pid_t beside(void (*fn)(void))
{
	pid_t pid;

	laps = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(laps != MAP_FAILED);
	pid = SYS(fork());
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fn();
	_exit(0);
}

/* A target that could hardly write proves nothing. */
static bool enough_writes(const struct target *t, int swaps)
{
	uint64_t n = 0;

	for (int i = 0; i < THREADS; i++)
		n += t->sh->counters[SO_FAR + i];
	return n > (uint64_t)swaps;
}

static void live(const void *arg)
{
	pid_t other = -1;
	struct mirror *m = calloc(1, sizeof(*m)), *end = calloc(1, sizeof(*end));
	int swaps = rounds(arg), lost = 0, done;
	uint64_t least = 0;
	uint32_t session, track;
	struct vnl_result r;
	struct target t;
	struct nl nl;

	wild_writers = strstr(arg, "wild");
	huge_writers = strstr(arg, "huge");
	if (strstr(arg, "whole"))
		CHECK(!write_file("/sys/kernel/ckpt/thp_mode", "whole"));
	if (strstr(arg, "compact")) {
		if (write_file("/proc/sys/vm/compact_memory", "1"))
			SKIP("no memory compaction");
		other = beside(compact);
		least = scaled(10);
	}
	if (strstr(arg, "press")) {
		join_group();
		other = beside(press);
		least = scaled(40);
	}
	if (strstr(arg, "granule")) {
		CHECK(!write_file("/sys/kernel/ckpt/granule_bytes", "65536"));
		if (strstr(arg, "adaptive"))
			CHECK(!write_file("/sys/kernel/ckpt/granule_mode", "adaptive"));
	}
	target_start(&t, &busy);
	CHECK(!vnl_open(&nl));
	run_first();
	CHECK(!vnl_session(&nl, 0, &session) && !vnl_attach(&nl, session, t.pid, &track));
	for (done = 0; done < swaps || (least && *laps < least) || !enough_writes(&t, swaps); done++) {
		if (done >= swaps)
			poll(NULL, 0, 1);
		if (vnl_collect(&nl, session, CKPT_COLLECT_REARM, &r, 1) != 1 ||
		    r.epoch != (uint64_t)done + 1 || vnl_runs(&nl, session, &r))
			FAIL("collect %d failed", done);
		mirror_update(m, &t, &r);
		free(r.runs);
		let_others_run();
	}
	target_step(&t, 0);
	if (other > 0) {
		kill(other, SIGKILL);
		SYS(waitpid(other, NULL, 0));
	}
	CHECK(vnl_collect(&nl, session, CKPT_COLLECT_REARM, &r, 1) == 1 && !vnl_runs(&nl, session, &r));
	mirror_update(m, &t, &r);
	r.flags |= CKPT_RESULT_ALL; /* everything */
	mirror_update(end, &t, &r);
	for (size_t i = 0; i < N_PAGES; i++)
		lost += m->value[i] != end->value[i];
	if (lost)
		FAIL("LOST: %d of %d pages differ after %d live swaps", lost, N_PAGES, done);
	CHECK(t.sh->counters[WRITES] > (uint64_t)swaps);
	test_note("%d swaps, %" PRIu64 " writes, %" PRIu64 " pages copied", done,
		  (uint64_t)t.sh->counters[WRITES], m->copied);
	vnl_close(&nl);
	target_stop(&t);
}

/* ---- killed at random -------------------------------------------------------------------- */

/* An owner that arms and collects for ever. */
static pid_t start_owner(pid_t target, int ready)
{
	pid_t pid = SYS(fork());
	uint32_t session, track;
	struct vnl_result r;
	struct nl nl;
	int err;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	err = vnl_open(&nl);
	err = err ?: vnl_session(&nl, CKPT_SESSION_FOLLOW_FORKS, &session);
	err = err ?: vnl_attach(&nl, session, target, &track);
	if (write(ready, &err, sizeof(err)) != sizeof(err) || err)
		_exit(1);
	for (;;) {
		if (vnl_collect(&nl, session, CKPT_COLLECT_REARM, &r, 1) < 0)
			_exit(0);
		if (!vnl_runs(&nl, session, &r))
			free(r.runs);
	}
}

static void spin(uint64_t ns)
{
	uint64_t end = now_ns() + ns;

	while (now_ns() < end)
		sched_yield();
}

static int count_sessions(void)
{
	int n = 0;
	char buf[4096];
	long len;
	int fd = SYS(open("/sys/kernel/ckpt/sessions", O_RDONLY | O_DIRECTORY));

	while ((len = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0)
		for (long at = 0; at < len; at += *(unsigned short *)(buf + at + 16))
			n += buf[at + 19] != '.';
	close(fd);
	return n;
}

static void owner_killed(const void *arg)
{
	int n = rounds(arg);
	uint64_t state = 42;
	struct target t;
	int fds[2], err;

	wild_writers = true;
	target_start(&t, &busy);
	SYS(pipe(fds));
	for (int round = 0; round < n; round++) {
		pid_t pid = start_owner(t.pid, fds[1]);

		/* A predecessor that left anything behind would be EBUSY here. */
		CHECK(read(fds[0], &err, sizeof(err)) == sizeof(err));
		if (err)
			FAIL("round %d: the next owner could not attach: %s", round, strerror(-err));
		spin(rnd(&state) % 20000000);
		kill(pid, SIGKILL);
		SYS(waitpid(pid, NULL, 0));
		CHECK(!count_sessions());
	}
	target_stop(&t);
}

static void target_killed(const void *arg)
{
	int n = rounds(arg);
	uint64_t state = 43;
	int fds[2], err;

	wild_writers = true;
	SYS(pipe(fds));
	for (int round = 0; round < n; round++) {
		struct target t;
		pid_t pid;

		target_start(&t, &busy);
		pid = start_owner(t.pid, fds[1]);
		CHECK(read(fds[0], &err, sizeof(err)) == sizeof(err) && !err);
		spin(rnd(&state) % 20000000);
		target_stop(&t);
		kill(pid, SIGKILL);
		SYS(waitpid(pid, NULL, 0));
	}
	CHECK(!count_sessions());
}

/* ---- the module goes while it works --------------------------------------------------------- */

static void load_module(void)
{
	int fd = SYS(open("/lib/ckpt.ko", O_RDONLY | O_CLOEXEC));

	SYS(syscall(SYS_finit_module, fd, "", 0));
	close(fd);
}

static void rmmod_under_load(const void *arg)
{
	int n = rounds(arg);
	uint64_t state = 44;
	struct target t;
	int fds[2], err;

	wild_writers = true;
	target_start(&t, &busy);
	SYS(pipe(fds));
	for (int round = 0; round < n; round++) {
		pid_t pid = start_owner(t.pid, fds[1]);
		long ret;

		CHECK(read(fds[0], &err, sizeof(err)) == sizeof(err) && !err);
		spin(rnd(&state) % 20000000);
		/* Busy only while a dump runs, which holds the module. */
		while ((ret = syscall(SYS_delete_module, "ckpt", O_NONBLOCK)) && errno == EAGAIN)
			sched_yield();
		if (ret)
			FAIL("delete_module: %m");
		SYS(waitpid(pid, NULL, 0));
		load_module();
	}
	target_stop(&t);
}

/* ---- several targets, attached and detached at once -------------------------------------------- */

static void attach_detach(const void *arg)
{
	struct target t[3];
	uint32_t session, track[3];
	struct vnl_result r[8];
	int n = rounds(arg);
	uint64_t state = 45;
	struct nl nl;

	wild_writers = true;
	for (int i = 0; i < 3; i++)
		target_start(&t[i], &busy);
	CHECK(!vnl_open(&nl) && !vnl_session(&nl, CKPT_SESSION_FOLLOW_FORKS, &session));
	run_first();
	for (int i = 0; i < 3; i++)
		CHECK(!vnl_attach(&nl, session, t[i].pid, &track[i]));
	for (int round = 0; round < n; round++) {
		int i = rnd(&state) % 3;

		CHECK(!vnl_detach(&nl, session, track[i]));
		CHECK(!vnl_attach(&nl, session, t[i].pid, &track[i]));
		CHECK(vnl_collect(&nl, session, rnd(&state) % 2, r, 8) >= 3);
		let_others_run();
	}
	vnl_close(&nl);
	for (int i = 0; i < 3; i++)
		target_stop(&t[i]);
}

const struct test stress_tests[] = {
	{ "stress/live-10000-swaps", live, "10000 20000", 900 },
	{ "stress/live-wild", live, "800 5000 wild", 900 },
	{ "stress/live-granule-64k", live, "800 5000 granule", 900 },
	{ "stress/live-granule-adaptive", live, "500 5000 granule adaptive wild", 900 },
	{ "stress/live-huge", live, "300 3000 wild huge", 900 },
	{ "stress/live-huge-whole", live, "300 3000 wild huge whole", 900 },
	{ "stress/live-compaction", live, "300 3000 wild compact", 900 },
	{ "stress/live-pressure", live, "300 2000 wild press", 900 },
	{ "stress/owner-killed", owner_killed, "20 100", 900 },
	{ "stress/target-killed", target_killed, "10 40", 900 },
	{ "stress/attach-detach", attach_detach, "40 200", 900 },
	{ "stress/rmmod-under-load", rmmod_under_load, "4 20", 900 },
	{}
};
