// SPDX-License-Identifier: GPL-2.0-only
#include "dump/spans.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/quiet.h"
#include "base/vec.h"
#include "image/format.h"
#include "track/scan.h"

struct finding {
	uint64_t start, pgoff, pages;
	struct spans *spans;
};

static int found(void *arg, uint64_t addr, uint64_t npages, unsigned int flags)
{
	struct finding *f = arg;
	uint64_t first = (f->pgoff + (addr - f->start)) / CKPT_PAGE;
	struct span *s;

	(void)flags;
	if (first >= f->pages)
		return 0;
	s = vec_push(f->spans);
	if (!s)
		return -ENOMEM;
	*s = (struct span) { first, npages < f->pages - first ? first + npages : f->pages };
	return 0;
}

int spans_find(struct tracker *t, uint64_t start, uint64_t end, uint64_t pgoff, uint64_t pages,
	       unsigned int how, struct spans *ret)
{
	struct finding f = { start, pgoff, pages, ret };

	return tracker_shared(t, start, end, how, found, &f);
}

static int span_cmp(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return (x->first > y->first) - (x->first < y->first);
}

void spans_join(struct spans *s)
{
	size_t n = 0;

	if (s->n)
		qsort(s->v, s->n, sizeof(*s->v), span_cmp);
	for (size_t i = 0; i < s->n; i++) {
		if (n && s->v[i].first <= s->v[n - 1].end) {
			if (s->v[i].end > s->v[n - 1].end)
				s->v[n - 1].end = s->v[i].end;
		} else {
			s->v[n++] = s->v[i];
		}
	}
	s->n = n;
}

/* ---- by two ---------------------------------------------------------------------------------- */

#define PIECE_BYTES (256ull << 20)
#define SPLIT_BYTES (1ull << 30) /* to look at less takes hardly longer than to start a thread */

int search_add(struct search *s, struct tracker *t, uint64_t start, uint64_t end, uint64_t pgoff)
{
	s->bytes += end - start;
	for (uint64_t at = start, n; at < end; at += n) {
		struct piece *p = vec_push(&s->pieces);

		if (!p)
			return -ENOMEM;
		n = PIECE_BYTES - at % PIECE_BYTES;
		n = n < end - at ? n : end - at;
		*p = (struct piece) { t, at, at + n, pgoff + (at - start) };
	}
	return 0;
}

struct searcher {
	struct search *s;
	atomic_size_t *next;
	struct spans spans;
	int rc;
};

static void *search_pieces(void *arg)
{
	struct searcher *w = arg;
	auto_free void *buf = malloc(SCAN_BUF_BYTES);
	size_t i;

	/* The other one does it alone then. */
	while (buf && !w->rc && (i = atomic_fetch_add(w->next, 1)) < w->s->pieces.n) {
		const struct piece *p = &w->s->pieces.v[i];
		struct tracker own = *p->t;

		own.buf = buf;
		w->rc = spans_find(&own, p->start, p->end, p->pgoff, w->s->pages, w->s->how,
				   &w->spans);
	}
	return NULL;
}

int search_run(struct search *s, int threads, struct spans *ret)
{
	atomic_size_t next = 0;
	struct searcher own = { .s = s, .next = &next }, other = own;
	pthread_t thread;
	bool two;
	int rc;

	/* What opens a descriptor is not for both. */
	for (size_t i = 0; i < s->pieces.n; i++)
		if (s->pieces.v[i].t->pagemap_fd < 0 && (rc = tracker_begin(s->pieces.v[i].t)))
			return rc;
	two = threads > 1 && s->bytes >= SPLIT_BYTES &&
	      !quiet_thread(&thread, search_pieces, &other);
	(void)search_pieces(&own);
	if (two)
		(void)pthread_join(thread, NULL);
	rc = own.rc ? own.rc : other.rc;
	if (!rc && atomic_load(&next) < s->pieces.n)
		rc = -ENOMEM;
	for (size_t i = 0; !rc && i < other.spans.n; i++) {
		struct span *x = vec_push(&own.spans);

		if (x)
			*x = other.spans.v[i];
		else
			rc = -ENOMEM;
	}
	vec_free(&other.spans);
	for (size_t i = 0; !rc && i < own.spans.n; i++) {
		struct span *x = vec_push(ret);

		if (x)
			*x = own.spans.v[i];
		else
			rc = -ENOMEM;
	}
	vec_free(&own.spans);
	if (!rc)
		spans_join(ret);
	return rc;
}

void search_free(struct search *s)
{
	vec_free(&s->pieces);
}
