// SPDX-License-Identifier: GPL-2.0-only
/* Builds arenas and step lists; knows nothing of processes. */
#include "model/arena.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/vec.h"

extern const unsigned char ckpt_blob[], ckpt_blob_end[];

#define ARENA_SLOT_AREA (CKPT_ARENA_CODE + CKPT_ARENA_CODE_MAX)

void arena_init(struct arena *a, void *base, uint64_t remote, uint64_t size)
{
	a->base = base;
	a->remote = remote;
	a->size = size;
	memset(base, 0, sizeof(*a->base));
	a->base->magic = CKPT_ARENA_MAGIC;
	a->base->size = size;
	a->used = ARENA_SLOT_AREA;
	memcpy((char *)base + CKPT_ARENA_CODE, ckpt_blob, (size_t)(ckpt_blob_end - ckpt_blob));
}

/*
 * The kernel looks here when the thread dies. A robust mutex of pthread would keep its list in the
 * arena, where the other side could point it anywhere: an entry lies in the page before the arena,
 * which is of a berth, and ours. The one arena that is anywhere else is the pending one, of which
 * the kernel reads no entry.
 */
static _Thread_local struct robust_list_head owned;

static struct robust_list *entry_of(const struct arena *a)
{
	return (struct robust_list *)(void *)((char *)a->base - ARENA_ENTRY);
}

int arena_own(struct arena *a, bool berthed, struct ckpt_err *err)
{
	struct robust_list *entry = entry_of(a);

	if (!berthed && owned.list_op_pending)
		return ckpt_fail(err, E_INTERNAL, -EBUSY, "this thread owns an arena already");
	if (!owned.list.next)
		owned.list.next = &owned.list;
	owned.futex_offset = ARENA_ENTRY;
	__atomic_store_n(&a->base->owner, (uint32_t)gettid(), __ATOMIC_SEQ_CST);
	if (berthed) {
		entry->next = owned.list.next;
		__atomic_store_n(&owned.list.next, entry, __ATOMIC_SEQ_CST);
	} else {
		__atomic_store_n(&owned.list_op_pending, entry, __ATOMIC_SEQ_CST);
	}
	if (syscall(SYS_set_robust_list, &owned, sizeof(owned)))
		return ckpt_fail_errno(err, E_INTERNAL, -errno, "cannot own an arena");
	return 0;
}

int arena_take_over(struct arena *a, struct ckpt_err *err)
{
	owned.list_op_pending = NULL;
	return arena_own(a, false, err);
}

void arena_forget(void)
{
	owned.list_op_pending = NULL;
}

/* Where the list says "then comes the entry of @a"; NULL: nowhere. */
static struct robust_list **owned_link(const struct arena *a)
{
	struct robust_list **link = &owned.list.next;

	if (!a->base)
		return NULL;
	if (owned.list_op_pending == entry_of(a))
		return &owned.list_op_pending;
	while (*link && *link != &owned.list && *link != entry_of(a))
		link = &(*link)->next;
	return *link == entry_of(a) ? link : NULL;
}

void arena_disown(struct arena *a)
{
	struct robust_list **link = owned_link(a);

	if (!link)
		return;
	if (__atomic_exchange_n(&a->base->owner, 0, __ATOMIC_SEQ_CST) & FUTEX_WAITERS)
		(void)syscall(SYS_futex, &a->base->owner, FUTEX_WAKE, 1, NULL, NULL, 0);
	__atomic_store_n(link, link == &owned.list_op_pending ? NULL : (*link)->next,
			 __ATOMIC_SEQ_CST);
}

#define BERTH_STRIDE (ARENA_ENTRY + ARENA_BERTH_MAX)

void arena_berths_make(struct arena_berths *b, unsigned int n)
{
	void *at = mmap(NULL, n * BERTH_STRIDE, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return;
	*b = (struct arena_berths) { at, n };
	for (unsigned int i = 0; i < n; i++)
		if (mprotect((char *)at + i * BERTH_STRIDE, ARENA_ENTRY, PROT_READ | PROT_WRITE)) {
			arena_berths_free(b);
			return;
		}
}

void arena_berths_free(struct arena_berths *b)
{
	if (b->at)
		(void)munmap(b->at, b->n * BERTH_STRIDE);
	*b = (struct arena_berths) { 0 };
}

void *arena_berth(const struct arena_berths *b, unsigned int i)
{
	return b->at ? b->at + (i % b->n) * BERTH_STRIDE + ARENA_ENTRY : NULL;
}

void arena_berth_clear(void *at, uint64_t size)
{
	(void)mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		   0);
}

