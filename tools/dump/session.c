// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dumps of a tracked program: its session is taken from the keeper, every task
 * gets its tracker, and when the checkpoint is on disk the keeper is told. A
 * dump that ends in any other way leaves the session broken, if it may have
 * armed anything: then the next checkpoint is a full one.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/vec.h"
#include "dump/logged.h"
#include "dump/watch.h"
#include "image/reader.h"
#include "track/keeper.h"

struct dump_session {
	struct dump_tracking tracking;
	int sock;
	bool taken;   /* from the keeper, which waits for commit or release */
	bool started; /* trackers were given out: something may be armed */
	const struct track_ops *ops;
	struct keeper_state state;
	struct keeper_tasks known;
	struct {
		struct tracker **v;
		size_t n, cap;
	} trackers;
	struct keeper_tasks
		given; /* to the keeper, ahead of the others; their fd are the trackers' */
	struct image parent;
};

static struct tracker *tracker_find(struct dump_session *s, int pid)
{
	for (size_t i = 0; i < s->trackers.n; i++)
		if (s->trackers.v[i]->pid == pid)
			return s->trackers.v[i];
	return NULL;
}

/* In the keeper's list, as long as nobody has taken it from there. Of several the last, which is of
 * the address space that the task has now. */
static struct keeper_task *known_find(const struct dump_session *s, int pid)
{
	for (size_t i = s->known.n; i-- > 0;)
		if (s->known.v[i].pid == pid)
			return &s->known.v[i];
	return NULL;
}

void dump_session_told(struct dump_ctx *d, int pid, const struct track_told *told)
{
	struct tracker *t = tracker_find(d->session, pid);

	if (t)
		t->told = told;
}

static void session_settled(struct dump_tracking *tr, int pid)
{
	struct tracker *t = tracker_find((struct dump_session *)tr, pid);

	/* Those of a live back end are there before the freeze; others have no use for it. */
	if (t)
		t->settled = true;
}

/* What the keeper has of @pid, with both its descriptors. */
static void adopt(struct dump_session *s, struct tracker *t, struct keeper_task *k)
{
	struct keeper_task *shared;
	int fd = -1;

	while ((shared = known_find(s, -k->pid))) {
		if (fd < 0)
			fd = shared->fd;
		else
			(void)close(shared->fd);
		*shared = (struct keeper_task) { .fd = -1 };
	}
	tracker_adopt(t, s->ops, k->pid, k->start_time, k->fd);
	t->shared_fd = fd;
	*k = (struct keeper_task) { .fd = -1 };
}

/* A new entry, from the keeper's list when the task is the one it knows. */
static int tracker_make(struct dump_session *s, struct target_task *task, struct tracker **ret,
			bool *ret_fresh, struct ckpt_err *err)
{
	struct tracker **slot = vec_push(&s->trackers);
	struct tracker *t = calloc(1, sizeof(*t));
	struct keeper_task *k = known_find(s, task->pid);
	struct proc_stat st;
	int rc;

	if (!slot || !t) {
		free(t);
		s->trackers.n -= slot != NULL;
		return ckpt_oom(err);
	}
	*slot = *ret = t;
	*t = TRACKER_NONE;
	t->pid = task->pid;
	rc = proc_stat_read(task->pid, &st, err);
	if (rc)
		return rc;
	if (k && k->start_time == st.start_time) {
		adopt(s, t, k);
		*ret_fresh = false;
		return 0;
	}
	*ret_fresh = true;
	return tracker_attach(t, s->ops, task, err);
}

static int session_tracker(struct dump_tracking *tr, struct target_task *task, bool again,
			   struct tracker **ret, bool *ret_fresh, struct ckpt_err *err)
{
	struct dump_session *s = (struct dump_session *)tr; /* its first member */
	struct tracker *t = tracker_find(s, task->pid);

	s->started = true;
	/* The last checkpoint of a program that ends: nothing begins any more. */
	if (!tr->arm && (again || (!t && !known_find(s, task->pid)))) {
		*ret = NULL;
		return 0;
	}
	if (!t)
		return tracker_make(s, task, ret, ret_fresh, err);
	*ret = t;
	if (!again)
		return 0;
	*ret_fresh = true;
	tracker_detach(t);
	return tracker_attach(t, s->ops, task, err);
}

