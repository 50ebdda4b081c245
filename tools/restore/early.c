// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared objects that exist, and are filled, before the image is known: a migration sends their
 * pages while the program runs. What cannot be made early, or comes to nothing, is kept in a memory
 * file, from which the object is filled in the end. It never shrinks: the image says what of it is
 * right, and all else is cleared.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "restore/restore.h"

#define COPY_BYTES (256u << 10)

static uint64_t round_up(uint64_t bytes)
{
	return (bytes + CKPT_PAGE - 1) & ~(uint64_t)(CKPT_PAGE - 1);
}

struct early_object *restore_early_find(const struct restore_ctx *r, uint32_t number)
{
	for (size_t i = 0; i < r->early.n; i++)
		if (r->early.v[i].number == number)
			return &r->early.v[i];
	return NULL;
}

/* Can pages be cleared again? */
static bool has_holes(int fd)
{
	return !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, CKPT_PAGE);
}

static int make_plain(struct early_object *e, struct ckpt_err *err)
{
	e->fd = memfd_create("ckpt-receive", MFD_CLOEXEC);
	e->plain = true;
	return e->fd < 0 ? ckpt_fail_errno(err, E_NOMEM, -errno, "cannot make a memory file") : 0;
}

static void end_kind(struct early_object *e, bool lives)
{
	if (!e->plain && e->kind->early_end)
		e->kind->early_end(e->msg, lives);
	if (e->fd >= 0)
		(void)close(e->fd);
	e->fd = -1;
}

int restore_early_make(struct restore_ctx *r, uint32_t number, const Ckpt__State *state,
		       struct ckpt_err *err)
{
	const struct fd_kind *kind = state ? fd_kind_by_name(state->kind) : NULL;
	struct ckpt_err why = { 0 };
	struct early_object *e;
	void *msg;

	if (!kind || !kind->early || restore_early_find(r, number) ||
	    r->early.n >= RESTORE_EARLY_MAX)
		return ckpt_fail(err, E_PEER, -EBADMSG, "an impossible shared object");
	msg = kind_state_unpack(state, kind->desc, err);
	if (!msg)
		return err->code;
	e = vec_push(&r->early);
	if (!e) {
		protobuf_c_message_free_unpacked(msg, NULL);
		return ckpt_oom(err);
	}
	e->number = number;
	e->kind = kind;
	e->msg = msg;
	e->fd = -1;
	if (!kind->early(r, msg, &e->fd, &why)) {
		if (has_holes(e->fd))
			return 0;
		end_kind(e, false);
	}
	ui_note(r->ui, 1, "shared memory is filled in the end: %s", why.msg);
	return make_plain(e, err);
}

int restore_early_grow(struct restore_ctx *r, uint32_t number, uint64_t bytes, struct ckpt_err *err)
{
	struct early_object *e = restore_early_find(r, number);
	struct stat st;

	if (!e)
		return ckpt_fail(err, E_PEER, -EBADMSG, "an unknown shared object");
	if (e->bytes < bytes)
		e->bytes = bytes;
	if (fstat(e->fd, &st) || ((uint64_t)st.st_size < bytes && ftruncate(e->fd, (off_t)bytes)))
		return ckpt_fail_errno(err, E_NOMEM, -errno, "cannot make shared memory longer");
	return 0;
}

int restore_early_write(const struct restore_ctx *r, uint32_t number, uint64_t addr,
			const void *data, size_t len)
{
	const struct early_object *e = restore_early_find(r, number);

	if (!e || len > round_up(e->bytes) || addr > round_up(e->bytes) - len)
		return -EBADMSG;
	if (!data)
		return fallocate(e->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)addr,
				 (off_t)len)
			       ? -errno
			       : 0;
	/* The last page may reach behind the end. */
	if (len > e->bytes - addr)
		len = e->bytes - addr;
	return io_pwrite_full(e->fd, data, len, addr);
}

static void early_free(struct early_object *e, bool lives)
{
	end_kind(e, lives && e->taken);
	if (e->msg)
		protobuf_c_message_free_unpacked(e->msg, NULL);
}

