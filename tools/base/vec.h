/* SPDX-License-Identifier: GPL-2.0-only */
/* Growing arrays, and allocation that reports instead of returning NULL unseen. */
#ifndef CKPT_BASE_VEC_H
#define CKPT_BASE_VEC_H

#include <stdlib.h>
#include <string.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* struct { T *v; size_t n, cap; } */
#define VEC(T)                                                                                     \
	struct {                                                                                   \
		T *v;                                                                              \
		size_t n, cap;                                                                     \
	}

/* Room for one more element of @size bytes behind the last; NULL when out of memory.
 * The new element is zeroed. */
static inline void *vec_grow(void **v, size_t *n, size_t *cap, size_t size)
{
	if (*n == *cap) {
		size_t want = *cap ? *cap * 2 : 16;
		void *p = reallocarray(*v, want, size);

		if (!p)
			return NULL;
		*v = p;
		*cap = want;
	}
	memset((char *)*v + *n * size, 0, size);
	return (char *)*v + (*n)++ * size;
}

#define vec_push(a)                                                                                \
	((__typeof__((a)->v))vec_grow((void **)&(a)->v, &(a)->n, &(a)->cap, sizeof(*(a)->v)))
#define vec_free(a)                                                                                \
	do {                                                                                       \
		free((a)->v);                                                                      \
		(a)->v = NULL;                                                                     \
		(a)->n = (a)->cap = 0;                                                             \
	} while (0)

#endif
