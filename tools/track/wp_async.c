// SPDX-License-Identifier: GPL-2.0-only
/*
 * Write tracking by userfaultfd in asynchronous write-protect mode (Linux 6.7):
 * the kernel itself takes the protection from a page at the first write, and
 * PAGEMAP_SCAN tells protected pages from others. The userfaultfd must be made
 * by the task itself: its descriptor is lent to us for the time of one step
 * list and closed there again, whatever becomes of us.
 *
 * What the kernel does for us, and what not:
 *   - A new mapping, also one merged from or moved by mremap, is not registered:
 *     the scan is told to fail on those, then they are registered, and a page
 *     without protection reads as written.
 *   - Before 6.13, mremap kept the protection bit of moved pages whose mapping
 *     lost its registration, and a write did not clear it. There such bits are
 *     looked for in every mapping that is registered newly, and cleared.
 *   - Dropping a page of a private file mapping leaves a marker that reads as
 *     "swapped, not written". Markers are no pages: /proc/PID/pagemap tells.
 *   - Pages written by a device (pinned memory) are not seen. io_uring and AIO,
 *     the ways to have such pages, are refused by the dump.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "kern/getfd.h"
#include "kern/inject.h"
#include "track/changed.h"
#include "track/scan.h"
#include "track/track.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#define FEATURES (UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED)
#define FEATURES_SHARED (FEATURES | UFFD_FEATURE_EVENT_REMOVE)
#define PAGE 4096u
#define ARENA_BYTES (64u << 10)

/* /proc/PID/pagemap */
#define PM_PRESENT (1ull << 63)
#define PM_SWAP (1ull << 62)
#define PM_SWAP_TYPE 0x1full
#define PM_OFFSET_SHIFT 5
#define PM_UFFD_WP (1ull << 57)
#define PM_GUARD (1ull << 58)
#define MARKER_GUARD 4u    /* in the offset of a marker; Linux 6.13, which has no bit 58 yet */
#define PM_TYPE_MARKER 31u /* the last of 32 swap types, in every kernel that has markers */

static bool is_marker(uint64_t e)
{
	return (e & PM_SWAP) && (e & PM_SWAP_TYPE) == PM_TYPE_MARKER;
}

static int uffd_enable(int fd, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	return ioctl(fd, UFFDIO_API, &api) ? -errno : 0;
}

static bool wp_ask(void)
{
	auto_fd fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	auto_fd pm = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct scan_arg a = { .size = sizeof(a), .end = PAGE };

	return fd >= 0 && pm >= 0 && !uffd_enable(fd, FEATURES) && ioctl(pm, SCAN_IOCTL, &a) >= 0;
}

/* A kernel that has it keeps it. */
static bool wp_probe(void)
{
	static atomic_bool has;

	if (!atomic_load(&has))
		atomic_store(&has, wp_ask());
	return atomic_load(&has);
}

struct lent {
	const struct inject *in;
	const struct ckpt_slot *slot;
	uint32_t step;
	int pid, fd;
};

static int take_uffd(void *arg)
{
	struct lent *l = arg;
	int64_t fd = slot_ret(&l->in->arena, l->slot, l->step);

	l->fd = fd_take(l->pid, (int)fd);
	return l->fd < 0 ? l->fd : 0;
}

static int run_lending(struct inject *in, struct target_task *task, uint64_t features, int *ret_fd,
		       struct ckpt_err *err)
{
	struct lent l = { .in = in, .pid = task->pid, .fd = -1 };
	struct ckpt_slot *slot = arena_slot(&in->arena);
	uint32_t *word = arena_alloc(&in->arena, sizeof(*word));
	struct ckpt_step close_it = { .op = CKPT_OP_SYSCALL, .nr = SYS_close, .refs = 1 };
	struct steps s;
	int rc;

