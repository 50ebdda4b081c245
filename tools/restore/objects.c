// SPDX-License-Identifier: GPL-2.0-only
/* Opening every object once, in ckpt. Their numbers lie above every number a task wants. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "restore/restore.h"

const Ckpt__Object *restore_object(struct restore_ctx *r, uint32_t id)
{
	return id && id <= r->img->objects.n ? r->img->objects.v[id - 1] : NULL;
}

int restore_object_fd(struct restore_ctx *r, uint32_t id, int *ret_fd, struct ckpt_err *err)
{
	if (!id || id > r->img->objects.n || r->object_fds[id - 1] < 0)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
				 "object %u is used before it is made", id);
	*ret_fd = r->object_fds[id - 1];
	return 0;
}

int restore_object_pages(struct restore_ctx *r, uint32_t id, int fd, struct ckpt_err *err)
{
	unsigned char *buf = malloc(CKPT_PAGE_SUM_BYTES);
	int rc = buf ? 0 : ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	struct stat st = { 0 };

	if (!rc && fstat(fd, &st))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "object %u", id);
	for (size_t i = 0; !rc && i < r->img->maps.n; i++) {
		const Ckpt__PageMap *m = r->img->maps.v[i];
		const struct ckpt_page_run *run = (const void *)m->runs.data;

		if (m->object != id)
			continue;
		for (size_t k = 0; !rc && k < m->runs.len / sizeof(*run); k++) {
			uint64_t left = (uint64_t)run[k].npages * CKPT_PAGE, done = 0;

			if (run[k].kind != CKPT_RUN_DATA)
				continue; /* holes read as zeros */
			while (!rc && left) {
				uint64_t n =
					left > CKPT_PAGE_SUM_BYTES ? CKPT_PAGE_SUM_BYTES : left;
				uint64_t at = run[k].vaddr + done;
				uint64_t put = n;

				rc = io_pread_full(r->img->pages_fd, buf, n, run[k].off + done);
				/* The last page may reach behind the end of the file. */
				if (at >= (uint64_t)st.st_size)
					break;
				if (put > (uint64_t)st.st_size - at)
					put = (uint64_t)st.st_size - at;
				if (!rc)
					rc = io_pwrite_full(fd, buf, put, at);
				if (rc)
					(void)ckpt_fail_errno(err, E_RESTORE, rc,
							      "cannot fill object %u", id);
				done += n;
				left -= n;
			}
		}
	}
	free(buf);
	return rc;
}

/* Move @fd to r->fd_base or above. */
static int lift(struct restore_ctx *r, int *fd, struct ckpt_err *err)
{
	int high;

	if (*fd >= r->fd_base)
		return 0;
	high = fcntl(*fd, F_DUPFD_CLOEXEC, r->fd_base);
	if (high < 0)
		return ckpt_fail_errno(err, E_LIMIT, -errno,
				       "cannot keep %zu objects open (RLIMIT_NOFILE)",
				       r->img->objects.n);
	(void)close(*fd);
	*fd = high;
	return 0;
}

static int max_fd(const struct image *img)
{
	uint32_t max = 2;

	for (size_t i = 0; i < img->tables.n; i++)
		for (size_t k = 0; k < img->tables.v[i]->n_fds; k++)
			if (img->tables.v[i]->fds[k]->fd > max)
				max = img->tables.v[i]->fds[k]->fd;
	return (int)max;
}

int restore_objects_open(struct restore_ctx *r, struct ckpt_err *err)
{
	struct image *img = r->img;
	size_t n = img->objects.n;

	r->object_fds = malloc((n + 1) * sizeof(int));
	r->object_msgs = calloc(n + 1, sizeof(void *));
	if (!r->object_fds || !r->object_msgs)
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++)
		r->object_fds[i] = -1;
	r->fd_base = max_fd(img) + 1;
	r->pages_fd = fcntl(img->pages_fd, F_DUPFD_CLOEXEC, r->fd_base);
	if (r->pages_fd < 0)
		return ckpt_fail_errno(
			err, E_LIMIT, -errno,
			"descriptor %d and those above it are needed (RLIMIT_NOFILE)", r->fd_base);
	for (size_t i = 0; i < n; i++) {
		const Ckpt__Object *obj = img->objects.v[i];
		const struct fd_kind *kind = fd_kind_by_name(obj->state->kind);
		int rc;

		if (!kind)
			return ckpt_fail(err, E_IMAGE_VERSION, -EPROTO,
					 "the image holds a descriptor of unknown kind \"%s\"",
					 obj->state->kind);
		r->object_msgs[i] = kind_state_unpack(obj->state, kind->desc, err);
		if (!r->object_msgs[i])
			return err->code;
		rc = kind->restore(r, obj, r->object_msgs[i], &r->object_fds[i], err);
		if (!rc)
			rc = lift(r, &r->object_fds[i], err);
		if (rc)
			return ckpt_ctx(err, "object %u (%s)", obj->id, kind->name);
	}
	return 0;
}

/* Owners and signals of descriptions, then what each kind left for the end. */
int restore_objects_finish(struct restore_ctx *r, struct ckpt_err *err)
{
	for (size_t i = 0; i < r->img->objects.n; i++) {
		const Ckpt__Object *obj = r->img->objects.v[i];
		const struct fd_kind *kind = fd_kind_by_name(obj->state->kind);
		struct f_owner_ex own = { .type = obj->owner_type, .pid = obj->owner_pid };
		int fd = r->object_fds[i];

		if (obj->owner_sig && fcntl(fd, F_SETSIG, obj->owner_sig))
			return ckpt_fail_errno(err, E_RESTORE, -errno, "object %u: F_SETSIG",
					       obj->id);
		if (obj->owner_pid && restore_has_pid(r, obj->owner_pid) &&
		    fcntl(fd, F_SETOWN_EX, &own))
			return ckpt_fail_errno(err, E_RESTORE, -errno, "object %u: F_SETOWN",
					       obj->id);
		if (kind->finish && kind->finish(r, obj, r->object_msgs[i], fd, err))
			return ckpt_ctx(err, "object %u (%s)", obj->id, kind->name);
	}
	return 0;
}

void restore_objects_close(struct restore_ctx *r)
{
	for (size_t i = 0; r->object_fds && i < r->img->objects.n; i++) {
		if (r->object_fds[i] >= 0)
			(void)close(r->object_fds[i]);
		if (r->object_msgs && r->object_msgs[i])
			protobuf_c_message_free_unpacked(r->object_msgs[i], NULL);
	}
	if (r->pages_fd >= 0)
		(void)close(r->pages_fd);
	r->pages_fd = -1;
	free(r->object_fds);
	free(r->object_msgs);
	r->object_fds = NULL;
	r->object_msgs = NULL;
}
