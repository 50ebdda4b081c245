// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: the kernel's shared object as an image has it, whose functions become jumps to those of
 * ours. It is this kernel's, changed by a list of { u16 place, u8 length, bytes }, cut to a length that
 * the first two bytes say.
 */
#include "input.h"
#include "kern/vdso.h"

#include <stdlib.h>
#include <string.h>

#define BASE 0x7fff00000000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	size_t now_len, len = take(&in, 2);
	const unsigned char *now = vdso_own(&now_len);
	struct ckpt_err err = { 0 };
	unsigned char *old;

	if (!now)
		return 0;
	len = len > now_len ? now_len : len;
	old = malloc(len);
	memcpy(old, now, len);
	while (in.left) {
		size_t place = take(&in, 2);
		struct input piece = take_piece(&in, take(&in, 1));

		if (place < len)
			memcpy(old + place, piece.p, piece.left < len - place ? piece.left : len - place);
	}
	if (vdso_redirect(old, len, now, now_len, BASE, &err))
		ckpt_err_clear(&err);
	free(old);
	return 0;
}
