// SPDX-License-Identifier: GPL-2.0-only
#include "dump/notes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/vec.h"
#include "image/format.h"

struct head {
	char magic[8];
	uint64_t seed, dug, objects, marks;
};
#define MAGIC "ckptnote"

static int map_hashes(struct notes *n, uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, n->fd[NOTES_HASHES], 0);

	if (p == MAP_FAILED)
		return -errno;
	n->hashes = p;
	n->hash_bytes = bytes;
	return 0;
}

static bool object_fits(const struct notes *n, const struct notes_object *o)
{
	uint64_t room = n->hash_bytes / CONTENT_HASH_BYTES;

	return o->object && o->hashes <= n->hash_bytes && o->pages <= room &&
	       o->pages * CONTENT_HASH_BYTES <= n->hash_bytes - o->hashes;
}

static bool load(struct notes *n)
{
	struct stat head, hashes;
	struct head h;
	bool ok;

	if (n->fd[NOTES_HEAD] < 0 || n->fd[NOTES_HASHES] < 0 || fstat(n->fd[NOTES_HEAD], &head) ||
	    fstat(n->fd[NOTES_HASHES], &hashes) ||
	    io_pread_full(n->fd[NOTES_HEAD], &h, sizeof(h), 0) ||
	    memcmp(h.magic, MAGIC, sizeof(h.magic)) != 0 ||
	    (uint64_t)head.st_size !=
		    sizeof(h) + h.objects * sizeof(*n->objects.v) + h.marks * sizeof(*n->marks.v) ||
	    !h.objects || map_hashes(n, (uint64_t)hashes.st_size))
		return false;
	n->seed = h.seed;
	n->dug = h.dug;
	n->objects.v = calloc(h.objects, sizeof(*n->objects.v));
	n->marks.v = calloc(h.marks + 1, sizeof(*n->marks.v));
	if (!n->objects.v || !n->marks.v)
		return false;
	n->objects.n = n->objects.cap = h.objects;
	n->marks.n = h.marks;
	n->marks.cap = h.marks + 1;
	ok = !io_pread_full(n->fd[NOTES_HEAD], n->objects.v, h.objects * sizeof(*n->objects.v),
			    sizeof(h)) &&
	     !io_pread_full(n->fd[NOTES_HEAD], n->marks.v, h.marks * sizeof(*n->marks.v),
			    sizeof(h) + h.objects * sizeof(*n->objects.v));
	for (size_t i = 0; ok && i < n->objects.n; i++)
		ok = object_fits(n, &n->objects.v[i]);
	for (size_t i = 0; ok && i < n->marks.n; i++)
		ok = n->marks.v[i].object < n->objects.n;
	return ok;
}

void notes_load(struct notes *n)
{
	if (!load(n))
		notes_free(n);
}

void notes_free(struct notes *n)
{
	if (n->hashes)
		(void)munmap(n->hashes, n->hash_bytes);
	for (size_t i = 0; i < NOTES_FILES; i++)
		if (n->fd[i] >= 0)
			(void)close(n->fd[i]);
	vec_free(&n->objects);
	vec_free(&n->marks);
	*n = NOTES_NONE;
}

const struct notes_object *notes_find(const struct notes *n, bool sysv, uint64_t dev, uint64_t ino)
{
	for (size_t i = 0; i < n->objects.n; i++)
		if (n->objects.v[i].ino == ino && n->objects.v[i].dev == dev &&
		    n->objects.v[i].sysv == sysv)
			return &n->objects.v[i];
	return NULL;
}

unsigned char *notes_hash_at(const struct notes *n, const struct notes_object *o, uint64_t page)
{
	return n->hashes + o->hashes + page * CONTENT_HASH_BYTES;
}

const unsigned char *notes_hash(const struct notes *n, const struct notes_object *o, uint64_t page)
{
	static const unsigned char none[CONTENT_HASH_BYTES];
	const unsigned char *h = page < o->pages ? notes_hash_at(n, o, page) : none;

	return memcmp(h, none, sizeof(none)) != 0 ? h : NULL;
}

/* Whole pages. */
static uint64_t hash_room(const struct notes_object *o)
{
	return (o->pages * CONTENT_HASH_BYTES + CKPT_PAGE - 1) & ~(uint64_t)(CKPT_PAGE - 1);
}

int notes_forget(struct notes *n, const struct notes_object *o)
{
	return fallocate(n->fd[NOTES_HASHES], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)o->hashes, (off_t)hash_room(o))
		       ? -errno
		       : 0;
}

int notes_make_hashes(struct notes *n)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < n->objects.n; i++) {
		n->objects.v[i].hashes = bytes;
		bytes += hash_room(&n->objects.v[i]);
	}
	n->fd[NOTES_HASHES] = memfd_create("ckpt-hashes", MFD_CLOEXEC);
	if (n->fd[NOTES_HASHES] < 0 || ftruncate(n->fd[NOTES_HASHES], (off_t)bytes + 1))
		return -errno;
	return map_hashes(n, bytes + 1);
}

int notes_save(struct notes *n)
{
	struct head h = { .magic = MAGIC,
			  .seed = n->seed,
			  .dug = n->dug,
			  .objects = n->objects.n,
			  .marks = n->marks.n };
	uint64_t objects = h.objects * sizeof(*n->objects.v), marks = h.marks * sizeof(*n->marks.v);
	int rc;

	if (n->fd[NOTES_HEAD] >= 0)
		(void)close(n->fd[NOTES_HEAD]);
	n->fd[NOTES_HEAD] = memfd_create("ckpt-notes", MFD_CLOEXEC);
	if (n->fd[NOTES_HEAD] < 0)
		return -errno;
	rc = io_pwrite_full(n->fd[NOTES_HEAD], &h, sizeof(h), 0);
	if (!rc)
		rc = io_pwrite_full(n->fd[NOTES_HEAD], n->objects.v, objects, sizeof(h));
	return rc ? rc : io_pwrite_full(n->fd[NOTES_HEAD], n->marks.v, marks, sizeof(h) + objects);
}

bool notes_marked(const struct notes *n, const struct notes_object *o, int pid)
{
	for (size_t i = 0; i < n->marks.n; i++)
		if (&n->objects.v[n->marks.v[i].object] == o && n->marks.v[i].pid == pid)
			return true;
	return false;
}

int notes_mark(struct notes *n, uint32_t object, int pid)
{
	struct notes_mark *m;

	if (notes_marked(n, &n->objects.v[object], pid))
		return 0;
	m = vec_push(&n->marks);
	if (!m)
		return -ENOMEM;
	*m = (struct notes_mark) { .object = object, .pid = pid };
	return 0;
}

size_t notes_first_mark(const struct notes *n, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (n->marks.v[k].pid == n->marks.v[i].pid)
			return k;
	return i;
}

void notes_stamp(struct notes *n, const struct mm_watch *mm)
{
	for (size_t i = 0; i < n->objects.n && !n->marks.n; i++)
		n->objects.v[i].watched = false;
	for (size_t i = 0; i < n->marks.n; i++) {
		struct notes_mark *m = &n->marks.v[i];
		size_t first = notes_first_mark(n, i);

		if (first < i)
			m->stamp = n->marks.v[first].stamp;
		else if (mm_stamp_read(mm, m->pid, &m->stamp))
			m->stamp = (struct mm_stamp) { 0 };
		if (!m->stamp.mm)
			n->objects.v[m->object].watched = false;
	}
}
