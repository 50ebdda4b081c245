/* SPDX-License-Identifier: GPL-2.0-only */
/* XXH3-64 of much data by the widest vectors of this processor: a third of the library's time. */
#ifndef CKPT_BASE_SUM_H
#define CKPT_BASE_SUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t sum_bytes(const void *data, size_t len);
/* For processors with AVX2 only; what sum_bytes() takes there. */
uint64_t sum_wide(const void *data, size_t len);

#endif
