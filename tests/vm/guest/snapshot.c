// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copy-on-write snapshots. The oracle of a target that stands still at the arm is
 * a copy of its memory made right then; whatever it does afterwards, the
 * snapshot must give the same bytes. A target that never stands still writes
 * numbers in an order that is known: a snapshot must show a prefix of it.
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
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

/* ---- a snapshot and what it must say ------------------------------------------------ */

struct snap {
	struct nl nl;
	struct target t;
	uint32_t session, track;
	struct vnl_result r;
	int fd;
	uint64_t pages, pool;
	uint64_t *addr; /* of every page of the DATA runs */
	char *want;	/* and their content, one behind the other */
};

static void snap_start(struct snap *s, const struct path *p)
{
	memset(s, 0, sizeof(*s));
	s->fd = -1;
	target_start(&s->t, p);
	CHECK(!vnl_open(&s->nl) && !vnl_session(&s->nl, CKPT_SESSION_COW, &s->session));
	CHECK(!vnl_attach(&s->nl, s->session, s->t.pid, &s->track));
}

static void snap_collect(struct snap *s)
{
	uint64_t pages = 0;

	free(s->r.runs);
	CHECK(vnl_collect(&s->nl, s->session, CKPT_COLLECT_REARM | CKPT_COLLECT_SNAPSHOT, &s->r, 1) == 1);
	CHECK(!vnl_runs(&s->nl, s->session, &s->r));
	runs_check_order(&s->r);
	if (!(s->r.flags & CKPT_RESULT_SNAPSHOT))
		FAIL("there is no snapshot: result %#x", s->r.flags);
	s->fd = vnl_snapshot(&s->nl, s->session, s->track, &s->pages, &s->pool);
	if (s->fd < 0)
		FAIL("SNAPSHOT: %s (%s)", strerror(-s->fd), s->nl.ext);
	free(s->addr);
	s->addr = calloc(s->pages + 1, sizeof(*s->addr));
	for (uint64_t i = 0; i < s->r.nruns; i++)
		for (uint32_t k = 0; s->r.runs[i].state == CKPT_RUN_DATA && k < s->r.runs[i].pages; k++) {
			CHECK(pages < s->pages);
			s->addr[pages++] = s->r.runs[i].start + k * PAGE;
		}
	CHECK(pages == s->pages);
}

/* What is in the target's memory now. */
static void snap_remember(struct snap *s)
{
	char path[64];
	uint64_t at = 0;
	int mem;

	snprintf(path, sizeof(path), "/proc/%d/mem", s->t.pid);
	mem = SYS(open(path, O_RDONLY | O_CLOEXEC));
	free(s->want);
	s->want = malloc((s->pages + 1) * PAGE);
	CHECK(s->want);
	for (uint64_t i = 0; i < s->r.nruns; i++) {
		const struct ckpt_run *r = &s->r.runs[i];

		if (r->state != CKPT_RUN_DATA)
			continue;
		if (pread(mem, s->want + at, r->pages * PAGE, r->start) != (ssize_t)(r->pages * PAGE))
			FAIL("cannot read %u pages at %#llx: %m", r->pages, (unsigned long long)r->start);
		at += r->pages * PAGE;
	}
	close(mem);
}

/*
 * Read each group of @group pages whose number is @part of @parts; it must be as remembered. With
 * @lost, groups of one may be ENODATA: marked there.
 */
static void snap_compare(struct snap *s, unsigned int part, unsigned int parts, size_t group,
			 uint8_t *lost)
{
	char *got = malloc(group * PAGE);
	ssize_t len;
	size_t n;

	CHECK(got);
	for (size_t i = 0; i < s->pages; i += n) {
		for (n = 1; n < group && i + n < s->pages && s->addr[i + n] == s->addr[i] + n * PAGE; n++)
			;
		if ((s->addr[i] / PAGE / group) % parts != part)
			continue;
		len = pread(s->fd, got, n * PAGE, s->addr[i]);
		if (len < 0 && errno == ENODATA && lost && n == 1) {
			lost[i] = 1;
			continue;
		}
		if (len != (ssize_t)(n * PAGE))
			FAIL("pread of %zu pages at %#" PRIx64 " gives %zd: %m", n, s->addr[i], len);
		for (size_t k = 0; k < n; k++)
			if (memcmp(got + k * PAGE, s->want + (i + k) * PAGE, PAGE))
				FAIL("page %#" PRIx64 " is not as it was at the arm", s->addr[i + k]);
	}
	free(got);
}

static uint64_t counter(struct snap *s, const char *name)
{
	return read_number("/sys/kernel/ckpt/sessions/%u/%s", s->session, name);
}

