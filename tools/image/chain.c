// SPDX-License-Identifier: GPL-2.0-only
/*
 * The chain of an increment: which other checkpoints hold its pages. An
 * increment has an index of all its pages, each with the one place where it is;
 * so reading a long chain costs as much as reading one image. Paths come from
 * the image: only directories whose inventory has the expected content id are
 * used, and only their page files are read.
 */
#include "image/chain.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"

static int missing(struct image *img, const char *path, struct ckpt_err *err, const char *what)
{
	(void)ckpt_fail(err, E_PARENT, -ENOENT, "the checkpoint in %s needs pages of %s, which %s",
			img->path, path, what);
	return ckpt_remedy(err, "put the directory back where it was, as it was");
}

static int open_ancestor(struct image *img, const Ckpt__Ancestor *a, struct ckpt_err *err)
{
	struct image_source *s = vec_push(&img->sources);
	struct ckpt_err why = { 0 };
	struct image other;
	bool bad = false;
	int rc;

	if (!s)
		return ckpt_oom(err);
	if (a->content_id.len != sizeof(s->id) || !a->path || !a->path[0])
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
				 "the checkpoint in %s is damaged: a nameless ancestor", img->path);
	memcpy(s->id, a->content_id.data, sizeof(s->id));
	if (a->path[0] == '/')
		s->path = strdup(a->path);
	else if (asprintf(&s->path, "%s/%s", img->path, a->path) < 0)
		s->path = NULL;
	if (!s->path)
		return ckpt_oom(err);
	rc = image_read_inventory(&other, s->path, &why);
	if (rc && why.id == E_IMAGE_MISSING)
		rc = missing(img, s->path, err, "is not there");
	else if (rc)
		*err = why;
	else if (other.inv->content_id.len != sizeof(s->id) ||
		 memcmp(other.inv->content_id.data, s->id, sizeof(s->id)) != 0)
		rc = missing(img, s->path, err, "is another checkpoint now");
	if (!rc && page_file_open(&s->pages, other.dir_fd, other.inv, a->pages_bytes))
		bad = true;
	image_free(&other);
	if (bad)
		rc = missing(img, s->path, err, "has no whole page file any more");
	return rc;
}

int image_open_chain(struct image *img, struct ckpt_err *err)
{
	struct image_source *own = vec_push(&img->sources);
	size_t n = img->chain ? img->chain->n_ancestors : 0;
	int rc = 0;

	if (!own || !(own->path = strdup(img->path)))
		return ckpt_oom(err);
	own->pages = img->pages;
	if (img->inv->content_id.len == sizeof(own->id))
		memcpy(own->id, img->inv->content_id.data, sizeof(own->id));
	if (n > CKPT_CHAIN_MAX)
		return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
				 "the checkpoint in %s is damaged: a chain of %zu", img->path, n);
	for (size_t i = 0; !rc && i < n; i++)
		rc = open_ancestor(img, img->chain->ancestors[i], err);
	return rc;
}

/* Where directories are: those of a chain are beside each other, as a rule. */
struct places {
	const char *seen_from;
	char *from;        /* realpath(3) of it, when it was wanted */
	char *parent, *is; /* where one of them is, as it was named, and realpath(3) of that */
};

static void places_free(struct places *p)
{
	free(p->from);
	free(p->parent);
	free(p->is);
}

/* realpath(3). */
static char *place_of(struct places *p, const char *path)
{
	const char *name = strrchr(path, '/');
	char link[1], *ret;

	/* What is no link, the last part of it, is beside the others. */
	if (!name || !name[1] || !strcmp(name, "/.") || !strcmp(name, "/..") ||
	    readlink(path, link, sizeof(link)) >= 0 || errno != EINVAL)
		return realpath(path, NULL);
	if (!p->parent || strncmp(p->parent, path, (size_t)(name - path)) != 0 ||
	    p->parent[name - path]) {
		free(p->parent);
		free(p->is);
		p->parent = strndup(path, (size_t)(name - path));
		p->is = p->parent ? realpath(p->parent[0] ? p->parent : "/", NULL) : NULL;
	}
	return p->is && asprintf(&ret, "%s%s", p->is[1] ? p->is : "", name) >= 0 ? ret : NULL;
}

