// SPDX-License-Identifier: GPL-2.0-only
#include "dump/every.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "image/merge.h"
#include "track/keeper.h"

#define DIGITS 6
#define NUMBER_MAX 999999u
#define FOLD_DIR ".fold"
#define LATEST "latest"
#define LATEST_TMP ".latest"
#define FOLD_AT 16u /* ancestors, or as many as are kept if that is more */

/* A checkpoint of the series and the numbers of those whose pages it may need. */
struct member {
	uint32_t number;
	struct {
		uint32_t *v;
		size_t n, cap;
	} needs;
};

struct series {
	const struct every_opts *o;
	struct dump_series stays;
	struct ckpt_ui *ui;
	int dir_fd;
	bool made_dir;
	struct {
		struct member *v;
		size_t n, cap;
	} members; /* ascending */
};

static void name_of(uint32_t number, char *ret)
{
	(void)snprintf(ret, DIGITS + 1, "%0*u", DIGITS, number);
}

static int path_of(const struct series *s, const char *name, char *ret, struct ckpt_err *err)
{
	if (snprintf(ret, PATH_MAX, "%s/%s", s->o->dump.dir, name) < PATH_MAX)
		return 0;
	return ckpt_fail(err, E_IMAGE_DIR, -ENAMETOOLONG, "the path %s is too long",
			 s->o->dump.dir);
}

