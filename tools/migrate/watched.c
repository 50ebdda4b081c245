// SPDX-License-Identifier: GPL-2.0-only
#include "migrate/watched.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/quiet.h"
#include "base/vec.h"
#include "migrate/rounds.h"

/* ---- events ---------------------------------------------------------------------------------- */

static void read_events(struct watched *w)
{
	for (size_t i = 0; i < w->fds.n; i++)
		w->dug += tracker_events(w->fds.v[i]);
}

static void *read_on(void *arg)
{
	struct watched *w = arg;
	auto_free struct pollfd *p = NULL;
	bool stop = false;

	while (!stop) {
		struct pollfd *more;
		eventfd_t ignore;
		size_t n;

		pthread_mutex_lock(&w->lock);
		read_events(w);
		n = w->fds.n;
		more = reallocarray(p, n + 1, sizeof(*p));
		if (more) {
			p = more;
			for (size_t i = 0; i < n; i++)
				p[i] = (struct pollfd) { .fd = w->fds.v[i], .events = POLLIN };
			p[n] = (struct pollfd) { .fd = w->wake, .events = POLLIN };
		}
		stop = w->stop;
		pthread_mutex_unlock(&w->lock);
		/* Whatever fails: somebody may be waiting for it to be read. */
		if (!stop && (!more || poll(p, n + 1, -1) < 0))
			(void)usleep(1000);
		else if (!stop && p[n].revents)
			(void)eventfd_read(w->wake, &ignore);
	}
	return NULL;
}

/* 0 or -errno. */
static int reader_add(struct watched *w, int fd)
{
	auto_fd own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	int *slot, rc = own < 0 ? -errno : 0;

	if (rc)
		return rc;
	if (w->wake < 0) {
		w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		rc = w->wake < 0 ? -errno : quiet_thread(&w->reader, read_on, w);
		if (rc && w->wake >= 0)
			(void)close(w->wake);
		if (rc) {
			w->wake = -1;
			return rc < 0 ? rc : -rc;
		}
	}
	pthread_mutex_lock(&w->lock);
	slot = vec_push(&w->fds);
	if (slot)
		*slot = take_fd(&own);
	pthread_mutex_unlock(&w->lock);
	(void)eventfd_write(w->wake, 1);
	return slot ? 0 : -ENOMEM;
}

uint64_t watched_dug(struct watched *w)
{
	uint64_t n;

	pthread_mutex_lock(&w->lock);
	n = w->dug;
	pthread_mutex_unlock(&w->lock);
	return n;
}

void watched_begin(struct watched *w, const struct mm_watch *mm)
{
	*w = (struct watched) { .mm = mm->stamp_fd < 0 ? NULL : mm,
				.notes = NOTES_NONE,
				.wake = -1 };
	pthread_mutex_init(&w->lock, NULL);
}

void watched_end(struct watched *w)
{
	if (w->wake >= 0) {
		pthread_mutex_lock(&w->lock);
		w->stop = true;
		pthread_mutex_unlock(&w->lock);
		(void)eventfd_write(w->wake, 1);
		(void)pthread_join(w->reader, NULL);
		(void)close(w->wake);
	}
	for (size_t i = 0; i < w->fds.n; i++)
		(void)close(w->fds.v[i]);
	vec_free(&w->fds);
	notes_free(&w->notes);
	pthread_mutex_destroy(&w->lock);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void share(struct rounds *r, struct round_task *t, struct target_task *task)
{
	uint64_t bytes = 0;
	struct ckpt_err why = { 0 };

	for (size_t i = 0; i < t->vmas.n; i++)
		if (watch_may(&t->vmas.v[i]))
			bytes += t->vmas.v[i].end - t->vmas.v[i].start;
	if (t->tracker.shared_fd >= 0 || bytes < WATCH_MIN_BYTES)
		return;
	if (!tracker_share(&t->tracker, task, &why) &&
	    reader_add(&r->watched, t->tracker.shared_fd)) {
		(void)close(t->tracker.shared_fd);
		t->tracker.shared_fd = -1;
	}
	if (why.id)
		ui_note(r->s->ui, 1, "task %d: shared memory is looked at in the end: %s",
			task->pid, why.msg);
}

void watched_task(struct rounds *r, struct round_task *t, struct target_task *task)
{
	if (!r->watched.mm || t->lost)
		return;
	share(r, t, task);
	for (size_t i = 0; t->tracker.shared_fd >= 0 && i < t->vmas.n; i++)
		if (watch_may(&t->vmas.v[i]))
			(void)tracker_shared(&t->tracker, t->vmas.v[i].start, t->vmas.v[i].end,
					     TRACK_ARM | TRACK_NEW, track_ignore, NULL);
}

void watched_stopped(struct watched *w)
{
	w->dug_at_stop = watched_dug(w);
}

/* Of all tasks, as @now (or as the round has read them). */
static int map_list(const struct rounds *r, bool now, struct watch_maps *ret)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < r->tasks.n; i++) {
		const struct round_task *t = r->tasks.v[i];
		struct ckpt_err gone = { 0 };
		struct proc_vmas read = { 0 };
		const struct proc_vmas *vmas = now ? &read : &t->vmas;

		if (t->lost ||
		    (now && proc_vmas_read(t->pid, &r->s->series.iters.vma, &read, &gone)))
			continue;
		for (size_t k = 0; !rc && k < vmas->n; k++)
			if (watch_may(&vmas->v[k]))
				rc = watch_maps_add(ret, t->pid, i, &vmas->v[k]);
		proc_vmas_free(&read);
	}
	return rc;
}