/* The path of directory @to as seen from p->seen_from; NULL with errno set. */
static char *relative_path(struct places *p, const char *to)
{
	auto_free char *b = place_of(p, to);
	size_t same = 0, ups = 0, len;
	const char *a;
	char *ret;

	if (!p->from)
		p->from = realpath(p->seen_from, NULL);
	a = p->from;
	if (!a || !b)
		return NULL;
	/* The part that is common, up to a slash. */
	for (size_t i = 0;; i++) {
		bool enda = !a[i] || a[i] == '/', endb = !b[i] || b[i] == '/';

		if (enda && endb)
			same = i;
		if (a[i] != b[i] || !a[i])
			break;
	}
	for (const char *up = a + same; *up; up++)
		ups += *up == '/' && up[1];
	len = ups * 3 + strlen(b + same) + 2;
	ret = calloc(len, 1);
	if (!ret)
		return NULL;
	for (size_t i = 0; i < ups; i++)
		strcat(ret, "../");
	strcat(ret, b[same] == '/' ? b + same + 1 : b + same);
	if (!ret[0])
		strcpy(ret, ".");
	return ret;
}

/* ---- resolving pages that are "in the parent" --------------------------------------------- */

int run_list_add(struct run_list *l, const struct ckpt_page_run *r)
{
	struct ckpt_page_run *last = l->n ? &l->v[l->n - 1] : NULL;
	bool placed = r->kind == CKPT_RUN_DATA || r->kind == CKPT_RUN_PARENT;
	uint64_t bytes = last ? (uint64_t)last->npages * CKPT_PAGE : 0;

	if (last && last->kind == r->kind && last->vaddr + bytes == r->vaddr &&
	    (placed ? last->off + bytes == r->off : last->off == r->off) &&
	    last->npages <= UINT32_MAX - r->npages) {
		last->npages += r->npages;
		return 0;
	}
	last = vec_push(l);
	if (!last)
		return -ENOMEM;
	*last = *r;
	return 0;
}

uint64_t run_alike(const struct ckpt_page_run *r, uint64_t addr, uint64_t npages, bool *ret_in)
{
	uint64_t until;

	*ret_in = r && r->vaddr <= addr;
	if (!r)
		return npages;
	until = *ret_in ? r->vaddr + (uint64_t)r->npages * CKPT_PAGE : r->vaddr;
	until = (until - addr) / CKPT_PAGE;
	return until < npages ? until : npages;
}

void chain_map_init(struct chain_map *m, const struct image *img, uint32_t mm)
{
	memset(m, 0, sizeof(*m));
	m->img = img;
	m->maps = image_maps_of_mm(img, mm);
}

void chain_map_init_object(struct chain_map *m, const struct image *img, uint32_t object)
{
	memset(m, 0, sizeof(*m));
	m->img = img;
	m->maps = image_maps_of_object(img, object);
}

/* The run that holds @vaddr; questions come in ascending order. */
static const struct ckpt_page_run *chain_map_find(struct chain_map *m, uint64_t vaddr)
{
	for (; m->map < m->maps.n; m->map++, m->run = 0) {
		const struct ckpt_page_run *r = (const void *)m->maps.v[m->map]->runs.data;
		size_t n = m->maps.v[m->map]->runs.len / sizeof(*r);

		for (; m->run < n; m->run++) {
			const struct ckpt_page_run *at = &r[m->run];

			if (at->vaddr + (uint64_t)at->npages * CKPT_PAGE > vaddr)
				return at->vaddr <= vaddr ? at : NULL;
		}
	}
	return NULL;
}

int chain_resolve(struct chain_map *m, uint64_t vaddr, uint64_t npages, struct run_list *ret)
{
	while (npages) {
		const struct ckpt_page_run *r = chain_map_find(m, vaddr);
		struct ckpt_page_run piece;
		uint64_t skip, take;
		int rc;

		if (!r)
			return -ENOENT;
		skip = (vaddr - r->vaddr) / CKPT_PAGE;
		take = r->npages - skip;
		if (take > npages)
			take = npages;
		if (r->kind == CKPT_RUN_SHARED) {
			struct chain_map other;

			/* Ascending as well, as long as it is the same one. */
			chain_map_init(&other, m->img, (uint32_t)r->off);
			if (m->other == r->off) {
				other.map = m->other_map;
				other.run = m->other_run;
			}
			rc = chain_resolve(&other, vaddr, take, ret);
			if (rc)
				return rc;
			m->other = (uint32_t)r->off;
			m->other_map = other.map;
			m->other_run = other.run;
			vaddr += take * CKPT_PAGE;
			npages -= take;
			continue;
		}
		piece = (struct ckpt_page_run) { .vaddr = vaddr,
						 .npages = (uint32_t)take,
						 .kind = r->kind };
		if (r->kind == CKPT_RUN_DATA) {
			uint64_t off = r->off + skip * CKPT_PAGE;

			/* What the parent holds itself is in the first ancestor of its child. */
			piece.kind = CKPT_RUN_PARENT;
			piece.off = ckpt_run_at(ckpt_run_source(off) + 1, ckpt_run_off(off));
		}
		rc = run_list_add(ret, &piece);
		if (rc)
			return rc;
		vaddr += take * CKPT_PAGE;
		npages -= take;
	}
	return 0;
}