static bool session_known(struct dump_tracking *tr, int pid)
{
	struct dump_session *s = (struct dump_session *)tr;
	const struct keeper_task *k = known_find(s, pid);
	struct ckpt_err gone = { 0 };
	struct proc_stat st;

	return tracker_find(s, pid) ||
	       (k && !proc_stat_read(pid, &st, &gone) && st.start_time == k->start_time);
}

/* As the keeper gave them. Whoever is somebody else by now is of another address space, which every
 * use of its tracker notices. */
static int session_each(struct dump_tracking *tr, bool arms,
			int (*fn)(void *arg, struct tracker *t), void *arg)
{
	struct dump_session *s = (struct dump_session *)tr;
	int rc = 0;

	for (size_t i = 0; !rc && i < s->known.n; i++) {
		struct keeper_task *k = &s->known.v[i];
		struct tracker **slot = k->pid > 0 ? vec_push(&s->trackers) : NULL;
		struct tracker *t = slot ? calloc(1, sizeof(*t)) : NULL;

		if (!t) {
			s->trackers.n -= slot != NULL;
			continue;
		}
		*slot = t;
		adopt(s, t, k);
	}
	for (size_t i = 0; !rc && i < s->trackers.n; i++) {
		struct proc_stat st;
		struct ckpt_err gone = { 0 };

		if (proc_stat_read(s->trackers.v[i]->pid, &st, &gone) ||
		    st.start_time != s->trackers.v[i]->start_time) {
			/* It has ended: the keeper need not know of it any more. */
			tracker_detach(s->trackers.v[i]);
			continue;
		}
		s->started |= arms;
		rc = fn(arg, s->trackers.v[i]);
	}
	return rc;
}

/* Is there a session that write-protects the memory of this tree? */
static bool ask_tracked(const struct dump_ctx *d)
{
	struct keeper_state state;
	struct ckpt_err ignore = { 0 };
	bool tracked;
	int sock;

	if (keeper_connect(d->opts->pid, &sock, &ignore))
		return false;
	tracked = !keeper_status(sock, &state, &ignore) && state.tasks &&
		  !strcmp(state.backend, track_wp_async.name);
	(void)close(sock);
	return tracked;
}

bool dump_owns_uffd(struct dump_ctx *d, int pid, const struct proc_vma *v)
{
	struct dump_session *s = d->session;

	/* In a dump with a session: exactly. */
	if (s) {
		struct tracker *t = tracker_find(s, pid);
		const struct keeper_task *known = known_find(s, pid);

		const struct keeper_task *shared = known_find(s, -pid);
		struct tracker k;

		if (!t && !known)
			return false;
		if (!t) {
			tracker_adopt(&k, s->ops, pid, 0, known->fd);
			k.shared_fd = shared ? shared->fd : -1;
			t = &k;
		}
		return v->shared ? tracker_owns_shared(t, v->start, v->end)
				 : tracker_owns(t, v->start, v->end, v->uffd);
	}
	/* Before one, or without: as far as one can know. A userfaultfd of the program is refused
	 * as a descriptor. */
	if (d->tracking)
		return true;
	if (!d->protects.asked) {
		d->protects.asked = true;
		d->protects.ours = ask_tracked(d);
	}
	return d->protects.ours;
}

/* ---- before the freeze ---------------------------------------------------------------------- */

static void hex_id(const unsigned char *id, char *ret)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < 6; i++) {
		ret[2 * i] = digits[id[i] >> 4];
		ret[2 * i + 1] = digits[id[i] & 15];
	}
	ret[12] = 0;
}

void dump_session_iter(const struct ckpt_dump_opts *opts, struct dump_iters *iters)
{
	struct ckpt_err ignore = { 0 };
	int sock = -1, rc = keeper_connect(opts->pid, &sock, &ignore);

	if (!rc && keeper_iter(sock, &iters->vma, &ignore))
		iters->vma.prog_fd = -1;
	else if (rc == -ENOENT)
		(void)vma_iter_open(&iters->vma, &iters->types);
	if (sock >= 0)
		(void)close(sock);
}

static int read_parent(struct dump_ctx *d, struct dump_session *s, struct ckpt_err *err)
{
	struct ckpt_err why = { 0 };
	int rc = image_read(&s->parent, d->opts->parent, &why);

	if (!rc)
		return 0;
	(void)ckpt_fail(err, E_PARENT, rc, "%s cannot be the parent: %s", d->opts->parent, why.msg);
	return rc;
}

