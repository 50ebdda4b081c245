// SPDX-License-Identifier: GPL-2.0-only
#include "dump/logged.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/vec.h"
#include "kern/faultlog.h"

/* Pages that the checkpoint before looked at, or that a process has mapped: of fewer a look at all
 * takes no longer than the stamps. */
#define WORTH_PAGES (128u << 8)
/* Each of them is run at every page fault of the machine. */
#define LOGS_MAX 2
/* More than that touch most page tables. */
#define TOLD_MAX 4096u
/* Descriptors are the keeper's under these numbers, those of the log first. */
#define FILE_FIRST 16u
enum { FILE_SLOT = FAULT_FDS, FILE_STAMP, FILES };

struct dump_log {
	struct fault_log log;
	struct mm_watch mm;           /* for stamps alone */
	int slot_fd;                  /* locked: one of LOGS_MAX */
	uint64_t from, until, misses; /* struct fault_room */
	struct { /* address spaces, and what they are when the program runs on */
		struct fault_mark *v;
		size_t n, cap;
	} next;
	struct track_told *told; /* of each task; NULL: nobody has looked */
	size_t tasks;
};

/* It was not known what it is: the next stop knows. */
#define UNKNOWN UINT64_MAX

/* ---- before the freeze ---------------------------------------------------------------------- */

static bool take_files(struct dump_log *l, struct keeper_tasks *files)
{
	int fds[FILES];
	size_t have = 0;

	for (size_t i = 0; i < FILES; i++)
		fds[i] = -1;
	for (size_t i = 0; i < files->n; i++) {
		struct keeper_task *f = &files->v[i];

		if (f->pid || f->fd < 0 || f->start_time < FILE_FIRST ||
		    f->start_time >= FILE_FIRST + FILES || fds[f->start_time - FILE_FIRST] >= 0)
			continue;
		fds[f->start_time - FILE_FIRST] = f->fd;
		f->fd = -1;
		have++;
	}
	l->slot_fd = fds[FILE_SLOT];
	l->mm.stamp_fd = fds[FILE_STAMP];
	if (have == FILES)
		return !fault_log_adopt(&l->log, fds);
	for (size_t i = 0; i < FAULT_FDS; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	return false;
}

/* A place among the logs of this machine; it is given back with the descriptor. */
static int slot_take(void)
{
	for (int i = 0; i < LOGS_MAX; i++) {
		char path[48];
		auto_fd fd = -1;

		(void)snprintf(path, sizeof(path), KEEPER_RUN_DIR "/faultlog.%d", i);
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB))
			return take_fd(&fd);
	}
	return -1;
}

static bool is_worth(uint64_t pages)
{
	return pages >= WORTH_PAGES || ckpt_fault("track.small");
}

static bool log_new(struct dump_ctx *d, struct dump_log *l)
{
	const Ckpt__Stats *was = d->parent ? d->parent->inv->stats : NULL;

	if (!was || !d->tracking->arm || !is_worth(was->pages_parent + was->pages_dirty))
		return false;
	dump_iters_mm(&d->iters);
	if (d->iters.mm.stamp_fd < 0)
		return false;
	if (l->mm.stamp_fd < 0)
		l->mm.stamp_fd = fcntl(d->iters.mm.stamp_fd, F_DUPFD_CLOEXEC, 3);
	if (l->slot_fd < 0)
		l->slot_fd = slot_take();
	return l->mm.stamp_fd >= 0 && l->slot_fd >= 0 &&
	       !fault_log_open(&l->log, &l->mm, &d->iters.types);
}

int dump_log_begin(struct dump_ctx *d, const struct track_ops *ops, struct keeper_tasks *files)
{
	struct dump_log *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	d->log = l;
	fault_log_init(&l->log);
	l->mm = MM_WATCH_NONE;
	l->slot_fd = -1;
	if (!take_files(l, files) && (ops != &track_wp_async || !log_new(d, l)))
		dump_log_free(d);
	return 0;
}

