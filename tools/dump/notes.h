/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a tracking session remembers of shared memory from one checkpoint to the next: a hash of
 * every page of each object, and, of those that are watched (dump/watch.h), who had them mapped. It
 * lies in two memory files that the keeper holds, beside what else is relative to that checkpoint.
 * They are changed when the next one is on disk and before the keeper is told: a session whose dump
 * dies in between is broken, and nobody reads them again.
 */
#ifndef CKPT_DUMP_NOTES_H
#define CKPT_DUMP_NOTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/content.h"
#include "kern/mmwatch.h"

struct notes_object {
	uint64_t dev, ino;
	uint64_t pages;   /* by its length; each has a hash, zeros where it had no page */
	uint64_t hashes;  /* where in the file of hashes; bytes, of whole pages */
	uint32_t object;  /* its id in the checkpoint */
	uint32_t watched; /* all who had it mapped are among the marks */
	uint64_t sysv;    /* a System V segment: it may have the number of a memory file */
};
_Static_assert(sizeof(struct notes_object) == 48, "no holes");

/* An address space that had a watched object mapped. */
struct notes_mark {
	uint32_t object; /* index */
	int32_t pid;
	struct mm_stamp stamp; /* when the program ran on */
};
_Static_assert(sizeof(struct notes_mark) == 24, "no holes");

enum notes_file { NOTES_HEAD, NOTES_HASHES, NOTES_FILES };

struct notes {
	int fd[NOTES_FILES]; /* -1: none */
	uint64_t seed;       /* of the hashes */
	uint64_t dug;        /* struct keeper_state: when the program ran on */
	struct {
		struct notes_object *v;
		size_t n, cap;
	} objects;
	struct {
		struct notes_mark *v;
		size_t n, cap;
	} marks;
	unsigned char *hashes; /* the file, mapped; NULL: none */
	uint64_t hash_bytes;
};
#define NOTES_NONE ((struct notes) { .fd = { -1, -1 } })

/* From what the keeper gave, whose descriptors are @n's from then on. What makes no sense is no
 * notes. */
void notes_load(struct notes *n);
void notes_free(struct notes *n);
const struct notes_object *notes_find(const struct notes *n, bool sysv, uint64_t dev, uint64_t ino);
/* Of page @page of @o; NULL: it had none. */
const unsigned char *notes_hash(const struct notes *n, const struct notes_object *o, uint64_t page);
/* The same to be written. */
unsigned char *notes_hash_at(const struct notes *n, const struct notes_object *o, uint64_t page);
/* No page of @o has a hash. 0 or -errno. */
int notes_forget(struct notes *n, const struct notes_object *o);
/* Process @pid has object @object mapped. 0 or -ENOMEM. */
int notes_mark(struct notes *n, uint32_t object, int pid);
bool notes_marked(const struct notes *n, const struct notes_object *o, int pid);
/* The first mark of the same process as that of the @i-th. */
size_t notes_first_mark(const struct notes *n, size_t i);
/* All marks are of now. What cannot be read is not watched. */
void notes_stamp(struct notes *n, const struct mm_watch *mm);
/* Make the file of hashes, which are all zero, for n->objects, and say in these where each has
 * its own. 0 or -errno. */
int notes_make_hashes(struct notes *n);
/* Write the head. 0 or -errno. */
int notes_save(struct notes *n);

#endif
