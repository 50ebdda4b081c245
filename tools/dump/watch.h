/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Shared anonymous memory of which it is certain who can have written it, so that nobody need look
 * at its contents. It has no name and no descriptor: whoever writes to it does so by a mapping, and
 * has that from a fork of one who had it. So, from the checkpoint at which
 *
 *   - every mapping of it that may write belonged to the tree (the kernel counts them), and
 *   - the tracker of each address space that had it mapped began an epoch of these mappings,
 *
 * until one at which each of these address spaces is still there, nobody has mapped, unmapped,
 * moved or forked anything in it (kern/mmwatch.h), and nobody dropped pages or made holes (of that
 * the keeper hears), what the trackers call written is all that was. In any other case the contents
 * are compared (dump/shared.c). What is not seen is a write by root who opens the memory in
 * /proc/PID/map_files: README.md says so.
 */
#ifndef CKPT_DUMP_WATCH_H
#define CKPT_DUMP_WATCH_H

#include "dump/dump.h"
#include "dump/notes.h"
#include "dump/spans.h"
#include "track/keeper.h"

/* Of less, comparing takes no longer than all this. */
#define WATCH_MIN_BYTES (1u << 20)
/* Objects: for each the mappings of a process are looked through. */
#define WATCH_MAX 64u

/* Mappings of shared anonymous memory. */
struct watch_maps {
	struct watch_map {
		uint64_t dev, ino;
		size_t task; /* index, of the caller */
		int pid;
		uint64_t start, end, pgoff;
		bool writes;
	} * v;
	size_t n, cap;
	const struct target *target; /* whose tasks they are, if it stands still */
};
int watch_maps_add(struct watch_maps *maps, int pid, size_t task, const struct proc_vma *v);
/* Do all mappings that may write to the file belong to @maps? */
bool watch_ours(const struct mm_watch *mm, const struct watch_maps *maps, uint64_t dev,
		uint64_t ino);
/* The tracker of who has @m mapped, or NULL; *ret_fresh: it was not there before. */
struct tracker *watch_tracker(struct dump_ctx *d, const struct watch_maps *maps,
			      const struct watch_map *m, bool *ret_fresh);
/* What was written to object @o of @n since its epoch began, ascending; with @arm the next one
 * begins. False: nobody knows. */
bool watch_written(struct dump_ctx *d, const struct watch_maps *maps, const struct notes *n,
		   const struct notes_object *o, bool arm, struct spans *ret);
/* Can the file of these be watched, and is it worth while? @resident: bytes of memory. */
bool watch_possible(const struct mm_watch *mm, const struct watch_maps *maps, uint64_t dev,
		    uint64_t ino, uint64_t resident);
/* Append to n->objects, without hashes, those of the files of @maps that are not there and can be
 * watched, at most WATCH_MAX. 0 or -ENOMEM. */
int watch_find(const struct mm_watch *mm, const struct watch_maps *maps, struct notes *n);
/* Watch object @object of @n from here on, whose mappings are among @maps, if that is possible.
 * @armed: an epoch of each has begun already. 0 or -errno with an error. */
int watch_from_here(struct dump_ctx *d, const struct watch_maps *maps, struct notes *n,
		    uint32_t object, bool armed, struct ckpt_err *err) __must_check;
/* Nobody is entered any more before the tree runs on: the marks of @n are of now. */
void watch_stamp(struct dump_ctx *d, struct notes *n);

/* In a dump with a session of the keeper. Takes what the keeper has for it out of @files, whose
 * pids are 0 then. 0 or -ENOMEM. */
int dump_watch_begin(struct dump_ctx *d, struct keeper_tasks *files);
/* The same of d->tracking->watched, in a dump without. */
int dump_watch_lend(struct dump_ctx *d);
void dump_watch_free(struct dump_ctx *d);
/* What is known of shared memory since the parent, or NULL. Who copies pages ahead
 * writes their hashes there; an object of which he does not know what was written is not watched
 * any more. */
struct notes *dump_watch_notes(struct dump_ctx *d);
/* As dump_watch_look() found it: do trackers tell all that was written to @o, one of these? */
bool dump_watch_quiet(const struct dump_ctx *d, const struct notes_object *o);
/* May @v be of an object that is watched? */
bool watch_may(const struct proc_vma *v);
/* When tree @t stands still and nobody was entered: which address spaces are as they were? */
void dump_watch_look(struct dump_ctx *d, const struct target *t);
/* What the parent knows of the file of @p, or NULL; and do trackers tell all, as far as one knows
 * before its mappings are? Sets p->known_as and p->watched. */
void dump_watch_object(struct dump_ctx *d, struct dump_pages *p, const struct stat *st);
/* @v is a mapping of @task, which is one of d->target. 0 or -ENOMEM. */
int dump_watch_map(struct dump_ctx *d, const struct target_task *task, const struct proc_vma *v);
/* Behind the last mapping. What was written to object @p as segments, and the rest as the parent
 * has it; -ESTALE: it is not certain after all, and nothing was done. 0 or -ENOMEM. */
int dump_watch_written(struct dump_ctx *d, struct dump_pages *p);
/* Make room for the hashes of all objects: dump_watch_hash() is where each goes when its page is
 * read. 0 or -errno. */
int dump_watch_room(struct dump_ctx *d);
/* NULL: nobody will ask. */
unsigned char *dump_watch_hash(struct dump_ctx *d, const struct dump_pages *p, uint64_t page);
/* Of page @page as the parent had it, or NULL. */
const unsigned char *dump_watch_was(const struct dump_ctx *d, const struct dump_pages *p,
				    uint64_t page);
/* Begin to watch what can be, now that all is compared. */
int dump_watch_arm(struct dump_ctx *d, struct ckpt_err *err) __must_check;
/* Nobody is entered any more. */
void dump_watch_settle(struct dump_ctx *d);
/* The checkpoint is on disk: what the keeper is to have, behind @files; they stay ours. */
void dump_watch_commit(struct dump_ctx *d, struct keeper_tasks *files);

#endif
