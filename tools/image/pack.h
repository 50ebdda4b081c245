/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A packed page file: the blocks of CKPT_PAGE_SUM_BYTES that a page file is summed in, each
 * compressed by itself, then an index of them. Offsets in page maps and sums are those of the page
 * file before it was packed. docs/image-format.md is the reference.
 */
#ifndef CKPT_IMAGE_PACK_H
#define CKPT_IMAGE_PACK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum pack_codec {
	PACK_ZERO = 0, /* nothing but zeros; takes no room */
	PACK_RAW = 1,  /* as it is */
	PACK_LZ4 = 2,
	PACK_ZSTD = 3,
};

/* What a page file is packed with: --compress. */
enum pack_how { PACK_HOW_NONE, PACK_HOW_LZ4, PACK_HOW_ZSTD };

struct pack_entry {
	uint64_t off; /* bytes in the file */
	uint32_t len; /* bytes in the file */
	uint32_t codec;
	uint64_t xxh3; /* XXH3-64 of these bytes */
};
_Static_assert(sizeof(struct pack_entry) == 24, "packed index layout");

/* The index of a packed file; v NULL: the file is not packed. */
struct pack_index {
	struct pack_entry *v;
	size_t n;
};

bool pack_how_parse(const char *s, enum pack_how *ret);

/* Pack one block of CKPT_PAGE_SUM_BYTES at @src into @dst, which has as much room. Sets all but
 * off of *ret. */
void pack_block(enum pack_how how, const void *src, void *dst, struct pack_entry *ret);
/* Write the index of @n blocks to @fd at @off: the file ends there. 0 or -errno. */
int pack_put_index(int fd, const struct pack_entry *v, size_t n, uint64_t off);

/* Read and check the index of a file of @file_bytes that packs @nblocks blocks. 0, -EBADMSG or
 * another -errno. The caller frees ret->v. */
int pack_get_index(int fd, uint64_t file_bytes, size_t nblocks, struct pack_index *ret);
/* Unpack one block into @dst of CKPT_PAGE_SUM_BYTES; @scratch is as large. -EBADMSG when it is no
 * such block. */
int pack_read_block(int fd, const struct pack_entry *e, void *dst, void *scratch);

/* Unpack the blocks whose bit is set in @want into a file of @bytes that nobody can name: in
 * memory, or next to the image at @dir_fd when memory is short. -errno or its descriptor; *ret_bad
 * is the block that failed. -ECANCELED once another thread has set @cancel, which may be NULL. */
int pack_unpack(int fd, const struct pack_index *idx, const unsigned char *want, uint64_t bytes,
		int dir_fd, int threads, const atomic_bool *cancel, size_t *ret_bad);

#endif
