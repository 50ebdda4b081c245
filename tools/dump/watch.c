// SPDX-License-Identifier: GPL-2.0-only
#include "dump/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"

struct dump_watch {
	struct notes was, next;
	bool *quiet; /* for each object of @was; NULL: nobody has looked */
	struct watch_maps maps;
	bool same_file; /* next uses the hashes of was */
	bool lent;      /* was is the tracking's */
};

/* Entries of page tables for all that is mapped, in proportion to the memory itself. */
#define TABLES_SHARE 16u
#define ENTRIES_PER_PAGE 512u

/* The file system of such memory, by a mapping of our own: a file may have any name. 0: not known.
 */
static dev_t anon_dev(void)
{
	static _Atomic dev_t known;
	struct stat st;
	auto_fd fd = -1;
	void *p;

	if (atomic_load(&known))
		return atomic_load(&known);
	p = mmap(NULL, CKPT_PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return 0;
	fd = proc_map_open(0, (uintptr_t)p, (uintptr_t)p + CKPT_PAGE, O_RDONLY);
	(void)munmap(p, CKPT_PAGE);
	if (fd < 0 || fstat(fd, &st))
		return 0;
	atomic_store(&known, st.st_dev);
	return st.st_dev;
}

bool watch_may(const struct proc_vma *v)
{
	return v->shared && v->path && !(v->flags & PROC_VMF(ht)) &&
	       makedev(v->dev_major, v->dev_minor) == anon_dev() &&
	       (!strcmp(v->path, "/dev/zero" PROC_DELETED) ||
		!strncmp(v->path, "[anon_shmem:", 12));
}

int dump_watch_begin(struct dump_ctx *d, struct keeper_tasks *files)
{
	struct dump_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->was = w->next = NOTES_NONE;
	d->watch = w;
	for (size_t i = 0; i < files->n; i++) {
		struct keeper_task *f = &files->v[i];

		if (f->pid || f->fd < 0)
			continue;
		if (f->start_time < NOTES_FILES && w->was.fd[f->start_time] < 0)
			w->was.fd[f->start_time] = f->fd;
		else
			(void)close(f->fd);
		f->fd = -1;
	}
	if (d->tracking->increment)
		notes_load(&w->was);
	else
		notes_free(&w->was);
	if (!w->was.objects.n && getrandom(&w->was.seed, sizeof(w->was.seed), 0) < 0)
		return -errno;
	d->writer.hash_seed = w->was.seed;
	/* Who begins may have some; from then on one knows. */
	if (d->tracking->increment ? w->was.objects.n > 0 : d->tracking->arm)
		dump_iters_mm(&d->iters);
	return 0;
}

int dump_watch_lend(struct dump_ctx *d)
{
	if (!d->tracking || !d->tracking->watched)
		return 0;
	d->watch = calloc(1, sizeof(*d->watch));
	if (!d->watch)
		return -ENOMEM;
	d->watch->was = *d->tracking->watched;
	d->watch->next = NOTES_NONE;
	d->watch->lent = true;
	return 0;
}

struct notes *dump_watch_notes(struct dump_ctx *d)
{
	return d->watch ? &d->watch->was : NULL;
}

void dump_watch_free(struct dump_ctx *d)
{
	struct dump_watch *w = d->watch;

	if (!w)
		return;
	d->watch = NULL;
	if (!w->lent)
		notes_free(&w->was);
	notes_free(&w->next);
	vec_free(&w->maps);
	free(w->quiet);
	free(w);
}

static bool has_process(const struct target *t, int pid)
{
	for (size_t i = 0; i < t->tasks.n; i++)
		if (t->tasks.v[i].pid == pid)
			return true;
	return false;
}

void dump_watch_look(struct dump_ctx *d, const struct target *t)
{
	struct dump_watch *w = d->watch;
	auto_free bool *same = NULL;
	uint64_t dug = 0;

	if (!w)
		return;
	free(w->quiet);
	w->quiet = NULL;
	if (!w->was.marks.n || d->iters.mm.stamp_fd < 0 || dump_session_dug(d, &dug) ||
	    dug != w->was.dug)
		return;
	same = calloc(w->was.marks.n, sizeof(*same));
	w->quiet = same ? calloc(w->was.objects.n, sizeof(*w->quiet)) : NULL;
	for (size_t i = 0; w->quiet && i < w->was.objects.n; i++)
		w->quiet[i] = w->was.objects.v[i].watched;
	for (size_t i = 0; w->quiet && i < w->was.marks.n; i++) {
		const struct notes_mark *m = &w->was.marks.v[i];
		size_t first = notes_first_mark(&w->was, i);
		struct mm_stamp now;

		same[i] = first < i ? same[first]
				    : has_process(t, m->pid) &&
					      !mm_stamp_read(&d->iters.mm, m->pid, &now) &&
					      now.mm == m->stamp.mm && now.seq == m->stamp.seq;
		w->quiet[m->object] &= same[i];
	}
}

bool dump_watch_quiet(const struct dump_ctx *d, const struct notes_object *o)
{
	const struct dump_watch *w = d->watch;

	return o->watched && w->quiet && w->quiet[o - w->was.objects.v];
}

void dump_watch_object(struct dump_ctx *d, struct dump_pages *p, const struct stat *st)
{
	p->resident = (uint64_t)st->st_blocks * 512;
	if (!d->watch)
		return;
	p->known_as = notes_find(&d->watch->was, p->sysv, p->dev, p->ino);
	p->watched =
		p->known_as && p->known_as->pages == p->npages && dump_watch_quiet(d, p->known_as);
}

int watch_maps_add(struct watch_maps *maps, int pid, size_t task, const struct proc_vma *v)
{
	struct watch_map *m = vec_push(maps);

	if (!m)
		return -ENOMEM;
	*m = (struct watch_map) { .dev = makedev(v->dev_major, v->dev_minor),
				  .ino = v->ino,
				  .task = task,
				  .pid = pid,
				  .start = v->start,
				  .end = v->end,
				  .pgoff = v->pgoff,
				  .writes =
					  (v->flags & PROC_VMF(sh)) && (v->flags & PROC_VMF(mw)) };
	return 0;
}

int dump_watch_map(struct dump_ctx *d, const struct target_task *task, const struct proc_vma *v)
{
	struct dump_watch *w = d->watch;

	if (!w || !watch_may(v))
		return 0;
	w->maps.target = &d->target;
	return watch_maps_add(&w->maps, task->pid, (size_t)(task - d->target.tasks.v), v);
}

/* ---- what was written ----------------------------------------------------------------------- */

static int add_same(struct dump_pages *p, uint64_t first, uint64_t end)
{
	while (first < end) {
		uint64_t n = end - first < UINT32_MAX ? end - first : UINT32_MAX;
		struct ckpt_page_run *r =
			vec_grow((void **)&p->known, &p->known_n, &p->known_cap, sizeof(*r));

		if (!r)
			return -ENOMEM;
		*r = (struct ckpt_page_run) { .vaddr = first * CKPT_PAGE,
					      .npages = (uint32_t)n,
					      .kind = CKPT_RUN_SAME };
		first += n;
	}
	return 0;
}

static int add_written(struct dump_ctx *d, struct dump_pages *p, const struct span *s,
		       unsigned char *hash)
{
	for (uint64_t at = s->first, n; at < s->end; at += n) {
		struct page_seg *seg = vec_push(&d->segs);

		if (!seg)
			return -ENOMEM;
		n = s->end - at < UINT32_MAX ? s->end - at : UINT32_MAX;
		seg->fd = p->fd;
		seg->addr = at * CKPT_PAGE;
		seg->is_file = true;
		seg->npages = (uint32_t)n;
		seg->hash = hash ? hash + (at - s->first) * CONTENT_HASH_BYTES : NULL;
		p->nsegs++;
		d->stats.pages_scanned += n;
	}
	return 0;
}

/* What is there of the pages [first, end). */
static int add_data(struct dump_ctx *d, struct dump_pages *p, uint64_t first, uint64_t end)
{
	off_t at = (off_t)(first * CKPT_PAGE), until = (off_t)(end * CKPT_PAGE);
	int rc = 0;

	while (!rc && at < until && (at = lseek(p->fd, at, SEEK_DATA)) >= 0 && at < until) {
		off_t hole = lseek(p->fd, at, SEEK_HOLE);
		struct span s = { (uint64_t)at / CKPT_PAGE, end };

		if (hole >= 0 && hole < until)
			s.end = ((uint64_t)hole + CKPT_PAGE - 1) / CKPT_PAGE;
		rc = add_written(d, p, &s, NULL);
		at = (off_t)(s.end * CKPT_PAGE);
	}
	return rc;
}

/* The same of what somebody has got under a number; what he has not is read. */
static int add_had(struct dump_ctx *d, struct dump_pages *p, uint64_t first, uint64_t end)
{
	struct dump_tracking *tr = d->tracking;

	while (first < end) {
		bool had;
		uint64_t most = end - first < UINT32_MAX ? end - first : UINT32_MAX;
		uint64_t n = tr->object_had(tr, p->parent_object, first * CKPT_PAGE, most, &had);
		struct ckpt_page_run *r = NULL;

		if (had)
			r = vec_grow((void **)&p->known, &p->known_n, &p->known_cap, sizeof(*r));
		if (had && !r)
			return -ENOMEM;
		if (had) {
			*r = (struct ckpt_page_run) { .vaddr = first * CKPT_PAGE,
						      .off = p->parent_object,
						      .npages = (uint32_t)n,
						      .kind = CKPT_RUN_PARENT };
			d->stats.pages_parent += n;
		} else if (add_data(d, p, first, first + n)) {
			return -ENOMEM;
		}
		first += n;
	}
	return 0;
}

static int add_unwritten(struct dump_ctx *d, struct dump_pages *p, uint64_t first, uint64_t end)
{
	return d->watch->lent ? add_had(d, p, first, end) : add_same(p, first, end);
}

static int add_spans(struct dump_ctx *d, struct dump_pages *p, const struct spans *s)
{
	uint64_t pages = 0, at = 0;
	int rc = 0;

	for (size_t i = 0; i < s->n; i++)
		pages += s->v[i].end - s->v[i].first;
	p->hashes = d->tracking->arm ? malloc(pages * CONTENT_HASH_BYTES + 1) : NULL;
	if (!p->hashes && d->tracking->arm)
		return -ENOMEM;
	if (!d->watch->lent)
		p->parent_object = p->known_as->object;
	p->first_seg = d->segs.n;
	pages = 0;
	for (size_t i = 0; !rc && i < s->n; i++) {
		rc = add_unwritten(d, p, at, s->v[i].first);
		if (!rc)
			rc = add_written(d, p, &s->v[i],
					 p->hashes ? p->hashes + pages * CONTENT_HASH_BYTES : NULL);
		at = s->v[i].end;
		pages += s->v[i].end - s->v[i].first;
	}
	return rc ? rc : add_unwritten(d, p, at, p->npages);
}

struct tracker *watch_tracker(struct dump_ctx *d, const struct watch_maps *maps,
			      const struct watch_map *m, bool *ret_fresh)
{
	struct dump_tracking *tr = d->tracking;
	struct tracker *t = NULL;
	struct ckpt_err ignore = { 0 };

	*ret_fresh = false;
	return tr->tracker(tr, &maps->target->tasks.v[m->task], false, &t, ret_fresh, &ignore)
		       ? NULL
		       : t;
}

static bool of_file(const struct watch_map *m, uint64_t dev, uint64_t ino)
{
	return m->ino == ino && m->dev == dev;
}

static bool has_map(const struct watch_maps *maps, const struct notes_object *o, int pid)
{
	for (size_t i = 0; i < maps->n; i++)
		if (maps->v[i].pid == pid && of_file(&maps->v[i], o->dev, o->ino))
			return true;
	return false;
}

bool watch_written(struct dump_ctx *d, const struct watch_maps *maps, const struct notes *n,
		   const struct notes_object *o, bool arm, struct spans *ret)
{
	struct search search = { .pages = o->pages, .how = arm ? TRACK_ARM | TRACK_KNOWN : 0 };
	bool ok = true;

	for (size_t i = 0; ok && i < maps->n; i++) {
		const struct watch_map *m = &maps->v[i];
		struct tracker *t;
		bool fresh;

		if (!of_file(m, o->dev, o->ino))
			continue;
		t = watch_tracker(d, maps, m, &fresh);
		ok = t && !fresh && notes_marked(n, o, m->pid) &&
		     !search_add(&search, t, m->start, m->end, m->pgoff);
	}
	/* Whoever had it and has not is not who he was, whatever his stamp is. */
	for (size_t i = 0; ok && i < n->marks.n; i++)
		if (&n->objects.v[n->marks.v[i].object] == o)
			ok = has_map(maps, o, n->marks.v[i].pid);
	ok = ok && !search_run(&search, d->opts->threads, ret);
	search_free(&search);
	return ok;
}

int dump_watch_written(struct dump_ctx *d, struct dump_pages *p)
{
	struct dump_watch *w = d->watch;
	struct spans spans = { 0 };
	int rc = -ESTALE;

	if (watch_written(d, &w->maps, &w->was, p->known_as, d->tracking->arm, &spans))
		rc = add_spans(d, p, &spans);
	vec_free(&spans);
	p->watched = !rc;
	return rc;
}

/* ---- hashes --------------------------------------------------------------------------------- */

const unsigned char *dump_watch_was(const struct dump_ctx *d, const struct dump_pages *p,
				    uint64_t page)
{
	return p->known_as ? notes_hash(&d->watch->was, p->known_as, page) : NULL;
}

int dump_watch_room(struct dump_ctx *d)
{
	struct dump_watch *w = d->watch;

	if (!w)
		return 0;
	w->next.seed = d->writer.hash_seed;
	w->same_file = true;
	for (size_t i = 0; i < d->pages.n; i++) {
		struct dump_pages *p = &d->pages.v[i];
		struct notes_object *o;

		if (!p->object)
			continue;
		o = vec_push(&w->next.objects);
		if (!o)
			return -ENOMEM;
		*o = (struct notes_object) { .dev = p->dev,
					     .ino = p->ino,
					     .pages = p->npages,
					     .hashes = p->watched ? p->known_as->hashes : 0,
					     .object = p->object,
					     .sysv = p->sysv };
		p->note = w->next.objects.n;
		w->same_file &= p->watched;
	}
	/* Too much for any machine: nothing is remembered. */
	if (!w->same_file && notes_make_hashes(&w->next)) {
		for (size_t i = 0; i < d->pages.n; i++)
			d->pages.v[i].note = 0;
		notes_free(&w->next);
	}
	return 0;
}

unsigned char *dump_watch_hash(struct dump_ctx *d, const struct dump_pages *p, uint64_t page)
{
	struct notes *n = d->watch ? &d->watch->next : NULL;

	return n && n->hashes && p->note && !p->watched
		       ? notes_hash_at(n, &n->objects.v[p->note - 1], page)
		       : NULL;
}

/* ---- from here on --------------------------------------------------------------------------- */

bool watch_ours(const struct mm_watch *mm, const struct watch_maps *maps, uint64_t dev,
		uint64_t ino)
{
	const struct watch_map *any = NULL;
	uint64_t writers = 0, own = 0;

	for (size_t i = 0; i < maps->n; i++)
		if (of_file(&maps->v[i], dev, ino)) {
			any = &maps->v[i];
			own += any->writes;
		}
	return any && !map_writers_read(mm, any->pid, any->start, &writers) && writers == own;
}

bool watch_possible(const struct mm_watch *mm, const struct watch_maps *maps, uint64_t dev,
		    uint64_t ino, uint64_t resident)
{
	uint64_t entries = 0;

	if (resident < WATCH_MIN_BYTES)
		return false;
	for (size_t i = 0; i < maps->n; i++)
		if (of_file(&maps->v[i], dev, ino))
			entries += (maps->v[i].end - maps->v[i].start) / CKPT_PAGE;
	return entries && entries / ENTRIES_PER_PAGE <= resident / CKPT_PAGE / TABLES_SHARE &&
	       watch_ours(mm, maps, dev, ino);
}

int watch_find(const struct mm_watch *mm, const struct watch_maps *maps, struct notes *n)
{
	for (size_t i = 0; i < maps->n && n->objects.n < WATCH_MAX; i++) {
		const struct watch_map *m = &maps->v[i];
		auto_fd fd = -1;
		struct notes_object *o;
		struct stat st;

		if (notes_find(n, false, m->dev, m->ino))
			continue;
		fd = proc_map_open(m->pid, m->start, m->end, O_RDONLY);
		if (fd < 0 || fstat(fd, &st) ||
		    !watch_possible(mm, maps, m->dev, m->ino, (uint64_t)st.st_blocks * 512))
			continue;
		o = vec_push(&n->objects);
		if (!o)
			return -ENOMEM;
		o->dev = m->dev;
		o->ino = m->ino;
		o->pages = ((uint64_t)st.st_size + CKPT_PAGE - 1) / CKPT_PAGE;
	}
	return 0;
}

/* Begin an epoch of mapping @m. 0; -EOPNOTSUPP or another without an error: it cannot be watched.
 */
static int arm_map(struct dump_ctx *d, const struct watch_maps *maps, const struct watch_map *m,
		   struct ckpt_err *err)
{
	bool fresh;
	struct tracker *t = watch_tracker(d, maps, m, &fresh);
	bool shares = t && t->shared_fd >= 0;
	int rc = t ? tracker_share(t, &maps->target->tasks.v[m->task], err) : -EOPNOTSUPP;

	/* Before anything of it is registered. */
	if (!rc && !shares)
		rc = dump_session_give(d, t, err);
	return rc ? rc : tracker_shared(t, m->start, m->end, TRACK_ARM, track_ignore, NULL);
}

int watch_from_here(struct dump_ctx *d, const struct watch_maps *maps, struct notes *n,
		    uint32_t object, bool armed, struct ckpt_err *err)
{
	struct notes_object *o = &n->objects.v[object];
	size_t left = 0;
	int rc = 0;

	for (size_t i = 0; i < n->marks.n; i++)
		if (n->marks.v[i].object != object)
			n->marks.v[left++] = n->marks.v[i];
	n->marks.n = left;
	for (size_t i = 0; !rc && i < maps->n; i++) {
		const struct watch_map *m = &maps->v[i];

		if (!of_file(m, o->dev, o->ino))
			continue;
		rc = notes_mark(n, object, m->pid);
		if (!rc && !armed)
			rc = arm_map(d, maps, m, err);
	}
	o->watched = !rc;
	return err->id ? err->code : 0;
}

int dump_watch_arm(struct dump_ctx *d, struct ckpt_err *err)
{
	struct dump_watch *w = d->watch;
	unsigned int n = 0;
	int rc = 0;

	if (!w || !d->tracking->arm || d->iters.mm.stamp_fd < 0)
		return 0;
	for (size_t i = 0; !rc && i < d->pages.n; i++) {
		const struct dump_pages *p = &d->pages.v[i];

		if (!p->note || p->opened || p->sysv || n >= WATCH_MAX)
			continue;
		/* What was certain has begun its epoch already. */
		if (!p->watched &&
		    !watch_possible(&d->iters.mm, &w->maps, p->dev, p->ino, p->resident))
			continue;
		rc = watch_from_here(d, &w->maps, &w->next, p->note - 1, p->watched, err);
		n++;
	}
	return rc;
}

void watch_stamp(struct dump_ctx *d, struct notes *n)
{
	if (n->marks.n && dump_session_dug(d, &n->dug))
		n->marks.n = 0;
	notes_stamp(n, &d->iters.mm);
}

void dump_watch_settle(struct dump_ctx *d)
{
	if (d->watch)
		watch_stamp(d, &d->watch->next);
}

/* The hashes of an object that nobody has compared, from the old file to the new one. */
static void take_over(struct dump_watch *w, const struct notes_object *from,
		      const struct notes_object *to)
{
	off_t at = (off_t)from->hashes, end = at + (off_t)(from->pages * CONTENT_HASH_BYTES);
	int fd = w->was.fd[NOTES_HASHES];

	while (at < end && (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < end) {
		off_t hole = lseek(fd, at, SEEK_HOLE);

		hole = hole < 0 || hole > end ? end : hole;
		memcpy(w->next.hashes + to->hashes + (at - (off_t)from->hashes), w->was.hashes + at,
		       (size_t)(hole - at));
		at = hole;
	}
}

void dump_watch_commit(struct dump_ctx *d, struct keeper_tasks *files)
{
	struct dump_watch *w = d->watch;

	if (!w || !w->next.objects.n)
		return;
	if (w->same_file) {
		w->next.fd[NOTES_HASHES] = w->was.fd[NOTES_HASHES];
		w->next.hashes = w->was.hashes;
		w->next.hash_bytes = w->was.hash_bytes;
		w->was.fd[NOTES_HASHES] = -1;
		w->was.hashes = NULL;
	}
	for (size_t i = 0; i < d->pages.n; i++) {
		const struct dump_pages *p = &d->pages.v[i];
		const struct notes_object *o = p->note ? &w->next.objects.v[p->note - 1] : NULL;

		if (!o || !p->watched)
			continue;
		if (!w->same_file)
			take_over(w, p->known_as, o);
		for (size_t k = p->first_seg; k < p->first_seg + p->nsegs; k++)
			memcpy(notes_hash_at(&w->next, o, d->segs.v[k].addr / CKPT_PAGE),
			       d->segs.v[k].hash, (size_t)d->segs.v[k].npages * CONTENT_HASH_BYTES);
	}
	if (notes_save(&w->next))
		return;
	for (uint64_t i = 0; i < NOTES_FILES; i++) {
		struct keeper_task *f = vec_push(files);

		if (f)
			*f = (struct keeper_task) { 0, w->next.fd[i], i };
	}
}
