// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: packed page files. The input: { u8 blocks, u8 flags, per block { u8 codec, u16 length, u8
 * tweak }, data }. The file that comes out has right checksums; where a tweak says so an entry lies.
 */
#include "fuzz.h"

#include <sys/mman.h>

#include "image/pack.h"

static unsigned char dst[CKPT_PAGE_SUM_BYTES], scratch[CKPT_PAGE_SUM_BYTES];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	size_t n = take(&in, 1) % 16, bad;
	uint8_t flags = (uint8_t)take(&in, 1), tweak[16] = { 0 };
	unsigned char want[2] = { 0xff, 0xff };
	struct pack_entry e[16] = { 0 };
	struct pack_index idx;
	uint64_t off = 0;
	int fd = memfd_create("packed", MFD_CLOEXEC), to;

	for (size_t i = 0; i < n; i++) {
		e[i].codec = (uint32_t)take(&in, 1) % 6;
		e[i].len = (uint32_t)take(&in, 2);
		tweak[i] = (uint8_t)take(&in, 1);
	}
	for (size_t i = 0; i < n; i++) {
		struct input block = take_piece(&in, e[i].len);

		if (io_pwrite_full(fd, block.p, block.left, off))
			abort();
		e[i].off = off;
		e[i].len = (uint32_t)block.left;
		e[i].xxh3 = XXH3_64bits(block.p, block.left);
		off += block.left;
		if (tweak[i] & 1)
			e[i].len ^= 1u << (tweak[i] >> 3);
		if (tweak[i] & 2)
			e[i].off ^= 1ull << (tweak[i] >> 2);
		if (tweak[i] & 4)
			e[i].xxh3 ^= tweak[i];
	}
	if (pack_put_index(fd, e, n, off))
		abort();
	off = (uint64_t)lseek(fd, 0, SEEK_END);
	if (flags & 1)
		off -= off < flags >> 1 ? off : flags >> 1;
	if (ftruncate(fd, (off_t)off))
		abort();
	if (!pack_get_index(fd, off, n, &idx)) {
		for (size_t i = 0; i < n; i++)
			(void)pack_read_block(fd, &idx.v[i], dst, scratch);
		to = pack_unpack(fd, &idx, want, n * CKPT_PAGE_SUM_BYTES, -1, 1, NULL, &bad);
		if (to >= 0)
			(void)close(to);
		free(idx.v);
	}
	(void)close(fd);
	return 0;
}
