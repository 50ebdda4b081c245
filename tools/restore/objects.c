// SPDX-License-Identifier: GPL-2.0-only
/* Opening every object once, in ckpt. Their numbers lie above every number a task wants. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "kind/fd/lock.h"
#include "restore/restore.h"

const Ckpt__Object *restore_object(struct restore_ctx *r, uint32_t id)
{
	return id && id <= r->img->objects.n ? r->img->objects.v[id - 1] : NULL;
}

#define OPENING (-2) /* its kind is at work; reaching it again would be a circle */

const void *restore_object_msg(struct restore_ctx *r, uint32_t id, struct ckpt_err *err)
{
	const Ckpt__Object *obj = restore_object(r, id);
	const struct fd_kind *kind = obj ? fd_kind_by_name(obj->state->kind) : NULL;

	if (!kind) {
		(void)ckpt_fail(err, obj ? E_IMAGE_VERSION : E_IMAGE_CORRUPT, -EPROTO,
				"object %u is of unknown kind \"%s\"", id,
				obj ? obj->state->kind : "");
		return NULL;
	}
	if (!r->object_msgs[id - 1])
		r->object_msgs[id - 1] = kind_state_unpack(obj->state, kind->desc, err);
	return r->object_msgs[id - 1];
}

uint64_t restore_page_at(const struct restore_ctx *r, uint64_t off)
{
	uint32_t source = ckpt_run_source(off);
	struct page_place at =
		page_place(r->img->sources.v[source].pages.stripes, ckpt_run_off(off));

	return ckpt_run_at(r->sources.first[source] + at.file, at.off);
}

/* @off as in a run. 0 or -errno. */
static int pages_read(const struct restore_ctx *r, void *buf, uint64_t len, uint64_t off)
{
	uint32_t source = ckpt_run_source(off);
	struct page_file p = r->img->sources.v[source].pages;

	/* The image's own numbers may be the tasks' by now. */
	memcpy(p.fd, r->sources.fds + r->sources.first[source], p.n * sizeof(*p.fd));
	return page_file_read(&p, buf, len, ckpt_run_off(off));
}

