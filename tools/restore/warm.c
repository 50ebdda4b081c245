// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes that exist before their image is known. Each has left the memory it
 * was born with, shares ckpt's descriptors, waits in the interpreter for lists,
 * and its anonymous memory is written from outside as it comes. In the end the
 * ordinary plan runs in it, as in a child that was cloned with memory: what it
 * has that the image has too stays, the rest is mapped, filled or dropped
 * (inherit.c). Which processes there are is warm_tree.c's business.
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
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
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/text.h"
#include "base/vec.h"
#include "kern/pagemap.h"
#include "restore/mm.h"
#include "restore/warm.h"

/* Steps for an image that nobody knows yet; untouched pages cost nothing. */
#define ARENA_MORE (1ull << 30)

static void wake(uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void mm_clear(Ckpt__Mm *mm)
{
	for (size_t i = 0; i < mm->n_vmas; i++)
		ckpt__vma__free_unpacked(mm->vmas[i], NULL);
	free(mm->vmas);
	mm->vmas = NULL;
	mm->n_vmas = 0;
}

/* Is it dead? The root is ckpt's child and is waited for; the others are somebody else's. */
static bool warm_died(struct restore_ctx *r, const struct warm_task *w)
{
	struct pollfd end = { .fd = w->pid_fd, .events = POLLIN };
	int status;

	if (waitpid(r->root, &status, WNOHANG) == r->root) {
		r->root = 0;
		return true;
	}
	return w->parent && w->pid_fd >= 0 && poll(&end, 1, 0) > 0;
}

static int wait_list(struct restore_ctx *r, const struct warm_task *w, struct ckpt_err *err)
{
	struct ckpt_slot *slot = w->slot;
	const struct ckpt_step *v = arena_local(&r->arena, slot->steps);
	struct timespec tick = { .tv_nsec = 20000000 };
	uint32_t pc;

	for (;;) {
		uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

		if (state == CKPT_SLOT_DONE)
			return 0;
		if (state == CKPT_SLOT_FAILED)
			break;
		(void)syscall(SYS_futex, &slot->state, FUTEX_WAIT, state, &tick, NULL, 0);
		if (warm_died(r, w))
			return ckpt_fail(err, E_RESTORE, -ECHILD, "task %d died while it was built",
					 slot->tid);
	}
	for (pc = slot->pc; pc && !v[pc].label; pc--)
		;
	return ckpt_fail_errno(err, E_RESTORE, slot->err, "task %d: %s (step %u, call %u)",
			       slot->tid, arena_label(&r->arena, &v[pc]), slot->pc, v[slot->pc].nr);
}

void warm_steps(struct restore_ctx *r, struct steps *s)
{
	r->arena.used = r->warm->mark;
	steps_init(s, &r->arena);
}

int warm_run(struct restore_ctx *r, struct warm_task *w, struct steps *s, struct ckpt_err *err)
{
	int rc = steps_commit(s, w->slot, err);

	if (rc)
		return rc;
	__atomic_store_n(&w->slot->state, CKPT_SLOT_NEXT, __ATOMIC_RELEASE);
	wake(&w->slot->state);
	return wait_list(r, w, err);
}

static void task_free(struct warm_task *w)
{
	mm_clear(&w->mm);
	vec_free(&w->pages);
	warm_uffd_close(w);
	if (w->mem_fd >= 0)
		(void)close(w->mem_fd);
	if (w->pid_fd >= 0)
		(void)close(w->pid_fd);
	free(w);
}

struct warm_task *warm_new(struct restore_ctx *r, int pid, struct warm_task *parent,
			   struct ckpt_err *err)
{
	struct warm_task *w = calloc(1, sizeof(*w)), **at = w ? vec_push(&r->warm->tasks) : NULL;

	if (!at) {
		free(w);
		(void)mm_oom(err);
		return NULL;
	}
	*at = w;
	ckpt__mm__init(&w->mm);
	w->mem_fd = w->pid_fd = w->uffd = -1;
	w->pid = pid;
	w->parent = parent;
	r->arena.used = r->warm->mark;
	w->slot = arena_slot(&r->arena);
	if (!w->slot) {
		r->warm->tasks.n--;
		free(w);
		(void)ckpt_fail(err, E_NOMEM, -ENOSPC, "the arena is too small");
		return NULL;
	}
	r->warm->mark = r->arena.used;
	w->slot->tid = pid;
	w->slot->again = 1;
	return w;
}

void warm_forget(struct restore_ctx *r, struct warm_task *w)
{
	__typeof__(r->warm->tasks) *l = &r->warm->tasks;

	for (size_t i = 0; i < l->n; i++)
		if (l->v[i] == w) {
			memmove(&l->v[i], &l->v[i + 1], (l->n - i - 1) * sizeof(*l->v));
			l->n--;
			break;
		}
	task_free(w);
}

/* It was cloned: wait for its first list, and take hold of its memory. */
int warm_born(struct restore_ctx *r, struct warm_task *w, struct ckpt_err *err)
{
	char path[48];
	int rc;

	w->pid_fd = (int)syscall(SYS_pidfd_open, w->pid, 0);
	rc = wait_list(r, w, err);
	if (rc)
		return rc;
	(void)snprintf(path, sizeof(path), "/proc/%d/mem", w->pid);
	w->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	if (w->mem_fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot open %s", path);
	return warm_uffd_open(r, w, err);
}

int restore_warm_begin(struct restore_ctx *r, int pid, int lone_sid, Ckpt__Mm *const *mms, size_t n,
		       struct ckpt_err *err)
{
	struct warm_task *w;
	sigset_t old;
	struct steps s;
	int rc;

	r->warm = calloc(1, sizeof(*r->warm));
	if (!r->warm)
		return mm_oom(err);
	r->arena_more = ARENA_MORE;
	/* For the layout only: nothing of it is owned by the image. */
	r->img->mms.v = (Ckpt__Mm **)mms;
	r->img->mms.n = n;
	rc = restore_arena_map(r, err);
	r->img->mms.v = NULL;
	r->img->mms.n = 0;
	if (rc)
		return rc;
	r->warm->mark = r->arena.used;
	w = warm_new(r, pid, NULL, err);
	if (!w)
		return err->code;
	w->birth_sid = lone_sid;
	warm_steps(r, &s);
	(void)steps_call(&s, "die with ckpt", SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	/* A huge page for one small one would hold memory that the program does not have. */
	(void)steps_try(&s, "small pages", SYS_prctl, PR_SET_THP_DISABLE, 1);
	restore_plan_leave(r, &s);
	rc = steps_commit(&s, w->slot, err);
	steps_free(&s);
	if (rc)
		return rc;
	restore_newborn_signals(&old);
	rc = restore_birth_root(r, w->slot, pid, lone_sid, CLONE_FILES, err);
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (rc < 0)
		return rc;
	r->root = rc;
	return warm_born(r, w, err);
}

struct warm_task *restore_warm_find(const struct restore_ctx *r, int pid)
{
	for (size_t i = 0; r->warm && i < r->warm->tasks.n; i++)
		if (r->warm->tasks.v[i]->pid == pid)
			return r->warm->tasks.v[i];
	return NULL;
}

/* Mappings that are made early: memory of its own, which needs no file. */
static bool early(const Ckpt__Vma *v)
{
	return v->kind && !strcmp(v->kind, "anon") && !v->object && !(v->map & MAP_SHARED) &&
	       !(v->map & MAP_GROWSDOWN);
}

/*
 * Writable, so that the kernel merges what belongs to one mapping whatever protection its parts had
 * meanwhile. Reservations cost nothing as long as nobody may touch them.
 */
static uint32_t early_prot(const Ckpt__Vma *v)
{
	return v->prot == PROT_NONE ? PROT_NONE : PROT_READ | PROT_WRITE;
}

static Ckpt__Vma *part_of(const Ckpt__Vma *v, uint64_t start, uint64_t end, uint32_t prot)
{
	Ckpt__Vma *n = kind_msg_new(&ckpt__vma__descriptor);

	if (!n)
		return NULL;
	n->start = start;
	n->end = end;
	n->prot = prot;
	n->map = v->map;
	n->kind = strdup("anon");
	return n;
}

static int push(Ckpt__Mm *mm, const Ckpt__Vma *v, uint64_t start, uint64_t end, uint32_t prot)
{
	Ckpt__Vma *n;

	if (start >= end)
		return 0;
	n = part_of(v, start, end, prot);
	return n && n->kind && !kind_push(&mm->n_vmas, &mm->vmas, n) ? 0 : -ENOMEM;
}

int warm_mm_copy(Ckpt__Mm *ret, const Ckpt__Mm *from)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < from->n_vmas; i++) {
		const Ckpt__Vma *v = from->vmas[i];

		rc = push(ret, v, v->start, v->end, v->prot);
	}
	return rc;
}

static void map_new(struct steps *s, const Ckpt__Vma *v, uint64_t start, uint64_t end)
{
	if (start < end)
		(void)steps_add(
			s,
			&(struct ckpt_step) { .op = CKPT_OP_SYSCALL,
					      .nr = SYS_mmap,
					      .flags = CKPT_STEP_EXPECT,
					      .want = (int64_t)start,
					      .arg = { start, end - start, early_prot(v),
						       v->map | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
						       (uint64_t)-1, 0 } },
			"map anonymous memory");
}

/* What goes on where an inherited mapping ends: a new one never merges with that, but it can grow.
 * Where it does not, the new one is made after all. */
static void map_more(struct steps *s, const Ckpt__Vma *v, uint64_t start, uint64_t end)
{
	if (start >= end)
		return;
	(void)steps_try(s, "let a mapping grow", SYS_mremap, start - CKPT_PAGE, CKPT_PAGE,
			CKPT_PAGE + end - start, 0);
	(void)steps_try(s, "map anonymous memory", SYS_mmap, start, end - start, early_prot(v),
			v->map | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, (uint64_t)-1, 0);
}

/* Unmap of @have what no mapping of @want goes on with. Both ascend. */
static void plan_unmap(const Ckpt__Mm *have, const Ckpt__Mm *want, struct steps *s)
{
	size_t k = 0;

	for (size_t i = 0; i < have->n_vmas; i++) {
		const Ckpt__Vma *h = have->vmas[i];
		uint64_t at = h->start;

		while (k < want->n_vmas && want->vmas[k]->end <= h->start)
			k++;
		for (size_t n = k; n < want->n_vmas && want->vmas[n]->start < h->end; n++) {
			const Ckpt__Vma *w = want->vmas[n];

			if (!early(w) || w->map != h->map)
				continue;
			if (w->start > at)
				(void)steps_call(s, "unmap memory", SYS_munmap, at, w->start - at);
			at = w->end;
		}
		if (at < h->end)
			(void)steps_call(s, "unmap memory", SYS_munmap, at, h->end - at);
	}
}

/* Map of @want what @have does not have; *ret is what there is then. */
static int plan_map(const Ckpt__Mm *have, const Ckpt__Mm *want, bool heir, Ckpt__Mm *ret,
		    struct steps *s)
{
	size_t k = 0;
	int rc = 0;

	for (size_t i = 0; !rc && i < want->n_vmas; i++) {
		const Ckpt__Vma *w = want->vmas[i];
		uint64_t at = w->start;

		if (!early(w))
			continue;
		while (k < have->n_vmas && have->vmas[k]->end <= w->start)
			k++;
		for (size_t n = k; !rc && n < have->n_vmas && have->vmas[n]->start < w->end; n++) {
			const Ckpt__Vma *h = have->vmas[n];
			uint64_t from = h->start > w->start ? h->start : w->start;
			uint64_t to = h->end < w->end ? h->end : w->end;

			if (h->map != w->map)
				continue;
			map_new(s, w, at, from);
			rc = push(ret, w, at, from, early_prot(w));
			if (!rc)
				rc = push(ret, w, from, to, h->prot | early_prot(w));
			/* Before anything is written there: then it merges. */
			if (h->prot == PROT_NONE && early_prot(w))
				(void)steps_call(s, "open memory", SYS_mprotect, from, to - from,
						 early_prot(w));
			at = to;
		}
		if (heir && at > w->start && early_prot(w) != PROT_NONE)
			map_more(s, w, at, w->end);
		else
			map_new(s, w, at, w->end);
		if (!rc)
			rc = push(ret, w, at, w->end, early_prot(w));
	}
	return rc;
}

/* Where the kernel's mappings of the task end, ascending. */
struct ends {
	uint64_t *v;
	size_t n, cap;
};

static int read_ends(const struct warm_task *w, struct ends *ret, struct ckpt_err *err)
{
	auto_free char *maps = NULL;
	int rc = proc_read(w->pid, "maps", &maps, NULL, err);

	for (char *p = maps; !rc && p && *p; p = strchr(p, '\n'), p += p != NULL) {
		unsigned long start, end;
		uint64_t *e;

		if (text_scan(p, "%lx-%lx", &start, &end) != 2)
			continue;
		e = vec_push(ret);
		if (!e)
			return mm_oom(err);
		*e = end;
	}
	return rc;
}

/* Pages taken out of a mapping that is made anew. */
struct saved {
	struct {
		uint64_t addr;
		uint64_t len;
		char *data;
	} * v;
	size_t n, cap;
	int mem_fd;
};

static int save_run(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct saved *l = arg;
	__typeof__(l->v) p;

	if (flags)
		return 0;
	p = vec_push(l);
	if (!p)
		return -ENOMEM;
	p->addr = addr;
	p->len = npages * CKPT_PAGE;
	p->data = malloc(p->len);
	return p->data ? io_pread_full(l->mem_fd, p->data, p->len, addr) : -ENOMEM;
}

/*
 * Mappings that the kernel did not merge, because pages came into parts of them that were mappings
 * of their own then. The program has one there, and may rely on it: made anew in one piece.
 */
static int mend(struct restore_ctx *r, struct warm_task *w, const Ckpt__Mm *want,
		struct ckpt_err *err)
{
	struct saved saved = { .mem_fd = w->mem_fd };
	struct pagemap pm = { .fd = -1 };
	struct ends ends = { 0 };
	struct steps s;
	size_t k = 0;
	int rc = read_ends(w, &ends, err), io = 0;

	warm_steps(r, &s);
	for (size_t i = 0; !rc && !io && i < want->n_vmas; i++) {
		const Ckpt__Vma *v = want->vmas[i];

		while (k < ends.n && ends.v[k] <= v->start)
			k++;
		if (!early(v) || (k < ends.n && ends.v[k] >= v->end))
			continue;
		if (pm.fd < 0)
			io = pagemap_open(&pm, w->pid);
		if (!io)
			io = pagemap_anon(&pm, v->start, v->end, false, save_run, &saved);
		(void)steps_call(&s, "unmap memory", SYS_munmap, v->start, v->end - v->start);
		map_new(&s, v, v->start, v->end);
	}
	if (!rc && !io && s.n)
		rc = warm_run(r, w, &s, err);
	for (size_t i = 0; i < saved.n; i++) {
		if (!rc && !io)
			io = io_pwrite_full(saved.mem_fd, saved.v[i].data, saved.v[i].len,
					    saved.v[i].addr);
		free(saved.v[i].data);
	}
	steps_free(&s);
	pagemap_close(&pm);
	vec_free(&saved);
	vec_free(&ends);
	return io && !rc ? ckpt_fail_errno(err, E_RESTORE, io, "cannot make a mapping whole") : rc;
}

int restore_warm_map(struct restore_ctx *r, struct warm_task *w, const Ckpt__Mm *want,
		     struct ckpt_err *err)
{
	Ckpt__Mm now = CKPT__MM__INIT;
	uint64_t last = 0, start = r->arena.remote, end = r->parked.area + r->parked.area_len;
	struct steps s;
	int rc;

	for (size_t i = 0; i < want->n_vmas; i++) {
		const Ckpt__Vma *v = want->vmas[i];

		if (v->start < last || v->end <= v->start || (v->start | v->end) % CKPT_PAGE ||
		    (v->prot & ~7u) ||
		    (v->map &
		     ~(uint32_t)(MAP_PRIVATE | MAP_SHARED | MAP_GROWSDOWN | MAP_NORESERVE)))
			return ckpt_fail(err, E_PEER, -EBADMSG, "a mapping is impossible");
		if (v->start < end && v->end > start)
			return ckpt_fail(err, E_RESTORE, -EEXIST,
					 "the mapping at %#llx came where ckpt works",
					 (unsigned long long)v->start);
		last = v->end;
	}
	warm_steps(r, &s);
	plan_unmap(&w->mm, want, &s);
	rc = plan_map(&w->mm, want, w->heir, &now, &s);
	if (rc)
		rc = mm_oom(err);
	if (!rc && s.n)
		rc = warm_run(r, w, &s, err);
	steps_free(&s);
	/* Before it is looked at whether they merged: only what is alike does. */
	if (!rc)
		warm_uffd_register(w, &now);
	if (!rc)
		rc = mend(r, w, want, err);
	if (!rc)
		warm_uffd_register(w, &now);
	mm_clear(&w->mm);
	w->mm.vmas = now.vmas;
	w->mm.n_vmas = now.n_vmas;
	return rc;
}

int restore_warm_base(struct restore_ctx *r, struct ckpt_err *err)
{
	for (size_t k = 0; k < r->warm->tasks.n; k++) {
		struct warm_task *w = r->warm->tasks.v[k];
		size_t at = r->img->mms.n + k;
		uint32_t *prot = calloc(w->mm.n_vmas + 1, sizeof(*prot));

		/* The arena of the lists so far is free; slots and what the plan writes come
		 * behind. */
		w->mm.id = (uint32_t)at + 1;
		r->runs[at] = w->pages;
		r->mm_prot[at] = prot;
		if (!prot)
			return mm_oom(err);
		for (size_t i = 0; i < w->mm.n_vmas; i++)
			prot[i] = w->mm.vmas[i]->prot;
	}
	return 0;
}

bool mm_is_warm(const struct restore_ctx *r, const Ckpt__Mm *base)
{
	return base->id > r->img->mms.n;
}

void restore_warm_go(struct restore_ctx *r)
{
	__atomic_store_n(&r->arena.base->events, 0, __ATOMIC_SEQ_CST);
	for (size_t i = 0; i < r->warm->tasks.n; i++) {
		struct ckpt_slot *slot = r->warm->tasks.v[i]->slot;

		__atomic_store_n(&slot->again, 0, __ATOMIC_RELEASE);
		__atomic_store_n(&slot->state, CKPT_SLOT_NEXT, __ATOMIC_RELEASE);
		wake(&slot->state);
	}
}

void restore_warm_free(struct restore_ctx *r)
{
	struct restore_warm *all = r->warm;

	for (size_t i = 0; all && i < all->tasks.n; i++) {
		struct warm_task *w = all->tasks.v[i];

		if (r->mm_prot && w->mm.id) {
			free(r->mm_prot[w->mm.id - 1]);
			r->mm_prot[w->mm.id - 1] = NULL;
		}
		task_free(w);
	}
	if (all)
		vec_free(&all->tasks);
	free(all);
	r->warm = NULL;
}