/* Is the parent what the session is relative to? */
static int check_parent(struct dump_ctx *d, struct dump_session *s, struct ckpt_err *err)
{
	const Ckpt__Inventory *inv = s->parent.inv;
	char want[16], have[16];

	if (inv->content_id.len == sizeof(s->state.armed_id) &&
	    !memcmp(inv->content_id.data, s->state.armed_id, sizeof(s->state.armed_id)))
		return 0;
	hex_id(s->state.armed_id, want);
	hex_id(s->parent.sources.v[0].id, have);
	(void)ckpt_fail(err, E_PARENT, -ESTALE,
			"%s is checkpoint %s, but process %d is tracked since checkpoint %s",
			d->opts->parent, have, d->opts->pid, want);
	return ckpt_remedy(err, "name %s as the parent, or make a full checkpoint with --track",
			   s->state.armed_path);
}

static const char *why_full(const struct dump_session *s, bool existed)
{
	if (!existed)
		return "it was not tracked";
	if (s->state.broken)
		return "the dump before was interrupted";
	return "no checkpoint was made since tracking began";
}

static int session_open(struct dump_ctx *d, struct dump_session *s, struct ckpt_err *err)
{
	const struct ckpt_dump_opts *o = d->opts;
	bool existed = true;
	int rc = o->parent ? read_parent(d, s, err) : 0;

	if (rc)
		return rc;
	rc = keeper_connect(o->pid, &s->sock, err);
	if (rc == -ENOENT) {
		existed = false;
		s->ops = track_choose(o->tracker, false, err);
		if (!s->ops)
			return err->code;
		rc = keeper_start(o->pid, s->ops->name, &d->iters.vma, err);
		if (!rc)
			rc = keeper_connect(o->pid, &s->sock, err);
	}
	if (rc)
		return rc;
	rc = keeper_begin(s->sock, &s->state, &s->known, err);
	if (rc)
		return rc;
	s->taken = true;
	if (ckpt_fault_fail("track.began", E_TRACK, err))
		return err->code;
	if (o->tracker && strcmp(o->tracker, s->state.backend) != 0)
		return ckpt_remedy(
			(ckpt_fail(err, E_TRACK, -EEXIST, "process %d is tracked by \"%s\"", o->pid,
				   s->state.backend),
			 err),
			"end that session first: ckpt track stop -t %d", o->pid);
	s->ops = track_choose(s->state.backend, false, err);
	if (!s->ops)
		return err->code;
	s->tracking.tracker = session_tracker;
	s->tracking.each = session_each;
	s->tracking.known = session_known;
	s->tracking.settled = session_settled;
	s->tracking.arm = o->end != TARGET_KILL;
	if (!o->parent)
		return 0;
	if (!s->state.armed || s->state.broken) {
		ui_warn(d->ui, "this is a full checkpoint of process %d: %s", o->pid,
			why_full(s, existed));
		return 0;
	}
	s->tracking.increment = true;
	return check_parent(d, s, err);
}

/* What it finds out about the kernel need not be found out while the program stands still. */
static int look_at_kernel(void *arg, struct tracker *t)
{
	(void)arg;
	(void)tracker_begin(t);
	return 0;
}

int dump_session_begin(struct dump_ctx *d, struct ckpt_err *err)
{
	static char *required[] = { (char *)"chain" };
	struct dump_session *s;
	int rc;

	if (!d->opts->parent && !d->opts->track)
		return 0;
	s = calloc(1, sizeof(*s));
	if (!s)
		return ckpt_oom(err);
	s->sock = -1;
	s->parent.dir_fd = -1;
	d->session = s;
	rc = session_open(d, s, err);
	if (rc)
		return rc;
	d->tracking = &s->tracking;
	if (s->tracking.increment) {
		d->parent = &s->parent;
		d->inv.parent_id = s->parent.inv->content_id;
		d->inv.parent_path = s->parent.path;
		d->inv.required = required;
		d->inv.n_required = 1;
	}
	if (dump_log_begin(d, s->ops, &s->known) || dump_watch_begin(d, &s->known))
		return ckpt_oom(err);
	if (s->tracking.increment && s->ops->live)
		(void)session_each(&s->tracking, false, look_at_kernel, NULL);
	d->stats.tracker = (char *)s->ops->name;
	return 0;
}

/* ---- after it ------------------------------------------------------------------------------- */

static bool was_given(const struct dump_session *s, const struct tracker *t)
{
	for (size_t i = 0; i < s->given.n; i++)
		if (s->given.v[i].pid == -t->pid)
			return true;
	return false;
}