	steps_init(&s, &in->arena);
	l.slot = slot;
	l.step = steps_call(&s, "make a userfaultfd", SYS_userfaultfd,
			    O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	(void)steps_add(
		&s,
		&(struct ckpt_step) { .op = CKPT_OP_LEND,
				      .arg = { word ? arena_remote(&in->arena, word) : 0 } },
		"lend it");
	close_it.arg[0] = l.step;
	(void)steps_add(&s, &close_it, "close it");
	if (!slot || !word)
		s.failed = -ENOSPC;
	rc = steps_commit(&s, slot, err);
	steps_free(&s);
	if (!rc) {
		rc = inject_run_lending(in, &task->threads.v[0], slot, word, take_uffd, &l, err);
		if (rc && !err->id)
			(void)ckpt_fail_errno(err, E_TRACK, rc,
					      "task %d: cannot take its userfaultfd", task->pid);
	}
	if (!rc) {
		rc = uffd_enable(l.fd, features);
		if (rc)
			(void)ckpt_fail_errno(err, E_TRACK, rc,
					      "task %d: cannot set up its userfaultfd", task->pid);
	}
	if (rc && l.fd >= 0)
		(void)close(l.fd);
	if (!rc)
		*ret_fd = l.fd;
	return rc;
}

static int make_uffd(struct target_task *task, uint64_t features, int *ret_fd, struct ckpt_err *err)
{
	struct ckpt_err end_err = { 0 };
	struct inject in;
	int end, rc = inject_begin(&in, task, ARENA_BYTES, err);

	if (rc)
		return rc;
	rc = run_lending(&in, task, features, ret_fd, err);
	end = inject_end(&in, &end_err);
	if (!rc && end) {
		*err = end_err;
		rc = end;
	}
	return rc;
}

static int wp_attach(struct tracker *t, struct target_task *task, struct ckpt_err *err)
{
	return make_uffd(task, FEATURES, &t->fd, err);
}

/* Is all of [start, end) registered for asynchronous protection? Walks no page: registered
 * mappings are of no interest to this scan, and others make it fail. */
static int all_registered(struct tracker *t, uint64_t start, uint64_t end, bool *ret)
{
	struct scan_arg a = { .flags = SCAN_CHECK_WPASYNC,
			      .category_inverted = SCAN_WPALLOWED,
			      .category_mask = SCAN_WPALLOWED };
	int n = tracker_scan(t, &a, start, end);

	*ret = n >= 0;
	return n == -EPERM || n >= 0 ? 0 : n;
}

static int uffd_register(int fd, uint64_t start, uint64_t end)
{
	struct uffdio_register reg = { .range = { start, end - start },
				       .mode = UFFDIO_REGISTER_MODE_WP };

	if (!ioctl(fd, UFFDIO_REGISTER, &reg))
		return 0;
	/* ENOMEM: its memory is gone; EINVAL: it has no such mappings, so it is another's. */
	return errno == ENOMEM || errno == EINVAL || errno == ESRCH ? -ESTALE : -errno;
}

static int uffd_protect(int fd, uint64_t start, uint64_t end, bool on)
{
	struct uffdio_writeprotect wp = { .range = { start, end - start },
					  .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0 };

	if (!ioctl(fd, UFFDIO_WRITEPROTECT, &wp))
		return 0;
	return errno == ENOENT || errno == ESRCH ? -ESTALE : -errno;
}

/* Pages of mappings that are not registered, and protected all the same. */
static int find_stale(struct tracker *t, uint64_t start, uint64_t end, struct areas *ret)
{
	const uint64_t neither = SCAN_WPALLOWED | SCAN_WRITTEN;
	int rc = 0;

	for (uint64_t at = start; !rc && at < end;) {
		struct scan_arg a = { .category_inverted = neither,
				      .category_mask = neither,
				      .category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED };
		const struct scan_region *r = t->buf;
		int n = tracker_scan(t, &a, at, end);

		rc = n < 0 ? n : 0;
		for (int i = 0; i < n && !rc; i++) {
			struct area *f = vec_push(ret);

			if (f)
				*f = (struct area) { r[i].start, r[i].end };
			else
				rc = -ENOMEM;
		}
		if (!rc && a.walk_end <= at)
			rc = -EPROTO;
		at = a.walk_end;
	}
	return rc;
}

/*
 * Register what is new in [start, end); fails with -EBUSY when any of it is another's. Where the
 * kernel leaves no protection behind nothing walks a page: those of a new mapping are not
 * protected, so they read as written until they are armed. To unprotect them once more would cost
 * 25 ms a GiB, of a program that stands still.
 */
static int make_registered(struct tracker *t, int fd, uint64_t start, uint64_t end)
{
	struct areas stale = { 0 };
	bool done;
	int rc = all_registered(t, start, end, &done);

	if (!rc && !done && !(t->facts & FACT_MOVED_CLEAN))
		rc = find_stale(t, start, end, &stale);
	/* Also what is registered already: it must be ours. */
	if (!rc)
		rc = uffd_register(fd, start, end);
	for (size_t i = 0; !rc && i < stale.n; i++)
		rc = uffd_protect(fd, stale.v[i].start, stale.v[i].end, false);
	vec_free(&stale);
	return rc;
}

/* What an entry that is not present is: a page indeed, a guard, or a marker that means nothing. */
enum { ENTRY_PAGE, ENTRY_GUARD, ENTRY_NOTHING };

static int entry_kind(uint64_t e)
{
	if ((e & PM_GUARD) || (is_marker(e) && (e >> PM_OFFSET_SHIFT & MARKER_GUARD)))
		return ENTRY_GUARD;
	return is_marker(e) ? ENTRY_NOTHING : ENTRY_PAGE;
}

static int report_entries(struct tracker *t, const struct scan_region *r, unsigned int flags,
			  track_fn fn, void *arg)
{
	const unsigned int of_kind[] = { flags, TRACK_GUARD | TRACK_WRITTEN };
	uint64_t e[512], run = r->start;
	int rc = 0, kind = ENTRY_NOTHING;

	for (uint64_t at = r->start; !rc && at < r->end;) {
		size_t want = (r->end - at) / PAGE;
		ssize_t n;

		if (want > ARRAY_SIZE(e))
			want = ARRAY_SIZE(e);
		n = pread(t->pagemap_fd, e, want * 8, (off_t)(at / PAGE * 8));
		if (n < 8)
			return n < 0 ? -errno : -ENODATA;
		for (size_t i = 0; !rc && i < (size_t)n / 8; i++, at += PAGE) {
			int k = entry_kind(e[i]);

			if (k == kind)
				continue;
			if (kind != ENTRY_NOTHING && at > run)
				rc = fn(arg, run, (at - run) / PAGE, of_kind[kind]);
			kind = k;
			run = at;
		}
	}
	if (!rc && kind != ENTRY_NOTHING && r->end > run)
		rc = fn(arg, run, (r->end - run) / PAGE, of_kind[kind]);
	return rc;
}

static int report(struct tracker *t, const struct scan_region *r, track_fn fn, void *arg)
{
	unsigned int flags = 0;

	if (!(r->categories & SCAN_WPALLOWED) || (r->categories & SCAN_WRITTEN))
		flags |= TRACK_WRITTEN;
	if (r->categories & SCAN_PFNZERO)
		flags |= TRACK_ZERO;
	if (r->categories & SCAN_SWAPPED)
		return report_entries(t, r, flags, fn, arg);
	return fn(arg, r->start, (r->end - r->start) / PAGE, flags);
}

/* Report and, with @arm, protect what is in [start, end), in one atomic act. */
static int collect_pages(struct tracker *t, uint64_t start, uint64_t end, unsigned int how,
			 track_fn fn, void *arg)
{
	bool arm = how & TRACK_ARM;
	uint64_t file = how & TRACK_ANON ? 0 : SCAN_FILE;
	uint64_t written = how & TRACK_WRITES ? SCAN_WRITTEN : 0;
	uint64_t told = start;
	int rc = 0;

	while (!rc && start < end) {
		struct scan_arg a = {
			.flags = arm ? SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC : 0,
			.category_inverted = file,
			.category_mask = file | written,
			.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
			.return_mask = SCAN_WPALLOWED | SCAN_WRITTEN | SCAN_SWAPPED | SCAN_PFNZERO,
		};
		struct scan_region *r = t->buf;
		int n = tracker_scan(t, &a, start, end);

		/* Registered a moment ago, and not: the userfaultfd is of another address space. */
		if (n == -EPERM)
			return -ESTALE;
		if (n < 0)
			return n;
		for (int i = 0; !rc && i < n; i++) {
			told = r[i].end;
			rc = report(t, &r[i], fn, arg);
		}
		/*
		 * A walk that needed several of the kernel's own buffers may name the end of an
		 * earlier one. What was told is armed: a second look would take a write of a
		 * running target away from the next collection.
		 */
		if (a.walk_end < told)
			a.walk_end = told;
		if (!rc && a.walk_end <= start)
			return -EPROTO;
		start = a.walk_end;
	}
	return rc;
}

/* ---- the same as before, and the rest ---------------------------------------------------------
 */

#define ASK_BYTES (16ull << 30) /* of which each table may be asked for */
#define SMALL_BYTES (4u << 20)  /* is looked at page by page */

/* Does a scan for what is written find memory that has no page table? 6.18 does, the first
 * with PAGEMAP_SCAN did not. */
static bool holes_told(const struct tracker *self, char *p)
{
	struct tracker t = *self;
	struct scan_arg a = { .category_mask = SCAN_WRITTEN, .return_mask = SCAN_WRITTEN };
	const struct scan_region *r = t.buf;
	uint64_t start = (uint64_t)p, end = start + 2 * (size_t)TABLE_BYTES;

	return tracker_scan(&t, &a, start, end) == 1 && r->start == start && r->end == end;
}

/* Is a page that was moved away still protected, before 6.13? The mapping that moves is registered
 * no more. *ret_left: it did move, and where it was another thread may have mapped something. */
static bool moved_clean(const struct tracker *self, char *p, bool *ret_left)
{
	struct uffdio_writeprotect wp = { .range = { (uint64_t)p, PAGE },
					  .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	uint64_t there, moved;

	*(volatile char *)p = 1;
	if (ioctl(self->fd, UFFDIO_WRITEPROTECT, &wp) ||
	    pread(self->pagemap_fd, &there, 8, (off_t)((uint64_t)p / PAGE * 8)) != 8 ||
	    mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + TABLE_BYTES) == MAP_FAILED)
		return false;
	*ret_left = true;
	if (pread(self->pagemap_fd, &moved, 8, (off_t)((uint64_t)(p + TABLE_BYTES) / PAGE * 8)) !=
	    8)
		return false;
	return (there & PM_PRESENT) && (there & PM_UFFD_WP) && (moved & PM_PRESENT) &&
	       !(moved & PM_UFFD_WP);
}

static unsigned int facts_ask(void *buf)
{
	const size_t len = 2 * (size_t)TABLE_BYTES;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	auto_fd own = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	auto_fd uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	struct tracker self = { .fd = uffd, .shared_fd = -1, .pagemap_fd = own, .buf = buf };
	unsigned int facts = FACT_ASKED;
	bool left = false;

	if (p == MAP_FAILED)
		return facts;
	if (own >= 0 && uffd >= 0 && !uffd_enable(uffd, FEATURES) &&
	    !uffd_register(uffd, (uint64_t)p, (uint64_t)p + len)) {
		facts |= holes_told(&self, p) ? FACT_HOLES_TOLD : 0;
		facts |= moved_clean(&self, p, &left) ? FACT_MOVED_CLEAN : 0;
	}
	(void)munmap(left ? p + PAGE : p, left ? len - PAGE : len);
	return facts;
}

/* They are of the kernel: asked once. Whoever comes at the same time finds the same. */
static int wp_begin(struct tracker *t)
{
	static atomic_uint known;

	if (t->facts)
		return 0;
	if (!atomic_load(&known))
		atomic_store(&known, facts_ask(t->buf));
	t->facts = atomic_load(&known);
	return 0;
}

static int collect_changed(struct tracker *t, uint64_t start, uint64_t end, unsigned int how,
			   track_fn fn, void *arg)
{
	struct areas found = { 0 };
	uint64_t at = start;
	int rc = changed_find(t, start, end, &found);

	/* Who does not arm registers nothing: what is new here is looked at page by page. */
	if (rc == -ESTALE && !(how & TRACK_ARM)) {
		vec_free(&found);
		return collect_pages(t, start, end, how, fn, arg);
	}
	for (size_t i = 0; !rc && i < found.n; i++) {
		const struct area *a = &found.v[i];

		if (a->start > at)
			rc = fn(arg, at, (a->start - at) / PAGE, TRACK_SAME);
		if (!rc)
			rc = collect_pages(t, a->start, a->end, how, fn, arg);
		at = a->end;
	}
	if (!rc && at < end)
		rc = fn(arg, at, (end - at) / PAGE, TRACK_SAME);
	vec_free(&found);
	return rc;
}

/* Protect the pages of what is registered in [start, end). */
static int arm_registered(struct tracker *t, uint64_t start, uint64_t end)
{
	const uint64_t ours = SCAN_WPALLOWED | SCAN_WRITTEN;

	while (start < end) {
		struct scan_arg a = { .flags = SCAN_WP_MATCHING,
				      .category_inverted = SCAN_FILE,
				      .category_mask = SCAN_FILE | ours,
				      .category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
				      .return_mask = ours };
		int n = tracker_scan(t, &a, start, end);

		if (n < 0)
			return n;
		if (a.walk_end <= start)
			return -EPROTO;
		start = a.walk_end;
	}
	return 0;
}

struct mixed {
	track_fn fn;
	void *arg;
	struct area written;
};

static int mixed_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct mixed *m = arg;

