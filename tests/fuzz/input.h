/* SPDX-License-Identifier: GPL-2.0-only */
/* Taking the input of a fuzzer apart. */
#ifndef CKPT_FUZZ_INPUT_H
#define CKPT_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *p;
	size_t left;
};

static inline uint64_t take(struct input *in, size_t n)
{
	uint64_t v = 0;

	if (n > in->left)
		n = in->left;
	memcpy(&v, in->p, n);
	in->p += n;
	in->left -= n;
	return v;
}

/* The next piece of @len bytes, or what is left. */
static inline struct input take_piece(struct input *in, size_t len)
{
	struct input piece = { in->p, len < in->left ? len : in->left };

	in->p += piece.left;
	in->left -= piece.left;
	return piece;
}

#endif