int dump_session_give(struct dump_ctx *d, const struct tracker *t, struct ckpt_err *err)
{
	struct keeper_task task = { -t->pid, t->shared_fd, t->start_time };
	struct keeper_tasks one = { .v = &task, .n = 1 };
	struct dump_session *s = d->session;
	struct keeper_task *g = vec_push(&s->given);

	if (!g)
		return ckpt_oom(err);
	*g = task;
	return keeper_give(s->sock, &one, err);
}

int dump_session_dug(struct dump_ctx *d, uint64_t *ret)
{
	struct keeper_state state = { 0 };
	struct ckpt_err ignore = { 0 };
	int rc;

	if (!d->session) {
		*ret = d->tracking->dug(d->tracking);
		return 0;
	}
	rc = keeper_status(d->session->sock, &state, &ignore);
	*ret = state.dug;
	return rc;
}

static void tasks_of(struct dump_session *s, struct keeper_tasks *ret)
{
	for (size_t i = 0; i < s->trackers.n; i++) {
		const struct tracker *t = s->trackers.v[i];
		struct keeper_task *k = t->ops ? vec_push(ret) : NULL;

		if (k)
			*k = (struct keeper_task) { t->pid, t->fd, t->start_time };
		k = t->ops && t->shared_fd >= 0 && !was_given(s, t) ? vec_push(ret) : NULL;
		if (k)
			*k = (struct keeper_task) { -t->pid, t->shared_fd, t->start_time };
	}
}

void dump_session_commit(struct dump_ctx *d)
{
	struct dump_session *s = d->session;
	struct keeper_tasks tasks = { 0 };
	struct ckpt_err err = { 0 };
	char path[PATH_MAX];
	int rc;

	/* A program that ends takes its session along. */
	if (!s || !s->taken || !s->tracking.arm)
		return;
	rc = ckpt_fault("track.commit");
	tasks_of(s, &tasks);
	dump_watch_commit(d, &tasks);
	dump_log_commit(d, &tasks);
	if (!rc)
		rc = keeper_commit(s->sock, d->writer.content_id,
				   realpath(d->opts->dir, path) ? path : d->opts->dir, &tasks,
				   &err);
	vec_free(&tasks); /* the descriptors are the trackers' */
	if (rc)
		ui_warn(d->ui, "tracking was lost, the next checkpoint will be a full one: %s",
			err.msg);
	s->taken = false;
}

void dump_session_end(struct dump_ctx *d)
{
	struct dump_session *s = d->session;
	struct ckpt_err ignore = { 0 };

	if (!s)
		return;
	d->session = NULL;
	d->tracking = NULL;
	if (s->taken && (!s->started || (!s->tracking.arm && !d->pre_armed)))
		(void)keeper_release(s->sock, &ignore);
	if (s->sock >= 0)
		(void)close(s->sock);
	for (size_t i = 0; i < s->trackers.n; i++) {
		tracker_detach(s->trackers.v[i]);
		free(s->trackers.v[i]);
	}
	vec_free(&s->trackers);
	vec_free(&s->given);
	keeper_tasks_free(&s->known);
	d->parent = NULL;
	image_free(&s->parent);
	free(s);
}

/* Attach every task of the frozen tree and give the trackers to the keeper. */
static int attach_all(struct target *t, const struct track_ops *ops, int sock, struct ckpt_err *err)
{
	struct tracker *v = calloc(t->tasks.n + 1, sizeof(*v));
	struct keeper_tasks tasks = { 0 };
	size_t n = 0;
	int rc = v ? 0 : ckpt_oom(err);

	for (size_t i = 0; !rc && i < t->tasks.n; i++) {
		struct keeper_task *k;

		if (t->tasks.v[i].zombie)
			continue;
		rc = tracker_attach(&v[n], ops, &t->tasks.v[i], err);
		k = rc ? NULL : vec_push(&tasks);
		n += !rc;
		if (k)
			*k = (struct keeper_task) { v[n - 1].pid, v[n - 1].fd,
						    v[n - 1].start_time };
	}
	if (!rc)
		rc = keeper_commit(sock, NULL, NULL, &tasks, err);
	vec_free(&tasks);
	while (n)
		tracker_detach(&v[--n]);
	free(v);
	return rc;
}

