/* SPDX-License-Identifier: GPL-2.0-only */
/* What server and client of tests/vm/nodes both can compute. */
#ifndef NODES_NUMBERS_H
#define NODES_NUMBERS_H

#include <stdint.h>

static inline uint64_t number_next(uint64_t v)
{
	return v * 6364136223846793005ull + 1442695040888963407ull;
}

static inline unsigned long number_of(unsigned long n)
{
	return number_next(number_next(n) >> 7) >> 3;
}

#endif
