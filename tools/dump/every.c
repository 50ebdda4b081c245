// SPDX-License-Identifier: GPL-2.0-only
#include "dump/every.h"

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
#include "dump/fold.h"
#include "dump/gone.h"
#include "image/rebase.h"
#include "track/keeper.h"

#define DIGITS 6
#define NUMBER_MAX 999999u
#define FOLD_DIR ".fold"
#define LATEST "latest"
#define LATEST_TMP ".latest"
/* What a fold made of the chain of a checkpoint that others were made on meanwhile: this and the
 * checkpoint's number. As a number it has this bit. */
#define BASE_NAME "base-"
#define IS_BASE (1u << 31)
#define NAME_BYTES 24
/* A chain is folded when it has so many checkpoints and, since the last whole one, as many bytes of
 * pages as that; or when it has so many (or as many as are kept, if that is more). When it has
 * FOLD_WAIT times as many, the next checkpoint waits for the fold. */
#define FOLD_AT 16u
#define FOLD_MAX 64u
#define FOLD_WAIT 4u
#define WAIT_STEP_US 10000u

/* A checkpoint of the series and the numbers of those whose pages it may need. */
struct member {
	uint32_t number;
	bool unread;    /* nobody knows what it needs */
	uint64_t bytes; /* that its page file takes */
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
	struct {
		struct member *v;
		size_t n, cap;
	} bases;
	struct fold *fold; /* under way, or done and not yet made use of; NULL: none */
	uint32_t fold_of;  /* the checkpoint whose chain it folds */
	struct gone *gone; /* page files of what was removed */
	size_t fold_again; /* after one that failed: not before the chain has so many */
};

static void name_of(uint32_t number, char *ret)
{
	(void)snprintf(ret, NAME_BYTES, "%s%0*u", number & IS_BASE ? BASE_NAME : "", DIGITS,
		       number & ~IS_BASE);
}

/* 0: the name of something else. */
static uint32_t number_of(const char *name)
{
	size_t skip = strlen(BASE_NAME);
	uint32_t base = strncmp(name, BASE_NAME, skip) ? 0 : IS_BASE;
	const char *digits = base ? name + skip : name;

	if (strlen(digits) != DIGITS || strspn(digits, "0123456789") != DIGITS)
		return 0;
	return base | (uint32_t)strtoul(digits, NULL, 10);
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
		gone_unlink(s->gone, fd, page_file_name(i, file));
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
		uint32_t number = number_of(e->d_name);
		struct member *m;

		if (!(number & ~IS_BASE))
			continue;
		m = number & IS_BASE ? vec_push(&s->bases) : vec_push(&s->members);
		if (!m)
			return ckpt_oom(err);
		m->number = number;
	}
	if (s->members.n)
		qsort(s->members.v, s->members.n, sizeof(*s->members.v), number_cmp);
	return 0;
}

/* What the files of a page file take, of which holes are no part. */
static uint64_t bytes_of(const struct series *s, const char *name)
{
	char file[PAGE_FILE_NAME_BYTES], path[NAME_BYTES + sizeof(file)];
	uint64_t bytes = 0;
	struct stat st;

	for (uint32_t i = 0; i < CKPT_STRIPES_MAX; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", name, page_file_name(i, file));
		if (fstatat(s->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW))
			break;
		bytes += (uint64_t)st.st_blocks * 512;
	}
	return bytes;
}

/* The numbers of the ancestors of the checkpoint in the directory @name. */
static int read_needs(const struct series *s, const char *name, struct member *m,
		      struct ckpt_err *err)
{
	char path[PATH_MAX];
	struct image img;
	int rc = path_of(s, name, path, err);

	if (rc)
		return rc;
	rc = image_read(&img, path, err);
	for (size_t i = 1; !rc && i < img.sources.n; i++) {
		const char *base = strrchr(img.sources.v[i].path, '/');
		uint32_t *n = vec_push(&m->needs);

		if (n)
			*n = number_of(base ? base + 1 : img.sources.v[i].path);
		else
			rc = ckpt_oom(err);
	}
	image_free(&img);
	return rc;
}

