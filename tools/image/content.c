// SPDX-License-Identifier: GPL-2.0-only
#include "image/content.h"

#include <string.h>
#include <xxhash.h>

#include "image/format.h"

bool page_is_zero(const void *page)
{
	const uint64_t *p = page;

	if (p[0] | p[CKPT_PAGE / 8 - 1])
		return false;
	for (size_t i = 0; i < CKPT_PAGE / 8; i += 8)
		if (p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] | p[i + 5] | p[i + 6] |
		    p[i + 7])
			return false;
	return true;
}

void content_hash(uint64_t seed, const void *page, unsigned char *ret)
{
	XXH128_canonical_t c;

	XXH128_canonicalFromHash(&c, XXH3_128bits_withSeed(page, CKPT_PAGE, seed));
	memcpy(ret, c.digest, CONTENT_HASH_BYTES);
}
