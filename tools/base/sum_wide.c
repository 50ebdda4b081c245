// SPDX-License-Identifier: GPL-2.0-only
/*
 * The library is built for any processor of its kind. Its header, included like this, makes a
 * second one in here, for AVX2; clang, which only reads this file for lint, makes an ordinary one.
 */
#include "base/sum.h"

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC target("avx2")
#endif
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t sum_wide(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}
