/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading a checkpoint: everything is checked before anyone acts on it. After
 * image_read() returned 0, ids refer to things that exist, mappings are ordered
 * and page-aligned, runs lie inside the page file, and every string is a string.
 */
#ifndef CKPT_IMAGE_READER_H
#define CKPT_IMAGE_READER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ui.h"
#include "core.pb-c.h"
#include "image/format.h"

/* Page maps of one address space or object, in the order of the image. */
struct image_maps {
	Ckpt__PageMap *const *v;
	size_t n;
};

struct image {
	char *path;
	int dir_fd, pages_fd;
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
	Ckpt__PageMap *
		*by_owner;   /* maps: those of address spaces by id, then those of objects by id */
	size_t *owner_first; /* where each begins; one more at the end */
	struct {
		uint64_t *v;
		size_t n, cap;
	} sums;
	uint32_t *by_pid;   /* indexes of tasks, ascending by pid */
	uint32_t *child;    /* indexes of tasks, grouped by parent in image order */
	uint32_t *child_at; /* first entry in child for each task; one more at the end */
	uint64_t pages_bytes;
};

/* E_IMAGE_MISSING, E_IMAGE_CORRUPT, E_IMAGE_VERSION */
int image_read(struct image *img, const char *path, struct ckpt_err *err) __must_check;
void image_free(struct image *img);
/* Compare every block of the page file with its sum. E_IMAGE_CORRUPT names the block. */
int image_verify_pages(struct image *img, struct ckpt_ui *ui, struct ckpt_err *err) __must_check;
/* NULL when the image has no task of this pid; *ret_index may be NULL. O(log n). */
Ckpt__Task *image_task(const struct image *img, int pid, size_t *ret_index);
struct image_maps image_maps_of_mm(const struct image *img, uint32_t id);
struct image_maps image_maps_of_object(const struct image *img, uint32_t id);

#endif
