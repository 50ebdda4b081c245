// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading pages into an address space: cut into parts that several threads of
 * the process-to-be take in turn. Helper threads live only while they read and
 * get numbers that the image does not use.
 *
 * Huge pages come back only where all of one was there: those are read first,
 * while the mapping wants huge pages; the others after, while it does not. So
 * a hole next to one page of data stays a hole.
 */
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/vec.h"
#include "model/vmaflags.h"
#include "restore/mm.h"

#define HUGE_BYTES (2ull << 20)
#define PART_BYTES (1ull << 20)
_Static_assert(CKPT_STRIPE_BYTES % PART_BYTES == 0, "a part is in one file");
#define HELPER_BYTES (16ull << 20) /* less is read faster than a thread is made */
#define MAX_HELPERS 3

/* No part goes over the end of a stripe. */
static int part_add(struct mm_parts *l, uint64_t addr, uint64_t len, uint64_t off)
{
	l->bytes += len;
	while (len) {
		struct ckpt_fill_part *p = vec_push(l);
		uint64_t most = PART_BYTES - off % PART_BYTES;

		if (!p)
			return -ENOMEM;
		*p = (struct ckpt_fill_part) { addr, len < most ? len : most, off };
		addr += p->len;
		off += p->len;
		len -= p->len;
	}
	return 0;
}

int mm_fill_add(struct mm_fill *f, uint64_t start, uint64_t end, uint64_t off)
{
	return part_add(&f->rest, start, end - start, off);
}

/* Does every page of the huge page at @addr exist, and any of them have data? */
static bool huge_whole(const struct mm_runs *runs, uint64_t addr)
{
	uint64_t at = addr;
	bool data = false;

	for (size_t i = mm_runs_find(runs, addr); i < runs->n && at < addr + HUGE_BYTES; i++) {
		if (runs->v[i].start > at || runs->v[i].kind == CKPT_RUN_GUARD)
			return false;
		data |= runs->v[i].kind == CKPT_RUN_DATA;
		at = runs->v[i].end;
	}
	return data && at >= addr + HUGE_BYTES;
}

int mm_fill_vma(struct mm_fill *f, const struct mm_runs *runs, const Ckpt__Vma *v)
{
	uint64_t at = v->start, first = (v->start + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
	bool any = false, rest = false;
	int rc = 0;

	if (!(v->flags & VMA_FLAG_HUGEPAGE) || (v->map & MAP_SHARED) || v->object)
		return mm_fill_data(f, runs, v->start, v->end);
	for (uint64_t h = first; !rc && h + HUGE_BYTES <= v->end; h += HUGE_BYTES) {
		size_t i = mm_runs_find(runs, h);

		/* Over holes in one step, whatever their size. */
		if (i >= runs->n || runs->v[i].start >= v->end)
			break;
		if (runs->v[i].start >= h + HUGE_BYTES)
			h = runs->v[i].start & ~(HUGE_BYTES - 1);
		if (h + HUGE_BYTES > v->end || !huge_whole(runs, h))
			continue;
		any = true;
		rest |= at < h;
		rc = mm_fill_data(f, runs, at, h);
		for (i = mm_runs_find(runs, h); !rc && i < runs->n; i++) {
			const struct mm_run *run = &runs->v[i];
			uint64_t from = run->start > h ? run->start : h;
			uint64_t to = run->end < h + HUGE_BYTES ? run->end : h + HUGE_BYTES;

			if (run->start >= h + HUGE_BYTES)
				break;
			if (run->kind == CKPT_RUN_DATA)
				rc = part_add(&f->whole, from, to - from,
					      run->off + from - run->start);
		}
		at = h + HUGE_BYTES;
	}
	if (!rc)
		rc = mm_fill_data(f, runs, at, v->end);
	if (!rc && any) {
		__typeof__(f->huge.v) h = vec_push(&f->huge);

		if (!h)
			return -ENOMEM;
		h->start = v->start;
		h->end = v->end;
		h->rest = rest || at < v->end;
	}
	return rc;
}

static bool tid_used(const struct image *img, int tid)
{
	for (size_t i = 0; i < img->tasks.n; i++) {
		const Ckpt__Task *t = img->tasks.v[i];

		if (t->pid == tid || t->pgid == tid || t->sid == tid)
			return true;
		for (size_t k = 0; k < t->n_threads; k++)
			if (t->threads[k]->tid == tid)
				return true;
	}
	return false;
}

int restore_spare_tid(struct restore_ctx *r)
{
	char path[48];

	if (!r->spare_tid) {
		FILE *f = fopen("/proc/sys/kernel/pid_max", "re");

		if (!f || fscanf(f, "%d", &r->spare_tid) != 1)
			r->spare_tid = 32768;
		if (f)
			(void)fclose(f);
	}
	for (int tries = 0; tries < 1000 && r->spare_tid > 1000; tries++) {
		r->spare_tid--;
		(void)snprintf(path, sizeof(path), "/proc/%d", r->spare_tid);
		if (!tid_used(r->img, r->spare_tid) && access(path, F_OK))
			return r->spare_tid;
	}
	return 0;
}

/* One more thread that takes part in the job at @job; *ret_word is 0 once it is gone. */
static int plan_helper(struct restore_ctx *r, uint64_t job, struct steps *s, uint64_t *ret_word,
		       struct ckpt_err *err)
{
	struct ckpt_slot *slot = arena_slot(&r->arena);
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			 CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID,
		.stack_size = CKPT_SLOT_STACK,
		.set_tid_size = 1,
	};
	int tid = restore_spare_tid(r), rc;
	struct steps own;
	uint32_t *word;

	if (!slot || !tid)
		return 0;
	*ret_word = steps_room(s, sizeof(*word), &word);
	args.parent_tid = args.child_tid = *ret_word;
	args.stack = arena_remote(&r->arena, slot) + sizeof(*slot);
	args.set_tid = steps_data(s, &tid, sizeof(tid));
	steps_init(&own, &r->arena);
	(void)steps_add(&own, &(struct ckpt_step) { .op = CKPT_OP_FILL, .arg = { job } }, NULL);
	(void)steps_call(&own, NULL, SYS_exit, 0);
	rc = steps_commit(&own, slot, err);
	steps_free(&own);
	/* Without it the memory is filled as well, only slower. */
	(void)steps_add(s,
			&(struct ckpt_step) { .op = CKPT_OP_CLONE,
					      .flags = CKPT_STEP_MAY_FAIL,
					      .arg = { steps_data(s, &args, sizeof(args)), 88,
						       arena_remote(&r->arena, slot) } },
			"clone a helper thread");
	return rc;
}

