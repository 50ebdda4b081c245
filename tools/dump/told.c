// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes of which the kernel's records tell everything: nothing runs in them. In a series of
 * checkpoints that is most of them, most of the time. What a few bits of the records mean is the
 * kernel's; a process that was asked and had the same bits has said it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "dump/collect.h"
#include "dump/mm_ahead.h"
#include "task_traits.pb-c.h"

static struct dump_told_traits traits_key(const struct passage *p, const struct thread_view *main)
{
	return (struct dump_told_traits) { .mm_flags = p->process.mm_flags,
					   .subreaper = p->process.subreaper,
					   .flags = main->flags,
					   .info_flags = main->info_flags };
}

static const struct process_traits *traits_find(const struct dump_series *s,
						const struct dump_told_traits *key)
{
	for (size_t i = 0; i < s->told_n && i < DUMP_TOLD_MAX; i++)
		if (s->told[i].mm_flags == key->mm_flags &&
		    s->told[i].subreaper == key->subreaper && s->told[i].flags == key->flags &&
		    s->told[i].info_flags == key->info_flags)
			return &s->told[i].traits;
	return NULL;
}

void told_learn(struct dump_ctx *d, const struct passage *p)
{
	struct dump_series *s = d->opts->series;
	const struct thread_view *main = thread_view_find(&p->views, p->task->threads.v[0].tid);
	const Ckpt__State *of_thread =
		kind_state_find(p->first.msg->state, p->first.msg->n_state, "thread-traits");
	const Ckpt__State *of_task = kind_state_find(p->msg->state, p->msg->n_state, "task-traits");
	struct ckpt_err ignore = { 0 };
	struct dump_told_traits key;
	Ckpt__ThreadTraits *th;
	Ckpt__TaskTraits *task;

	if (!p->viewed || !main || !of_thread || !of_task)
		return;
	key = traits_key(p, main);
	if (traits_find(s, &key))
		return;
	th = kind_state_unpack(of_thread, &ckpt__thread_traits__descriptor, &ignore);
	task = kind_state_unpack(of_task, &ckpt__task_traits__descriptor, &ignore);
	if (th && task) {
		key.traits = (struct process_traits) { .dumpable = th->dumpable,
						       .mce_kill = th->mce_kill,
						       .tsc = th->tsc,
						       .thp_disable = task->thp_disable,
						       .memory_merge = task->memory_merge,
						       .child_subreaper = task->child_subreaper };
		s->told[s->told_n++ % DUMP_TOLD_MAX] = key;
	}
	if (th)
		ckpt__thread_traits__free_unpacked(th, NULL);
	if (task)
		ckpt__task_traits__free_unpacked(task, NULL);
}

/* Timers of timer_create(2) are asked for their time. */
static bool has_timers(int pid)
{
	auto_free char *text = NULL;
	struct ckpt_err ignore = { 0 };

	return proc_read(pid, "timers", &text, NULL, &ignore) || *text;
}

/* ---- the text of maps --------------------------------------------------------------------------
 */

/* Processes come in the order of the last time, but for those that are new. */
static struct dump_told_maps *maps_find(struct dump_told_maps_list *l, int pid)
{
	for (size_t i = 0; i < l->n; i++) {
		struct dump_told_maps *m = &l->v[(l->at + i) % l->n];

		if (m->pid != pid)
			continue;
		l->at = (size_t)(m - l->v) + 1;
		return m;
	}
	return NULL;
}

/* Nothing was mapped, unmapped or registered since the last checkpoint of the series: this
 * session's last. */
static void maps_take(struct dump_ctx *d, struct passage *p)
{
	struct dump_told_maps *m = maps_find(&d->opts->series->maps, p->task->pid);
	struct dump_tracking *tr = d->tracking;

	if (!m || m->start_time != p->stat.start_time || m->execs != p->process.execs ||
	    m->stamp.mm != p->process.stamp.mm || m->stamp.seq != p->process.stamp.seq)
		return;
	p->maps = take_ptr(m->text);
	p->settled = true;
	if (tr && tr->increment && tr->settled)
		tr->settled(tr, p->task->pid);
}

/* Of hundreds of processes with hundreds of mappings; of more some are read each time. */
#define TOLD_BYTES (16u << 20)

