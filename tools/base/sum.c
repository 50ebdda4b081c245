// SPDX-License-Identifier: GPL-2.0-only
#include "base/sum.h"

#include <xxhash.h>

uint64_t sum_bytes(const void *data, size_t len)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		return sum_wide(data, len);
#endif
	return XXH3_64bits(data, len);
}