int restore_object_pages(struct restore_ctx *r, uint32_t id, int fd, struct ckpt_err *err)
{
	unsigned char *buf = malloc(CKPT_PAGE_SUM_BYTES);
	int rc = buf ? 0 : ckpt_oom(err);
	struct image_maps maps = image_maps_of_object(r->img, id);
	struct stat st = { 0 };

	if (!rc && fstat(fd, &st))
		rc = ckpt_fail_errno(err, E_RESTORE, -errno, "object %u", id);
	if (!rc)
		rc = restore_early_pages(r, id, fd, err);

	for (size_t i = 0; !rc && i < maps.n; i++) {
		const Ckpt__PageMap *m = maps.v[i];
		const struct ckpt_page_run *run = (const void *)m->runs.data;

		for (size_t k = 0; !rc && k < m->runs.len / sizeof(*run); k++) {
			uint64_t left = (uint64_t)run[k].npages * CKPT_PAGE, done = 0;

			if (run[k].kind != CKPT_RUN_DATA)
				continue; /* holes read as zeros */
			while (!rc && left) {
				uint64_t n =
					left > CKPT_PAGE_SUM_BYTES ? CKPT_PAGE_SUM_BYTES : left;
				uint64_t at = run[k].vaddr + done;
				uint64_t put = n;

				rc = pages_read(r, buf, n, run[k].off + done);
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

int restore_object_pages_into(struct restore_ctx *r, uint32_t id, void *to, uint64_t bytes,
			      struct ckpt_err *err)
{
	struct image_maps maps = image_maps_of_object(r->img, id);

	for (size_t i = 0; i < maps.n; i++) {
		const struct ckpt_page_run *run = (const void *)maps.v[i]->runs.data;

		for (size_t k = 0; k < maps.v[i]->runs.len / sizeof(*run); k++) {
			uint64_t len = (uint64_t)run[k].npages * CKPT_PAGE;
			int rc;

			if (run[k].kind != CKPT_RUN_DATA)
				continue;
			if (run[k].vaddr > bytes || len > bytes - run[k].vaddr)
				return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
						 "object %u has pages behind its end", id);
			rc = pages_read(r, (char *)to + run[k].vaddr, len, run[k].off);
			if (rc)
				return ckpt_fail_errno(err, E_RESTORE, rc, "cannot fill object %u",
						       id);
		}
	}
	return 0;
}

/* Move @fd to the number that the tasks want it at, or to r->fd_base or above. */
static int lift(struct restore_ctx *r, uint32_t id, int *fd, struct ckpt_err *err)
{
	int home = r->object_homes[id - 1], want = r->fd_base, high;

	if (home >= 0 && (*fd == home || fcntl(home, F_GETFD) < 0))
		want = home;
	if (*fd == want || (want >= r->fd_base && *fd >= want))
		return 0;
	high = fcntl(*fd, F_DUPFD_CLOEXEC, want);
	if (high < 0)
		return ckpt_fail_errno(err, E_LIMIT, -errno,
				       "cannot keep %zu objects open (RLIMIT_NOFILE)",
				       r->img->objects.n);
	(void)close(*fd);
	*fd = high;
	return 0;
}

/*
 * A number is an object's home when every table that has the object has it there, and no table has
 * something else there. Then ckpt opens it there, and tasks inherit it in its place.
 */
static int find_homes(struct restore_ctx *r, struct ckpt_err *err)
{
	const struct image *img = r->img;
	size_t n = img->objects.n, numbers = (size_t)r->fd_base;
	auto_free uint32_t *owner = calloc(numbers, sizeof(uint32_t)); /* ~0: several */
	auto_free uint32_t *times = calloc(numbers, sizeof(uint32_t));
	auto_free uint32_t *tables = calloc(n + 1, sizeof(uint32_t));
	auto_free size_t *last = calloc(n + 1, sizeof(size_t));

	r->object_homes = malloc((n + 1) * sizeof(int));
	if (!owner || !times || !tables || !last || !r->object_homes)
		return ckpt_oom(err);
	memset(r->object_homes, 0xff, (n + 1) * sizeof(int));
	for (size_t t = 0; t < img->tables.n; t++)
		for (size_t i = 0; i < img->tables.v[t]->n_fds; i++) {
			uint32_t fd = img->tables.v[t]->fds[i]->fd;
			uint32_t id = img->tables.v[t]->fds[i]->object;

			if (!id || id > n)
				return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
						 "descriptor %u is of object %u", fd, id);
			owner[fd] = !owner[fd] || owner[fd] == id ? id : ~0u;
			times[fd]++;
			tables[id] += last[id] != t + 1;
			last[id] = t + 1;
		}
	for (size_t fd = numbers; fd-- > 0;)
		if (owner[fd] && owner[fd] != ~0u && times[fd] == tables[owner[fd]])
			r->object_homes[owner[fd] - 1] = (int)fd;
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

/* What open() and fcntl() can set; O_ASYNC comes with the number, in the task that has it. */
static int set_flags(const Ckpt__Object *obj, int fd, struct ckpt_err *err)
{
	const int settable = O_APPEND | O_NONBLOCK | O_NOATIME | O_DIRECT;
	int now = fcntl(fd, F_GETFL), want = (int)obj->flags;

	if (want & O_PATH || now < 0 || !((now ^ want) & settable))
		return 0;
	if (fcntl(fd, F_SETFL, (now & ~settable) | (want & settable)))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot set flags %#o", want);
	return 0;
}

int restore_object_give(struct restore_ctx *r, uint32_t id, int fd, struct ckpt_err *err)
{
	const Ckpt__Object *obj = restore_object(r, id);
	int rc;

	if (!obj || (r->object_fds[id - 1] != -1 && r->object_fds[id - 1] != OPENING)) {
		(void)close(fd);
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "object %u would be made twice",
				 id);
	}
	rc = set_flags(obj, fd, err);
	if (!rc)
		rc = lift(r, id, &fd, err);
	if (rc) {
		(void)close(fd);
		return rc;
	}
	r->object_fds[id - 1] = fd;
	return 0;
}

static int object_open(struct restore_ctx *r, uint32_t id, struct ckpt_err *err)
{
	const void *msg = restore_object_msg(r, id, err);
	const Ckpt__Object *obj = restore_object(r, id);
	const struct fd_kind *kind;
	int rc, fd = -1;

	if (!msg)
		return err->code;
	kind = fd_kind_by_name(obj->state->kind);
	r->object_fds[id - 1] = OPENING;
	rc = restore_handed(r, id, &fd, err);
	if (!rc)
		rc = kind->restore(r, obj, msg, &fd, err);
	if (rc >= 0)
		rc = restore_object_give(r, id, fd, err);
	return rc ? ckpt_ctx(err, "object %u (%s)", id, kind->name) : 0;
}

int restore_object_fd(struct restore_ctx *r, uint32_t id, int *ret_fd, struct ckpt_err *err)
{
	if (!id || id > r->img->objects.n || r->object_fds[id - 1] == OPENING)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
				 "object %u is used before it is made", id);
	if (r->object_fds[id - 1] < 0) {
		int rc = object_open(r, id, err);

		if (rc)
			return rc;
	}
	*ret_fd = r->object_fds[id - 1];
	return 0;
}

int *restore_object_spare(struct restore_ctx *r, uint32_t id)
{
	return &r->object_spares[id - 1];
}

int restore_object_keep(struct restore_ctx *r, uint32_t id, int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, r->fd_base), rc = high < 0 ? -errno : 0;

	(void)close(fd);
	r->object_spares[id - 1] = high;
	return rc;
}

