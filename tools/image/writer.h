/* SPDX-License-Identifier: GPL-2.0-only */
/* Writing a checkpoint directory: nothing is visible as a checkpoint before commit. */
#ifndef CKPT_IMAGE_WRITER_H
#define CKPT_IMAGE_WRITER_H

#include <protobuf-c/protobuf-c.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/ui.h"
#include "core.pb-c.h"
#include "image/format.h"
#include "image/pack.h"
#include "image/pagefile.h"

/* Where the files of a checkpoint go when not into a directory: a stream to a peer. */
struct image_sink {
	int (*records)(struct image_sink *s, const void *buf, size_t len, struct ckpt_err *err);
	/* @len bytes of the page file at @off; called from several threads. 0 or -errno */
	int (*pages)(struct image_sink *s, const void *buf, size_t len, uint64_t off);
	/* say why @pages has failed with @rc */
	int (*pages_failed)(struct image_sink *s, int rc, struct ckpt_err *err);
	/* the inventory file whole, and how long the page file is */
	int (*commit)(struct image_sink *s, const void *inventory, size_t len, uint64_t pages_bytes,
		      struct ckpt_err *err);
};

struct image_writer {
	struct image_sink *sink; /* NULL: a directory */
	char *path;
	int dir_fd;
	int pages_fd[CKPT_STRIPES_MAX]; /* files of the page file; -1: not needed so far */
	uint32_t stripes;               /* how many take turns */
	int records_fd;
	bool made_dir;      /* abort removes it again */
	unsigned char *buf; /* records not yet written */
	size_t len, cap;
	uint64_t records_bytes;
	uint64_t pages_bytes;         /* logical length of the page file so far */
	unsigned char content_id[16]; /* once committed */
	void *sum_state;              /* XXH3 state over the record file */
	struct {
		uint64_t *v;
		size_t n, cap;
	} sums; /* of the page file, one per CKPT_PAGE_SUM_BYTES */
	enum pack_how how;
	struct {
		struct pack_entry *v;
		size_t n, cap;
	} packed;                           /* as many as sums, when the page file is packed */
	atomic_uint_least64_t packed_bytes; /* written to the page file so far */
	uint64_t hash_seed;                 /* of segments that want hashes */
	bool taken;                         /* the page file is that of another checkpoint, whole */
	const atomic_bool *cancel; /* image_pages_write() ends when it is set; may be NULL */
	struct ckpt_ui *ui;
};

/* Before anything else: a writer that image_abort() may be told to end. */
void image_writer_init(struct image_writer *w);
/* Create or take over the empty directory @path. E_IMAGE_DIR, E_IMAGE_WRITE. */
int image_create(struct image_writer *w, const char *path, struct ckpt_ui *ui,
		 struct ckpt_err *err) __must_check;
/* Write to @sink, which the caller keeps until the writer is done. */
int image_create_stream(struct image_writer *w, struct image_sink *sink, struct ckpt_ui *ui,
			struct ckpt_err *err) __must_check;
/* Stripe the page file over as many files as @threads write it, from now on: before any page is
 * written. Of no effect on a stream, and undone by image_pack(). */
void image_stripe(struct image_writer *w, int threads);
/* Pack the page file, from now on: before any page is written, and not of a stream. */
void image_pack(struct image_writer *w, enum pack_how how);
/* Have the page file @from of the checkpoint in @dir_fd, with its @n sums, instead of writing one:
 * its files get a second name. */
int image_take_pages(struct image_writer *w, int dir_fd, const struct page_file *from,
		     const uint64_t *sums, size_t n, struct ckpt_err *err) __must_check;
int image_put(struct image_writer *w, enum ckpt_record type, const ProtobufCMessage *msg,
	      struct ckpt_err *err) __must_check;
/* Fill in digests and content id, make everything durable, rename the inventory into place. */
int image_commit(struct image_writer *w, Ckpt__Inventory *inv, struct ckpt_err *err) __must_check;
/* Remove what was written. Safe on a half-made or a committed writer (then it only frees). */
void image_abort(struct image_writer *w);

/* Pages to be saved: consecutive in the page file, each read from @fd at @addr. */
struct page_seg {
	int fd; /* /proc/PID/mem or a shared object; borrowed */
	uint32_t npages;
	uint64_t addr;
	uint64_t off;              /* set by image_pages_write */
	bool is_file;              /* its last page may be cut by the end of the file */
	bool frozen;               /* to be read before the target runs on, not from a snapshot */
	bool unkept;               /* dump: not in what the tracker keeps */
	bool moving;               /* of a program that runs: pages may go away */
	bool later;                /* dump: written when the target runs again */
	bool backed;               /* what is not saved shows a file: zeros are content */
	const unsigned char *data; /* the pages themselves, instead of fd; NULL: there */
	struct page_check
		*check; /* of the page file that it is read from, at byte at; NULL: none */
	uint64_t at;
	unsigned char *hash; /* room for the hash of every page (image/content.h); may be NULL */
};
struct page_segs {
	struct page_seg *v;
	size_t n, cap;
	uint64_t pages;
};
/* Copy all segments into the page file with @threads threads. On return *ret_zero has one bit
 * per page, in order, set where the page was zero and was left out; the caller frees it. */
int image_pages_write(struct image_writer *w, struct page_segs *segs, int threads,
		      unsigned char **ret_zero, uint64_t *ret_written,
		      struct ckpt_err *err) __must_check;

/* For pages.c: make file @file of the page file, unless it is there. 0 or -errno. */
int image_open_stripe(struct image_writer *w, uint32_t file) __must_check;

uint64_t image_frame_sum(const struct ckpt_frame *f, const void *payload);

#endif