	if (flags & TRACK_WRITTEN) {
		m->written.start = m->written.end ? m->written.start : addr;
		m->written.end = addr + npages * PAGE;
	}
	return m->fn(m->arg, addr, npages, flags);
}

/* Nothing is written between the two, for the task stands still. */
static int collect_mixed(struct tracker *t, uint64_t start, uint64_t end, bool arm, track_fn fn,
			 void *arg)
{
	struct mixed m = { fn, arg, { 0, 0 } };
	int rc = collect_pages(t, start, end, 0, mixed_run, &m);

	return rc || !arm ? rc : arm_registered(t, m.written.start, m.written.end);
}

/* Where is it quicker? */
static bool by_changes(const struct tracker *t, uint64_t start, uint64_t end, unsigned int how)
{
	const unsigned int need = TRACK_RANGES | TRACK_ANON;

	return (how & need) == need && end - start >= SMALL_BYTES &&
	       ((t->facts & FACT_HOLES_TOLD) || end - start <= ASK_BYTES);
}

static int wp_collect(struct tracker *t, uint64_t start, uint64_t end, unsigned int how,
		      track_fn fn, void *arg)
{
	bool arm = how & TRACK_ARM;
	int rc = arm && !(how & (TRACK_KNOWN | TRACK_OURS)) ? make_registered(t, t->fd, start, end)
							    : 0;

	if (how & TRACK_MIXED)
		return collect_mixed(t, start, end, arm, fn, arg);

	if (rc || (how & TRACK_NEW))
		return rc;
	return !(how & TRACK_WRITES) && by_changes(t, start, end, how)
		       ? collect_changed(t, start, end, how, fn, arg)
		       : collect_pages(t, start, end, how, fn, arg);
}

