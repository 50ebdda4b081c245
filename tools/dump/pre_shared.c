// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shared memory that is copied ahead: of which the trackers tell as long as nobody does what they
 * cannot tell of (watch.h).
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "dump/pre.h"
#include "dump/watch.h"

/* What the session knows of the memory that @v shows, if the trackers tell of it as long as nobody
 * does what they cannot tell of (watch.h); NULL otherwise. */
struct notes_object *pre_watched_object(const struct dump_pre *p, const struct proc_vma *v)
{
	struct notes *n = dump_watch_notes(p->d);
	struct notes_object *o;

	if (!n || !n->objects.n || !watch_may(v))
		return NULL;
	o = (struct notes_object *)notes_find(n, false, makedev(v->dev_major, v->dev_minor),
					      v->ino);
	return o && o->watched ? o : NULL;
}

/* With a descriptor of it, through the mapping [start, end) of process @pid. NULL: none. */
static struct pre_task *object_get(struct dump_pre *p, struct notes_object *o, int pid,
				   uint64_t start, uint64_t end)
{
	struct pre_task *t = pre_object_find(p, o);

	if (!t && !(t = pre_task_new(p, 0)))
		return NULL;
	t->object = o;
	if (t->fd < 0)
		t->fd = proc_map_open(pid, start, end, O_RDONLY);
	return t->fd < 0 ? NULL : t;
}

/* Begin an epoch of the mapping @v, and note what was written in the last. Whatever fails, contents
 * tell in the end. */
int pre_shared_collect(struct dump_pre *p, struct tracker *t, const struct proc_vma *v)
{
	struct notes_object *o = pre_watched_object(p, v);
	struct pre_task *of = o ? object_get(p, o, t->pid, v->start, v->end) : NULL;
	int rc;

	if (!o)
		return 0;
	rc = of ? spans_find(t, v->start, v->end, v->pgoff, o->pages, TRACK_ARM | TRACK_KNOWN,
			     &of->spans)
		: -ESTALE;
	o->watched &= !rc;
	return rc == -ENOMEM ? rc : 0;
}

static int map_list(const struct dump_pre *p, struct watch_maps *maps, struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < maps->target->tasks.n; i++) {
		const struct target_task *task = &maps->target->tasks.v[i];
		struct proc_vmas vmas = { 0 };

		if (!task->zombie)
			rc = proc_vmas_read(task->pid, &p->d->iters.vma, &vmas, err);
		for (size_t k = 0; !rc && k < vmas.n; k++) {
			const struct proc_vma *v = &vmas.v[k];

			if (watch_may(v) && watch_maps_add(maps, task->pid, i, v))
				rc = ckpt_oom(err);
		}
		proc_vmas_free(&vmas);
	}
	return rc;
}

/* One that shows @o. */
static const struct watch_map *map_of(const struct watch_maps *maps, const struct notes_object *o)
{
	for (size_t i = 0; i < maps->n; i++)
		if (maps->v[i].ino == o->ino && maps->v[i].dev == o->dev)
			return &maps->v[i];
	return NULL;
}

static struct pre_task *object_of(struct dump_pre *p, const struct watch_maps *maps,
				  struct notes_object *o)
{
	const struct watch_map *m = map_of(maps, o);

	return m ? object_get(p, o, m->pid, m->start, m->end) : NULL;
}

/* All of @o is to be copied, and is watched from here on. */
static int begin_object(struct dump_pre *p, const struct watch_maps *maps, struct notes_object *o,
			struct ckpt_err *err)
{
	struct notes *n = dump_watch_notes(p->d);
	struct pre_task *of = object_of(p, maps, o);
	int rc;

	if (!of)
		return 0;
	rc = watch_from_here(p->d, maps, n, (uint32_t)(o - n->objects.v), false, err);
	of->whole = !rc && o->watched;
	of->spans.n = 0;
	/* Of what was copied some may be holes now, which are not copied. */
	vec_free(&of->have);
	if (!rc && notes_forget(n, o))
		rc = ckpt_fail_errno(err, E_LIMIT, -errno, "cannot forget what was copied");
	return rc;
}

/* Of a tree that stands still, and was looked at: what is to be copied of its shared memory. Where
 * it is not certain what was written since the parent, contents tell in the end. */
int pre_shared_stopped(struct dump_pre *p, const struct target *t, struct ckpt_err *err)
{
	struct dump_ctx *d = p->d;
	struct notes *n = dump_watch_notes(d);
	struct watch_maps maps = { .target = t };
	int rc = 0;

	if (!n || d->iters.mm.stamp_fd < 0 || (d->parent && !n->objects.n))
		return 0;
	rc = map_list(p, &maps, err);
	/* What a first checkpoint is to watch. */
	if (!rc && !n->objects.n &&
	    (watch_find(&d->iters.mm, &maps, n) || (n->objects.n && notes_make_hashes(n))))
		rc = ckpt_oom(err);
	for (size_t i = 0; !rc && i < n->objects.n; i++) {
		struct notes_object *o = &n->objects.v[i];
		struct pre_task *of = dump_watch_quiet(d, o) ? object_of(p, &maps, o) : NULL;

		if (of && watch_written(d, &maps, n, o, true, &of->spans))
			continue;
		o->watched = false;
		if (!d->parent)
			rc = begin_object(p, &maps, o, err);
	}
	watch_stamp(d, n);
	vec_free(&maps);
	return rc;
}

/* What is in the file, if all of it is to be copied. */
static int add_whole(struct pre_task *t)
{
	off_t data = 0, hole;

	t->whole = false;
	while ((data = lseek(t->fd, data, SEEK_DATA)) >= 0) {
		struct span *s = vec_push(&t->spans);

		hole = lseek(t->fd, data, SEEK_HOLE);
		if (!s || hole < 0)
			return -ENOMEM;
		*s = (struct span) { (uint64_t)data / CKPT_PAGE,
				     ((uint64_t)hole + CKPT_PAGE - 1) / CKPT_PAGE };
		if (s->end > t->object->pages)
			s->end = t->object->pages;
		data = hole;
	}
	return 0;
}

/* Behind the last mapping: what is to be copied. The hashes are of what is read. */
int pre_shared_segments(struct dump_pre *p)
{
	for (size_t i = 0; i < p->tasks.n; i++) {
		struct pre_task *t = p->tasks.v[i];

		if (t->whole && add_whole(t))
			return -ENOMEM;
		spans_join(&t->spans);
		for (size_t k = 0; k < t->spans.n; k++) {
			const struct span *s = &t->spans.v[k];

			for (uint64_t at = s->first, n; at < s->end; at += n) {
				struct page_seg *seg = vec_push(&p->segs);
				struct pre_task **owner = seg ? vec_push(&p->owner) : NULL;

				if (!owner)
					return -ENOMEM;
				n = s->end - at < UINT32_MAX / 2 ? s->end - at : UINT32_MAX / 2;
				*owner = t;
				*seg = (struct page_seg) {
					.fd = t->fd,
					.addr = at * CKPT_PAGE,
					.npages = (uint32_t)n,
					.moving = true,
					.is_file = true,
					.hash = notes_hash_at(dump_watch_notes(p->d), t->object, at)
				};
			}
		}
		t->spans.n = 0;
	}
	return 0;
}
