// SPDX-License-Identifier: GPL-2.0-only
/*
 * Children that begin with their parent's memory, at the peer: which of it is theirs. The rest is
 * dropped before anything else comes. A child that could not be born so gets copies.
 */
#include <stdlib.h>

#include "base/vec.h"
#include "image/content.h"
#include "migrate/peer.h"

/* More pages that are not there no source names: 4 GiB. */
#define LOST_MAX (1u << 20)

/* @own: the child has it since its birth. */
static int same_page(struct peer *p, const Ckpt__MigSame *m, const struct warm_task *w,
		     const struct warm_task *parent, uint64_t addr, bool own, uint32_t *lost,
		     struct ckpt_err *err)
{
	char page[CKPT_PAGE];
	int rc = store_read(&p->store, (uint32_t)m->of, addr, page);

	if (!rc)
		return peer_put_pages(p, w, (uint32_t)m->pid, addr, 1,
				      page_is_zero(page) ? NULL : page, err);
	if (rc == 1 && own)
		return store_note(&p->store, (uint32_t)m->pid, addr, 1, err);
	if (rc == 1 && parent && restore_warm_has(parent, addr, addr + CKPT_PAGE) &&
	    !restore_warm_read(parent, addr, page, sizeof(page)))
		return peer_put_pages(p, w, (uint32_t)m->pid, addr, 1, page, err);
	if (++*lost > LOST_MAX)
		return peer_bad_frame(p, err, "pages that are nobody's");
	return peer_lost(p, (uint32_t)m->pid, addr, 1, err);
}

static int same_part(struct peer *p, const Ckpt__MigSame *m, uint64_t addr, uint64_t npages,
		     uint32_t *lost, struct ckpt_err *err)
{
	const struct warm_task *w = restore_warm_find(&p->restore, m->pid);
	const struct warm_task *parent = restore_warm_find(&p->restore, m->of);
	bool own[STORE_CHUNK_PAGES] = { false };
	int rc = 0;

	/* Where it is not known to be there, it is copied. */
	if (w && w->unsettled && w->parent == parent &&
	    restore_warm_has(w, addr, addr + npages * CKPT_PAGE))
		(void)restore_warm_present(w, addr, npages, own);
	for (uint64_t i = 0; !rc && i < npages; i++)
		rc = same_page(p, m, w, parent, addr + i * CKPT_PAGE, own[i], lost, err);
	return rc;
}

int peer_take_same(struct peer *p, const void *data, size_t len, struct ckpt_err *err)
{
	Ckpt__MigSame *m = ckpt__mig_same__unpack(NULL, len, data);
	uint32_t lost = 0;
	int rc = 0;

	if (!m || m->pid <= 0 || m->pid > 1 << 22 || m->of <= 0 || m->of > 1 << 22 ||
	    m->of == m->pid)
		rc = peer_bad_frame(p, err, "a broken list of pages");
	for (size_t i = 0; !rc && i < m->n_runs; i++) {
		uint64_t at = m->runs[i]->addr, n = m->runs[i]->npages;

		if (at % CKPT_PAGE || at >= 1ull << 47 || n > ((1ull << 47) - at) / CKPT_PAGE)
			rc = peer_bad_frame(p, err, "impossible pages");
		for (uint64_t part; !rc && n; n -= part, at += part * CKPT_PAGE) {
			part = n < STORE_CHUNK_PAGES ? n : STORE_CHUNK_PAGES;
			rc = same_part(p, m, at, part, &lost, err);
		}
	}
	if (m)
		ckpt__mig_same__free_unpacked(m, NULL);
	return rc;
}

int peer_settle_heirs(struct peer *p, struct ckpt_err *err)
{
	struct restore_ctx *r = &p->restore;
	int rc = 0;

	for (size_t i = 0; !rc && r->warm && i < r->warm->tasks.n; i++) {
		struct warm_task *w = r->warm->tasks.v[i];
		struct mm_runs keep = { 0 };

		if (!w->unsettled)
			continue;
		rc = store_warm_runs(&p->store, (uint32_t)w->pid, &keep, err);
		if (!rc)
			rc = restore_warm_keep(r, w, &keep, err);
		w->unsettled = false;
		vec_free(&keep);
	}
	return rc;
}