/* The first run that ends behind @vaddr. */
static const struct ckpt_page_run *chain_map_next(struct chain_map *m, uint64_t vaddr)
{
	for (; m->map < m->maps.n; m->map++, m->run = 0) {
		const struct ckpt_page_run *r = (const void *)m->maps.v[m->map]->runs.data;
		size_t n = m->maps.v[m->map]->runs.len / sizeof(*r);

		for (; m->run < n; m->run++)
			if (r[m->run].vaddr + (uint64_t)r[m->run].npages * CKPT_PAGE > vaddr)
				return &r[m->run];
	}
	return NULL;
}

uint64_t chain_has(struct chain_map *m, uint64_t vaddr, uint64_t npages, bool *ret_has)
{
	return run_alike(chain_map_next(m, vaddr), vaddr, npages, ret_has);
}

int chain_same(struct chain_map *m, uint64_t vaddr, uint64_t npages, struct run_list *ret,
	       uint64_t *ret_pages)
{
	uint64_t end = vaddr + npages * CKPT_PAGE;
	const struct ckpt_page_run *r;

	while (vaddr < end && (r = chain_map_next(m, vaddr)) && r->vaddr < end) {
		uint64_t from = r->vaddr > vaddr ? r->vaddr : vaddr;
		uint64_t to = r->vaddr + (uint64_t)r->npages * CKPT_PAGE;
		int rc;

		if (to > end)
			to = end;
		rc = chain_resolve(m, from, (to - from) / CKPT_PAGE, ret);
		if (rc)
			return rc;
		*ret_pages += (to - from) / CKPT_PAGE;
		vaddr = to;
	}
	return 0;
}

int chain_put(struct image_writer *w, const struct image *parent, struct run_list *const *lists,
	      size_t nlists, struct ckpt_err *err)
{
	Ckpt__Chain chain = CKPT__CHAIN__INIT;
	auto_free Ckpt__Ancestor *a = calloc(parent->sources.n, sizeof(*a));
	auto_free Ckpt__Ancestor **p = calloc(parent->sources.n, sizeof(Ckpt__Ancestor *));
	auto_free uint32_t *number = calloc(parent->sources.n + 1, sizeof(*number));
	struct places places = { .seen_from = w->path };
	int rc = 0;

	if (!a || !p || !number)
		return ckpt_oom(err);
	/* Only those that still hold a page, numbered anew. */
	for (size_t i = 0; i < nlists; i++)
		for (size_t k = 0; k < lists[i]->n; k++)
			if (lists[i]->v[k].kind == CKPT_RUN_PARENT)
				number[ckpt_run_source(lists[i]->v[k].off)] = 1;
	for (size_t i = 0; !rc && i < parent->sources.n; i++) {
		struct image_source *s = &parent->sources.v[i];

		if (!number[i + 1])
			continue;
		number[i + 1] = (uint32_t)chain.n_ancestors + 1;
		ckpt__ancestor__init(&a[i]);
		a[i].content_id = (ProtobufCBinaryData) { sizeof(s->id), s->id };
		a[i].path = relative_path(&places, s->path);
		a[i].pages_bytes = s->pages.bytes;
		if (!a[i].path)
			rc = ckpt_fail_errno(err, E_PARENT, -errno, "cannot name %s", s->path);
		p[chain.n_ancestors++] = &a[i];
	}
	for (size_t i = 0; i < nlists; i++)
		for (size_t k = 0; k < lists[i]->n; k++) {
			struct ckpt_page_run *r = &lists[i]->v[k];

			if (r->kind == CKPT_RUN_PARENT)
				r->off = ckpt_run_at(number[ckpt_run_source(r->off)],
						     ckpt_run_off(r->off));
		}
	chain.ancestors = p;
	if (!rc && chain.n_ancestors > CKPT_CHAIN_MAX)
		rc = ckpt_remedy(
			(ckpt_fail(err, E_PARENT, -E2BIG, "the chain behind %s has %zu checkpoints",
				   w->path, chain.n_ancestors),
			 err),
			"fold it first: ckpt merge");
	if (!rc)
		rc = image_put(w, CKPT_REC_CHAIN, &chain.base, err);
	for (size_t i = 0; i < chain.n_ancestors; i++)
		free(p[i]->path);
	places_free(&places);
	return rc;
}