void dump_log_free(struct dump_ctx *d)
{
	struct dump_log *l = d->log;

	if (!l)
		return;
	d->log = NULL;
	fault_log_close(&l->log);
	mm_watch_close(&l->mm);
	if (l->slot_fd >= 0)
		(void)close(l->slot_fd);
	for (size_t i = 0; l->told && i < l->tasks; i++)
		vec_free(&l->told[i]);
	free(l->told);
	vec_free(&l->next);
	free(l);
}

bool dump_log_few(const struct dump_ctx *d, uint64_t pages)
{
	const struct fault_room *r = d->log ? d->log->log.room : NULL;

	return r && r->marks[0].stamp.mm && r->marks[0].stamp.seq != UNKNOWN &&
	       __atomic_load_n(&r->n, __ATOMIC_ACQUIRE) - r->from < pages;
}

/* ---- while all stand still ------------------------------------------------------------------ */

static const struct fault_mark *mark_find(const struct fault_room *r, uint64_t mm)
{
	for (size_t i = 0; i < FAULT_MARKS && r->marks[i].stamp.mm; i++)
		if (r->marks[i].stamp.mm == mm)
			return &r->marks[i];
	return NULL;
}

/* Those of small processes are not worth to be asked for. */
static bool has_mark(const struct fault_room *r, int pid)
{
	for (size_t i = 0; i < FAULT_MARKS && r->marks[i].stamp.mm; i++)
		if (r->marks[i].pid == pid)
			return true;
	return false;
}

static bool same_stamp(const struct mm_stamp *a, const struct mm_stamp *b)
{
	return a->mm == b->mm && a->seq == b->seq;
}

/* ckpt itself has written to it, which is not noted. */
static bool wrote_to(const struct target_task *task)
{
	for (size_t i = 0; i < task->threads.n; i++)
		if (task->threads.v[i].poked)
			return true;
	return false;
}

/* The tables that were written to of @mm since room->from. False: nobody knows. */
static bool tables_of(const struct dump_log *l, uint64_t mm, struct track_told *ret)
{
	const struct fault_room *r = l->log.room;
	size_t kept = 0;

	for (uint64_t n = r->from; n < l->from; n++) {
		const struct fault_entry *e = &r->entry[n % FAULT_ENTRIES];
		uint64_t table = e->addr & ~(uint64_t)(TABLE_BYTES - 1), *slot;

		if (__atomic_load_n(&e->number, __ATOMIC_ACQUIRE) != n + 1)
			return false;
		if (e->mm != mm || (ret->n && ret->v[ret->n - 1] == table))
			continue;
		/* While it stood still ckpt had it do this and that. */
		if (e->addr == FAULT_ANY_OWN && n < r->until)
			continue;
		slot = e->addr >= FAULT_ANY_OWN ? NULL : vec_push(ret);
		if (!slot)
			return false;
		*slot = table;
	}
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), bpf_record_compare);
	for (size_t i = 0; i < ret->n; i++)
		if (!kept || ret->v[kept - 1] != ret->v[i])
			ret->v[kept++] = ret->v[i];
	ret->n = kept;
	return true;
}

/* None is overwritten while it is read: those who are logged stand still, but for notes of others.
 */
static bool is_whole(const struct dump_log *l)
{
	const struct fault_room *r = l->log.room;

	return l->from - r->from <= TOLD_MAX && l->misses == r->misses &&
	       __atomic_load_n(&r->n, __ATOMIC_ACQUIRE) - r->from <= FAULT_ENTRIES;
}

