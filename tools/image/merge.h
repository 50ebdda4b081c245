/* SPDX-License-Identifier: GPL-2.0-only */
/* Folding the chain of an increment into one checkpoint that needs no other. */
#ifndef CKPT_IMAGE_MERGE_H
#define CKPT_IMAGE_MERGE_H

#include "image/reader.h"

struct image_merged {
	unsigned char id[16]; /* content id of the new checkpoint */
	uint64_t pages;       /* that hold data */
	uint64_t bytes;       /* of records and pages */
};

/*
 * Write to the new or empty directory @path what @img is, with all its pages. Its page file is
 * packed as @how says. Every page that is copied was compared with its checksum before. Errors
 * leave nothing: E_IMAGE_DIR, E_IMAGE_WRITE, E_IMAGE_CORRUPT.
 */
int image_merge(struct image *img, const char *path, enum pack_how how, int threads,
		struct ckpt_ui *ui, struct image_merged *ret, struct ckpt_err *err) __must_check;

#endif