/* Remove a checkpoint directory: the files of one, and nothing else. */
static void remove_dir(const struct series *s, const char *name)
{
	static const char *const files[] = { CKPT_FILE_INVENTORY, CKPT_FILE_INVENTORY ".tmp",
					     CKPT_FILE_RECORDS };
	char file[PAGE_FILE_NAME_BYTES];
	auto_fd fd = openat(s->dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return;
	/* Without its inventory it is no checkpoint any more, whatever happens next. */
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		(void)unlinkat(fd, files[i], 0);
	for (uint32_t i = 0; i < CKPT_STRIPES_MAX; i++)
		(void)unlinkat(fd, page_file_name(i, file), 0);
	(void)unlinkat(s->dir_fd, name, AT_REMOVEDIR);
}

/* ---- what is there ------------------------------------------------------------------------ */

static int number_cmp(const void *a, const void *b)
{
	const struct member *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

static int list_dir(struct series *s, struct ckpt_err *err)
{
	auto_fd fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_dir DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (!d)
		return ckpt_fail_errno(err, E_IMAGE_DIR, -errno, "cannot read %s", s->o->dump.dir);
	fd = -1;
	while ((e = readdir(d))) {
		struct member *m;
		char *end;
		unsigned long n = strtoul(e->d_name, &end, 10);

		if (!isdigit((unsigned char)e->d_name[0]) || *end || strlen(e->d_name) != DIGITS ||
		    !n)
			continue;
		m = vec_push(&s->members);
		if (!m)
			return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
		m->number = (uint32_t)n;
	}
	if (s->members.n)
		qsort(s->members.v, s->members.n, sizeof(*s->members.v), number_cmp);
	return 0;
}

/* The numbers of the ancestors of a checkpoint made earlier. One that cannot be read needs nobody
 * any more: it only holds pages of others, or is damaged. */
static void read_member(const struct series *s, struct member *m)
{
	struct ckpt_err why = { 0 };
	char name[DIGITS + 1], path[PATH_MAX];
	struct image img;
	int rc;

	name_of(m->number, name);
	if (path_of(s, name, path, &why))
		return;
	rc = image_read(&img, path, &why);
	for (size_t i = 1; !rc && i < img.sources.n; i++) {
		const char *base = strrchr(img.sources.v[i].path, '/');
		uint32_t *n = vec_push(&m->needs);

		if (n)
			*n = (uint32_t)strtoul(base ? base + 1 : img.sources.v[i].path, NULL, 10);
	}
	image_free(&img);
}

/* Continue what an earlier run left. What it did not finish is removed. */
static int series_open(struct series *s, struct ckpt_err *err)
{
	const char *dir = s->o->dump.dir;
	size_t n = 0;
	int rc;

	s->made_dir = !mkdir(dir, 0700);
	if (!s->made_dir && errno != EEXIST)
		return ckpt_fail_errno(err, E_IMAGE_DIR, -errno, "cannot create %s", dir);
	s->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0)
		return ckpt_fail_errno(err, E_IMAGE_DIR, -errno, "cannot open %s", dir);
	remove_dir(s, FOLD_DIR);
	rc = list_dir(s, err);
	for (size_t i = 0; !rc && i < s->members.n; i++) {
		struct member *m = &s->members.v[i];
		char name[DIGITS + 1], file[DIGITS + 16];

		name_of(m->number, name);
		(void)snprintf(file, sizeof(file), "%s/" CKPT_FILE_INVENTORY, name);
		if (faccessat(s->dir_fd, file, F_OK, AT_SYMLINK_NOFOLLOW)) {
			remove_dir(s, name);
			continue;
		}
		read_member(s, m);
		s->members.v[n++] = *m;
	}
	s->members.n = n;
	return rc;
}

static void series_close(struct series *s)
{
	for (size_t i = 0; i < s->members.n; i++)
		vec_free(&s->members.v[i].needs);
	vec_free(&s->members);
	if (s->dir_fd >= 0)
		(void)close(s->dir_fd);
}

/* ---- after a checkpoint -------------------------------------------------------------------- */

static bool needed(const struct series *s, uint32_t number, size_t first_kept)
{
	for (size_t i = first_kept; i < s->members.n; i++) {
		const struct member *m = &s->members.v[i];

		if (m->number == number)
			return true;
		for (size_t k = 0; k < m->needs.n; k++)
			if (m->needs.v[k] == number)
				return true;
	}
	return false;
}

/* Remove what is neither kept nor holds pages of what is. Descendants go before their ancestors, so
 * that what is there can be restored at any instant. */
static void series_trim(struct series *s)
{
	size_t first = s->members.n > s->o->keep ? s->members.n - s->o->keep : 0;
	char name[DIGITS + 1];

	for (size_t i = first; i-- > 0;) {
		struct member *m = &s->members.v[i];

		if (needed(s, m->number, first))
			continue;
		name_of(m->number, name);
		remove_dir(s, name);
		m->number = 0;
		vec_free(&m->needs);
	}
	first = 0;
	for (size_t i = 0; i < s->members.n; i++)
		if (s->members.v[i].number)
			s->members.v[first++] = s->members.v[i];
	s->members.n = first;
}

static void link_latest(const struct series *s, const char *name)
{
	(void)unlinkat(s->dir_fd, LATEST_TMP, 0);
	if (!symlinkat(name, s->dir_fd, LATEST_TMP))
		(void)renameat(s->dir_fd, LATEST_TMP, s->dir_fd, LATEST);
}

static int rebase(const struct series *s, const unsigned char *old, const unsigned char *id,
		  const char *path, struct ckpt_err *err)
{
	auto_free char *full = realpath(path, NULL);
	auto_fd sock = -1;
	int rc = keeper_connect(s->o->dump.pid, &sock, err);

	return rc ? rc : keeper_rebase(sock, old, id, full ? full : path, err);
}

/* Put in the place of the newest one the same without a chain. When anything fails it stays as it
 * was; when only the keeper does not know, the next checkpoint is a full one. */
static void series_fold(struct series *s)
{
	struct member *last = &s->members.v[s->members.n - 1];
	unsigned int at = s->o->keep > FOLD_AT ? s->o->keep : FOLD_AT;
	char name[DIGITS + 1], path[PATH_MAX], fold[PATH_MAX];
	struct ckpt_err why = { 0 };
	struct image_merged merged;
	struct image img;
	int rc;

	if (last->needs.n < at)
		return;
	name_of(last->number, name);
	if (path_of(s, name, path, &why) || path_of(s, FOLD_DIR, fold, &why))
		return;
	rc = image_read(&img, path, &why);
	if (!rc)
		rc = image_merge(&img, fold, s->o->dump.compress, s->o->dump.threads, s->ui,
				 &merged, &why);
	if (!rc && (rc = ckpt_fault("every.fold")))
		(void)ckpt_fail_errno(&why, E_IMAGE_WRITE, rc, "fault point every.fold");
	if (!rc && renameat2(s->dir_fd, FOLD_DIR, s->dir_fd, name, RENAME_EXCHANGE))
		rc = ckpt_fail_errno(&why, E_IMAGE_WRITE, -errno, "cannot exchange %s", path);
	remove_dir(s, FOLD_DIR);
	if (rc) {
		ui_warn(s->ui, "the chain of %s was not folded: %s", path, why.msg);
	} else {
		last->needs.n = 0;
		rc = rebase(s, img.sources.v[0].id, merged.id, path, &why);
		if (rc)
			ui_warn(s->ui,
				"%s was folded, but %s: the next checkpoint will be a full one",
				path, rc == -ENOENT ? "its tracking session has ended" : why.msg);
	}
	image_free(&img);
}

/* The new one needs its parent and at most what that needs. */
static int series_add(struct series *s, uint32_t number, bool full, struct ckpt_err *err)
{
	struct member m = { .number = number };
	struct member *slot = vec_push(&s->members);
	const struct member *parent;

	if (!slot)
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	parent = s->members.n > 1 ? slot - 1 : NULL;
	for (size_t i = 0; !full && parent && i <= parent->needs.n; i++) {
		uint32_t *n = vec_push(&m.needs);

		if (!n)
			return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
		*n = i < parent->needs.n ? parent->needs.v[i] : parent->number;
	}
	*slot = m;
	return 0;
}

static int one(struct series *s, struct ckpt_err *err)
{
	struct ckpt_dump_opts o = s->o->dump;
	struct member *last = s->members.n ? &s->members.v[s->members.n - 1] : NULL;
	uint32_t number = last ? last->number + 1 : 1;
	char name[DIGITS + 1], path[PATH_MAX], parent[PATH_MAX];
	struct ckpt_err why = { 0 };
	Ckpt__Stats st;
	int rc;

	if (number > NUMBER_MAX)
		return ckpt_fail(err, E_IMAGE_DIR, -ENOSPC, "%s has no number left", o.dir);
	if (last)
		name_of(last->number, name);
	if (last && path_of(s, name, parent, err))
		return err->code;
	name_of(number, name);
	if (path_of(s, name, path, err))
		return err->code;
	o.dir = path;
	o.track = true;
	o.parent = last ? parent : NULL;
	o.series = &s->stays;
	rc = ckpt_dump(&o, s->ui, &st, &why);
	/* What is seen while all stand still may be there for a moment: look whether it stays. */
	if (rc && s->stays.made && why.id == E_UNSUPPORTED) {
		s->stays.made = false;
		ckpt_err_clear(&why);
		rc = ckpt_dump(&o, s->ui, &st, &why);
	}
	s->stays.made = !rc;
	/* Another checkpoint was made meanwhile, or the newest is damaged. */
	if (rc && o.parent && why.id == E_PARENT) {
		ui_warn(s->ui, "this is a full checkpoint: %s", why.msg);
		o.parent = NULL;
		ckpt_err_clear(&why);
		rc = ckpt_dump(&o, s->ui, &st, &why);
	}
	if (rc) {
		*err = why;
		return rc;
	}
	rc = series_add(s, number, !st.pages_parent, err);
	if (rc)
		return rc;
	link_latest(s, name);
	if (s->o->made)
		s->o->made(s->o->arg, path, &st);
	series_fold(s);
	series_trim(s);
	return 0;
}

/* ---- the loop ------------------------------------------------------------------------------ */

/* True when a signal asked to end. */
static bool pause_until(uint64_t at_us, const sigset_t *ends)
{
	for (;;) {
		uint64_t now = io_now_us();
		uint64_t left = at_us > now ? at_us - now : 0;
		struct timespec ts = { .tv_sec = (time_t)(left / 1000000),
				       .tv_nsec = (long)(left % 1000000) * 1000 };
		int sig = sigtimedwait(ends, NULL, &ts);

		if (sig > 0)
			return true;
		if (errno == EAGAIN)
			return false;
	}
}

int ckpt_dump_every(const struct every_opts *o, struct ckpt_ui *ui, unsigned int *ret_made,
		    struct ckpt_err *err)
{
	struct series s = { .o = o, .ui = ui, .dir_fd = -1, .stays = { .iters = DUMP_ITERS_NONE } };
	sigset_t ends, old;
	unsigned int made = 0;
	int rc;

	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &ends, &old);
	rc = series_open(&s, err);
	while (!rc) {
		uint64_t next = io_now_us() + o->interval_us;

		rc = one(&s, err);
		made += !rc;
		if (rc && err->id == E_PAUSE) {
			ui_warn(ui, "no checkpoint: %s", err->msg);
			ckpt_err_clear(err);
			rc = 0;
		}
		if (rc || (o->count && made == o->count) || pause_until(next, &ends))
			break;
	}
	/* Nothing came of it. */
	if (rc && s.made_dir)
		(void)rmdir(o->dump.dir);
	dump_iters_close(&s.stays.iters);
	dump_stage_free(&s.stays.stage);
	series_close(&s);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	/* The program ended, and may wait for its parent: so do we. Its keeper may know first. */
	if (rc && made &&
	    (err->id == E_TARGET_GONE || err->id == E_NO_SUCH_PID ||
	     ((err->id == E_BAD_TARGET || err->id == E_TRACK) && !proc_live(o->dump.pid)))) {
		ckpt_err_clear(err);
		rc = 0;
	}
	*ret_made = made;
	return rc;
}