void dump_log_look(struct dump_ctx *d)
{
	struct dump_log *l = d->log;
	const struct target *t = &d->target;

	if (!l)
		return;
	l->from = __atomic_load_n(&l->log.room->n, __ATOMIC_ACQUIRE);
	/* Where pages were copied ahead, what is the same must have no holes (walk.c). */
	if (fault_log_misses(&l->log, &l->misses) || !d->tracking->increment || d->pre ||
	    !is_whole(l))
		return;
	l->told = calloc(t->tasks.n, sizeof(*l->told));
	l->tasks = l->told ? t->tasks.n : 0;
	for (size_t i = 0; i < l->tasks; i++) {
		const struct target_task *task = &t->tasks.v[i];
		const struct fault_mark *mark;
		struct mm_stamp now;

		if (task->zombie || !has_mark(l->log.room, task->pid) || wrote_to(task) ||
		    mm_stamp_read(&l->mm, task->pid, &now))
			continue;
		mark = mark_find(l->log.room, now.mm);
		if (!mark || !same_stamp(&mark->stamp, &now) ||
		    !tables_of(l, now.mm, &l->told[i]) || !is_whole(l))
			continue;
		dump_session_told(d, task->pid, &l->told[i]);
		d->stats.spaces_told++;
		ui_note(d->ui, 2, "task %d: where it was written to the log of page faults tells",
			task->pid);
	}
}

/* Of address space @mm, tracked or not. */
static uint64_t mapped_pages(const Ckpt__Mm *mm)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < mm->n_vmas; i++)
		bytes += mm->vmas[i]->end - mm->vmas[i]->start;
	return bytes / CKPT_PAGE;
}

static void settle_one(struct dump_ctx *d, int pid)
{
	struct dump_log *l = d->log;
	struct fault_mark *next;
	struct mm_stamp now;

	if (l->next.n + 1 >= FAULT_MARKS || mm_stamp_read(&l->mm, pid, &now))
		return;
	/* What was written before it was taken in nobody has noted. */
	if (!mark_find(l->log.room, now.mm)) {
		if (fault_log_add(&l->log, now.mm))
			return;
		now.seq = UNKNOWN;
	}
	next = vec_push(&l->next);
	if (next)
		*next = (struct fault_mark) { .stamp = now, .pid = pid };
}

void dump_log_settle(struct dump_ctx *d)
{
	struct dump_log *l = d->log;

	if (!l)
		return;
	l->until = __atomic_load_n(&l->log.room->n, __ATOMIC_ACQUIRE);
	for (size_t i = 0; i < d->pages.n; i++) {
		const struct dump_pages *p = &d->pages.v[i];

		if (p->mm && is_worth(mapped_pages(d->mms.v[p->mm - 1])))
			settle_one(d, p->pid);
	}
}

/* ---- behind it ------------------------------------------------------------------------------ */

void dump_log_commit(struct dump_ctx *d, struct keeper_tasks *files)
{
	struct dump_log *l = d->log;
	struct fault_room *r = l ? l->log.room : NULL;
	size_t first = files->n;

	if (!l)
		return;
	for (size_t i = 0; i < FILES; i++) {
		struct keeper_task *k = vec_push(files);

		if (!k) {
			files->n = first;
			return;
		}
		*k = (struct keeper_task) { .fd = i < FAULT_FDS    ? l->log.fd[i]
						  : i == FILE_SLOT ? l->slot_fd
								   : l->mm.stamp_fd,
					    .start_time = FILE_FIRST + i };
	}
	for (size_t i = 0; i < FAULT_MARKS && r->marks[i].stamp.mm; i++) {
		bool stays = false;

		for (size_t k = 0; k < l->next.n; k++)
			stays |= l->next.v[k].stamp.mm == r->marks[i].stamp.mm;
		if (!stays)
			fault_log_remove(&l->log, r->marks[i].stamp.mm);
	}
	for (size_t i = 0; i < l->next.n; i++)
		r->marks[i] = l->next.v[i];
	r->marks[l->next.n] = (struct fault_mark) { 0 };
	r->from = l->from;
	r->until = l->until;
	r->misses = l->misses;
}