/* End the snapshot: all pages come back to the pool. */
static void snap_end(struct snap *s)
{
	uint64_t size = read_number("/sys/kernel/ckpt/cow_pool_pages");
	uint64_t deadline = now_ns() + patience_seconds() * 1000000000ULL;

	close(s->fd);
	s->fd = -1;
	/* They are freed after a grace period. */
	while (counter(s, "cow_pool_free_pages") != size) {
		if (now_ns() > deadline)
			FAIL("%" PRIu64 " of %" PRIu64 " pages came back", counter(s, "cow_pool_free_pages"),
			     size);
		poll(NULL, 0, 1);
	}
}

static void snap_stop(struct snap *s)
{
	vnl_close(&s->nl);
	target_stop(&s->t);
	free(s->r.runs);
	free(s->addr);
	free(s->want);
}

/* ---- each way in which a page can change, between the arm and the reading ------------ */

static void walk_path(const struct path *p)
{
	struct snap s;

	snap_start(&s, p);
	for (int step = 0; step < p->steps; step++) {
		snap_collect(&s);
		snap_remember(&s);
		/* Some pages are read before, some on the way, some behind. */
		snap_compare(&s, 0, 3, 16, NULL);
		target_step(&s.t, step);
		snap_compare(&s, 1, 3, 16, NULL);
		if (step + 1 < p->steps)
			target_step(&s.t, ++step);
		snap_compare(&s, 2, 3, 16, NULL);
		if (counter(&s, "cow_lost_pages"))
			FAIL("step %d: %" PRIu64 " pages were lost", step, counter(&s, "cow_lost_pages"));
		snap_end(&s);
	}
	snap_stop(&s);
}

static void run_path(const void *arg)
{
	static const char *const modes[] = { "split", "whole" };
	const struct path *p = arg;

	for (int i = 0; i < (p->flags & PATH_THP ? 2 : 1); i++) {
		CHECK(!write_file("/sys/kernel/ckpt/thp_mode", modes[i]));
		walk_path(p);
	}
}

/* ---- a region that is written to on command ------------------------------------------- */

static void setup_region(struct env *e)
{
	region(e, 2048, 0);
	fill(e);
}

enum { WRITE_SOME, WRITE_ALL, EXEC, EXIT, FORK_AND_EXIT };

static void step_region(struct env *e, int step)
{
	switch (step) {
	case WRITE_SOME:
		for (size_t i = 0; i < e->pages; i += 5)
			touch(e, i);
		break;
	case WRITE_ALL:
		for (size_t i = 0; i < e->pages; i++)
			touch(e, i);
		break;
	case EXEC:
		execl("/bin/busybox", "sleep", "1000", NULL);
		_exit(1);
	case EXIT:
		_exit(0);
	case FORK_AND_EXIT:
		/* The child writes to what it shares with the dead. */
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, 0);
			for (size_t i = 0; i < e->pages; i++)
				touch(e, i);
			e->sh->counters[0] = 1;
			_exit(0);
		}
		_exit(0);
	}
}

static const struct path written = { "written", setup_region, step_region, 0, 0, 0 };

static void order(struct snap *s, int step)
{
	char c = step;

	CHECK(write(s->t.cmd, &c, 1) == 1);
}

