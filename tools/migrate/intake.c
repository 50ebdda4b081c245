// SPDX-License-Identifier: GPL-2.0-only
/*
 * What comes, until the inventory: pages go into the memory of tasks-to-be, or are kept, by another
 * thread while the next are received; the tasks-to-be follow the program's tree and mappings.
 */
#include <fcntl.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/sum.h"
#include "base/vec.h"
#include "migrate/delta.h"
#include "migrate/peer.h"

/* What the peer has of these pages now. Reading it is no reason to fail: it may have gone. */
static int base_read(struct peer *p, const struct mig_pages *h, char *to)
{
	const struct warm_task *w = restore_warm_find(&p->restore, (int)h->pid);

	for (uint32_t i = 0; i < h->npages; i++) {
		uint64_t addr = h->addr + (uint64_t)i * CKPT_PAGE;
		int rc = store_read(&p->store, h->pid, addr, to + (size_t)i * CKPT_PAGE);

		if (rc == 1)
			rc = !w || !restore_warm_has(w, addr, addr + CKPT_PAGE)
				     ? -ENODATA
				     : restore_warm_read(w, addr, to + (size_t)i * CKPT_PAGE,
							 CKPT_PAGE);
		if (rc)
			return rc;
	}
	return 0;
}

int peer_lost(struct peer *p, uint32_t pid, uint64_t addr, uint32_t npages, struct ckpt_err *err)
{
	Ckpt__MigRun *run = p->lost.n_lost ? p->lost.lost[p->lost.n_lost - 1] : NULL;

	if (run && run->pid == pid && run->addr + (uint64_t)run->npages * CKPT_PAGE == addr &&
	    run->npages + npages <= MIG_PAGES_MAX) {
		run->npages += npages;
		return 0;
	}
	run = kind_msg_new(&ckpt__mig_run__descriptor);
	if (!run || kind_push(&p->lost.n_lost, &p->lost.lost, run))
		return ckpt_oom(err);
	run->pid = pid;
	run->addr = addr;
	run->npages = npages;
	return 0;
}

/* Differences, already unpacked, become pages. 1: they do not fit what is here, and it was noted.
 */
static int take_xor(struct peer *p, const struct mig_pages *h, uint64_t sum, struct ckpt_err *err)
{
	size_t bytes = (size_t)h->npages * CKPT_PAGE;
	const char *base = p->base;
	char *raw = p->raw;
	int rc = base_read(p, h, p->base);

	for (size_t i = 0; !rc && i < bytes; i += CKPT_PAGE)
		(void)delta_xor((uint64_t *)(raw + i), raw + i, base + i);
	if (!rc && !ckpt_fault("delta.lost") && sum_bytes(raw, bytes) == sum)
		return 0;
	rc = peer_lost(p, h->pid, h->addr, h->npages, err);
	return rc ? rc : 1;
}

/* Pages of a shared object go to their place in it. */
static int take_shared(struct peer *p, const struct mig_pages *h, const void *data,
		       struct ckpt_err *err)
{
	int rc = restore_early_write(&p->restore, h->pid & ~MIG_SHARED, h->addr, data,
				     (size_t)h->npages * CKPT_PAGE);

	if (rc == -EBADMSG)
		return peer_bad_frame(p, err, "pages of nothing that is shared");
	return rc ? ckpt_fail_errno(err, E_NOMEM, rc, "cannot keep shared memory")
		  : store_note(&p->store, h->pid, h->addr, h->npages, err);
}

int peer_put_pages(struct peer *p, const struct warm_task *w, uint32_t pid, uint64_t addr,
		   uint32_t npages, const void *data, struct ckpt_err *err)
{
	const uint64_t bytes = (uint64_t)npages * CKPT_PAGE;

	if (w && data && restore_warm_has(w, addr, addr + bytes)) {
		int rc = restore_warm_write(w, addr, data, bytes);

		return rc ? ckpt_fail_errno(err, E_NOMEM, rc, "cannot write to task %u", pid)
			  : store_note(&p->store, pid, addr, npages, err);
	}
	return store_put(&p->store, pid, addr, npages, data, err);
}

