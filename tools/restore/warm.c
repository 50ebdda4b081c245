// SPDX-License-Identifier: GPL-2.0-only
/*
 * A root task that exists before its image is known. It has left ckpt's memory,
 * shares ckpt's descriptors, waits in the interpreter for lists, and its
 * anonymous memory is written from outside as it comes. In the end the ordinary
 * plan runs in it, as in a child that was cloned with memory: what it has that
 * the image has too stays, the rest is mapped, filled or dropped (inherit.c).
 */
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "kern/pagemap.h"
#include "restore/mm.h"

/* Steps for an image that nobody knows yet; untouched pages cost nothing. */
#define ARENA_MORE (1ull << 30)

static void wake(uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static int wait_list(struct restore_ctx *r, struct ckpt_err *err)
{
	struct ckpt_slot *slot = r->warm->slot;
	const struct ckpt_step *v = arena_local(&r->arena, slot->steps);
	struct timespec tick = { .tv_nsec = 20000000 };
	uint32_t pc;
	int status;

	for (;;) {
		uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

		if (state == CKPT_SLOT_DONE)
			return 0;
		if (state == CKPT_SLOT_FAILED)
			break;
		(void)syscall(SYS_futex, &slot->state, FUTEX_WAIT, state, &tick, NULL, 0);
		if (waitpid(r->root, &status, WNOHANG) == r->root) {
			r->root = 0;
			return ckpt_fail(err, E_RESTORE, -ECHILD, "task %d died while it was built",
					 slot->tid);
		}
	}
	for (pc = slot->pc; pc && !v[pc].label; pc--)
		;
	return ckpt_fail_errno(err, E_RESTORE, slot->err, "task %d: %s (step %u, call %u)",
			       slot->tid, arena_label(&r->arena, &v[pc]), slot->pc, v[slot->pc].nr);
}

int restore_warm_begin(struct restore_ctx *r, int pid, int lone_sid, Ckpt__Mm *const *mms, size_t n,
		       struct ckpt_err *err)
{
	struct restore_warm *w = calloc(1, sizeof(*w));
	sigset_t all, old;
	struct steps s;
	char path[48];
	int rc;

	if (!w)
		return mm_oom(err);
	r->warm = w;
	ckpt__mm__init(&w->mm);
	w->mem_fd = -1;
	r->arena_more = ARENA_MORE;
	/* For the layout only: nothing of it is owned by the image. */
	r->img->mms.v = (Ckpt__Mm **)mms;
	r->img->mms.n = n;
	rc = restore_arena_map(r, err);
	r->img->mms.v = NULL;
	r->img->mms.n = 0;
	if (rc)
		return rc;
	w->slot = arena_slot(&r->arena);
	if (!w->slot)
		return mm_oom(err);
	w->slot->tid = pid;
	w->slot->again = 1;
	w->mark = r->arena.used;
	steps_init(&s, &r->arena);
	(void)steps_call(&s, "die with ckpt", SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	/* A huge page for one small one would hold memory that the program does not have. */
	(void)steps_try(&s, "small pages", SYS_prctl, PR_SET_THP_DISABLE, 1);
	restore_plan_leave(r, &s);
	rc = steps_commit(&s, w->slot, err);
	steps_free(&s);
	if (rc)
		return rc;
	sigfillset(&all);
	sigdelset(&all, SIGCHLD);
	sigprocmask(SIG_BLOCK, &all, &old);
	rc = restore_birth_root(r, w->slot, pid, lone_sid, CLONE_FILES, err);
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (rc < 0)
		return rc;
	r->root = rc;
	rc = wait_list(r, err);
	if (rc)
		return rc;
	(void)snprintf(path, sizeof(path), "/proc/%d/mem", r->root);
	w->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	if (w->mem_fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot open %s", path);
	return 0;
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
static int plan_map(const Ckpt__Mm *have, const Ckpt__Mm *want, Ckpt__Mm *ret, struct steps *s)
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
		map_new(s, w, at, w->end);
		if (!rc)
			rc = push(ret, w, at, w->end, early_prot(w));
	}
	return rc;
}

static void mm_clear(Ckpt__Mm *mm)
{
	for (size_t i = 0; i < mm->n_vmas; i++)
		ckpt__vma__free_unpacked(mm->vmas[i], NULL);
	free(mm->vmas);
	mm->vmas = NULL;
	mm->n_vmas = 0;
}

static int run_list(struct restore_ctx *r, struct steps *s, struct ckpt_err *err)
{
	struct ckpt_slot *slot = r->warm->slot;
	int rc = steps_commit(s, slot, err);

	if (rc)
		return rc;
	__atomic_store_n(&slot->state, CKPT_SLOT_NEXT, __ATOMIC_RELEASE);
	wake(&slot->state);
	return wait_list(r, err);
}

/* Where the kernel's mappings of the task end, ascending. */
struct ends {
	uint64_t *v;
	size_t n, cap;
};

static int read_ends(struct restore_ctx *r, struct ends *ret, struct ckpt_err *err)
{
	auto_free char *maps = NULL;
	int rc = proc_read(r->root, "maps", &maps, NULL, err);

	for (char *p = maps; !rc && p && *p; p = strchr(p, '\n'), p += p != NULL) {
		unsigned long start, end;
		uint64_t *e;

		if (sscanf(p, "%lx-%lx", &start, &end) != 2)
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
static int mend(struct restore_ctx *r, const Ckpt__Mm *want, struct ckpt_err *err)
{
	struct saved saved = { .mem_fd = r->warm->mem_fd };
	struct pagemap pm = { .fd = -1 };
	struct ends ends = { 0 };
	struct steps s;
	size_t k = 0;
	int rc = read_ends(r, &ends, err), io = 0;

	r->arena.used = r->warm->mark;
	steps_init(&s, &r->arena);
	for (size_t i = 0; !rc && !io && i < want->n_vmas; i++) {
		const Ckpt__Vma *v = want->vmas[i];

		while (k < ends.n && ends.v[k] <= v->start)
			k++;
		if (!early(v) || (k < ends.n && ends.v[k] >= v->end))
			continue;
		if (pm.fd < 0)
			io = pagemap_open(&pm, r->root);
		if (!io)
			io = pagemap_anon(&pm, v->start, v->end, save_run, &saved);
		(void)steps_call(&s, "unmap memory", SYS_munmap, v->start, v->end - v->start);
		map_new(&s, v, v->start, v->end);
	}
	if (!rc && !io && s.n)
		rc = run_list(r, &s, err);
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

int restore_warm_map(struct restore_ctx *r, const Ckpt__Mm *want, struct ckpt_err *err)
{
	struct restore_warm *w = r->warm;
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
	r->arena.used = w->mark;
	steps_init(&s, &r->arena);
	plan_unmap(&w->mm, want, &s);
	rc = plan_map(&w->mm, want, &now, &s);
	if (rc)
		rc = mm_oom(err);
	if (!rc && s.n)
		rc = run_list(r, &s, err);
	steps_free(&s);
	if (!rc)
		rc = mend(r, want, err);
	mm_clear(&w->mm);
	w->mm.vmas = now.vmas;
	w->mm.n_vmas = now.n_vmas;
	return rc;
}

bool restore_warm_has(const struct restore_ctx *r, uint64_t start, uint64_t end)
{
	const Ckpt__Mm *mm = &r->warm->mm;
	size_t low = 0, high = mm->n_vmas;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (mm->vmas[mid]->end <= start)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < mm->n_vmas && mm->vmas[low]->start <= start; low++) {
		start = mm->vmas[low]->end;
		if (start >= end)
			return true;
	}
	return false;
}

int restore_warm_read(struct restore_ctx *r, uint64_t addr, void *data, size_t len)
{
	return io_pread_full(r->warm->mem_fd, data, len, addr);
}

int restore_warm_write(struct restore_ctx *r, uint64_t addr, const void *data, size_t len)
{
	struct iovec from = { (void *)data, len }, to = { (void *)(uintptr_t)addr, len };
	ssize_t n = process_vm_writev(r->root, &from, 1, &to, 1, 0);

	if (n == (ssize_t)len)
		return 0;
	/* Reservations, which nobody may write to. */
	n = n < 0 ? 0 : n;
	return io_pwrite_full(r->warm->mem_fd, (const char *)data + n, len - (size_t)n,
			      addr + (uint64_t)n);
}

int restore_warm_base(struct restore_ctx *r, struct ckpt_err *err)
{
	struct restore_warm *w = r->warm;
	uint32_t **prot = &r->mm_prot[r->img->mms.n];

	/* The arena of the lists so far is free; slots and what the plan writes come behind. */
	w->mm.id = (uint32_t)r->img->mms.n + 1;
	r->runs[r->img->mms.n] = w->pages;
	*prot = calloc(w->mm.n_vmas + 1, sizeof(**prot));
	if (!*prot)
		return mm_oom(err);
	for (size_t i = 0; i < w->mm.n_vmas; i++)
		(*prot)[i] = w->mm.vmas[i]->prot;
	return 0;
}

void restore_warm_go(struct restore_ctx *r)
{
	struct ckpt_slot *slot = r->warm->slot;

	__atomic_store_n(&r->arena.base->events, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&slot->again, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&slot->state, CKPT_SLOT_NEXT, __ATOMIC_RELEASE);
	wake(&slot->state);
}

void restore_warm_free(struct restore_ctx *r)
{
	struct restore_warm *w = r->warm;

	if (!w)
		return;
	if (r->mm_prot && w->mm.id) {
		free(r->mm_prot[w->mm.id - 1]);
		r->mm_prot[w->mm.id - 1] = NULL;
	}
	mm_clear(&w->mm);
	vec_free(&w->pages);
	if (w->mem_fd >= 0)
		(void)close(w->mem_fd);
	free(w);
	r->warm = NULL;
}