static void wait_dead(pid_t pid)
{
	siginfo_t info;

	SYS(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
}

static void ends(const void *arg)
{
	const int *how = arg;
	uint64_t deadline = now_ns() + patience_seconds() * 1000000000ULL;
	struct snap s;

	snap_start(&s, &written);
	snap_collect(&s);
	snap_remember(&s);
	snap_compare(&s, 0, 3, 7, NULL);
	order(&s, *how);
	if (*how == EXEC) {
		char comm[64] = "", path[64];

		snprintf(path, sizeof(path), "/proc/%d/comm", s.t.pid);
		while (strncmp(comm, "busybox", 7)) {
			if (now_ns() > deadline)
				FAIL("no exec: %s", comm);
			(void)read_file(path, comm, sizeof(comm));
		}
	} else {
		wait_dead(s.t.pid);
	}
	snap_compare(&s, 1, 3, 7, NULL);
	while (*how == FORK_AND_EXIT && !s.t.sh->counters[0])
		if (now_ns() > deadline)
			FAIL("the child did not write");
	snap_compare(&s, 2, 3, 7, NULL);
	CHECK(!counter(&s, "cow_lost_pages"));
	snap_end(&s);
	snap_stop(&s);
}

static void exhausted(const void *unused)
{
	uint8_t lost[4096] = {};
	struct pollfd p;
	struct nl events;
	uint64_t n = 0;
	struct snap s;

	(void)unused;
	CHECK(!write_file("/sys/kernel/ckpt/cow_pool_pages", "16"));
	CHECK(!vnl_open(&events));
	SYS(setsockopt(events.fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &events.events_group, sizeof(int)));
	snap_start(&s, &written);
	snap_collect(&s);
	CHECK(s.pages < sizeof(lost) && s.pool == 16);
	snap_remember(&s);
	target_step(&s.t, WRITE_SOME);
	for (;;) {
		_Alignas(NLMSG_ALIGNTO) char buf[4096];
		struct nlmsghdr *h = (struct nlmsghdr *)buf;

		p = (struct pollfd){ .fd = events.fd, .events = POLLIN };
		if (poll(&p, 1, patience_seconds() * 1000) != 1)
			FAIL("POOL_EXHAUSTED did not come");
		SYS(recv(events.fd, buf, sizeof(buf), 0));
		if (h->nlmsg_type == events.family &&
		    vnl_u32(vnl_attr(h, CKPT_A_EVENT_TYPE)) == CKPT_EVENT_POOL_EXHAUSTED) {
			CHECK(vnl_u32(vnl_attr(h, CKPT_A_TRACK)) == s.track);
			break;
		}
	}
	/* The way out: stop, collect, read what was not written from the snapshot. */
	snap_compare(&s, 0, 1, 1, lost);
	struct vnl_result r;
	CHECK(vnl_collect(&s.nl, s.session, 0, &r, 1) == 1 && !vnl_runs(&s.nl, s.session, &r));
	for (size_t i = 0; i < s.pages; i++) {
		n += lost[i];
		if (lost[i] && !run_covers(&r, s.addr[i], NULL))
			FAIL("page %#" PRIx64 " is lost and not reported", s.addr[i]);
	}
	CHECK(n > 300 && n == counter(&s, "cow_lost_pages") && counter(&s, "cow_pages") == 16);
	snap_end(&s);
	snap_stop(&s);
}

static void requests(const void *unused)
{
	struct vnl_result r;
	uint32_t session, track;
	char page[2 * PAGE], *volatile nowhere = NULL;
	struct snap s;
	struct nl nl;

	(void)unused;
	snap_start(&s, &written);
	CHECK(vnl_snapshot(&s.nl, s.session, s.track, NULL, NULL) == -ENOENT);
	CHECK(vnl_collect(&s.nl, s.session, CKPT_COLLECT_SNAPSHOT, &r, 1) == -EINVAL && s.nl.ext[0]);
	snap_collect(&s);
	CHECK(vnl_snapshot(&s.nl, s.session, s.track, NULL, NULL) == -EBUSY);
	CHECK(vnl_collect(&s.nl, s.session, CKPT_COLLECT_REARM | CKPT_COLLECT_SNAPSHOT, &r, 1) == -EBUSY);
	CHECK(strstr(s.nl.ext, "being read"));
	CHECK(pread(s.fd, page, PAGE, s.addr[0] + 1) < 0 && errno == EINVAL);
	CHECK(pread(s.fd, page, 100, s.addr[0]) < 0 && errno == EINVAL);
	CHECK(pread(s.fd, page, PAGE, 0) < 0 && errno == ENXIO);
	CHECK(pread(s.fd, page, PAGE, 1UL << 60) < 0 && errno == ENXIO);
	CHECK(pread(s.fd, nowhere, PAGE, s.addr[0]) < 0 && errno == EFAULT);
	CHECK(pread(s.fd, page, 2 * PAGE, s.addr[0]) >= (ssize_t)PAGE);
	CHECK(pread(s.fd, page, PAGE, s.addr[0]) < 0 && errno == ENXIO);
	CHECK(syscall(SYS_delete_module, "ckpt", O_NONBLOCK) < 0);
	/* An arm while it is read takes nothing from it. */
	snap_remember(&s);
	target_step(&s.t, WRITE_ALL);
	CHECK(vnl_arm(&s.nl, s.session, &r, 1) == 1);
	target_step(&s.t, WRITE_ALL);
	CHECK(pread(s.fd, page, PAGE, s.addr[s.pages - 100]) == PAGE);
	CHECK(!memcmp(page, s.want + (s.pages - 100) * PAGE, PAGE));
	/* Without its track it is over. */
	CHECK(!vnl_detach(&s.nl, s.session, s.track));
	CHECK(pread(s.fd, page, PAGE, s.addr[s.pages - 90]) < 0 && errno == ESTALE);
	close(s.fd);
	CHECK(!vnl_attach(&s.nl, s.session, s.t.pid, &s.track));
	snap_collect(&s);
	/* So without its session; the descriptor keeps what it needs. */
	vnl_close(&s.nl);
	target_step(&s.t, WRITE_SOME);
	CHECK(pread(s.fd, page, PAGE, s.addr[1]) < 0 && errno == ESTALE);
	close(s.fd);
	/* A session without a pool. */
	CHECK(!vnl_open(&nl) && !vnl_session(&nl, 0, &session) && !vnl_attach(&nl, session, s.t.pid, &track));
	CHECK(vnl_collect(&nl, session, CKPT_COLLECT_REARM | CKPT_COLLECT_SNAPSHOT, &r, 1) == -EINVAL);
	vnl_close(&nl);
	CHECK(!write_file("/sys/kernel/ckpt/cow_pool_pages", "0"));
	CHECK(write_file("/sys/kernel/ckpt/cow_pool_pages", "-1") == -EINVAL);
	CHECK(write_file("/sys/kernel/ckpt/cow_pool_pages", "99999999999") == -EINVAL);
	CHECK(read_number("/sys/kernel/ckpt/cow_pool_pages") == 0);
	target_stop(&s.t);
}

/* ---- a target that never stands still -------------------------------------------------------- */

#define THREADS 3
#define OWN 64 /* pages of a thread, far apart */

enum { STOP };

static uintptr_t own_page(uintptr_t base, int thread, uint64_t n)
{
	size_t i = n * 37 % OWN;

	return base + (i / 8 * THREADS + thread) * CHUNK + i % 8 * 5 * PAGE;
}

struct writer {
	struct env *e;
	int nr;
};

/* The n-th write leaves n: each page of a thread has its turn every OWN writes. */
static void *write_on(void *arg)
{
	struct writer *w = arg;

	for (uint64_t n = 1; !w->e->sh->counters[STOP]; n++)
		*(volatile uint64_t *)own_page(w->e->base, w->nr, n) = n;
	return NULL;
}

static pthread_t threads[THREADS];
static struct writer writers[THREADS];
static size_t threads_bytes = (OWN / 8 * THREADS + 1) * CHUNK;

static void setup_writers(struct env *e)
{
	e->base = (uintptr_t)mmap(NULL, threads_bytes + CHUNK, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	e->base = (e->base + CHUNK - 1) & ~(CHUNK - 1);
	madvise((void *)e->base, threads_bytes, MADV_NOHUGEPAGE);
	e->pages = 1;
	for (int t = 0; t < THREADS; t++) {
		writers[t] = (struct writer){ e, t };
		pthread_create(&threads[t], NULL, write_on, &writers[t]);
	}
}

static void step_stop(struct env *e, int step)
{
	(void)step;
	e->sh->counters[STOP] = 1;
	for (int t = 0; t < THREADS; t++)
		pthread_join(threads[t], NULL);
}

static const struct path busy = { "busy", setup_writers, step_stop, 0, 0, 0 };

/* The pages of one thread, put together from all snapshots so far, must be what it had written up
 * to some write. */
static void check_prefix(const uint64_t *value, int thread, int round)
{
	uint64_t last = 0;

	for (int i = 0; i < OWN; i++)
		if (value[i] > last)
			last = value[i];
	for (uint64_t k = 0; k < OWN && k < last; k++)
		if (value[(last - k) * 37 % OWN] != last - k)
			FAIL("snapshot %d, thread %d: write %" PRIu64 " is there and %" PRIu64 " is not (%" PRIu64
			     ")", round, thread, last, last - k, value[(last - k) * 37 % OWN]);
}

static void writers_test(const void *arg)
{
	int rounds = scaled(*(const int *)arg), given_up = 0;
	static uint64_t value[THREADS][OWN];
	struct snap s;

	snap_start(&s, &busy);
	run_first();
	for (int round = 0; round < rounds; round++) {
		CHECK(vnl_collect(&s.nl, s.session, CKPT_COLLECT_REARM | CKPT_COLLECT_SNAPSHOT, &s.r,
				  1) == 1);
		CHECK(!vnl_runs(&s.nl, s.session, &s.r));
		if (!(s.r.flags & CKPT_RESULT_SNAPSHOT)) {
			given_up++;
			break;
		}
		s.fd = vnl_snapshot(&s.nl, s.session, s.track, &s.pages, &s.pool);
		CHECK(s.fd >= 0);
		for (int i = 0; i < OWN; i++)
			for (int t = 0; t < THREADS; t++) {
				uintptr_t addr = own_page(s.t.sh->base, t, i);
				uint64_t page[PAGE / 8];
				uint32_t state;

				if (!run_covers(&s.r, addr, &state))
					continue;
				if (state == CKPT_RUN_DROPPED)
					continue;
				if (state != CKPT_RUN_DATA)
					FAIL("a page is in state %u", state);
				if (pread(s.fd, page, PAGE, addr) != PAGE)
					FAIL("round %d, page %#lx: %m", round, addr);
				value[t][i * 37 % OWN] = page[0];
				/* The writers have their turn, and change what was not read yet. */
				if (!(i % 32) && !t)
					poll(NULL, 0, sysconf(_SC_NPROCESSORS_ONLN) == 1 ? 10 : 1);
			}
		for (int t = 0; t < THREADS; t++)
			check_prefix(value[t], t, round);
		close(s.fd);
		free(s.r.runs);
		s.r.runs = NULL;
	}
	CHECK(!given_up);
	target_step(&s.t, 0);
	if (!counter(&s, "cow_pages") || counter(&s, "cow_lost_pages"))
		FAIL("%d snapshots: %" PRIu64 " pages kept, %" PRIu64 " lost", rounds, counter(&s, "cow_pages"),
		     counter(&s, "cow_lost_pages"));
	test_note("%d snapshots, %" PRIu64 " pages kept", rounds, counter(&s, "cow_pages"));
	snap_stop(&s);
}

/* ---- killed on the way -------------------------------------------------------------------------- */

static void killed(const void *unused)
{
	uint64_t state = 4711;

	(void)unused;
	CHECK(!write_file("/sys/kernel/ckpt/cow_pool_pages", "512"));
	for (int round = 0; round < scaled(16); round++) {
		struct target t;
		int fds[2];
		pid_t pid;
		char c;

		target_start(&t, &busy);
		SYS(pipe(fds));
		pid = SYS(fork());
		if (!pid) {
			uint32_t session, track;
			struct vnl_result r;
			struct nl nl;
			int fd;

			if (vnl_open(&nl) || vnl_session(&nl, CKPT_SESSION_COW, &session) ||
			    vnl_attach(&nl, session, t.pid, &track) || write(fds[1], "", 1) != 1)
				_exit(1);
			for (;;) {
				static char page[64 * PAGE];

				if (vnl_collect(&nl, session, CKPT_COLLECT_REARM | CKPT_COLLECT_SNAPSHOT, &r,
						1) != 1 ||
				    vnl_runs(&nl, session, &r))
					_exit(0);
				fd = vnl_snapshot(&nl, session, track, NULL, NULL);
				for (uint64_t i = 0; fd >= 0 && i < r.nruns; i++)
					if (pread(fd, page, (r.runs[i].pages % 64 + 1) * PAGE, r.runs[i].start) < 0 &&
					    errno == EINTR)
						_exit(0);
				close(fd);
				free(r.runs);
			}
		}
		CHECK(read(fds[0], &c, 1) == 1);
		for (uint64_t end = now_ns() + rnd(&state) % 20000000; now_ns() < end;)
			sched_yield();
		if (round % 2) {
			target_stop(&t);
			kill(pid, SIGKILL);
			SYS(waitpid(pid, NULL, 0));
		} else {
			kill(pid, SIGKILL);
			SYS(waitpid(pid, NULL, 0));
			target_stop(&t);
		}
		close(fds[0]);
		close(fds[1]);
	}
}

static const int rounds_live = 300, how_exit = EXIT, how_exec = EXEC, how_fork = FORK_AND_EXIT;

static const struct test more[] = {
	{ "snapshot/requests", requests, NULL, 0 },
	{ "snapshot/exhausted", exhausted, NULL, 0 },
	{ "snapshot/target-exits", ends, &how_exit, 0 },
	{ "snapshot/target-execs", ends, &how_exec, 0 },
	{ "snapshot/target-forks-and-exits", ends, &how_fork, 0 },
	{ "snapshot/live-writers", writers_test, &rounds_live, 900 },
	{ "snapshot/killed", killed, NULL, 900 },
};

#define N_MORE (sizeof(more) / sizeof(*more))
#define N_MAX 100

const struct test *snapshot_table(void)
{
	static char names[N_MAX][64];
	static struct test table[N_MAX + N_MORE + 1];
	const struct path *p;
	size_t n = 0;

	for (; n < N_MAX && (p = path_number(n)); n++) {
		snprintf(names[n], sizeof(names[n]), "snapshot/path-%s", p->name);
		table[n] = (struct test){ names[n], run_path, p, 0 };
	}
	for (size_t i = 0; i < N_MORE; i++)
		table[n++] = more[i];
	return table;
}
