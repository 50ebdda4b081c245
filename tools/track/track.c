// SPDX-License-Identifier: GPL-2.0-only
/* The table of back ends, and what they share. */
#include "track/track.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/vec.h"
#include "kern/procfs.h"
#include "track/scan.h"

/* In the order of preference. */
static const struct track_ops *const backends[] = { &track_kmod, &track_wp_async, &track_soft_dirty,
						    &track_none };

bool track_known(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
		if (!strcmp(name, backends[i]->name))
			return true;
	return false;
}

const struct track_ops *track_choose(const char *name, bool live, struct ckpt_err *err)
{
	/* Of the module a program has one session only, and it may be that of "ckpt track". */
	if (!name && live && track_wp_async.probe())
		return &track_wp_async;
	for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
		if (name ? strcmp(name, backends[i]->name) != 0 : !backends[i]->probe())
			continue;
		if (!name && live && !backends[i]->live)
			continue;
		if (backends[i]->probe())
			return backends[i];
		(void)ckpt_fail(err, E_TRACK, -EOPNOTSUPP,
				"this kernel cannot track writes by \"%s\"", name);
		(void)ckpt_remedy(err,
				  "leave --tracker out, or see what this kernel has: ckpt check");
		return NULL;
	}
	(void)ckpt_fail(err, E_TRACK, -EINVAL, "there is no tracker \"%s\"", name ? name : "");
	(void)ckpt_remedy(err, "trackers are kmod, wp-async, soft-dirty and none");
	return NULL;
}

int track_ignore(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	(void)arg;
	(void)addr;
	(void)npages;
	(void)flags;
	return 0;
}

static void tracker_init(struct tracker *t, int pid)
{
	*t = TRACKER_NONE;
	t->pid = pid;
}

int tracker_attach(struct tracker *t, const struct track_ops *ops, struct target_task *task,
		   struct ckpt_err *err)
{
	struct proc_stat st;
	int rc = proc_stat_read(task->pid, &st, err);

	tracker_init(t, task->pid);
	if (rc)
		return rc;
	t->start_time = st.start_time;
	rc = ops->attach(t, task, err);
	if (!rc)
		rc = ckpt_fault_fail("track.attached", E_TRACK, err);
	if (!rc)
		t->ops = ops;
	else
		tracker_detach(t);
	return rc;
}

void tracker_adopt(struct tracker *t, const struct track_ops *ops, int pid, uint64_t start_time,
		   int fd)
{
	tracker_init(t, pid);
	t->ops = ops;
	t->start_time = start_time;
	t->fd = fd;
}

int tracker_begin(struct tracker *t)
{
	char path[48];

	if (!t->buf && !(t->buf = malloc(SCAN_BUF_BYTES)))
		return -ENOMEM;
	if (t->pagemap_fd >= 0)
		(void)close(t->pagemap_fd);
	(void)snprintf(path, sizeof(path), "/proc/%d/pagemap", t->pid);
	t->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (t->pagemap_fd < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	return t->ops->begin ? t->ops->begin(t) : 0;
}

int tracker_collect(struct tracker *t, uint64_t start, uint64_t end, unsigned int how, track_fn fn,
		    void *arg)
{
	return t->ops->collect(t, start, end, how, fn, arg);
}

int tracker_count(struct tracker *t, uint64_t start, uint64_t end, uint64_t *ret_pages)
{
	return t->ops->count ? t->ops->count(t, start, end, ret_pages) : -EOPNOTSUPP;
}

int tracker_share(struct tracker *t, struct target_task *task, struct ckpt_err *err)
{
	int rc = t->ops->share ? 0 : -EOPNOTSUPP;

	if (!rc && t->pagemap_fd < 0)
		rc = tracker_begin(t);
	return rc || t->shared_fd >= 0 ? rc : t->ops->share(t, task, err);
}

int tracker_shared(struct tracker *t, uint64_t start, uint64_t end, unsigned int how, track_fn fn,
		   void *arg)
{
	int rc = t->ops->shared && t->shared_fd >= 0 ? 0 : -EOPNOTSUPP;

	if (!rc && t->pagemap_fd < 0)
		rc = tracker_begin(t);
	return rc ? rc : t->ops->shared(t, start, end, how, fn, arg);
}

int tracker_armed(struct tracker *t)
{
	return t->ops->armed ? t->ops->armed(t) : 0;
}

bool tracker_keeps(struct tracker *t)
{
	return t->ops->keeps && t->ops->keeps(t);
}

int tracker_kept(struct tracker *t, int *ret_fd, uint64_t *ret_room)
{
	return t->ops->kept ? t->ops->kept(t, ret_fd, ret_room) : -EOPNOTSUPP;
}

void tracker_detach(struct tracker *t)
{
	if (!t)
		return;
	if (t->ops && t->ops->detach)
		t->ops->detach(t);
	if (t->fd >= 0)
		(void)close(t->fd);
	if (t->shared_fd >= 0)
		(void)close(t->shared_fd);
	if (t->pagemap_fd >= 0)
		(void)close(t->pagemap_fd);
	free(t->buf);
	tracker_init(t, 0);
}