static int take_pages(struct peer *p, const struct peer_frame *f, struct ckpt_err *err)
{
	const struct mig_pages *h = f->buf.data;
	size_t len = f->len;
	const char *data = (const char *)(h + 1);
	uint64_t bytes, sum = 0;
	size_t head = 0; /* in front of what LZ4 packed */
	int n;

	if (len < sizeof(*h) || h->bytes != len - sizeof(*h) || !h->npages ||
	    h->npages > MIG_PAGES_MAX || h->addr % CKPT_PAGE || h->coding >= MIG_CODINGS ||
	    h->addr >= 1ull << 47 ||
	    (h->pid & ~MIG_SHARED) > (h->pid & MIG_SHARED ? MIG_SHARES_MAX : 1u << 22))
		return peer_bad_frame(p, err, "impossible pages");
	bytes = (uint64_t)h->npages * CKPT_PAGE;
	if (h->coding == MIG_XOR) {
		head = sizeof(sum);
		if (h->bytes < head || !h->pid || h->pid & MIG_SHARED)
			return peer_bad_frame(p, err, "differences to nothing");
		memcpy(&sum, data, sizeof(sum));
	}
	if (h->coding == MIG_LZ4 || h->coding == MIG_XOR) {
		n = LZ4_decompress_safe(data + head, p->raw, (int)(h->bytes - head), (int)bytes);
		if (n != (int)bytes)
			return peer_bad_frame(p, err, "pages that do not unpack");
		data = p->raw;
	} else if (h->bytes != (h->coding == MIG_ZERO ? 0 : bytes)) {
		return peer_bad_frame(p, err, "pages of another length");
	}
	if (h->coding == MIG_XOR && (n = take_xor(p, h, sum, err)))
		return n < 0 ? n : 0;
	if (h->coding == MIG_ZERO)
		data = NULL;
	p->memory_bytes += bytes;
	if (h->pid & MIG_SHARED)
		return take_shared(p, h, data, err);
	if (h->pid)
		return peer_put_pages(p, data ? restore_warm_find(&p->restore, (int)h->pid) : NULL,
				      h->pid, h->addr, h->npages, data, err);
	if (!data)
		return 0; /* holes of the page file read as zeros */
	return store_put_final(&p->store, h->addr, h->npages, data, err);
}

static void lost_free(struct peer *p)
{
	for (size_t i = 0; i < p->lost.n_lost; i++)
		ckpt__mig_run__free_unpacked(p->lost.lost[i], NULL);
	free(p->lost.lost);
	p->lost.lost = NULL;
	p->lost.n_lost = 0;
}

