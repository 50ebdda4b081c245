// SPDX-License-Identifier: GPL-2.0-only
/* Descriptors that the caller of a restore hands over in place of some of the image's. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "restore/restore.h"

/* What object @id is called, if it may be replaced. Files behind mappings and the like may not. */
static const char *name_of(struct restore_ctx *r, uint32_t id, struct ckpt_err *err)
{
	const Ckpt__Object *obj = restore_object(r, id);
	const struct fd_kind *kind = obj ? fd_kind_by_name(obj->state->kind) : NULL;
	const void *msg = kind && kind->called ? restore_object_msg(r, id, err) : NULL;

	return msg ? kind->called(msg) : NULL;
}

/* Is there a descriptor of this name in any task? */
static bool is_held(struct restore_ctx *r, const char *name, struct ckpt_err *err)
{
	for (size_t t = 0; t < r->img->tables.n; t++)
		for (size_t i = 0; i < r->img->tables.v[t]->n_fds; i++) {
			const char *n = name_of(r, r->img->tables.v[t]->fds[i]->object, err);

			if (n && !strcmp(n, name))
				return true;
		}
	return false;
}

int restore_handed_check(struct restore_ctx *r, struct ckpt_err *err)
{
	for (size_t i = 0; i < r->opts->n_inherit; i++) {
		const struct ckpt_inherit *h = &r->opts->inherit[i];

		if (h->fd >= 0 && fcntl(h->fd, F_GETFD) < 0)
			return ckpt_fail(err, E_USAGE, -EBADF,
					 "--inherit-fd: descriptor %d is not open", h->fd);
		if (is_held(r, h->name, err))
			continue;
		if (err->id)
			return err->code;
		(void)ckpt_fail(
			err, E_USAGE, -EINVAL,
			"--inherit-fd: no descriptor of the checkpoint is called \"%s\", or "
			"it cannot be replaced",
			h->name);
		return ckpt_remedy(err, "see their names: ckpt show -D %s fds", r->opts->dir);
	}
	return 0;
}

int restore_handed(struct restore_ctx *r, uint32_t id, int *ret_fd, struct ckpt_err *err)
{
	const char *name = r->opts->n_inherit ? name_of(r, id, err) : NULL;
	uint32_t want = restore_object(r, id)->flags & O_ACCMODE;
	int best = -1, wrong = -1;

	if (!name)
		return err->id ? err->code : 0;
	for (size_t i = 0; i < r->opts->n_inherit; i++) {
		const struct ckpt_inherit *h = &r->opts->inherit[i];
		int mode = h->fd < 0 || strcmp(h->name, name) != 0 ? -1 : fcntl(h->fd, F_GETFL);

		if (mode < 0)
			continue;
		if ((uint32_t)(mode & O_ACCMODE) == want)
			best = h->fd;
		else if ((mode & O_ACCMODE) == O_RDWR && best < 0)
			best = h->fd;
		else
			wrong = h->fd;
	}
	if (best < 0 && wrong < 0)
		return 0;
	if (best < 0)
		return ckpt_fail(err, E_EXTERNAL, -EBADF,
				 "the program %s %s, and descriptor %d is not open for that",
				 want == O_RDONLY   ? "reads from"
				 : want == O_WRONLY ? "writes to"
						    : "reads from and writes to",
				 name, wrong);
	*ret_fd = fcntl(best, F_DUPFD_CLOEXEC, 3);
	return *ret_fd < 0 ? ckpt_fail_errno(err, E_LIMIT, -errno, "descriptor %d", best) : 1;
}