/* A userfaultfd of its own: events of private memory are of no interest. */
static int wp_share(struct tracker *t, struct target_task *task, struct ckpt_err *err)
{
	return make_uffd(task, FEATURES_SHARED, &t->shared_fd, err);
}

uint64_t tracker_events(int shared_fd)
{
	struct uffd_msg e;
	uint64_t n = 0;

	while (read(shared_fd, &e, sizeof(e)) == (ssize_t)sizeof(e))
		n += e.event == UFFD_EVENT_REMOVE;
	return n;
}

bool tracker_owns_shared(struct tracker *t, uint64_t start, uint64_t end)
{
	return t->ops == &track_wp_async && t->shared_fd >= 0 &&
	       (t->settled || !uffd_register(t->shared_fd, start, end));
}

struct shared_pass {
	struct tracker *t;
	bool arm;
	track_fn fn;
	void *arg;
};

/* For a kernel that does not tell of it. */
static int shared_hole(void *arg, uint64_t start, uint64_t end)
{
	const struct shared_pass *p = arg;
	int rc = p->arm ? uffd_protect(p->t->shared_fd, start, end, true) : 0;

	return rc ? rc : p->fn(p->arg, start, (end - start) / PAGE, TRACK_WRITTEN);
}

/*
 * Of a file, an entry without a page gets a marker when it is armed, which stays until the page is
 * written to, whatever comes and goes meanwhile; and a protected page that is dropped leaves one.
 * So what is not protected was written, or is of a mapping that is new.
 */
