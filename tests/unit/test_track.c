// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every back end of tools/track against everything a program does to its memory: what was
 * written is reported, what is gone is not, and what the back end is able to tell apart is
 * reported as unwritten.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kern/target.h"
#include "track/track.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#define PAGE 4096ul
#define BASE ((char *)0x700000000000ul)
#define PAGES 64
#define AWAY ((char *)0x710000000000ul)
#define HUGE ((char *)0x720000000000ul)
#define HUGE_BYTES (4ul << 20)
#define FILEMAP ((char *)0x730000000000ul)
/* Twelve page tables that are mutated at random. */
#define WILD ((char *)0x740000000000ul)
#define WILD_PAGES 6144ul

/* ---- the target: does what a letter says, answers with it --------------------------------- */

static void *map_at(char *at, size_t len, int flags, int fd)
{
	void *p = mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | flags, fd, 0);

	if (p == MAP_FAILED)
		_exit(10);
	return p;
}

static void fill(char *at, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE)
		at[i] = 'x';
}

static void do_own_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)BASE, 8 * PAGE },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		_exit(11);
}

/* Anything that changes which pages there are, on a scale of pages or of whole page tables. */
static void go_wild(void)
{
	static unsigned int seed = 815;

	for (int n = 0; n < 12; n++) {
		unsigned int r = (unsigned int)rand_r(&seed), s = (unsigned int)rand_r(&seed);
		size_t page = (r >> 4) % WILD_PAGES, table = page & ~511ul;
		size_t len = r & 8 ? 1 + (s & 31) : 512 * (1 + (s & 1));
		char *at = WILD + (r & 8 ? page : table) * PAGE;

		if ((r & 8 ? page : table) + len > WILD_PAGES)
			len = 1;
		switch (r & 7) {
		case 0:
			madvise(at, len * PAGE, MADV_DONTNEED);
			break;
		case 1: /* read only: zero pages */
			for (size_t i = 0; i < len; i++)
				(void)*(volatile char *)(at + i * PAGE);
			break;
		case 2:
			munmap(at, len * PAGE);
			map_at(at, len * PAGE, MAP_ANONYMOUS, -1);
			break;
		case 3:
			madvise(at, len * PAGE, s & 32 ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
			break;
		case 4: /* dropped as a whole, and one page is back */
			madvise(WILD + table * PAGE, 512 * PAGE, MADV_DONTNEED);
			WILD[page * PAGE] = (char)s;
			break;
		case 5:
			madvise(at, len * PAGE, MADV_FREE);
			break;
		default:
			for (size_t i = 0; i < len && i < 40; i++)
				at[i * PAGE + (s & 1023)] = (char)(s >> 3);
		}
	}
}

static void act(char what, int data)
{
	pid_t pid;

	switch (what) {
	case 'n': /* nothing */
		break;
	case 'w':
		BASE[5 * PAGE] = 'y';
		break;
	case 'd':
		madvise(BASE + 8 * PAGE, 4 * PAGE, MADV_DONTNEED);
		break;
	case 'D':
		madvise(BASE + 8 * PAGE, 4 * PAGE, MADV_DONTNEED);
		BASE[9 * PAGE] = 'y';
		break;
	case 'Z': /* dropped, and read: the zero page shows */
		madvise(BASE + 24 * PAGE, 4 * PAGE, MADV_DONTNEED);
		(void)*(volatile char *)(BASE + 25 * PAGE);
		break;
	case 'm': /* replaced by a mapping at the same place */
		munmap(BASE + 16 * PAGE, 4 * PAGE);
		map_at(BASE + 16 * PAGE, 4 * PAGE, MAP_ANONYMOUS, -1);
		BASE[17 * PAGE] = 'y';
		break;
	case 'M': /* moved, and written there */
		mremap(BASE, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AWAY);
		break;
	case 'B': /* written, and moved back */
		AWAY[7 * PAGE] = 'z';
		mremap(AWAY, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE);
		break;
	case 'p':
		mprotect(BASE, PAGES * PAGE, PROT_READ);
		mprotect(BASE, PAGES * PAGE, PROT_READ | PROT_WRITE);
		BASE[6 * PAGE] = 'y';
		break;
	case 'f':
		pid = fork();
		if (!pid) {
			BASE[1 * PAGE] = 'c';
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		BASE[2 * PAGE] = 'y';
		break;
	case 'r': /* the kernel writes: read(2) */
		if (read(data, BASE + 20 * PAGE, 16) != 16)
			_exit(12);
		break;
	case 'h':
		map_at(HUGE, HUGE_BYTES, MAP_ANONYMOUS, -1);
		madvise(HUGE, HUGE_BYTES, MADV_HUGEPAGE);
		fill(HUGE, HUGE_BYTES);
		break;
	case 'H':
		HUGE[3 * PAGE] = 'y';
		break;
	case 'c':
		(void)madvise(HUGE, HUGE_BYTES, MADV_COLLAPSE);
		HUGE[700 * PAGE] = 'y';
		break;
	case 't': /* two page tables, no huge page */
		map_at(HUGE, HUGE_BYTES, MAP_ANONYMOUS, -1);
		madvise(HUGE, HUGE_BYTES, MADV_NOHUGEPAGE);
		fill(HUGE, HUGE_BYTES);
		break;
	case 's': /* every other page */
		for (size_t i = 0; i < 900; i += 2)
			HUGE[i * PAGE] = 'y';
		break;
	case 'T': /* the second takes the place of the first, as a whole */
		if (mremap(HUGE + HUGE_BYTES / 2, HUGE_BYTES / 2, HUGE_BYTES / 2,
			   MREMAP_MAYMOVE | MREMAP_FIXED, HUGE) != HUGE)
			_exit(15);
		break;
	case 'z': /* the huge zero page */
		madvise(HUGE, HUGE_BYTES / 2, MADV_DONTNEED);
		(void)*(volatile char *)(HUGE + 9 * PAGE);
		break;
	case 'F':
		fill(FILEMAP, 8 * PAGE);
		break;
	case 'G': /* dropped: the file shows again */
		madvise(FILEMAP, 4 * PAGE, MADV_DONTNEED);
		(void)*(volatile char *)(FILEMAP + PAGE);
		FILEMAP[2 * PAGE] = 'y';
		break;
	case 'g': /* the mapping grows */
		map_at(BASE + PAGES * PAGE, 4 * PAGE, MAP_ANONYMOUS, -1);
		fill(BASE + PAGES * PAGE, 4 * PAGE);
		break;
	case 'k': /* guards over pages that existed */
		(void)madvise(BASE + 40 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL);
		break;
	case 'W':
		map_at(WILD, WILD_PAGES * PAGE, MAP_ANONYMOUS, -1);
		fill(WILD, WILD_PAGES / 2 * PAGE);
		break;
	case 'X':
		go_wild();
		break;
	case 'u':
		do_own_uffd();
		break;
	default:
		_exit(13);
	}
}

static void target_main(int in, int out, const char *file, const char *self)
{
	int data = open("/dev/zero", O_RDONLY), fd = open(file, O_RDWR);
	char what;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	map_at(BASE, PAGES * PAGE, MAP_ANONYMOUS, -1);
	fill(BASE, PAGES * PAGE);
	map_at(FILEMAP, 8 * PAGE, 0, fd);
	while (read(in, &what, 1) == 1) {
		if (what == 'x') {
			char fds[2][12];

			snprintf(fds[0], sizeof(fds[0]), "%d", in);
			snprintf(fds[1], sizeof(fds[1]), "%d", out);
			execl(self, self, "--target", fds[0], fds[1], file, NULL);
			_exit(14);
		}
		act(what, data);
		if (write(out, &what, 1) != 1)
			break;
	}
	_exit(0);
}

/* ---- the test ------------------------------------------------------------------------------ */

struct backend {
	const char *title, *name;
	unsigned int facts; /* 1: as on a kernel of which nothing good is known */
	const struct track_ops *ops;
};

struct fixture {
	const struct track_ops *ops;
	unsigned int facts;
	struct tracker t;
	pid_t pid;
	int to, from;
	char file[32];
};

struct seen {
	uint64_t base;
	char map[2048]; /* per page: 0 nothing, 'c' clean, 'w' written, 'z' the zero page, 'g' guard */
};

static const char *self_path;

static void tell(struct fixture *f, char what)
{
	char back = 0;

	assert_int_equal(write(f->to, &what, 1), 1);
	assert_int_equal(read(f->from, &back, 1), 1);
	assert_int_equal(back, what);
}

static void start(struct fixture *f)
{
	int to[2], from[2], fd;

	strcpy(f->file, "/tmp/track.XXXXXX");
	fd = mkstemp(f->file);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 8 * PAGE), 0);
	assert_int_equal(pwrite(fd, "file", 4, 0), 4);
	close(fd);
	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	f->pid = fork();
	if (!f->pid) {
		close(to[1]);
		close(from[0]);
		target_main(to[0], from[1], f->file, self_path);
	}
	close(to[0]);
	close(from[1]);
	f->to = to[1];
	f->from = from[0];
	tell(f, 'n');
}

