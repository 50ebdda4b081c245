// SPDX-License-Identifier: GPL-2.0-only
/* What is different between two checkpoints: processes, threads, what these have set, descriptors,
 * mappings, pages. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "image/diff.h"

static const struct cmd_opt opts[] = {
	{ 0 },
};

struct report {
	const struct cmd_common *c;
	struct json_object *list;
	const struct image *a, *b;
	unsigned long found;
	struct image_diff pages; /* of all tasks */
	int pid;
};

/* One difference: which task, of what kind, and what. */
static void say(struct report *r, int pid, const char *what, const char *text)
{
	struct json_object *o;

	r->found++;
	if (!r->c->json) {
		if (!r->c->quiet)
			printf("%6d  %-10s %s\n", pid, what, text);
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "pid", json_object_new_int(pid));
	json_object_object_add(o, "what", json_object_new_string(what));
	json_object_object_add(o, "text", json_object_new_string(text));
	json_object_array_add(r->list, o);
}

static const Ckpt__Object *object_of(const struct image *img, const Ckpt__Fd *fd)
{
	return img->objects.v[fd->object - 1];
}

static bool locks_same(size_t n, Ckpt__FileLock *const *a, size_t m, Ckpt__FileLock *const *b)
{
	for (size_t i = 0; n == m && i < n; i++)
		if (a[i]->type != b[i]->type || a[i]->write != b[i]->write ||
		    a[i]->start != b[i]->start || a[i]->len != b[i]->len)
			return false;
	return n == m;
}

/* Numbers of other objects inside a state differ between images, so only what kinds say about
 * themselves counts; a descriptor that refers to others may be told as changed when it is not. */
static bool fd_same(const struct image *a, const Ckpt__Fd *x, const struct image *b,
		    const Ckpt__Fd *y)
{
	const Ckpt__Object *p = object_of(a, x), *q = object_of(b, y);

	return x->cloexec == y->cloexec && locks_same(x->n_locks, x->locks, y->n_locks, y->locks) &&
	       p->flags == q->flags && p->pos == q->pos && p->owner_type == q->owner_type &&
	       p->owner_pid == q->owner_pid && p->owner_sig == q->owner_sig &&
	       locks_same(p->n_locks, p->locks, q->n_locks, q->locks) &&
	       !strcmp(p->state->kind, q->state->kind) &&
	       p->state->body.len == q->state->body.len &&
	       (!p->state->body.len ||
		!memcmp(p->state->body.data, q->state->body.data, p->state->body.len));
}

static void diff_fds(struct report *r, const Ckpt__Task *t, const Ckpt__Task *u)
{
	const Ckpt__FdTable *x = r->a->tables.v[t->fdtable - 1],
			    *y = r->b->tables.v[u->fdtable - 1];
	char text[128];
	size_t i = 0, k = 0;

	while (i < x->n_fds || k < y->n_fds) {
		const Ckpt__Fd *f = i < x->n_fds ? x->fds[i] : NULL;
		const Ckpt__Fd *g = k < y->n_fds ? y->fds[k] : NULL;

		if (f && (!g || f->fd < g->fd)) {
			(void)snprintf(text, sizeof(text), "%u closed (%s)", f->fd,
				       object_of(r->a, f)->state->kind);
			say(r, t->pid, "descriptor", text);
			i++;
		} else if (!f || g->fd < f->fd) {
			(void)snprintf(text, sizeof(text), "%u opened (%s)", g->fd,
				       object_of(r->b, g)->state->kind);
			say(r, t->pid, "descriptor", text);
			k++;
		} else {
			if (!fd_same(r->a, f, r->b, g)) {
				(void)snprintf(text, sizeof(text), "%u changed (%s)", g->fd,
					       object_of(r->b, g)->state->kind);
				say(r, t->pid, "descriptor", text);
			}
			i++;
			k++;
		}
	}
}