/* Of a checkpoint made earlier. One that cannot be read needs nobody any more: it only holds pages
 * of others, or is damaged. Nobody relies on that as far as bases go. */
static void read_member(const struct series *s, struct member *m)
{
	struct ckpt_err why = { 0 };
	char name[NAME_BYTES];

	name_of(m->number, name);
	m->unread = read_needs(s, name, m, &why) != 0;
	m->bytes = bytes_of(s, name);
}

/* A directory without an inventory is removed: what was not finished. */
static bool is_checkpoint(const struct series *s, uint32_t number)
{
	char name[NAME_BYTES], file[NAME_BYTES + sizeof(CKPT_FILE_INVENTORY)];

	name_of(number, name);
	(void)snprintf(file, sizeof(file), "%s/" CKPT_FILE_INVENTORY, name);
	if (!faccessat(s->dir_fd, file, F_OK, AT_SYMLINK_NOFOLLOW))
		return true;
	remove_dir(s, name);
	return false;
}

static void trim_bases(struct series *s, size_t first_kept);

/* Continue what an earlier run left. What it did not finish is removed. */
static int series_open(struct series *s, struct ckpt_err *err)
{
	const char *dir = s->o->dump.dir;
	size_t n = 0, bases = 0;
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
		if (!is_checkpoint(s, s->members.v[i].number))
			continue;
		read_member(s, &s->members.v[i]);
		s->members.v[n++] = s->members.v[i];
	}
	s->members.n = n;
	for (size_t i = 0; !rc && i < s->bases.n; i++) {
		struct member *m = &s->bases.v[i];
		char name[NAME_BYTES];

		if (!is_checkpoint(s, m->number))
			continue;
		name_of(m->number, name);
		m->bytes = bytes_of(s, name);
		s->bases.v[bases++] = *m;
	}
	s->bases.n = bases;
	if (!rc)
		trim_bases(s, 0);
	return rc;
}

static void series_close(struct series *s)
{
	for (size_t i = 0; i < s->members.n; i++)
		vec_free(&s->members.v[i].needs);
	vec_free(&s->members);
	vec_free(&s->bases);
	if (s->dir_fd >= 0)
		(void)close(s->dir_fd);
}

/* ---- after a checkpoint -------------------------------------------------------------------- */

static bool needs(const struct member *m, uint32_t number)
{
	for (size_t i = 0; i < m->needs.n; i++)
		if (m->needs.v[i] == number)
			return true;
	return false;
}

static bool needed(const struct series *s, uint32_t number, size_t first_kept)
{
	for (size_t i = first_kept; i < s->members.n; i++) {
		const struct member *m = &s->members.v[i];

		if (m->number == number || (m->unread && number & IS_BASE) || needs(m, number))
			return true;
	}
	return false;
}

static void trim_bases(struct series *s, size_t first_kept)
{
	size_t n = 0;

	for (size_t i = 0; i < s->bases.n; i++) {
		char name[NAME_BYTES];

		if (needed(s, s->bases.v[i].number, first_kept)) {
			s->bases.v[n++] = s->bases.v[i];
			continue;
		}
		name_of(s->bases.v[i].number, name);
		remove_dir(s, name);
	}
	s->bases.n = n;
}

/* Remove what is neither kept nor holds pages of what is. Descendants go before their ancestors, so
 * that what is there can be restored at any instant. */