/* The page files of the chain, out of the way of the descriptors of tasks. */
static int open_sources(struct restore_ctx *r, struct ckpt_err *err)
{
	struct image *img = r->img;
	size_t n = 0;

	for (size_t i = 0; i < img->sources.n; i++)
		n += img->sources.v[i].pages.n;
	r->sources.fds = calloc(n + 1, sizeof(*r->sources.fds));
	r->sources.first = calloc(img->sources.n + 1, sizeof(*r->sources.first));
	if (!r->sources.fds || !r->sources.first)
		return ckpt_oom(err);
	for (size_t i = 0; i < img->sources.n; i++) {
		const struct page_file *p = &img->sources.v[i].pages;

		r->sources.first[i] = (uint32_t)r->sources.n;
		for (uint32_t k = 0; k < p->n; k++) {
			int fd = fcntl(p->fd[k], F_DUPFD_CLOEXEC, r->fd_base);

			if (fd < 0)
				return ckpt_fail_errno(err, E_LIMIT, -errno,
						       "descriptor %d and those above it are "
						       "needed (RLIMIT_NOFILE)",
						       r->fd_base);
			r->sources.fds[r->sources.n++] = fd;
		}
	}
	return 0;
}

int restore_objects_open(struct restore_ctx *r, struct ckpt_err *err)
{
	struct image *img = r->img;
	size_t n = img->objects.n;
	int rc;

	r->object_fds = malloc((n + 1) * sizeof(int));
	r->object_spares = malloc((n + 1) * sizeof(int));
	r->object_msgs = calloc(n + 1, sizeof(void *));
	if (!r->object_fds || !r->object_spares || !r->object_msgs)
		return ckpt_oom(err);
	for (size_t i = 0; i < n; i++)
		r->object_fds[i] = r->object_spares[i] = -1;
	r->fd_base = max_fd(img) + 1;
	rc = open_sources(r, err);
	/* Behind the check above the numbers are bounded by RLIMIT_NOFILE. */
	if (!rc)
		rc = find_homes(r, err);
	if (!rc)
		rc = restore_handed_check(r, err);
	if (!rc)
		rc = restore_net_lock(r, err);
	if (rc)
		return rc;
	for (uint32_t id = 1; id <= n; id++) {
		const struct fd_kind *kind = fd_kind_by_name(img->objects.v[id - 1]->state->kind);
		int fd;

		if (!(kind && kind->on_demand) && restore_object_fd(r, id, &fd, err))
			return err->code;
	}
	return 0;
}

static int set_owner(struct restore_ctx *r, const Ckpt__Object *obj, int fd, struct ckpt_err *err)
{
	struct f_owner_ex own = { .type = obj->owner_type, .pid = obj->owner_pid };

	if (obj->owner_sig && fcntl(fd, F_SETSIG, obj->owner_sig))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "object %u: F_SETSIG", obj->id);
	if (!obj->owner_pid || !fcntl(fd, F_SETOWN_EX, &own))
		return 0;
	if (errno != ESRCH)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "object %u: F_SETOWN", obj->id);
	ui_note(r->ui, 1, "object %u: its signals went to %d, which is not here", obj->id,
		obj->owner_pid);
	return 0;
}

/* What each kind left for the end. Then the owners of descriptions, who would be signalled before.
 */
int restore_objects_finish(struct restore_ctx *r, struct ckpt_err *err)
{
	for (size_t i = 0; i < r->img->objects.n; i++) {
		const Ckpt__Object *obj = r->img->objects.v[i];
		const struct fd_kind *kind = fd_kind_by_name(obj->state->kind);

		if (r->object_fds[i] < 0)
			continue; /* on demand, and nobody asked */
		if (lock_restore_object(obj, r->object_fds[i], err))
			return err->code;
		if (kind->finish && kind->finish(r, obj, r->object_msgs[i], r->object_fds[i], err))
			return ckpt_ctx(err, "object %u (%s)", obj->id, kind->name);
	}
	for (size_t i = 0; i < r->img->objects.n; i++)
		if (r->object_fds[i] >= 0 &&
		    set_owner(r, r->img->objects.v[i], r->object_fds[i], err))
			return err->code;
	return 0;
}

void restore_objects_close(struct restore_ctx *r)
{
	for (size_t i = 0; r->object_fds && i < r->img->objects.n; i++) {
		if (r->object_fds[i] >= 0)
			(void)close(r->object_fds[i]);
		if (r->object_spares && r->object_spares[i] >= 0)
			(void)close(r->object_spares[i]);
		if (r->object_msgs && r->object_msgs[i])
			protobuf_c_message_free_unpacked(r->object_msgs[i], NULL);
	}
	for (size_t i = 0; i < r->sources.n; i++)
		(void)close(r->sources.fds[i]);
	free(r->sources.fds);
	free(r->sources.first);
	memset(&r->sources, 0, sizeof(r->sources));
	free(r->object_fds);
	free(r->object_spares);
	free(r->object_homes);
	free(r->object_msgs);
	r->object_fds = NULL;
	r->object_spares = NULL;
	r->object_homes = NULL;
	r->object_msgs = NULL;
}
