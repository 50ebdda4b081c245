/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading a checkpoint: everything is checked before anyone acts on it. After
 * image_read() returned 0, ids refer to things that exist, mappings are ordered
 * and page-aligned, runs lie inside the page file, and every string is a string.
 */
#ifndef CKPT_IMAGE_READER_H
#define CKPT_IMAGE_READER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ui.h"
#include "core.pb-c.h"
#include "image/format.h"
#include "image/pagefile.h"

/* Page maps of one address space or object, in the order of the image. */
struct image_maps {
	Ckpt__PageMap *const *v;
	size_t n;
};

/* A checkpoint whose page file holds pages of this one. */
struct image_source {
	char *path;
	struct page_file pages; /* of number 0: the image's own, borrowed */
	unsigned char id[16];
};

struct image {
	char *path;
	int dir_fd;
	Ckpt__Inventory *inv;
	struct {
		Ckpt__Task **v;
		size_t n, cap;
	} tasks;
	struct {
		Ckpt__Mm **v; /* id = index + 1 */
		size_t n, cap;
	} mms;
	struct {
		Ckpt__FdTable **v;
		size_t n, cap;
	} tables;
	struct {
		Ckpt__Object **v;
		size_t n, cap;
	} objects;
	struct {
		Ckpt__PageMap **v;
		size_t n, cap;
	} maps;
	struct {
		Ckpt__PageHashes **v;
		size_t n, cap;
	} hashes;
	Ckpt__PageMap *
		*by_owner;   /* maps: those of address spaces by id, then those of objects by id */
	size_t *owner_first; /* where each begins; one more at the end */
	struct {
		uint64_t *v;
		size_t n, cap;
	} sums;
	struct {
		struct image_source *v; /* by ckpt_run_source(): 0 is this image itself */
		size_t n, cap;
	} sources;
	Ckpt__Chain *chain;        /* NULL: not an increment */
	const atomic_bool *cancel; /* image_unpack() ends when it is set; NULL: never */
	bool kept;                 /* the reader keeps what CKPT_RUN_PARENT stands for */
	uint32_t *by_pid;          /* indexes of tasks, ascending by pid */
	uint32_t *child;           /* indexes of tasks, grouped by parent in image order */
	uint32_t *child_at;        /* first entry in child for each task; one more at the end */
	struct page_file pages;
};

/*
 * The inventory alone: img->inv and img->dir_fd. E_IMAGE_MISSING, E_IMAGE_CORRUPT, E_IMAGE_VERSION.
 */
int image_read_inventory(struct image *img, const char *path, struct ckpt_err *err) __must_check;
/*
 * All of it. Of an increment also the page files of the chain are opened, after their content ids
 * were compared: E_PARENT when one is missing or another. Each page is then in one place, so
 * nobody has to replay a chain.
 */
int image_read(struct image *img, const char *path, struct ckpt_err *err) __must_check;
/* Of a stream: runs CKPT_RUN_PARENT stay as they are, for who has the pages (tools/migrate). */
int image_read_kept(struct image *img, const char *path, struct ckpt_err *err) __must_check;
/*
 * Make the page files readable at the offsets that runs name: packed ones are unpacked, as far as
 * runs need them. To be called before anything is read from them. E_IMAGE_CORRUPT, E_NOMEM.
 */
int image_unpack(struct image *img, int threads, struct ckpt_err *err) __must_check;
void image_free(struct image *img);
/* Compare every block of the page file, and of those of the chain, with its sum. E_IMAGE_CORRUPT
 * names the block. */
int image_verify_pages(struct image *img, struct ckpt_ui *ui, struct ckpt_err *err) __must_check;
/* The error of block @block of the page file @p of the checkpoint in @path: -EBADMSG, its sum is
 * another; or it could not be read. */
int image_bad_block(const char *path, const struct page_file *p, size_t block, int rc,
		    struct ckpt_err *err);
/* NULL when the image has no task of this pid; *ret_index may be NULL. O(log n). */
Ckpt__Task *image_task(const struct image *img, int pid, size_t *ret_index);
struct image_maps image_maps_of_mm(const struct image *img, uint32_t id);
struct image_maps image_maps_of_object(const struct image *img, uint32_t id);

/* Iterate over all runs of an address space or object, in ascending order. */
#define for_each_image_run(run, maps)                                                              \
	for (size_t fe_map = 0; fe_map < (maps).n; fe_map++)                                       \
		for (const struct ckpt_page_run *                                                  \
			     run = (const void *)(maps).v[fe_map]->runs.data,                      \
			    *fe_end = run + (maps).v[fe_map]->runs.len / sizeof(*run);             \
		     run < fe_end; run++)

/* chain.c, for the reader */
int image_open_chain(struct image *img, struct ckpt_err *err) __must_check;
int image_read_alone(struct image *img, const char *path, struct ckpt_err *err) __must_check;

#endif