static int helpers_for(const struct mm_parts *l)
{
	cpu_set_t set;
	int cpus = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
	uint64_t worth = l->bytes / HELPER_BYTES;

	if (cpus > MAX_HELPERS + 1)
		cpus = MAX_HELPERS + 1;
	return worth < (uint64_t)cpus ? (worth ? (int)worth - 1 : 0) : cpus - 1;
}

static int plan_parts(struct restore_ctx *r, struct mm_parts *l, struct steps *s,
		      struct ckpt_err *err)
{
	struct ckpt_fill job = { .count = (uint32_t)l->n };
	uint64_t at, words[MAX_HELPERS] = { 0 };
	int helpers = helpers_for(l), rc = 0;

	if (!l->n)
		return 0;
	if (l->n > UINT32_MAX)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "%zu parts of memory", l->n);
	for (size_t i = 0; i < l->n; i++)
		l->v[i].off = restore_page_at(r, l->v[i].off);
	job.fds = steps_data(s, r->sources.fds, r->sources.n * sizeof(*r->sources.fds));
	job.parts = steps_data(s, l->v, l->n * sizeof(*l->v));
	at = steps_data(s, &job, sizeof(job));
	for (int i = 0; !rc && i < helpers; i++)
		rc = plan_helper(r, at, s, &words[i], err);
	(void)steps_add(s, &(struct ckpt_step) { .op = CKPT_OP_FILL, .arg = { at } },
			"fill memory");
	for (int i = 0; i < helpers; i++)
		if (words[i])
			(void)steps_add(
				s, &(struct ckpt_step) { .op = CKPT_OP_JOIN, .arg = { words[i] } },
				NULL);
	return rc;
}

int mm_fill_plan(struct restore_ctx *r, struct mm_fill *f, struct steps *s, struct ckpt_err *err)
{
	int rc;

	for (size_t i = 0; i < f->huge.n; i++)
		(void)steps_try(s, "ask for huge pages", SYS_madvise, f->huge.v[i].start,
				f->huge.v[i].end - f->huge.v[i].start, MADV_HUGEPAGE);
	r->filled += f->whole.bytes + f->rest.bytes;
	rc = plan_parts(r, &f->whole, s, err);
	for (size_t i = 0; i < f->huge.n; i++)
		if (f->huge.v[i].rest)
			(void)steps_try(s, "ask for small pages", SYS_madvise, f->huge.v[i].start,
					f->huge.v[i].end - f->huge.v[i].start, MADV_NOHUGEPAGE);
	return rc ? rc : plan_parts(r, &f->rest, s, err);
}

void mm_fill_free(struct mm_fill *f)
{
	vec_free(&f->whole);
	vec_free(&f->rest);
	vec_free(&f->huge);
}