static void series_trim(struct series *s)
{
	size_t first = s->members.n > s->o->keep ? s->members.n - s->o->keep : 0;
	char name[NAME_BYTES];

	for (size_t i = first; i-- > 0;) {
		struct member *m = &s->members.v[i];

		if (needed(s, m->number, first))
			continue;
		name_of(m->number, name);
		remove_dir(s, name);
		m->number = 0;
		vec_free(&m->needs);
	}
	trim_bases(s, first);
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

/* ---- folding ------------------------------------------------------------------------------- */

static struct member *newest(struct series *s)
{
	return s->members.n ? &s->members.v[s->members.n - 1] : NULL;
}

static unsigned int chain_max(const struct series *s)
{
	return s->o->keep > FOLD_MAX ? s->o->keep : FOLD_MAX;
}

/* Folding a chain writes about as much as its whole checkpoint holds. What is written anew stays in
 * proportion to what was written, and so does the disk that the chain takes. */
static bool chain_heavy(const struct series *s, const struct member *last)
{
	uint64_t whole = 0, changed = last->bytes;

	for (size_t i = 0; i < s->bases.n; i++)
		if (needs(last, s->bases.v[i].number))
			whole += s->bases.v[i].bytes;
	for (size_t i = 0; i < s->members.n; i++) {
		const struct member *m = &s->members.v[i];

		if (needs(last, m->number))
			*(m->needs.n ? &changed : &whole) += m->bytes;
	}
	return changed >= whole;
}

/* What is known of its needs is at most what it needs: the checkpoints of which a page is left. */
static void ask_needs(const struct series *s, struct member *m)
{
	struct member now = { .number = m->number, .bytes = m->bytes };
	struct ckpt_err why = { 0 };
	char name[NAME_BYTES];

	name_of(m->number, name);
	if (read_needs(s, name, &now, &why)) {
		vec_free(&now.needs);
		return;
	}
	vec_free(&m->needs);
	*m = now;
}

static bool fold_due(struct series *s)
{
	struct member *last = newest(s);

	if (last->needs.n < FOLD_AT)
		s->fold_again = 0;
	if (last->needs.n < FOLD_AT || last->needs.n < s->fold_again)
		return false;
	if (chain_heavy(s, last))
		return true;
	/* A program that does next to nothing needs no fold. */
	if (last->needs.n >= chain_max(s))
		ask_needs(s, last);
	return last->needs.n >= chain_max(s);
}

static void fold_start(struct series *s)
{
	char name[NAME_BYTES], from[PATH_MAX], to[PATH_MAX];
	struct ckpt_err why = { 0 };
	uint32_t number;

	if (s->fold || !fold_due(s))
		return;
	number = newest(s)->number;
	name_of(number, name);
	if (path_of(s, name, from, &why))
		return;
	name_of(number | IS_BASE, name);
	if (path_of(s, name, to, &why))
		return;
	remove_dir(s, name);
	s->fold_of = number;
	if (fold_begin(&s->fold, from, to, s->o->dump.compress, &why))
		ui_warn(s->ui, "the chain of %s is not folded: %s", from, why.msg);
}

/* Forget the fold, and what it made unless @keep. */
static void fold_drop(struct series *s, bool keep)
{
	char name[NAME_BYTES];

	if (!s->fold)
		return;
	s->fold = fold_end(s->fold);
	name_of(s->fold_of | IS_BASE, name);
	if (!keep)
		remove_dir(s, name);
}

static int exchange(const struct series *s, const char *by, const char *name, struct ckpt_err *err)
{
	int rc = ckpt_fault("every.fold");

	if (!rc && renameat2(s->dir_fd, by, s->dir_fd, name, RENAME_EXCHANGE))
		rc = -errno;
	if (rc)
		return ckpt_fail_errno(err, E_IMAGE_WRITE, rc, "cannot exchange %s/%s",
				       s->o->dump.dir, name);
	/* What is there now is nobody's: the next run removes it, too. */
	remove_dir(s, by);
	return 0;
}

/* What was made and what the newest was before: for the keeper. */
struct folded {
	unsigned char old[KEEPER_ID_BYTES], id[KEEPER_ID_BYTES];
};

/* Nothing was made meanwhile: put it in the place of what was folded. */
static int fold_replace(struct series *s, struct member *last, struct folded *ret,
			struct ckpt_err *err)
{
	const struct fold_result *r = fold_result(s->fold);
	char name[NAME_BYTES], base[NAME_BYTES];
	int rc;

	name_of(last->number, name);
	name_of(last->number | IS_BASE, base);
	rc = exchange(s, base, name, err);
	if (rc)
		return rc;
	memcpy(ret->old, r->img->sources.v[0].id, sizeof(ret->old));
	memcpy(ret->id, r->base.id, sizeof(ret->id));
	last->needs.n = 0;
	last->bytes = bytes_of(s, name);
	return 0;
}

/* The newest was made on the old chain: let it lean on what came of that. */
static int fold_under(struct series *s, struct member *last, struct folded *ret,
		      struct ckpt_err *err)
{
	const struct fold_result *r = fold_result(s->fold);
	char name[NAME_BYTES], base[NAME_BYTES], path[PATH_MAX], fold[PATH_MAX];
	struct member m = { .number = last->number, .bytes = last->bytes };
	struct member *slot = vec_push(&s->bases);
	struct image img;
	int rc;

	name_of(last->number, name);
	name_of(s->fold_of | IS_BASE, base);
	rc = slot ? path_of(s, name, path, err) : ckpt_oom(err);
	if (!rc)
		rc = path_of(s, FOLD_DIR, fold, err);
	if (!rc) {
		*slot = (struct member) { .number = s->fold_of | IS_BASE,
					  .bytes = bytes_of(s, base) };
		rc = image_read(&img, path, err);
		if (!rc)
			rc = image_rebase(&img, r->img, &r->base, r->moves, fold, s->ui, ret->id,
					  err);
		if (!rc)
			memcpy(ret->old, img.sources.v[0].id, sizeof(ret->old));
		image_free(&img);
	}
	/* It is read as a restore would: nothing takes its place that is not whole. */
	if (!rc)
		rc = read_needs(s, FOLD_DIR, &m, err);
	if (!rc)
		rc = exchange(s, FOLD_DIR, name, err);
	if (rc) {
		remove_dir(s, FOLD_DIR);
		s->bases.n -= slot != NULL;
		vec_free(&m.needs);
		return rc;
	}
	vec_free(&last->needs);
	*last = m;
	return 0;
}

static void tell_keeper(const struct series *s, const struct member *last, const struct folded *f)
{
	struct ckpt_err why = { 0 };
	char name[NAME_BYTES], path[PATH_MAX];
	int rc;

	name_of(last->number, name);
	rc = path_of(s, name, path, &why);
	if (!rc)
		rc = ckpt_fault_fail("every.folded", E_TRACK, &why);
	if (!rc)
		rc = rebase(s, f->old, f->id, path, &why);
	if (rc)
		ui_warn(s->ui, "%s was folded, but %s: the next checkpoint will be a full one",
			path, rc == -ENOENT ? "its tracking session has ended" : why.msg);
}

/* A fold that is done shortens the chain of the newest one. When anything fails all stays as it
 * was; when only the keeper does not know, the next checkpoint is a full one. */
static void fold_finish(struct series *s)
{
	struct member *last = newest(s);
	struct ckpt_err why = { 0 };
	struct folded f;
	bool same;
	int rc;

	if (!s->fold || !fold_is_done(s->fold))
		return;
	same = last->number == s->fold_of;
	/* A full checkpoint was made meanwhile. */
	if (!same && !needs(last, s->fold_of)) {
		fold_drop(s, false);
		return;
	}
	rc = fold_result(s->fold)->rc;
	if (rc)
		why = *fold_result(s->fold)->err;
	else
		rc = same ? fold_replace(s, last, &f, &why) : fold_under(s, last, &f, &why);
	if (rc) {
		ui_warn(s->ui, "the chain of %s/%06u was not folded: %s", s->o->dump.dir,
			s->fold_of, why.msg);
		s->fold_again = last->needs.n + FOLD_AT;
	} else {
		s->fold_again = 0;
		tell_keeper(s, last, &f);
	}
	fold_drop(s, !rc);
	series_trim(s);
}

/* The new one needs its parent and at most what that needs. */
static int series_add(struct series *s, uint32_t number, bool full, struct ckpt_err *err)
{
	struct member m = { .number = number };
	struct member *slot = vec_push(&s->members);
	const struct member *parent;
	char name[NAME_BYTES];

	if (!slot)
		return ckpt_oom(err);
	name_of(number, name);
	parent = s->members.n > 1 ? slot - 1 : NULL;
	for (size_t i = 0; !full && parent && i <= parent->needs.n; i++) {
		uint32_t *n = vec_push(&m.needs);

		if (!n)
			return ckpt_oom(err);
		*n = i < parent->needs.n ? parent->needs.v[i] : parent->number;
	}
	m.bytes = bytes_of(s, name);
	*slot = m;
	return 0;
}

/* What the fold takes of the disk is wanted for a checkpoint, or what is just being given back. */
static bool make_room(struct series *s, int rc)
{
	if ((rc != -ENOSPC && rc != -EDQUOT) || (!s->fold && !gone_any(s->gone)))
		return false;
	if (s->fold) {
		ui_warn(s->ui, "the chain of %s/%06u is not folded: the disk is full",
			s->o->dump.dir, s->fold_of);
		s->fold_again = newest(s)->needs.n + FOLD_AT;
		fold_drop(s, false);
	}
	gone_wait(s->gone);
	return true;
}

static int one(struct series *s, struct ckpt_err *err)
{
	struct ckpt_dump_opts o = s->o->dump;
	struct member *last = newest(s);
	uint32_t number = last ? last->number + 1 : 1;
	char name[NAME_BYTES], path[PATH_MAX], parent[PATH_MAX];
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
	if (rc && make_room(s, rc)) {
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
	series_trim(s);
	fold_start(s);
	(void)ckpt_fault("every.made");
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

/* True when a signal asked to end. */
static bool fold_wait(struct series *s, const sigset_t *ends)
{
	bool told = false;

	while (s->fold && !fold_is_done(s->fold) && !told) {
		fold_hurry(s->fold);
		told = pause_until(io_now_us() + WAIT_STEP_US, ends);
	}
	fold_finish(s);
	return told;
}

/* A chain that grows faster than it is folded. */
static bool fold_behind(struct series *s)
{
	return s->fold && newest(s)->needs.n >= (size_t)FOLD_WAIT * chain_max(s);
}

/* One that took too long is followed by the next at once, so that there are as many as was asked
 * for; of a delay that is longer than an interval, and than this, nothing is made up for. */
#define BEHIND_US 50000u

static uint64_t due_after(uint64_t due, uint64_t interval_us)
{
	uint64_t now = io_now_us(), most = interval_us > BEHIND_US ? interval_us : BEHIND_US;

	due += interval_us;
	return due + most < now ? now : due;
}

int ckpt_dump_every(const struct every_opts *o, struct ckpt_ui *ui, unsigned int *ret_made,
		    struct ckpt_err *err)
{
	struct gone gone = { 0 };
	struct series s = { .o = o, .ui = ui, .dir_fd = -1, .gone = &gone };
	uint64_t due = io_now_us();
	sigset_t ends, old;
	unsigned int made = 0;
	int rc;

	dump_series_begin(&s.stays);
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &ends, &old);
	rc = series_open(&s, err);
	while (!rc) {
		fold_finish(&s);
		gone_free(&gone);
		rc = one(&s, err);
		gone_free(&gone);
		made += !rc;
		if (rc && err->id == E_PAUSE) {
			ui_warn(ui, "no checkpoint: %s", err->msg);
			ckpt_err_clear(err);
			rc = 0;
		}
		due = due_after(due, o->interval_us);
		if (rc || (o->count && made == o->count) || pause_until(due, &ends) ||
		    (fold_behind(&s) && fold_wait(&s, &ends)))
			break;
	}
	/* Whoever makes a few at a time has a bounded chain all the same. */
	if (!rc && o->count && made == o->count)
		(void)fold_wait(&s, &ends);
	fold_drop(&s, false);
	/* Nothing came of it. */
	if (rc && s.made_dir)
		(void)rmdir(o->dump.dir);
	dump_series_end(&s.stays);
	series_close(&s);
	gone_wait(&gone);
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