static const struct watch_map *same_map(const struct watch_maps *in, const struct watch_map *m)
{
	for (size_t i = 0; i < in->n; i++) {
		const struct watch_map *o = &in->v[i];

		if (o->pid == m->pid && o->start == m->start && o->end == m->end &&
		    o->pgoff == m->pgoff && o->ino == m->ino && o->dev == m->dev)
			return o;
	}
	return NULL;
}

/* An epoch of every mapping of @o begins. */
static bool arm_object(struct rounds *r, struct watch_maps *maps, const struct notes_object *o)
{
	bool ok = true;

	for (size_t i = 0; ok && i < maps->n; i++) {
		const struct watch_map *m = &maps->v[i];

		if (m->ino == o->ino && m->dev == o->dev)
			ok = !tracker_shared(&r->tasks.v[m->task]->tracker, m->start, m->end,
					     TRACK_ARM | TRACK_KNOWN, track_ignore, NULL);
	}
	return ok;
}

/* Behind the stamps: is every mapping one that was armed, and does nobody else have one? */
static void confirm(struct rounds *r, const struct watch_maps *armed, struct watch_maps *now,
		    struct notes *n)
{
	for (size_t i = 0; i < now->n; i++) {
		struct notes_object *o =
			(struct notes_object *)notes_find(n, false, now->v[i].dev, now->v[i].ino);

		if (o && !same_map(armed, &now->v[i]))
			o->watched = false;
	}
	for (size_t i = 0; i < n->objects.n; i++)
		if (!watch_ours(r->watched.mm, now, n->objects.v[i].dev, n->objects.v[i].ino))
			n->objects.v[i].watched = false;
}

int watched_arm(struct rounds *r)
{
	struct watched *w = &r->watched;
	struct watch_maps armed = { 0 }, now = { 0 };
	int rc;

	notes_free(&w->notes);
	/* While a device may be writing nobody may arm (written.c). */
	if (w->wake < 0 || r->direct)
		return 0;
	rc = map_list(r, false, &armed);
	if (!rc)
		rc = watch_find(w->mm, &armed, &w->notes);
	for (size_t i = 0; !rc && i < w->notes.objects.n; i++)
		w->notes.objects.v[i].watched = arm_object(r, &armed, &w->notes.objects.v[i]);
	for (size_t i = 0; !rc && i < armed.n; i++) {
		const struct notes_object *o =
			notes_find(&w->notes, false, armed.v[i].dev, armed.v[i].ino);

		if (o)
			rc = notes_mark(&w->notes, (uint32_t)(o - w->notes.objects.v),
					armed.v[i].pid);
	}
	w->notes.dug = w->dug_at_stop;
	if (!rc) {
		notes_stamp(&w->notes, w->mm);
		rc = map_list(r, true, &now);
	}
	if (!rc)
		confirm(r, &armed, &now, &w->notes);
	/* Somebody opened such a file meanwhile. */
	if (rc || rounds_direct(r))
		notes_free(&w->notes);
	vec_free(&armed);
	vec_free(&now);
	return rc;
}

bool watched_has(const struct watched *w, uint64_t dev, uint64_t ino)
{
	const struct notes_object *o = notes_find(&w->notes, false, dev, ino);

	return o && o->watched;
}
