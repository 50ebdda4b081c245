/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The page file of a checkpoint. To its readers and in the page maps it is one file; where it lies
 * is known here. It may be packed (image/pack.h), or lie in stripes in several files that several
 * threads can write at once: a file system lets one at a time write to one.
 */
#ifndef CKPT_IMAGE_PAGEFILE_H
#define CKPT_IMAGE_PAGEFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "core.pb-c.h"
#include "image/format.h"
#include "image/pack.h"

struct page_file {
	uint64_t bytes;   /* before it was packed, over all stripes */
	uint32_t stripes; /* files that take turns, 1 to CKPT_STRIPES_MAX */
	uint32_t n;       /* that are open; 0: none */
	bool packed;
	int fd[CKPT_STRIPES_MAX];
	struct pack_index pack; /* when it is packed */
};

/* Where byte @off of the page file is. */
struct page_place {
	uint32_t file;
	uint64_t off;
	uint64_t room; /* so many bytes are there in a row, at least */
};
struct page_place page_place(uint32_t stripes, uint64_t off);
/* How much of the first @bytes of the page file is in file @file. */
uint64_t page_place_bytes(uint32_t stripes, uint32_t file, uint64_t bytes);

/* The name of file @file: CKPT_FILE_PAGES, and with a number behind it. */
#define PAGE_FILE_NAME_BYTES 20
const char *page_file_name(uint32_t file, char buf[static PAGE_FILE_NAME_BYTES]);

/* Open the page file of @bytes that the checkpoint in @dir_fd with inventory @inv has. 0, -errno;
 * -EBADMSG when it is another or damaged; ret->n files may be open then all the same. */
int page_file_open(struct page_file *ret, int dir_fd, const Ckpt__Inventory *inv,
		   uint64_t bytes) __must_check;
/* Forgives one that was never opened (zeroed). */
void page_file_close(struct page_file *p);
/* Of one that is not packed. 0, -ENODATA behind its end, -errno. */
int page_file_read(const struct page_file *p, void *buf, uint64_t len, uint64_t off) __must_check;
/* Put in its place @fd, one file that holds it as it was before packing; owned from now on. */
void page_file_replace(struct page_file *p, int fd);

#endif