static void vma_text(const Ckpt__Vma *v, const char *how, char *text, size_t len)
{
	(void)snprintf(text, len, "%012llx-%012llx %c%c%c%c %s %s", (unsigned long long)v->start,
		       (unsigned long long)v->end, v->prot & PROT_READ ? 'r' : '-',
		       v->prot & PROT_WRITE ? 'w' : '-', v->prot & PROT_EXEC ? 'x' : '-',
		       v->map & MAP_SHARED ? 's' : 'p', v->kind, how);
}

static bool vma_same(const Ckpt__Vma *x, const Ckpt__Vma *y)
{
	return x->start == y->start && x->end == y->end && x->prot == y->prot && x->map == y->map &&
	       x->pgoff == y->pgoff && x->flags == y->flags && !strcmp(x->kind, y->kind);
}

static void diff_vmas(struct report *r, int pid, const Ckpt__Mm *x, const Ckpt__Mm *y)
{
	char text[128];
	size_t i = 0, k = 0;

	while (i < x->n_vmas || k < y->n_vmas) {
		const Ckpt__Vma *v = i < x->n_vmas ? x->vmas[i] : NULL;
		const Ckpt__Vma *w = k < y->n_vmas ? y->vmas[k] : NULL;

		if (v && w && vma_same(v, w)) {
			i++;
			k++;
		} else if (v && (!w || v->start <= w->start)) {
			vma_text(v, "gone", text, sizeof(text));
			say(r, pid, "mapping", text);
			i++;
		} else {
			vma_text(w, "new", text, sizeof(text));
			say(r, pid, "mapping", text);
			k++;
		}
	}
}

static void page_run(void *arg, uint64_t addr, uint64_t npages)
{
	struct report *r = arg;
	char text[64];

	if (!r->c->verbose && !r->c->json)
		return;
	(void)snprintf(text, sizeof(text), "%012llx %llu", (unsigned long long)addr,
		       (unsigned long long)npages);
	say(r, r->pid, "pages", text);
}

static int diff_pages(struct report *r, int pid, uint32_t amm, uint32_t bmm, struct ckpt_err *err)
{
	struct image_diff d;
	char text[160];
	int rc;

	r->pid = pid;
	rc = image_diff_mm(r->a, amm, r->b, bmm, page_run, r, &d, err);
	if (rc)
		return rc;
	r->pages.same += d.same;
	r->pages.changed += d.changed;
	r->pages.added += d.added;
	r->pages.dropped += d.dropped;
	r->pages.read += d.read;
	if (r->c->json || !(d.changed + d.added + d.dropped))
		return 0;
	(void)snprintf(text, sizeof(text), "%llu changed, %llu new, %llu dropped, %llu the same",
		       (unsigned long long)d.changed, (unsigned long long)d.added,
		       (unsigned long long)d.dropped, (unsigned long long)d.same);
	say(r, pid, "memory", text);
	return 0;
}

static void diff_threads(struct report *r, const struct image *img, const Ckpt__Task *t,
			 const Ckpt__Task *u, const char *how)
{
	char text[64];

	(void)img;
	for (size_t i = 0; i < t->n_threads; i++) {
		bool there = false;

		for (size_t k = 0; k < u->n_threads; k++)
			there |= u->threads[k]->tid == t->threads[i]->tid;
		if (there)
			continue;
		(void)snprintf(text, sizeof(text), "%d %s", t->threads[i]->tid, how);
		say(r, t->pid, "thread", text);
	}
}

static bool state_same(const Ckpt__State *x, const Ckpt__State *y)
{
	return y && x->body.len == y->body.len &&
	       (!x->body.len || !memcmp(x->body.data, y->body.data, x->body.len));
}

/* What a process (@tid 0) or one of its threads has set. Of what refers to objects the same holds
 * as of descriptors. */
static void diff_states(struct report *r, int pid, uint32_t tid, Ckpt__State *const *x, size_t nx,
			Ckpt__State *const *y, size_t ny)
{
	char text[96];
	int len = tid ? snprintf(text, sizeof(text), "thread %u: ", tid) : 0;

	for (size_t i = 0; i < nx; i++) {
		if (state_same(x[i], kind_state_find(y, ny, x[i]->kind)))
			continue;
		(void)snprintf(text + len, sizeof(text) - (size_t)len, "%s", x[i]->kind);
		say(r, pid, "setting", text);
	}
	for (size_t i = 0; i < ny; i++) {
		if (kind_state_find(x, nx, y[i]->kind))
			continue;
		(void)snprintf(text + len, sizeof(text) - (size_t)len, "%s", y[i]->kind);
		say(r, pid, "setting", text);
	}
}