static int setup(void **state)
{
	const struct backend *b = *state;
	struct fixture *f = calloc(1, sizeof(*f));

	f->ops = b->ops;
	f->facts = b->facts;
	f->t.fd = f->t.pagemap_fd = -1;
	start(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	tracker_detach(&f->t);
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
	close(f->to);
	close(f->from);
	unlink(f->file);
	free(f);
	return 0;
}

static int note(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct seen *s = arg;

	for (uint64_t i = 0; i < npages; i++) {
		uint64_t at = (addr - s->base) / PAGE + i;

		assert_true(at < sizeof(s->map));
		assert_int_equal(s->map[at], 0);
		s->map[at] = flags & TRACK_GUARD   ? 'g'
			     : flags & TRACK_ZERO    ? 'z'
			     : flags & TRACK_WRITTEN ? 'w'
						     : 'c';
	}
	return 0;
}

static int attach_it(struct fixture *f, struct target *tg, struct ckpt_err *err)
{
	int rc = tracker_attach(&f->t, f->ops, &tg->tasks.v[0], err);

	f->t.facts = f->facts;
	return rc;
}

/* Freeze, collect with arm, thaw. */
static int pass(struct fixture *f, bool attach, char *base, size_t len, struct seen *s)
{
	struct target tg = { 0 };
	struct ckpt_err err = { 0 };
	int rc = target_freeze(&tg, f->pid, &err);

	if (rc)
		fail_msg("%s: %s", err.where, err.msg);
	memset(s, 0, sizeof(*s));
	s->base = (uintptr_t)base;
	if (attach && attach_it(f, &tg, &err))
		fail_msg("%s: %s", err.where, err.msg);
	rc = tracker_begin(&f->t);
	if (!rc)
		rc = tracker_collect(&f->t, (uintptr_t)base, (uintptr_t)base + len,
				     TRACK_ARM | (base == FILEMAP ? 0 : TRACK_ANON), note, s);
	if (!rc)
		rc = tracker_armed(&f->t);
	target_thaw(&tg, TARGET_RUN);
	target_free(&tg);
	return rc;
}

static bool exact(const struct fixture *f)
{
	return f->ops != &track_none;
}

static void arm_base(struct fixture *f, struct seen *s)
{
	assert_int_equal(pass(f, true, BASE, PAGES * PAGE, s), 0);
	for (int i = 0; i < PAGES; i++)
		assert_int_equal(s->map[i], 'w');
}

/* Page @at of BASE is written; others in [0, PAGES) are as given. */
static void expect(const struct fixture *f, const struct seen *s, const char *written, int gone, int ngone)
{
	for (int i = 0; i < PAGES; i++) {
		bool w = false;

		for (const char *p = written; *p; p++)
			w |= i == *p;
		if (i >= gone && i < gone + ngone && !w)
			assert_int_equal(s->map[i], 0);
		else if (w || !exact(f))
			assert_int_equal(s->map[i], 'w');
		else
			assert_int_equal(s->map[i], 'c');
	}
}

static void test_writes(void **state)
{
	struct fixture *f = *state;
	struct iovec local = { "hello", 5 }, remote = { BASE + 30 * PAGE, 5 };
	struct seen s;

	arm_base(f, &s);
	tell(f, 'n');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "", 0, 0);
	tell(f, 'w');
	tell(f, 'r');
	assert_int_equal(process_vm_writev(f->pid, &local, 1, &remote, 1, 0), 5);
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "\5\24\36", 0, 0);
	tell(f, 'p');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "\6", 0, 0);
	tell(f, 'f');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "\2", 0, 0);
}