void told_keep(struct dump_ctx *d, struct passage *p)
{
	struct mm_stamp stamp = p->process.stamp;
	size_t bytes = p->maps ? strlen(p->maps) + 1 : 0;
	struct dump_told_maps *m;

	/* It stands still: but for what ckpt has registered since it was read, the text is as true
	 * as it was, and whoever reads it again compares where mappings begin and end. Where stamps
	 * tell nothing, nobody would know. */
	if (!bytes || d->iters.mm.stamp_fd < 0 || d->maps.bytes + bytes > TOLD_BYTES ||
	    (!p->settled && mm_stamp_read(&d->iters.mm, p->task->pid, &stamp)))
		return;
	m = vec_push(&d->maps);
	if (!m)
		return;
	d->maps.bytes += bytes;
	*m = (struct dump_told_maps) { .pid = p->task->pid,
				       .start_time = p->stat.start_time,
				       .execs = p->process.execs,
				       .stamp = stamp,
				       .text = take_ptr(p->maps) };
}

void told_maps_free(struct dump_told_maps_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i].text);
	vec_free(l);
}

void told_end(struct dump_ctx *d)
{
	if (!d->opts->series)
		return;
	told_maps_free(&d->opts->series->maps);
	d->opts->series->maps = d->maps;
}

static bool looks_told(struct dump_ctx *d, struct passage *p)
{
	const struct target_task *task = p->task;
	const struct thread_view *main;
	struct dump_told_traits key;
	size_t n = task->threads.n;

	if (!d->opts->series || d->iters.process_fd < 0 || d->iters.threads.prog_fd < 0 ||
	    p->confined || task_headless(task) ||
	    proc_view_read(d->iters.process_fd, task->pid, &p->process))
		return false;
	/* Begun as soon as may be. Whether the threads let us stay outside comes out meanwhile, and
	 * as a rule they do. */
	if (proc_view_plain(&p->process)) {
		maps_take(d, p);
		p->ahead = mm_ahead_begin(d, p->task, &p->maps);
	}
	if (thread_iter_read(&d->iters.threads, task->tgid, n, &p->views))
		return false;
	p->viewed = true;
	main = thread_view_find(&p->views, task->threads.v[0].tid);
	if (!main || !proc_view_plain(&p->process) || has_timers(task->pid))
		return false;
	for (size_t i = 1; i < n; i++) {
		const struct thread_view *v = thread_view_find(&p->views, task->threads.v[i].tid);

		if (!v || !thread_views_alike(main, v))
			return false;
	}
	key = traits_key(p, main);
	p->traits = traits_find(d->opts->series, &key);
	return p->traits;
}

void told_look(struct dump_ctx *d, struct passage *p)
{
	p->told = looks_told(d, p);
}

bool told_enough(struct passage *p)
{
	struct ckpt_err ignore = { 0 };

	if (p->ahead && mm_ahead_looks(p->ahead, &p->maps)) {
		if (p->told && !p->doubtful.n)
			return true;
		/* It has begun epochs of the tracker: what it found is used. */
		mm_ahead_wait(p->ahead);
		return false;
	}
	p->ahead = NULL;
	return p->told && !p->doubtful.n &&
	       (p->maps || !proc_read(p->task->pid, "maps", &p->maps, NULL, &ignore)) &&
	       inject_untouched(p->task, p->maps);
}

int told_threads(struct dump_ctx *d, struct passage *p, struct ckpt_err *err)
{
	struct thread_work *w = &p->first;
	int rc;

	w->facts = (struct task_facts) {
		.status = w->status,
		.view = thread_view_find(&p->views, p->task->threads.v[0].tid),
		.process = &p->process,
		.traits = p->traits,
	};
	rc = thread_seen(d, w, p->task, &p->stat, 0, p->msg, err);
	for (size_t i = 1; !rc && i < p->task->threads.n; i++) {
		struct thread_work other = {
			.facts.view = thread_view_find(&p->views, p->task->threads.v[i].tid),
			.like = w->msg,
		};

		rc = thread_seen(d, &other, p->task, &p->stat, i, p->msg, err);
	}
	if (!rc)
		ui_note(d->ui, 2, "task %d: nothing was asked, the kernel tells of it%s",
			p->task->pid, p->settled ? "; its mappings are as they were" : "");
	return rc;
}