void *arena_alloc(struct arena *a, size_t len)
{
	uint64_t at = (a->used + 15) & ~15ull;

	if (len > a->size || at > a->size - len)
		return NULL;
	a->used = at + len;
	return memset((char *)a->base + at, 0, len);
}

uint64_t arena_remote(const struct arena *a, const void *p)
{
	return a->remote + (uint64_t)((const char *)p - (const char *)a->base);
}

void *arena_local(const struct arena *a, uint64_t remote)
{
	return (char *)a->base + (remote - a->remote);
}

uint64_t arena_put(struct arena *a, const void *data, size_t len)
{
	void *p = arena_alloc(a, len);

	if (!p)
		return 0;
	if (len) /* of nothing there may be no address either */
		memcpy(p, data, len);
	return arena_remote(a, p);
}

uint64_t arena_puts(struct arena *a, const char *s)
{
	return arena_put(a, s, strlen(s) + 1);
}

struct ckpt_slot *arena_slot(struct arena *a)
{
	struct ckpt_slot *slot = arena_alloc(a, sizeof(*slot) + CKPT_SLOT_STACK);

	if (!slot)
		return NULL;
	slot->arena = a->remote;
	slot->arena_len = a->size;
	slot->stack_top = arena_remote(a, slot) + sizeof(*slot) + CKPT_SLOT_STACK;
	return slot;
}

uint64_t arena_entry(const struct arena *a)
{
	return a->remote + CKPT_ARENA_CODE;
}

const struct ckpt_step *arena_steps(const struct arena *a, const struct ckpt_slot *slot, uint32_t n)
{
	uint64_t at = __atomic_load_n(&slot->steps, __ATOMIC_RELAXED) - a->remote;

	if (at % 16 || at > a->size || n > (a->size - at) / sizeof(struct ckpt_step))
		return NULL;
	return (const void *)((const char *)a->base + at);
}

const char *arena_label(const struct arena *a, const struct ckpt_step *s)
{
	uint32_t at = __atomic_load_n(&s->label, __ATOMIC_RELAXED);
	const char *text = (const char *)a->base + at;

	return at && at < a->size && memchr(text, 0, a->size - at) ? text : "";
}

void steps_init(struct steps *s, struct arena *a)
{
	memset(s, 0, sizeof(*s));
	s->arena = a;
}

void steps_free(struct steps *s)
{
	free(s->v);
	s->v = NULL;
	s->n = s->cap = 0;
}

uint32_t steps_add(struct steps *s, const struct ckpt_step *step, const char *label)
{
	struct ckpt_step *n = vec_grow((void **)&s->v, &s->n, &s->cap, sizeof(*n));

	if (!n) {
		s->failed = -ENOMEM;
		return 0;
	}
	*n = *step;
	if (label && *label)
		n->label = (uint32_t)(steps_str(s, label) - s->arena->remote);
	return (uint32_t)(s->n - 1);
}

uint64_t steps_data(struct steps *s, const void *data, size_t len)
{
	uint64_t at = arena_put(s->arena, data, len);

	if (!at)
		s->failed = -ENOSPC;
	return at;
}

uint64_t steps_str(struct steps *s, const char *str)
{
	return steps_data(s, str, strlen(str) + 1);
}

uint64_t steps_room(struct steps *s, size_t len, void *ret_local)
{
	void *p = arena_alloc(s->arena, len);

	if (!p) {
		s->failed = -ENOSPC;
		*(void **)ret_local = NULL;
		return 0;
	}
	*(void **)ret_local = p;
	return arena_remote(s->arena, p);
}

int steps_commit(struct steps *s, struct ckpt_slot *slot, struct ckpt_err *err)
{
	uint64_t at;

	if (!s->failed) {
		at = arena_put(s->arena, s->v, s->n * sizeof(*s->v));
		if (!at)
			s->failed = -ENOSPC;
	}
	if (s->failed)
		return ckpt_fail(err, E_NOMEM, s->failed,
				 "no room for %zu steps in the arena of %llu bytes", s->n,
				 (unsigned long long)s->arena->size);
	slot->steps = at;
	slot->nsteps = (uint32_t)s->n;
	slot->pc = 0;
	slot->err = 0;
	slot->state = CKPT_SLOT_IDLE;
	return 0;
}

int64_t slot_ret(const struct arena *a, const struct ckpt_slot *slot, uint32_t n)
{
	const struct ckpt_step *v = arena_steps(a, slot, n + 1);

	return v ? v[n].ret : -EFAULT;
}