/* What was written is counted without arming, and reported alone. */
static void test_count(void **state)
{
	struct fixture *f = *state;
	uint64_t start = (uintptr_t)BASE, end = start + PAGES * PAGE, n = 0;
	struct seen s;

	arm_base(f, &s);
	if (!f->ops->count) {
		assert_int_equal(tracker_count(&f->t, start, end, &n), -EOPNOTSUPP);
		return;
	}
	tell(f, 'w');
	tell(f, 'd');
	assert_int_equal(tracker_begin(&f->t), 0);
	for (uint64_t i = 1; i <= 2; i++) {
		assert_int_equal(tracker_count(&f->t, start, end, &n), 0);
		assert_int_equal(n, i);
	}
	memset(&s, 0, sizeof(s));
	s.base = start;
	assert_int_equal(tracker_collect(&f->t, start, end,
					 TRACK_ARM | TRACK_ANON | TRACK_KNOWN | TRACK_WRITES, note, &s),
			 0);
	for (int i = 0; i < PAGES; i++)
		assert_int_equal(s.map[i], i == 5 ? 'w' : 0);
	n = 0;
	assert_int_equal(tracker_count(&f->t, start, end, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "", 8, 4);
	tell(f, 'm');
	assert_int_equal(tracker_begin(&f->t), 0);
	assert_int_equal(tracker_count(&f->t, start, end, &n), -ESTALE);
}

struct live {
	struct fixture *f;
	unsigned int told;
};

#define LATE 701ul /* a page that is written after the collection told of all, before it ends */

static int write_late(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct iovec local = { "late", 4 }, remote = { HUGE + LATE * PAGE, 4 };
	struct live *l = arg;

	(void)flags;
	l->told += (unsigned int)npages;
	if (addr + npages * PAGE == (uintptr_t)HUGE + 900 * PAGE)
		assert_int_equal(process_vm_writev(l->f->pid, &local, 1, &remote, 1, 0), 4);
	return 0;
}

/* A target that runs writes while a collection of many small runs is under way. */
static void test_live(void **state)
{
	struct fixture *f = *state;
	struct live l = { .f = f };
	struct seen s;

	if (!f->ops->live)
		return;
	tell(f, 't');
	assert_int_equal(pass(f, true, HUGE, 900 * PAGE, &s), 0);
	tell(f, 's');
	assert_int_equal(tracker_begin(&f->t), 0);
	assert_int_equal(tracker_collect(&f->t, (uintptr_t)HUGE, (uintptr_t)HUGE + 900 * PAGE,
					 TRACK_ARM | TRACK_ANON | TRACK_KNOWN, write_late, &l),
			 0);
	assert_int_equal(l.told, 900);
	assert_int_equal(pass(f, false, HUGE, 900 * PAGE, &s), 0);
	for (unsigned int i = 0; i < 900; i++)
		assert_int_equal(s.map[i], i == LATE || !exact(f) ? 'w' : 'c');
}

/* Registered at a stop and no more; looked at and armed while it runs. */
static void register_new(struct fixture *f, bool attach, char *base, size_t len)
{
	struct target tg = { 0 };
	struct ckpt_err err = { 0 };
	struct seen s = { .base = (uintptr_t)base };

	if (target_freeze(&tg, f->pid, &err))
		fail_msg("%s: %s", err.where, err.msg);
	if (attach && attach_it(f, &tg, &err))
		fail_msg("%s: %s", err.where, err.msg);
	assert_int_equal(tracker_begin(&f->t), 0);
	if (!f->ops->finds_new)
		assert_int_equal(tracker_collect(&f->t, (uintptr_t)base, (uintptr_t)base + len,
						 TRACK_ARM | TRACK_NEW, note, &s),
				 0);
	target_thaw(&tg, TARGET_RUN);
	target_free(&tg);
	for (size_t i = 0; i < len / PAGE; i++)
		assert_int_equal(s.map[i], 0);
}

static void live_pass(struct fixture *f, char *base, size_t len, struct seen *s)
{
	memset(s, 0, sizeof(*s));
	s->base = (uintptr_t)base;
	assert_int_equal(tracker_begin(&f->t), 0);
	assert_int_equal(tracker_collect(&f->t, (uintptr_t)base, (uintptr_t)base + len,
					 TRACK_ARM | TRACK_ANON | TRACK_KNOWN, note, s),
			 0);
	assert_int_equal(tracker_armed(&f->t), 0);
}

/* All of it counts as written when it is looked at first, whatever it was before; then what is
 * written, and nothing else. */
static void expect_new(struct fixture *f, char *base, size_t pages, size_t at)
{
	struct iovec local = { "new", 3 }, remote = { base + at * PAGE, 3 };
	struct seen s;

	live_pass(f, base, pages * PAGE, &s);
	for (size_t i = 0; i < pages; i++)
		assert_int_equal(s.map[i], 'w');
	for (int again = 0; again < 2; again++) {
		assert_int_equal(process_vm_writev(f->pid, &local, 1, &remote, 1, 0), 3);
		live_pass(f, base, pages * PAGE, &s);
		for (size_t i = 0; i < pages; i++)
			assert_int_equal(s.map[i], i == at ? 'w' : 'c');
	}
	live_pass(f, base, pages * PAGE, &s);
	for (size_t i = 0; i < pages; i++)
		assert_int_equal(s.map[i], 'c');
}

static void test_new(void **state)
{
	struct fixture *f = *state;
	size_t pages = HUGE_BYTES / PAGE;
	struct seen s;

	if (!f->ops->live || !exact(f))
		return;
	register_new(f, true, BASE, PAGES * PAGE);
	expect_new(f, BASE, PAGES, 5);
	/* Armed pages that move away: they may come with their protection, and must not count as
	 * armed there. */
	tell(f, 'M');
	register_new(f, false, AWAY, PAGES * PAGE);
	expect_new(f, AWAY, PAGES, 9);
	tell(f, 't');
	register_new(f, false, HUGE, HUGE_BYTES);
	expect_new(f, HUGE, pages, 77);
	tell(f, 'T'); /* a page table as a whole */
	register_new(f, false, HUGE, HUGE_BYTES / 2);
	expect_new(f, HUGE, pages / 2, 78);
	tell(f, 'h');
	register_new(f, false, HUGE, HUGE_BYTES);
	live_pass(f, HUGE, HUGE_BYTES, &s);
	tell(f, 'T'); /* a huge page */
	register_new(f, false, HUGE, HUGE_BYTES / 2);
	expect_new(f, HUGE, pages / 2, 79);
	/* Dropped, and come back, behind the back of who armed nothing of it yet. */
	tell(f, 'h');
	register_new(f, false, HUGE, HUGE_BYTES);
	tell(f, 'z');
	tell(f, 'H');
	live_pass(f, HUGE, HUGE_BYTES, &s);
	assert_int_equal(s.map[3], 'w');
	for (size_t i = pages / 2; i < pages; i++)
		assert_int_equal(s.map[i], 'w');
	tell(f, 'H');
	live_pass(f, HUGE, HUGE_BYTES, &s);
	assert_int_equal(s.map[3], 'w');
	assert_int_equal(s.map[700], 'c');
}

static void test_drops(void **state)
{
	struct fixture *f = *state;
	struct seen s;

	arm_base(f, &s);
	tell(f, 'd');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "", 8, 4);
	tell(f, 'D');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "\11", 8, 4);
	tell(f, 'Z');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	assert_int_equal(s.map[24], 0);
	assert_int_not_equal(s.map[25], 'c');
	assert_int_not_equal(s.map[25], 0);
	tell(f, 'm');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	assert_int_equal(s.map[16], 0);
	assert_int_equal(s.map[17], 'w');
	assert_int_equal(s.map[18], 0);
	tell(f, 'g');
	assert_int_equal(pass(f, false, BASE, (PAGES + 4) * PAGE, &s), 0);
	for (int i = PAGES; i < PAGES + 4; i++)
		assert_int_equal(s.map[i], 'w');
	tell(f, 'n');
	assert_int_equal(pass(f, false, BASE, (PAGES + 4) * PAGE, &s), 0);
	for (int i = PAGES; i < PAGES + 4; i++)
		assert_int_equal(s.map[i], exact(f) ? 'c' : 'w');
}