int ckpt_track_start(int pid, const char *tracker, struct ckpt_ui *ui, struct ckpt_err *err)
{
	/* No connection is touched, and no contents are saved. */
	struct ckpt_dump_opts opts = { .pid = pid,
				       .tcp = CKPT_TCP_CLOSE,
				       .ghost_limit = UINT64_MAX };
	const struct track_ops *ops;
	struct target t = { .ui = ui };
	struct keeper_state state;
	struct keeper_tasks none = { 0 };
	struct ckpt_err ignore = { 0 };
	struct vma_iter iter = { .prog_fd = -1 };
	struct btf types = { 0 };
	int sock = -1, rc = ckpt_dump_check(&opts, ui, NULL, NULL, err);

	if (rc)
		return rc;
	ops = track_choose(tracker, false, err);
	if (!ops)
		return err->code;
	(void)vma_iter_open(&iter, &types);
	btf_free(&types);
	rc = keeper_start(pid, ops->name, &iter, err);
	vma_iter_close(&iter);
	if (!rc)
		rc = keeper_connect(pid, &sock, err);
	if (!rc)
		rc = keeper_begin(sock, &state, &none, err);
	if (!rc)
		rc = target_freeze(&t, pid, err);
	if (!rc) {
		rc = attach_all(&t, ops, sock, err);
		target_thaw(&t, TARGET_RUN);
	}
	target_free(&t);
	keeper_tasks_free(&none);
	if (rc && sock >= 0)
		(void)keeper_stop(sock, &ignore);
	if (sock >= 0)
		(void)close(sock);
	return rc;
}

/* ---- pages of the parent -------------------------------------------------------------------- */

/* Where the unwritten pages [addr, +npages) are: in what was copied ahead, or in the parent. */
static int resolve_pages(struct dump_ctx *d, const struct dump_pages *p, struct chain_map *map,
			 uint64_t addr, uint64_t npages, struct run_list *out)
{
	while (npages) {
		uint64_t n = npages;
		int got = dump_pre_resolve(d->pre, p, addr, npages, out, &n);

		if (got < 0)
			return got;
		if (!got) {
			int rc = map->img ? chain_resolve(map, addr, n, out) : -ENOENT;

			if (rc)
				return rc;
		} else {
			n = (uint64_t)got;
			d->stats.pages_parent -= n;
		}
		addr += n * CKPT_PAGE;
		npages -= n;
	}
	return 0;
}

/* A range that is as it was when it was last armed: what was copied ahead then, and of the rest
 * what the parent has; of an object there may be no parent, then nothing else is there. */
static int resolve_same(struct dump_ctx *d, const struct dump_pages *p, struct chain_map *map,
			uint64_t addr, uint64_t npages, struct run_list *out)
{
	while (npages) {
		uint64_t n = npages;
		int got = dump_pre_resolve(d->pre, p, addr, npages, out, &n);
		int rc = 0;

		if (got < 0)
			return got;
		if (got)
			n = (uint64_t)got;
		else if (map->img)
			rc = chain_same(map, addr, n, out, &d->stats.pages_parent);
		if (rc)
			return rc;
		addr += n * CKPT_PAGE;
		npages -= n;
	}
	return 0;
}

void dump_parent_map(const struct dump_ctx *d, int pid, struct chain_map *ret)
{
	const Ckpt__Task *was = d->parent ? image_task(d->parent, dump_vpid(d, pid), NULL) : NULL;

	*ret = (struct chain_map) { 0 };
	if (was && was->mm)
		chain_map_init(ret, d->parent, was->mm);
}

static int resolve_one(struct dump_ctx *d, const struct dump_pages *p, struct run_list *l,
		       struct ckpt_err *err)
{
	struct run_list out = { 0 };
	struct chain_map map = { 0 };
	int rc = 0;

	if (p->object && p->parent_object)
		chain_map_init_object(&map, d->parent, p->parent_object);
	else if (p->mm)
		dump_parent_map(d, p->pid, &map);
	for (size_t i = 0; !rc && i < l->n; i++) {
		const struct ckpt_page_run *r = &l->v[i];

		if (r->kind != CKPT_RUN_PARENT && r->kind != CKPT_RUN_SAME)
			rc = run_list_add(&out, r);
		else if (r->kind == CKPT_RUN_PARENT)
			rc = resolve_pages(d, p, &map, r->vaddr, r->npages, &out);
		else if (map.img || p->object)
			rc = resolve_same(d, p, &map, r->vaddr, r->npages, &out);
		else
			rc = -ENOENT;
		if (rc == -ENOENT)
			rc = ckpt_fail(err, E_INTERNAL, rc,
				       "%s %d: the unwritten page at %#llx is not in the parent %s",
				       p->mm ? "task" : "object", p->mm ? p->pid : (int)p->object,
				       (unsigned long long)r->vaddr,
				       d->parent ? d->parent->path : "");
	}
	if (rc) {
		vec_free(&out);
		return rc == -ENOMEM ? ckpt_oom(err) : rc;
	}
	vec_free(l);
	*l = out;
	return 0;
}