static int shared_part(void *arg, uint64_t start, uint64_t end)
{
	struct shared_pass *p = arg;
	struct tracker *t = p->t;
	bool ask = !(t->facts & FACT_HOLES_TOLD);
	uint64_t told = start;
	int rc = 0;

	while (!rc && start < end) {
		struct scan_arg a = { .flags = SCAN_CHECK_WPASYNC | (p->arm ? SCAN_WP_MATCHING : 0),
				      .category_mask = SCAN_WRITTEN,
				      .return_mask = SCAN_WRITTEN };
		const struct scan_region *r = t->buf;
		int n = tracker_scan(t, &a, start, end);

		if (n < 0)
			return n == -EPERM ? -ESTALE : n;
		for (int i = 0; !rc && i < n; i++) {
			if (ask && r[i].start > told)
				rc = changed_holes(t, told, r[i].start, shared_hole, p);
			told = r[i].end > told ? r[i].end : told;
			if (!rc)
				rc = p->fn(p->arg, r[i].start, (r[i].end - r[i].start) / PAGE,
					   TRACK_WRITTEN);
		}
		/* As in collect_pages(). */
		if (a.walk_end < told)
			a.walk_end = told;
		if (!rc && a.walk_end <= start)
			rc = -EPROTO;
		start = a.walk_end;
	}
	return !rc && ask && told < end ? changed_holes(t, told, end, shared_hole, p) : rc;
}