static void test_guards(void **state)
{
	struct fixture *f = *state;
	struct seen s;

	arm_base(f, &s);
	tell(f, 'k');
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
		if (s.map[40] != 'g') /* older than 6.13: no guards */
			return;
		assert_int_equal(s.map[40], 'g');
		assert_int_equal(s.map[41], 'g');
		assert_int_equal(s.map[42], exact(f) ? 'c' : 'w');
	}
}

/* There and back, written in between: the kernel drops the registration, we must notice. */
static void test_moves(void **state)
{
	struct fixture *f = *state;
	struct seen s;

	arm_base(f, &s);
	tell(f, 'M');
	assert_int_equal(pass(f, false, AWAY, PAGES * PAGE, &s), 0);
	for (int i = 0; i < PAGES; i++)
		assert_int_equal(s.map[i], 'w');
	tell(f, 'B');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	assert_int_equal(s.map[7], 'w');
	tell(f, 'w');
	assert_int_equal(pass(f, false, BASE, PAGES * PAGE, &s), 0);
	expect(f, &s, "\5", 0, 0);
}

static void test_huge(void **state)
{
	struct fixture *f = *state;
	size_t n = HUGE_BYTES / PAGE;
	struct seen s;

	tell(f, 'h');
	assert_int_equal(pass(f, true, HUGE, HUGE_BYTES, &s), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(s.map[i], 'w');
	tell(f, 'H');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	assert_int_equal(s.map[3], 'w');
	assert_int_equal(s.map[600], exact(f) ? 'c' : 'w');
	tell(f, 'c');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	assert_int_equal(s.map[700], 'w');
	tell(f, 'H');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	assert_int_equal(s.map[3], 'w');
}

/* A page table that moves with all its bits, and the zero page in the place of a table. */
static void test_tables(void **state)
{
	struct fixture *f = *state;
	size_t half = HUGE_BYTES / PAGE / 2;
	struct seen s;

	tell(f, 't');
	assert_int_equal(pass(f, true, HUGE, HUGE_BYTES, &s), 0);
	tell(f, 'n');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	for (size_t i = 0; i < 2 * half; i++)
		assert_int_equal(s.map[i], exact(f) ? 'c' : 'w');
	tell(f, 'T');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES / 2, &s), 0);
	for (size_t i = 0; i < half; i++)
		assert_int_equal(s.map[i], 'w');
	tell(f, 'h');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	tell(f, 'z');
	assert_int_equal(pass(f, false, HUGE, HUGE_BYTES, &s), 0);
	assert_int_not_equal(s.map[9], 'c');
	assert_int_equal(s.map[half + 5], exact(f) ? 'c' : 'w');
}