/* Where list @l and that of the earlier address space @with, @of, name the same page at the same
 * address, it is shared since a fork, as it was in the parent. 0 or -ENOMEM. */
static int share_with(struct run_list *l, const struct run_list *of, uint32_t with)
{
	struct run_list out = { 0 };
	size_t k = 0;
	int rc = 0;

	for (size_t i = 0; !rc && i < l->n; i++) {
		struct ckpt_page_run r = l->v[i];

		while (!rc && r.npages) {
			uint64_t end = r.vaddr + (uint64_t)r.npages * CKPT_PAGE, until = end;
			struct ckpt_page_run piece = r;
			const struct ckpt_page_run *o;

			while (k < of->n &&
			       of->v[k].vaddr + (uint64_t)of->v[k].npages * CKPT_PAGE <= r.vaddr)
				k++;
			o = k < of->n ? &of->v[k] : NULL;
			if (o && o->vaddr > r.vaddr) {
				until = o->vaddr < end ? o->vaddr : end;
			} else if (o) {
				uint64_t oend = o->vaddr + (uint64_t)o->npages * CKPT_PAGE;

				until = oend < end ? oend : end;
				if (r.kind == CKPT_RUN_PARENT && o->kind == CKPT_RUN_PARENT &&
				    r.off - r.vaddr == o->off - o->vaddr) {
					piece.kind = CKPT_RUN_SHARED;
					piece.off = with;
				}
			}
			piece.npages = (uint32_t)((until - r.vaddr) / CKPT_PAGE);
			rc = run_list_add(&out, &piece);
			r.npages -= piece.npages;
			if (r.kind == CKPT_RUN_DATA || r.kind == CKPT_RUN_PARENT)
				r.off += until - r.vaddr;
			r.vaddr = until;
		}
	}
	if (rc) {
		vec_free(&out);
		return rc;
	}
	vec_free(l);
	*l = out;
	return 0;
}

/* Of an address space that had shared pages in the parent. */
static int share_again(struct dump_ctx *d, size_t at, struct run_list *lists, struct ckpt_err *err)
{
	const Ckpt__Task *was = image_task(d->parent, dump_vpid(d, d->pages.v[at].pid), NULL);
	struct image_maps maps = { 0 };
	int rc = 0;

	if (was && was->mm)
		maps = image_maps_of_mm(d->parent, was->mm);
	for (size_t i = 0; !rc && i < at; i++) {
		const Ckpt__Task *other =
			d->pages.v[i].mm
				? image_task(d->parent, dump_vpid(d, d->pages.v[i].pid), NULL)
				: NULL;
		bool shares = false;

		if (!other || !other->mm)
			continue;
		for_each_image_run(r, maps) shares |=
			r->kind == CKPT_RUN_SHARED && r->off == other->mm;
		if (shares)
			rc = share_with(&lists[at], &lists[i], d->pages.v[i].mm);
	}
	return rc ? ckpt_oom(err) : 0;
}

int dump_resolve_parent(struct dump_ctx *d, struct run_list *lists, struct ckpt_err *err)
{
	struct run_list **all = calloc(d->pages.n + 1, sizeof(struct run_list *));
	int rc = all ? 0 : ckpt_oom(err);

	for (size_t i = 0; !rc && i < d->pages.n; i++) {
		all[i] = &lists[i];
		if (d->pages.v[i].mm || d->pages.v[i].parent_object || d->pages.v[i].known_as)
			rc = resolve_one(d, &d->pages.v[i], &lists[i], err);
	}
	for (size_t i = d->pages.n; d->parent && !rc && i-- > 0;)
		if (d->pages.v[i].mm)
			rc = share_again(d, i, lists, err);
	if (!rc && d->parent)
		rc = chain_put(&d->writer, d->parent, all, d->pages.n, err);
	free(all);
	return rc;
}