void restore_early_drop(struct restore_ctx *r, uint32_t number)
{
	struct early_object *e = restore_early_find(r, number);

	if (!e)
		return;
	early_free(e, false);
	*e = r->early.v[--r->early.n];
}

void restore_early_free(struct restore_ctx *r)
{
	for (size_t i = 0; i < r->early.n; i++)
		early_free(&r->early.v[i], r->lives);
	vec_free(&r->early);
}

/* ---- the image is known ------------------------------------------------------------------ */

int restore_early_take(struct restore_ctx *r, uint32_t id, const void *msg)
{
	const Ckpt__Object *obj = restore_object(r, id);
	struct image_maps maps = image_maps_of_object(r->img, id);
	struct early_object *e = NULL;
	int fd;

	for_each_image_run(run, maps)
	{
		if (run->kind == CKPT_RUN_PARENT && !e)
			e = restore_early_find(r, (uint32_t)run->off);
	}
	/* None of its pages are there, and yet it may be one that has a name of its own. */
	for (size_t i = 0; !e && i < r->early.n; i++)
		if (r->early.v[i].kind->early_end &&
		    !strcmp(r->early.v[i].kind->name, obj->state->kind) &&
		    r->early.v[i].kind->fits(r->early.v[i].msg, msg))
			e = &r->early.v[i];
	if (!e || e->plain || e->taken || strcmp(e->kind->name, obj->state->kind) != 0 ||
	    !e->kind->fits(e->msg, msg))
		return -1;
	e->taken = id;
	fd = e->fd;
	e->fd = -1;
	return fd;
}

static int clear(int fd, uint64_t from, uint64_t to)
{
	if (from >= to)
		return 0;
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
			 (off_t)(to - from))
		       ? -errno
		       : 0;
}

static int copy(int from, int to, uint64_t at, uint64_t len, uint64_t bytes)
{
	auto_free char *buf = malloc(COPY_BYTES);
	int rc = buf ? 0 : -ENOMEM;

	if (at >= bytes)
		return rc;
	if (len > bytes - at)
		len = bytes - at;
	while (!rc && len) {
		uint64_t n = len < COPY_BYTES ? len : COPY_BYTES;

		/* What is behind the end of a file that kept it is zeros. */
		memset(buf, 0, n);
		rc = io_pread_full(from, buf, n, at);
		if (!rc || rc == -ENODATA)
			rc = io_pwrite_full(to, buf, n, at);
		at += n;
		len -= n;
	}
	return rc;
}

/* What is in its place stays; what is kept elsewhere is copied; all between is cleared. */
int restore_early_pages(struct restore_ctx *r, uint32_t id, int fd, struct ckpt_err *err)
{
	struct image_maps maps = image_maps_of_object(r->img, id);
	const struct early_object *own = NULL;
	uint64_t at = 0;
	struct stat st;
	int rc = r->early.n && fstat(fd, &st) ? -errno : 0;

	if (!r->early.n)
		return 0;
	for (size_t i = 0; !own && i < r->early.n; i++)
		if (r->early.v[i].taken == id)
			own = &r->early.v[i];
	for_each_image_run(run, maps)
	{
		uint64_t len = (uint64_t)run->npages * CKPT_PAGE;
		const struct early_object *e;

		if (rc || (run->kind != CKPT_RUN_PARENT && run->kind != CKPT_RUN_DATA))
			continue;
		if (own)
			rc = clear(fd, at, run->vaddr);
		at = run->vaddr + len;
		if (rc || run->kind == CKPT_RUN_DATA)
			continue;
		e = restore_early_find(r, (uint32_t)run->off);
		if (!e || (e != own && e->taken))
			return ckpt_fail(err, E_PEER, -EBADMSG,
					 "pages of object %u are those of another one", id);
		if (e != own)
			rc = copy(e->fd, fd, run->vaddr, len, (uint64_t)st.st_size);
	}
	if (!rc && own)
		rc = clear(fd, at, round_up((uint64_t)st.st_size));
	return rc ? ckpt_fail_errno(err, E_RESTORE, rc, "cannot fill object %u", id) : 0;
}