static void test_file(void **state)
{
	struct fixture *f = *state;
	struct seen s;

	tell(f, 'F');
	assert_int_equal(pass(f, true, FILEMAP, 8 * PAGE, &s), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(s.map[i], 'w');
	tell(f, 'G');
	assert_int_equal(pass(f, false, FILEMAP, 8 * PAGE, &s), 0);
	assert_int_equal(s.map[0], 0);
	assert_int_equal(s.map[1], 0);
	assert_int_equal(s.map[2], 'w');
	assert_int_equal(s.map[3], 0);
	assert_int_equal(s.map[4], exact(f) ? 'c' : 'w');
}

static void test_exec(void **state)
{
	struct fixture *f = *state;
	struct seen s;
	int rc;

	arm_base(f, &s);
	assert_int_equal(write(f->to, "x", 1), 1);
	tell(f, 'n');
	rc = pass(f, false, BASE, PAGES * PAGE, &s);
	/* The bits of soft-dirty belong to the address space: nothing of it is known as clean. */
	for (int i = 0; !rc && i < PAGES; i++)
		assert_int_equal(s.map[i], 'w');
	if (exact(f) && f->ops != &track_soft_dirty) {
		assert_int_equal(rc, -ESTALE);
		tracker_detach(&f->t);
		arm_base(f, &s);
	}
}

static void test_own_userfaultfd(void **state)
{
	struct fixture *f = *state;
	struct seen s;

	tell(f, 'u');
	assert_int_equal(pass(f, true, BASE, PAGES * PAGE, &s),
			 f->ops == &track_wp_async ? -EBUSY : 0);
}

/* Who takes ranges is told of the same pages, and of what is the same as before. */
static int note_range(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct seen *s = arg;

	if (!(flags & TRACK_SAME))
		return note(arg, addr, npages, flags);
	for (uint64_t i = 0; i < npages; i++)
		s->map[(addr - s->base) / PAGE + i] = '=';
	return 0;
}

static void test_ranges(void **state)
{
	struct fixture *f = *state;
	struct target tg = { 0 };
	struct ckpt_err err = { 0 };
	struct seen s;

	arm_base(f, &s);
	tell(f, 'd');
	tell(f, 'w');
	if (target_freeze(&tg, f->pid, &err))
		fail_msg("%s: %s", err.where, err.msg);
	memset(&s, 0, sizeof(s));
	s.base = (uintptr_t)BASE;
	assert_int_equal(tracker_begin(&f->t), 0);
	assert_int_equal(tracker_collect(&f->t, (uintptr_t)BASE, (uintptr_t)BASE + PAGES * PAGE,
					 TRACK_ARM | TRACK_ANON | TRACK_RANGES, note_range, &s),
			 0);
	assert_int_equal(tracker_armed(&f->t), 0);
	target_thaw(&tg, TARGET_RUN);
	target_free(&tg);
	assert_int_equal(s.map[5], 'w');
	for (int i = 8; i < 12; i++)
		assert_int_equal(s.map[i], 0);
	if (exact(f))
		assert_true(s.map[30] == '=' || s.map[30] == 'c');
}

/* What a chain of increments would hold of WILD: brought up to date by what is told, it must be what is there. */
struct mirror {
	char *now, *next;
	int mem;
	uint64_t same;
};

static int note_mirror(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct mirror *m = arg;
	size_t off = addr - (uintptr_t)WILD, len = npages * PAGE;

	assert_true(off + len <= WILD_PAGES * PAGE);
	if (flags & (TRACK_SAME | TRACK_WRITTEN | TRACK_ZERO)) {
		if ((flags & TRACK_WRITTEN) && !(flags & TRACK_ZERO))
			assert_int_equal(pread(m->mem, m->next + off, len, (off_t)addr), len);
		else if (flags & TRACK_SAME)
			memcpy(m->next + off, m->now + off, len);
	} else {
		memcpy(m->next + off, m->now + off, len);
	}
	m->same += flags & TRACK_SAME ? npages : 0;
	return 0;
}

/* What is there. Where no page is, reading would make one, and the page table with it. */
static void read_wild(const struct fixture *f, int mem, char *is)
{
	static uint64_t e[WILD_PAGES];
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", f->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, e, sizeof(e), (off_t)((uintptr_t)WILD / PAGE * 8)), sizeof(e));
	close(fd);
	for (size_t i = 0; i < WILD_PAGES; i++)
		if (e[i] >> 63 || (e[i] >> 62 & 1 && (e[i] & 31) != 31))
			assert_int_equal(pread(mem, is + i * PAGE, PAGE, (off_t)(uintptr_t)WILD + (off_t)(i * PAGE)),
					 PAGE);
}

static void wild_pass(struct fixture *f, struct mirror *m, bool attach)
{
	struct target tg = { 0 };
	struct ckpt_err err = { 0 };
	char *swap = m->now, *is = calloc(WILD_PAGES, PAGE);

	if (target_freeze(&tg, f->pid, &err))
		fail_msg("%s: %s", err.where, err.msg);
	if (attach && attach_it(f, &tg, &err))
		fail_msg("%s: %s", err.where, err.msg);
	m->mem = tg.tasks.v[0].mem_fd;
	assert_int_equal(tracker_begin(&f->t), 0);
	/* Who does not arm is told the same, and takes nothing away. */
	if (!attach && f->ops == &track_wp_async) {
		memset(m->next, 0, WILD_PAGES * PAGE);
		assert_int_equal(tracker_collect(&f->t, (uintptr_t)WILD,
						 (uintptr_t)WILD + WILD_PAGES * PAGE,
						 TRACK_ANON | TRACK_RANGES, note_mirror, m),
				 0);
		read_wild(f, m->mem, is);
		assert_int_equal(memcmp(is, m->next, WILD_PAGES * PAGE), 0);
		memset(is, 0, WILD_PAGES * PAGE);
		m->same = 0;
	}
	memset(m->next, 0, WILD_PAGES * PAGE);
	assert_int_equal(tracker_collect(&f->t, (uintptr_t)WILD, (uintptr_t)WILD + WILD_PAGES * PAGE,
					 TRACK_ARM | TRACK_ANON | (attach ? 0 : TRACK_RANGES), note_mirror, m),
			 0);
	assert_int_equal(tracker_armed(&f->t), 0);
	read_wild(f, m->mem, is);
	target_thaw(&tg, TARGET_RUN);
	target_free(&tg);
	for (size_t i = 0; i < WILD_PAGES; i++)
		if (memcmp(is + i * PAGE, m->next + i * PAGE, PAGE) != 0)
			fail_msg("page %zu differs", i);
	free(is);
	m->now = m->next;
	m->next = swap;
}

static void test_wild(void **state)
{
	struct fixture *f = *state;
	struct mirror m = { calloc(WILD_PAGES, PAGE), calloc(WILD_PAGES, PAGE), -1, 0 };

	tell(f, 'W');
	wild_pass(f, &m, true);
	for (int i = 0; i < 80; i++) {
		/* Every other time by two threads. */
		f->t.split_bytes = i % 2 ? 4ul << 20 : 0;
		tell(f, 'X');
		wild_pass(f, &m, false);
	}
	/* Nothing happens to half of it, and of the rest there is nothing: that is not looked at. */
	tell(f, 'W');
	wild_pass(f, &m, false);
	m.same = 0;
	wild_pass(f, &m, false);
	if (f->ops == &track_wp_async || f->ops == &track_kmod)
		assert_true(m.same >= WILD_PAGES / 2);
	free(m.now);
	free(m.next);
}

/* The target sees no descriptor, and after the detach no trace. */
static void test_no_trace(void **state)
{
	struct fixture *f = *state;
	char path[64], line[256];
	struct seen s;
	FILE *smaps;

	arm_base(f, &s);
	for (int fd = 0; fd < 16; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", f->pid, fd);
		n = readlink(path, line, sizeof(line) - 1);
		line[n > 0 ? n : 0] = 0;
		assert_null(strstr(line, "userfaultfd"));
	}
	tracker_detach(&f->t);
	snprintf(path, sizeof(path), "/proc/%d/smaps", f->pid);
	smaps = fopen(path, "re");
	assert_non_null(smaps);
	while (fgets(line, sizeof(line), smaps))
		if (!strncmp(line, "VmFlags:", 8))
			assert_null(strstr(line, " uw"));
	fclose(smaps);
}

static const struct {
	const char *name;
	void (*fn)(void **state);
} cases[] = {
	{ "writes", test_writes },
	{ "count", test_count },
	{ "live", test_live },
	{ "new", test_new },
	{ "drops", test_drops },
	{ "guards", test_guards },
	{ "moves", test_moves },
	{ "huge", test_huge },
	{ "tables", test_tables },
	{ "ranges", test_ranges },
	{ "wild", test_wild },
	{ "file", test_file },
	{ "exec", test_exec },
	{ "own_userfaultfd", test_own_userfaultfd },
	{ "no_trace", test_no_trace },
};
#define CASES (sizeof(cases) / sizeof(cases[0]))

int main(int argc, char **argv)
{
	static struct backend backends[] = {
		{ .title = "kmod", .name = "kmod" },
		{ .title = "wp-async", .name = "wp-async" },
		{ .title = "wp-async, unknown kernel", .name = "wp-async", .facts = 1 },
		{ .title = "soft-dirty", .name = "soft-dirty" },
		{ .title = "none", .name = "none" },
	};
	struct CMUnitTest tests[5 * CASES] = { 0 };
	static char titles[5 * CASES][48];
	char path[512];
	size_t n = 0;
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (argc == 5 && !strcmp(argv[1], "--target"))
		target_main(atoi(argv[2]), atoi(argv[3]), argv[4], argv[0]);
	path[len > 0 ? len : 0] = 0;
	self_path = path;
	for (size_t b = 0; b < sizeof(backends) / sizeof(backends[0]); b++) {
		struct ckpt_err err = { 0 };
		struct backend *back = &backends[b];

		back->ops = track_choose(back->name, false, &err);
		if (!back->ops) {
			printf("not on this kernel: %s\n", back->name);
			continue;
		}
		for (size_t i = 0; i < CASES; i++) {
			snprintf(titles[n], sizeof(titles[n]), "%s/%s", back->title, cases[i].name);
			tests[n] = (struct CMUnitTest){ titles[n], cases[i].fn, setup, teardown, back };
			n++;
		}
	}
	return _cmocka_run_group_tests("track", tests, n, NULL, NULL);
}