static int take_inventory(struct peer *p, size_t len, struct ckpt_err *err)
{
	const struct mig_inventory *h = p->buf.data;
	auto_fd inv = -1;
	auto_fd pages = -1;
	int rc;

	if (len < sizeof(*h) || h->pages_bytes > STORE_ROUNDS)
		return peer_bad_frame(p, err, "an impossible inventory");
	p->pages_bytes = h->pages_bytes;
	inv = openat(p->dir_fd, CKPT_FILE_INVENTORY, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	pages = openat(p->dir_fd, CKPT_FILE_PAGES, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	rc = inv < 0 || pages < 0 ? -errno : io_pwrite_full(inv, h + 1, len - sizeof(*h), 0);
	/* Only its length counts: the pages themselves are in the store. */
	if (!rc && ftruncate(pages, (off_t)p->pages_bytes))
		rc = -errno;
	return rc ? ckpt_fail_errno(err, E_NOMEM, rc, "cannot keep the inventory") : 0;
}

static int take_round(struct peer *p, size_t len, struct ckpt_err *err)
{
	int rc = ckpt_fault("receive.round");

	if (rc)
		return ckpt_fail_errno(err, E_PEER, rc, "fault point receive.round");
	/* Everything before it has been kept, but for what it names. */
	(void)len;
	rc = wire_send_msg(p->link, MIG_ROUND, &p->lost.base);
	lost_free(p);
	return rc ? wire_fail(p->link, &p->buf, rc, err) : 0;
}

static int page_of(void *arg, uint64_t addr, void *data, size_t len)
{
	const struct warm_task *w = arg;

	return restore_warm_has(w, addr, addr + len) ? restore_warm_read(w, addr, data, len)
						     : -ENODATA;
}

static int page_to(void *arg, uint64_t addr, const void *data, size_t len)
{
	const struct warm_task *w = arg;

	return restore_warm_has(w, addr, addr + len) ? restore_warm_write(w, addr, data, len)
						     : -ENODATA;
}

/* Its memory is to be as the source said. What came before it was made can go there by now. */
static int place(struct peer *p, struct warm_task *w, const Ckpt__Mm *mm, struct ckpt_err *err)
{
	int rc = restore_warm_map(&p->restore, w, mm, err);

	if (rc || w->placed)
		return rc;
	w->placed = true;
	rc = store_heat(&p->store, (uint32_t)w->pid, page_to, w);
	return rc ? ckpt_fail_errno(err, E_NOMEM, rc, "cannot fill the memory of task %d", w->pid)
		  : 0;
}

/* A task-to-be is ended: what it has is kept, if the program's process goes on. */
static int task_gone(void *arg, const struct warm_task *w, bool lives, struct ckpt_err *err)
{
	struct peer *p = arg;
	int rc = 0;

	if (lives)
		rc = store_cool(&p->store, (uint32_t)w->pid, page_of, (void *)w);
	else
		store_forget_task(&p->store, (uint32_t)w->pid);
	return rc ? ckpt_fail_errno(err, E_NOMEM, rc, "cannot keep the memory of task %d", w->pid)
		  : 0;
}

static int take_tree(struct peer *p, size_t len, struct ckpt_err *err)
{
	if (p->tree)
		ckpt__mig_tree__free_unpacked(p->tree, NULL);
	p->tree = ckpt__mig_tree__unpack(NULL, len, p->buf.data);
	return p->tree && p->tree->n_tasks && p->tree->tasks[0]->pid == p->root
		       ? 0
		       : peer_bad_frame(p, err, "a broken tree");
}

static int take_space(struct peer *p, size_t len, struct ckpt_err *err)
{
	Ckpt__Mm *mm = ckpt__mm__unpack(NULL, len, p->buf.data);
	Ckpt__Mm **at = mm ? vec_push(&p->spaces) : NULL;

	if (at)
		*at = mm;
	else if (mm)
		ckpt__mm__free_unpacked(mm, NULL);
	return at ? 0 : peer_bad_frame(p, err, "a broken address space");
}

static int take_share(struct peer *p, size_t len, struct ckpt_err *err)
{
	Ckpt__MigShare *m = ckpt__mig_share__unpack(NULL, len, p->buf.data);
	int rc = 0;

	if (!m || !m->number || m->number > MIG_SHARES_MAX || m->bytes > MIG_SHARE_BYTES) {
		rc = peer_bad_frame(p, err, "broken shared memory");
	} else if (m->gone) {
		restore_early_drop(&p->restore, m->number);
		store_forget_task(&p->store, MIG_SHARED | m->number);
	} else {
		if (m->state)
			rc = restore_early_make(&p->restore, m->number, m->state, err);
		if (!rc)
			rc = restore_early_grow(&p->restore, m->number, m->bytes, err);
	}
	if (m)
		ckpt__mig_share__free_unpacked(m, NULL);
	return rc;
}

static void spaces_free(struct peer *p)
{
	for (size_t i = 0; i < p->spaces.n; i++)
		ckpt__mm__free_unpacked(p->spaces.v[i], NULL);
	vec_free(&p->spaces);
	p->spaces.n = 0;
	if (p->tree)
		ckpt__mig_tree__free_unpacked(p->tree, NULL);
	p->tree = NULL;
}

static int follow_tree(struct peer *p, struct ckpt_err *err)
{
	const Ckpt__MigTree *tree = p->tree;
	auto_free enum warm_wish *wish = calloc(tree->n_tasks, sizeof(*wish));
	auto_free int *heir_of = calloc(tree->n_tasks, sizeof(*heir_of));
	struct warm_follow f = {
		.wish = wish, .heir_of = heir_of, .grow = true, .gone = task_gone, .arg = p
	};
	struct births b;
	int rc = births_init(&b, tree->n_tasks, err);

	if (!rc && (!wish || !heir_of))
		rc = ckpt_oom(err);
	for (size_t i = 0; !rc && i < b.n; i++) {
		const Ckpt__MigTask *t = tree->tasks[i];

		b.v[i] = (struct birth) { .pid = t->pid,
					  .ppid = t->ppid,
					  .pgid = t->pgid,
					  .sid = t->sid,
					  .exit_signal = t->exit_signal,
					  .lone_sid = t->lone_sid && t->sid,
					  .lone_pgid = t->lone_pgid && t->pgid,
					  .files = t->files,
					  .fs = t->fs };
		heir_of[i] = t->heir_of;
		wish[i] = t->zombie ? WARM_GONE : t->late && i ? WARM_COLD : WARM_WANTED;
		if (t->pid <= 0 || t->pid > 1 << 22 || t->exit_signal < 0 || t->exit_signal > 64)
			rc = peer_bad_frame(p, err, "an impossible process");
	}
	if (!rc)
		rc = births_plan(&b, err);
	f.b = &b;
	if (!rc)
		rc = restore_warm_follow(&p->restore, &f, err);
	births_free(&b);
	return rc;
}

/* Before pages come: be what the source was at the begin of its round. The root comes first, out of
 * the way of its memory and of its children's, so far as known. */
static int follow(struct peer *p, struct ckpt_err *err)
{
	bool root = p->restore.warm != NULL;
	int rc = 0;

	for (size_t i = 0; !root && i < p->spaces.n; i++)
		root = (int)p->spaces.v[i]->id == p->root;
	if (root && !p->restore.warm)
		rc = restore_warm_begin(&p->restore, p->root, p->lone_sid, p->spaces.v, p->spaces.n,
					err);
	if (!rc && root && p->tree)
		rc = follow_tree(p, err);
	for (size_t i = 0; !rc && root && i < p->spaces.n; i++) {
		struct warm_task *w = restore_warm_find(&p->restore, (int)p->spaces.v[i]->id);

		if (w)
			rc = place(p, w, p->spaces.v[i], err);
	}
	spaces_free(p);
	return rc;
}

/* By the pump's thread. */
static int work(void *arg, void *parcel)
{
	struct peer *p = arg;

	return take_pages(p, parcel, &p->pump_err);
}

static int pump_error(struct peer *p, int rc, struct ckpt_err *err)
{
	if (rc)
		*err = p->pump_err;
	return rc;
}

/* Nobody but the caller is at work any more: what comes next may clone, and touches what pages go
 * into. */
static int pump_rest(struct peer *p, struct ckpt_err *err)
{
	return pump_error(p, pump_stop(&p->pump), err);
}

/* What is not pages. */
static int take_other(struct peer *p, enum mig_type type, size_t len, struct ckpt_err *err)
{
	int rc = pump_rest(p, err);

	/* What comes next needs its place. */
	if (!rc && type != MIG_SPACE && type != MIG_TREE && (p->tree || p->spaces.n))
		rc = follow(p, err);
	if (!rc && type == MIG_SAME)
		return peer_take_same(p, p->buf.data, len, err);
	if (!rc)
		rc = peer_settle_heirs(p, err);
	if (rc)
		return rc;
	if (type == MIG_TREE)
		return take_tree(p, len, err);
	if (type == MIG_SPACE)
		return take_space(p, len, err);
	if (type == MIG_SHARE)
		return take_share(p, len, err);
	if (type == MIG_ROUND)
		return take_round(p, len, err);
	if (type == MIG_INVENTORY)
		return take_inventory(p, len, err);
	if (type != MIG_RECORDS)
		return peer_bad_frame(p, err, "what is not due");
	rc = io_pwrite_full(p->records_fd, p->buf.data, len, p->records_bytes);
	p->records_bytes += len;
	return rc ? ckpt_fail_errno(err, E_NOMEM, rc, "cannot keep records") : 0;
}

/* The first pages after something else. */
static int pump_begin(struct peer *p, const struct mig_pages *h, struct ckpt_err *err)
{
	void *each[PUMP_PARCELS];
	int rc;

	for (size_t i = 0; i < PUMP_PARCELS; i++)
		each[i] = &p->frames[i];
	if (p->tree || p->spaces.n) {
		rc = follow(p, err);
		if (rc)
			return rc;
	}
	rc = peer_settle_heirs(p, err);
	if (rc)
		return rc;
	/* Not for the last part, which is small. */
	pump_start(&p->pump, each, h->pid != 0, work, p);
	return 0;
}

static int take_frames(struct peer *p, struct ckpt_err *err)
{
	for (;;) {
		struct peer_frame *f = p->pump.work ? pump_next(&p->pump) : &p->frames[0];
		enum mig_type type;
		int rc = wire_recv(p->link, &f->buf, &type, &f->len, err);

		if (!rc && type == MIG_PAGES && f->len < sizeof(struct mig_pages))
			rc = peer_bad_frame(p, err, "impossible pages");
		if (rc)
			return rc;
		if (type == MIG_PAGES) {
			if (!p->pump.work)
				rc = pump_begin(p, f->buf.data, err);
			if (!rc)
				rc = pump_error(p, pump_put(&p->pump), err);
		} else {
			struct wire_buf other = f->buf;

			f->buf = p->buf;
			p->buf = other;
			rc = take_other(p, type, f->len, err);
			if (!rc && type == MIG_INVENTORY)
				return 0;
		}
		if (rc)
			return rc;
	}
}

int peer_take_all(struct peer *p, struct ckpt_err *err)
{
	int rc = take_frames(p, err);

	/* Whoever cleans up is alone. */
	(void)pump_stop(&p->pump);
	return rc;
}

/* What exists already: its mappings as they are in the end, so that each of them is one. */
int peer_settle(struct peer *p, struct ckpt_err *err)
{
	struct restore_ctx *r = &p->restore;
	const Ckpt__Task *root = r->img->tasks.v[0];
	int rc = 0;

	if (root->pid != p->root || (root->lone_sid ? root->sid : 0) != p->lone_sid)
		return peer_bad_frame(p, err, "another root than it offered");
	rc = restore_warm_settle(r, task_gone, p, err);
	for (size_t i = 0; !rc && i < r->warm->tasks.n; i++) {
		struct warm_task *w = r->warm->tasks.v[i];
		const Ckpt__Task *t = image_task(r->img, w->pid, NULL);

		rc = restore_warm_map(r, w, r->img->mms.v[t->mm - 1], err);
		if (!rc)
			rc = store_warm_runs(&p->store, (uint32_t)w->pid, &w->pages, err);
	}
	return rc;
}

void peer_intake_free(struct peer *p)
{
	(void)pump_stop(&p->pump);
	for (size_t i = 0; i < PUMP_PARCELS; i++)
		wire_buf_free(&p->frames[i].buf);
	lost_free(p);
	spaces_free(p);
	free(p->raw);
	free(p->base);
}
