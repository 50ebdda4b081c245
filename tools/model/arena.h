/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Building an arena: slots, data and step lists for the interpreter.
 * @base is where this process sees the arena, @remote where the program that
 * runs it does; everything written into steps is remote.
 */
#ifndef CKPT_MODEL_ARENA_H
#define CKPT_MODEL_ARENA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "blob/step.h"

/* What the other side can write is never believed: offsets are kept here, and what is read back
 * from the arena is bounded before it is used. */
struct arena {
	struct ckpt_arena *base;
	uint64_t remote;
	uint64_t size;
	uint64_t used; /* offset of the first free byte */
};

/* A growing list of steps, copied into the arena when it is complete. */
struct steps {
	struct arena *arena;
	struct ckpt_step *v;
	size_t n, cap;
	int failed; /* sticky -errno of an allocation */
};

/* Format @size bytes of zeroed shared memory at @base. Does not own the memory. */
void arena_init(struct arena *a, void *base, uint64_t remote, uint64_t size);
/* Make this thread the owner whose death the interpreter notices. One arena at a time, and those
 * that lie in berths. */
int arena_own(struct arena *a, bool berthed, struct ckpt_err *err) __must_check;
/* The same in a copy of ckpt (fork), which takes it over; the one that it is taken from then
 * forgets it, and its end is nothing to the arena. */
int arena_take_over(struct arena *a, struct ckpt_err *err) __must_check;
void arena_forget(void);
void arena_disown(struct arena *a);

/*
 * Places in our memory for arenas that are owned at the same time:
 *
 *     ARENA_ENTRY    ours: the entry of the kernel's list of what we own
 *     the arena      mapped here by MAP_FIXED, at most ARENA_BERTH_MAX bytes
 */
#define ARENA_ENTRY 4096u
#define ARENA_BERTH_MAX ((1ull << 30) - ARENA_ENTRY)
struct arena_berths {
	char *at; /* NULL: none */
	unsigned int n;
};
void arena_berths_make(struct arena_berths *b, unsigned int n); /* or none: no room */
void arena_berths_free(struct arena_berths *b);
void *arena_berth(const struct arena_berths *b, unsigned int i); /* NULL when there are none */
/* Take the arena of @size bytes out of its berth. */
void arena_berth_clear(void *at, uint64_t size);

/* Room of @len bytes, 16-aligned, zeroed. NULL when the arena is full. */
void *arena_alloc(struct arena *a, size_t len);
uint64_t arena_remote(const struct arena *a, const void *p);
void *arena_local(const struct arena *a, uint64_t remote);
/* The first @n steps of @slot; NULL when they do not lie in the arena. */
const struct ckpt_step *arena_steps(const struct arena *a, const struct ckpt_slot *slot,
				    uint32_t n);
/* Copy @len bytes in; returns the remote address, 0 when full. */
uint64_t arena_put(struct arena *a, const void *data, size_t len);
uint64_t arena_puts(struct arena *a, const char *s);
/* A slot with its own stack; NULL when full. */
struct ckpt_slot *arena_slot(struct arena *a);
uint64_t arena_entry(const struct arena *a); /* remote address of the interpreter */
/* What a message calls step @s: its label, or "". */
const char *arena_label(const struct arena *a, const struct ckpt_step *s);

void steps_init(struct steps *s, struct arena *a);
void steps_free(struct steps *s);
/* Append; the label may be NULL. Returns the step's number, or 0 with s->failed set. */
uint32_t steps_add(struct steps *s, const struct ckpt_step *step, const char *label);
/* system call with up to six arguments */
#define steps_call(s, label, number, ...)                                                          \
	steps_add((s),                                                                             \
		  &(struct ckpt_step) {                                                            \
			  .op = CKPT_OP_SYSCALL, .nr = (number), .arg = { __VA_ARGS__ } },         \
		  (label))
#define steps_try(s, label, number, ...)                                                           \
	steps_add((s),                                                                             \
		  &(struct ckpt_step) { .op = CKPT_OP_SYSCALL,                                     \
					.nr = (number),                                            \
					.flags = CKPT_STEP_MAY_FAIL,                               \
					.arg = { __VA_ARGS__ } },                                  \
		  (label))
/* Copy data into the arena for use as an argument. */
uint64_t steps_data(struct steps *s, const void *data, size_t len);
uint64_t steps_str(struct steps *s, const char *str);
/* Room in the arena for an answer; *ret_local is where ckpt reads it. */
uint64_t steps_room(struct steps *s, size_t len, void *ret_local);
/* Put the list into the arena and into @slot. */
int steps_commit(struct steps *s, struct ckpt_slot *slot, struct ckpt_err *err) __must_check;
/* The answer of step @n, once run; -EFAULT when the list is not where it was. */
int64_t slot_ret(const struct arena *a, const struct ckpt_slot *slot, uint32_t n);

#endif
