// SPDX-License-Identifier: GPL-2.0-only
/* Builds arenas and step lists; knows nothing of processes. */
#include "model/arena.h"

#include <stdlib.h>
#include <string.h>

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
	a->base->alloc = ARENA_SLOT_AREA;
	memcpy((char *)base + CKPT_ARENA_CODE, ckpt_blob, (size_t)(ckpt_blob_end - ckpt_blob));
}

int arena_own(struct arena *a, struct ckpt_err *err)
{
	pthread_mutex_t *m = (pthread_mutex_t *)&a->base->owner;
	pthread_mutexattr_t attr;
	int rc;

	_Static_assert(sizeof(*m) <= sizeof(a->base->owner) + sizeof(a->base->owner_rest), "room");
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	rc = pthread_mutex_init(m, &attr);
	pthread_mutexattr_destroy(&attr);
	if (!rc)
		rc = pthread_mutex_lock(m);
	if (rc)
		return ckpt_fail_errno(err, E_INTERNAL, -rc, "cannot own an arena");
	return 0;
}

void arena_disown(struct arena *a)
{
	(void)pthread_mutex_unlock((pthread_mutex_t *)&a->base->owner);
}

void *arena_alloc(struct arena *a, size_t len)
{
	uint64_t at = (a->base->alloc + 15) & ~15ull;

	if (len > a->size || at > a->size - len)
		return NULL;
	a->base->alloc = at + len;
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

const char *arena_label(const struct arena *a, const struct ckpt_step *s)
{
	return s->label ? (const char *)a->base + s->label : "";
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
	const struct ckpt_step *v = arena_local(a, slot->steps);

	return v[n].ret;
}
