/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The files of a checkpoint directory. docs/image-format.md is the reference.
 *
 *   records    magic, then frames: { type, len, xxh3 } payload, padded to 8
 *   pages      raw pages, in the order of the page maps; holes are zero pages;
 *              striped over pages, pages.1, … when there are many
 *   inventory  one frame, written last and renamed into place
 */
#ifndef CKPT_IMAGE_FORMAT_H
#define CKPT_IMAGE_FORMAT_H

#include <stdint.h>

#define CKPT_IMAGE_FORMAT 1
#define CKPT_IMAGE_MAGIC "CKPTIMG\x01"
#define CKPT_IMAGE_MAGIC_LEN 8

#define CKPT_FILE_INVENTORY "inventory"
#define CKPT_FILE_RECORDS "records"
#define CKPT_FILE_PAGES "pages"

/* Inventory.required: the page file is packed (image/pack.h). */
#define IMAGE_FEATURE_PACKED "packed"
/* The page file is striped over Inventory.stripes files (image/pagefile.h). */
#define IMAGE_FEATURE_STRIPED "striped"

enum ckpt_record {
	CKPT_REC_INVENTORY = 1,
	CKPT_REC_TASK = 2,
	CKPT_REC_MM = 3,
	CKPT_REC_FDTABLE = 4,
	CKPT_REC_OBJECT = 5,
	CKPT_REC_PAGEMAP = 6,
	CKPT_REC_PAGESUMS = 7,
	CKPT_REC_CHAIN = 9,       /* of an increment: the checkpoints that hold its other pages */
	CKPT_REC_PAGEHASHES = 10, /* of shared objects: what their pages held */
	CKPT_REC_END = 8,         /* last frame of records: a shorter file is truncated */
};

struct ckpt_frame {
	uint32_t type;
	uint32_t len;  /* of the payload, without padding */
	uint64_t xxh3; /* XXH3-64 of type, len and payload, seeded with both */
};
_Static_assert(sizeof(struct ckpt_frame) == 16, "frame layout");

#define CKPT_RECORD_MAX (64u << 20)

enum ckpt_run_kind {
	CKPT_RUN_DATA = 0, /* off: bytes into the page file */
	CKPT_RUN_ZERO = 1,
	CKPT_RUN_PARENT = 2, /* off: as ckpt_run_off(), in the page file of an ancestor */
	CKPT_RUN_SHARED = 3, /* off: id of an earlier mm whose page at the same address it shares */
	CKPT_RUN_GUARD = 4,  /* MADV_GUARD_INSTALL */
	CKPT_RUN_SAME = 64,  /* never in an image: a range that is as it was in the parent */
};

struct ckpt_page_run {
	uint64_t vaddr; /* or the offset in a shared object, bytes */
	uint64_t off;
	uint32_t npages;
	uint32_t kind;
};
_Static_assert(sizeof(struct ckpt_page_run) == 24, "run layout");

/* The upper bits of off number the checkpoint that holds the page: 0 this one, 1 and above the
 * entries of its chain record. After image_read() such runs are CKPT_RUN_DATA like others. */
#define CKPT_RUN_SOURCE_SHIFT 48
#define CKPT_CHAIN_MAX 4096u

static inline uint32_t ckpt_run_source(uint64_t off)
{
	return (uint32_t)(off >> CKPT_RUN_SOURCE_SHIFT);
}

static inline uint64_t ckpt_run_off(uint64_t off)
{
	return off & ((1ull << CKPT_RUN_SOURCE_SHIFT) - 1);
}

static inline uint64_t ckpt_run_at(uint32_t source, uint64_t off)
{
	return (uint64_t)source << CKPT_RUN_SOURCE_SHIFT | off;
}

#define CKPT_PAGE 4096u
#define CKPT_PAGE_SUM_BYTES (256u << 10)
#define CKPT_STRIPE_BYTES (16u << 20)
#define CKPT_STRIPES_MAX 8u

#endif