static int wp_shared(struct tracker *t, uint64_t start, uint64_t end, unsigned int how, track_fn fn,
		     void *arg)
{
	struct shared_pass pass = { t, how & TRACK_ARM, fn, arg };
	int rc = 0;

	if (pass.arm && !(how & TRACK_KNOWN))
		rc = make_registered(t, t->shared_fd, start, end);
	return rc || (how & TRACK_NEW) ? rc : changed_told(t, start, end, shared_part, &pass);
}

static int wp_count(struct tracker *t, uint64_t start, uint64_t end, uint64_t *ret_pages)
{
	while (start < end) {
		/* A hole reads as written, and is nothing to copy. */
		struct scan_arg a = { .flags = SCAN_CHECK_WPASYNC,
				      .category_mask = SCAN_WRITTEN,
				      .category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
				      .return_mask = SCAN_WRITTEN };
		const struct scan_region *r = t->buf;
		int n = tracker_scan(t, &a, start, end);

		if (n < 0)
			return n == -EPERM ? -ESTALE : n;
		for (int i = 0; i < n; i++)
			*ret_pages += (r[i].end - r[i].start) / PAGE;
		if (a.walk_end <= start)
			return -EPROTO;
		start = a.walk_end;
	}
	return 0;
}

bool tracker_shows(const struct tracker *t, uint64_t uffd)
{
	/* As long as it is open no other one can look like it. */
	return t->ops == &track_wp_async && t->fd >= 0 && (t->settled || (uffd && uffd == t->uffd));
}

bool tracker_owns(struct tracker *t, uint64_t start, uint64_t end, uint64_t uffd)
{
	if (tracker_shows(t, uffd))
		return true;
	if (t->ops != &track_wp_async || t->fd < 0 || uffd_register(t->fd, start, end))
		return false;
	/* It was there before, or the mapping could not be registered now. */
	t->uffd = uffd;
	return true;
}

const struct track_ops track_wp_async = {
	.name = "wp-async",
	.probe = wp_probe,
	.live = true,
	.solid = true,
	.nests = true,
	.mixed = true,
	.attach = wp_attach,
	.begin = wp_begin,
	.collect = wp_collect,
	.count = wp_count,
	.share = wp_share,
	.shared = wp_shared,
};