static void diff_settings(struct report *r, const Ckpt__Task *t, const Ckpt__Task *u)
{
	diff_states(r, t->pid, 0, t->state, t->n_state, u->state, u->n_state);
	for (size_t i = 0; i < t->n_threads; i++)
		for (size_t k = 0; k < u->n_threads; k++) {
			const Ckpt__Thread *x = t->threads[i], *y = u->threads[k];

			if (x->tid == y->tid)
				diff_states(r, t->pid, x->tid, x->state, x->n_state, y->state,
					    y->n_state);
		}
}

static int diff_task(struct report *r, const Ckpt__Task *t, const Ckpt__Task *u,
		     struct ckpt_err *err)
{
	if (t->zombie || u->zombie) {
		if (t->zombie != u->zombie)
			say(r, u->pid, "process", "ended (zombie)");
		return 0;
	}
	diff_threads(r, r->a, t, u, "ended");
	diff_threads(r, r->b, u, t, "started");
	diff_settings(r, t, u);
	diff_fds(r, t, u);
	diff_vmas(r, t->pid, r->a->mms.v[t->mm - 1], r->b->mms.v[u->mm - 1]);
	return diff_pages(r, t->pid, t->mm, u->mm, err);
}

static int diff_all(struct report *r, struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < r->a->tasks.n; i++) {
		const Ckpt__Task *t = r->a->tasks.v[i], *u = image_task(r->b, t->pid, NULL);

		if (u)
			rc = diff_task(r, t, u, err);
		else
			say(r, t->pid, "process", "gone");
	}
	for (size_t i = 0; i < r->b->tasks.n; i++)
		if (!image_task(r->a, r->b->tasks.v[i]->pid, NULL))
			say(r, r->b->tasks.v[i]->pid, "process", "new");
	return rc;
}

static void print_json(struct report *r)
{
	struct json_object *o = json_object_new_object(), *p = json_object_new_object();

	json_object_object_add(p, "same", json_object_new_int64((int64_t)r->pages.same));
	json_object_object_add(p, "changed", json_object_new_int64((int64_t)r->pages.changed));
	json_object_object_add(p, "new", json_object_new_int64((int64_t)r->pages.added));
	json_object_object_add(p, "dropped", json_object_new_int64((int64_t)r->pages.dropped));
	json_object_object_add(o, "pages", p);
	json_object_object_add(o, "differences", r->list);
	cmd_print_json(o);
}

static int run(const struct cmd *cmd, int argc, char **argv)
{
	struct cmd_common c = { 0 };
	struct ckpt_err err = { 0 };
	struct image a = { .dir_fd = -1 }, b = { .dir_fd = -1 };
	struct report r = { .c = &c, .a = &a, .b = &b };
	int rc, threads = (int)sysconf(_SC_NPROCESSORS_ONLN);

	while (cmd_getopt(cmd, &c, argc, argv) != -1)
		;
	if (argc - optind != 2)
		return cmd_usage(cmd, "name two checkpoints");
	r.list = json_object_new_array();
	rc = image_read(&a, argv[optind], &err);
	if (!rc)
		rc = image_read(&b, argv[optind + 1], &err);
	if (!rc)
		rc = image_unpack(&a, threads, &err);
	if (!rc)
		rc = image_unpack(&b, threads, &err);
	if (!rc)
		rc = diff_all(&r, &err);
	if (!rc && c.json)
		print_json(&r);
	else
		json_object_put(r.list);
	if (!rc && !c.json && !c.quiet && !r.found)
		puts("no difference in processes, threads, settings, descriptors, mappings and "
		     "pages");
	image_free(&a);
	image_free(&b);
	return rc ? cmd_fail(&c, &err) : 0;
}

const struct cmd cmd_diff = { "diff", "DIR DIR", "what changed from one checkpoint to another",
			      opts, run };
