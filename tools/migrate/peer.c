// SPDX-License-Identifier: GPL-2.0-only
/* The receiving end: keep what comes, build the program, let it run when the source says so. */
#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/sum.h"
#include "base/vec.h"
#include "kern/arch.h"
#include "kern/guard.h"
#include "kern/hold.h"
#include "kern/procfs.h"
#include "migrate/decision.h"
#include "migrate/delta.h"
#include "migrate/hook.h"
#include "migrate/migrate.h"
#include "migrate/preflight.h"
#include "migrate/store.h"
#include "migrate/wire.h"
#include "restore/restore.h"

struct peer {
	struct link *link;
	const struct receive_opts *opts;
	struct ckpt_ui *ui;
	struct wire_buf buf;
	char id[2 * MIG_ID_BYTES + 1];
	int dir_fd, records_fd;
	uint64_t records_bytes, pages_bytes;
	uint64_t memory_bytes;
	struct store store;
	void *raw, *base;    /* decompressed pages; what they differ from */
	Ckpt__MigRound lost; /* since the last round */
	struct restore_ctx restore;
	struct ckpt_restore_opts restore_opts;
	char path[64];
	int root, lone_sid;  /* as the source said */
	Ckpt__MigTree *tree; /* as it was said last, not yet followed */
	struct {
		Ckpt__Mm **v;
		size_t n, cap;
	} spaces;                                 /* the same of address spaces */
	struct netaddr addrs[MOVE_ADDRESSES_MAX]; /* that come with it */
	size_t naddrs;
	int held_fd;   /* while we are at work on held processes */
	bool track;    /* a tracking session begins here */
	bool prepared; /* the script was told, and has not heard the end */
};

static int fail_frame(struct peer *p, struct ckpt_err *err, const char *what)
{
	return ckpt_fail(err, E_PEER, -EBADMSG, "%s sends %s", p->link->peer, what);
}

/* A memory file system without a name: the image lives there, and ends with us. */
static int make_dir(struct peer *p, struct ckpt_err *err)
{
	auto_fd fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return ckpt_fail_errno(err, E_PERM, -errno, "cannot make a memory file system");
	p->dir_fd = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (p->dir_fd < 0)
		return ckpt_fail_errno(err, E_PERM, -errno, "cannot mount a memory file system");
	(void)snprintf(p->path, sizeof(p->path), "/proc/self/fd/%d", p->dir_fd);
	p->records_fd =
		openat(p->dir_fd, CKPT_FILE_RECORDS, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (p->records_fd < 0)
		return ckpt_fail_errno(err, E_NOMEM, -errno, "cannot make a memory file");
	return 0;
}

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

static int lost_add(struct peer *p, const struct mig_pages *h, struct ckpt_err *err)
{
	Ckpt__MigRun *run = kind_msg_new(&ckpt__mig_run__descriptor);

	if (!run || kind_push(&p->lost.n_lost, &p->lost.lost, run))
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	run->pid = h->pid;
	run->addr = h->addr;
	run->npages = h->npages;
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
	rc = lost_add(p, h, err);
	return rc ? rc : 1;
}

static int take_pages(struct peer *p, size_t len, struct ckpt_err *err)
{
	const struct mig_pages *h = p->buf.data;
	const char *data = (const char *)(h + 1);
	const struct warm_task *w;
	uint64_t bytes, sum = 0;
	size_t head = 0; /* in front of what LZ4 packed */
	int n;

	if (len < sizeof(*h) || h->bytes != len - sizeof(*h) || !h->npages ||
	    h->npages > MIG_PAGES_MAX || h->addr % CKPT_PAGE || h->coding >= MIG_CODINGS ||
	    h->addr >= 1ull << 47 || h->pid > 1u << 22)
		return fail_frame(p, err, "impossible pages");
	bytes = (uint64_t)h->npages * CKPT_PAGE;
	if (h->coding == MIG_XOR) {
		head = sizeof(sum);
		if (h->bytes < head || !h->pid)
			return fail_frame(p, err, "differences to nothing");
		memcpy(&sum, data, sizeof(sum));
	}
	if (h->coding == MIG_LZ4 || h->coding == MIG_XOR) {
		n = LZ4_decompress_safe(data + head, p->raw, (int)(h->bytes - head), (int)bytes);
		if (n != (int)bytes)
			return fail_frame(p, err, "pages that do not unpack");
		data = p->raw;
	} else if (h->bytes != (h->coding == MIG_ZERO ? 0 : bytes)) {
		return fail_frame(p, err, "pages of another length");
	}
	if (h->coding == MIG_XOR && (n = take_xor(p, h, sum, err)))
		return n < 0 ? n : 0;
	if (h->coding == MIG_ZERO)
		data = NULL;
	p->memory_bytes += bytes;
	w = h->pid && data ? restore_warm_find(&p->restore, (int)h->pid) : NULL;
	if (w && restore_warm_has(w, h->addr, h->addr + bytes)) {
		int rc = restore_warm_write(w, h->addr, data, bytes);

		return rc ? ckpt_fail_errno(err, E_NOMEM, rc, "cannot write to task %u", h->pid)
			  : store_note(&p->store, h->pid, h->addr, h->npages, err);
	}
	if (h->pid)
		return store_put(&p->store, h->pid, h->addr, h->npages, data, err);
	if (!data)
		return 0; /* holes of the page file read as zeros */
	return store_put_final(&p->store, h->addr, h->npages, data, err);
}

static int take_inventory(struct peer *p, size_t len, struct ckpt_err *err)
{
	const struct mig_inventory *h = p->buf.data;
	auto_fd inv = -1;
	auto_fd pages = -1;
	int rc;

	if (len < sizeof(*h) || h->pages_bytes > STORE_ROUNDS)
		return fail_frame(p, err, "an impossible inventory");
	p->pages_bytes = h->pages_bytes;
	inv = openat(p->dir_fd, CKPT_FILE_INVENTORY, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	pages = openat(p->dir_fd, CKPT_FILE_PAGES, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	rc = inv < 0 || pages < 0 ? -errno : io_pwrite_full(inv, h + 1, len - sizeof(*h), 0);
	/* Only its length counts: the pages themselves are in the store. */
	if (!rc && ftruncate(pages, (off_t)p->pages_bytes))
		rc = -errno;
	return rc ? ckpt_fail_errno(err, E_NOMEM, rc, "cannot keep the inventory") : 0;
}

static int hook_tell(struct peer *p, const char *point, struct ckpt_err *err)
{
	struct hook h = {
		.path = p->opts->hook,
		.timeout_ms = p->opts->hook_timeout_ms,
		.side = "peer",
		.id = p->id,
		.peer = p->link->peer,
		.pid = p->restore.root,
		.addrs = p->addrs,
		.naddrs = p->naddrs,
	};

	return hook_run(&h, point, err);
}

static void hook_warn(struct peer *p, const char *point)
{
	struct ckpt_err err = { 0 };

	if (hook_tell(p, point, &err))
		ui_warn(p->ui, "%s", err.msg);
}

/* The script may have a reason of its own. */
static int offer_prepare(struct peer *p, const Ckpt__MigOffer *offer, Ckpt__MigAnswer *a)
{
	struct ckpt_err why = { 0 };
	int n = preflight_addresses(offer, p->addrs);

	p->naddrs = n > 0 ? (size_t)n : 0;
	if (a->n_blockers || offer->check_only)
		return 0;
	p->prepared = true;
	return hook_tell(p, "prepare", &why) ? preflight_blocker(a, &why) : 0;
}

static int answer_offer(struct peer *p, const Ckpt__MigOffer *offer, struct ckpt_err *err)
{
	Ckpt__MigAnswer a = CKPT__MIG_ANSWER__INIT;
	size_t n;
	int rc;

	if (offer->id.len != MIG_ID_BYTES)
		return fail_frame(p, err, "an offer without a name");
	decision_id(offer->id.data, p->id);
	p->root = offer->root;
	p->lone_sid = offer->lone_sid;
	p->track = offer->track;
	rc = preflight_check(offer, p->opts->hook != NULL, p->opts->keep_image, &a, err);
	if (!rc && offer_prepare(p, offer, &a))
		rc = ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	if (rc)
		return rc;
	n = a.n_blockers;
	rc = wire_send_msg(p->link, MIG_ANSWER, &a.base);
	preflight_answer_free(&a);
	if (rc)
		return wire_fail(p->link, &p->buf, rc, err);
	if (n)
		return ckpt_fail(err, E_PEER, -EOPNOTSUPP, "%zu thing%s stop%s this migration here",
				 n, n == 1 ? "" : "s", n == 1 ? "s" : "");
	return 0;
}

static void lost_free(struct peer *p)
{
	for (size_t i = 0; i < p->lost.n_lost; i++)
		ckpt__mig_run__free_unpacked(p->lost.lost[i], NULL);
	free(p->lost.lost);
	p->lost.lost = NULL;
	p->lost.n_lost = 0;
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
		       : fail_frame(p, err, "a broken tree");
}

static int take_space(struct peer *p, size_t len, struct ckpt_err *err)
{
	Ckpt__Mm *mm = ckpt__mm__unpack(NULL, len, p->buf.data);
	Ckpt__Mm **at = mm ? vec_push(&p->spaces) : NULL;

	if (at)
		*at = mm;
	else if (mm)
		ckpt__mm__free_unpacked(mm, NULL);
	return at ? 0 : fail_frame(p, err, "a broken address space");
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
	struct warm_follow f = { .wish = wish, .grow = true, .gone = task_gone, .arg = p };
	struct births b;
	int rc = births_init(&b, tree->n_tasks, err);

	if (!rc && !wish)
		rc = ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
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
		wish[i] = t->zombie ? WARM_GONE : t->late && i ? WARM_COLD : WARM_WANTED;
		if (t->pid <= 0 || t->pid > 1 << 22 || t->exit_signal < 0 || t->exit_signal > 64)
			rc = fail_frame(p, err, "an impossible process");
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

/* Everything until the inventory is here. */
static int take_all(struct peer *p, struct ckpt_err *err)
{
	for (;;) {
		enum mig_type type;
		size_t len;
		int rc = wire_recv(p->link, &p->buf, &type, &len, err);

		if (rc)
			return rc;
		/* What comes next needs its place. */
		if (type != MIG_SPACE && type != MIG_TREE && (p->tree || p->spaces.n)) {
			rc = follow(p, err);
			if (rc)
				return rc;
		}
		if (type == MIG_PAGES) {
			rc = take_pages(p, len, err);
		} else if (type == MIG_TREE) {
			rc = take_tree(p, len, err);
		} else if (type == MIG_SPACE) {
			rc = take_space(p, len, err);
		} else if (type == MIG_ROUND) {
			rc = take_round(p, len, err);
		} else if (type == MIG_RECORDS) {
			rc = io_pwrite_full(p->records_fd, p->buf.data, len, p->records_bytes);
			if (rc)
				(void)ckpt_fail_errno(err, E_NOMEM, rc, "cannot keep records");
			p->records_bytes += len;
		} else if (type == MIG_INVENTORY) {
			return take_inventory(p, len, err);
		} else {
			rc = fail_frame(p, err, "what is not due");
		}
		if (rc)
			return rc;
	}
}

/* What exists already: its mappings as they are in the end, so that each of them is one. */
static int settle(struct peer *p, struct ckpt_err *err)
{
	struct restore_ctx *r = &p->restore;
	const Ckpt__Task *root = r->img->tasks.v[0];
	int rc = 0;

	if (root->pid != p->root || (root->lone_sid ? root->sid : 0) != p->lone_sid)
		return fail_frame(p, err, "another root than it offered");
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

static int build(struct peer *p, struct ckpt_err *err)
{
	struct restore_ctx *r = &p->restore;
	int rc;

	rc = image_read_kept(r->img, p->path, err);
	if (!rc && r->warm)
		rc = settle(p, err);
	if (!rc)
		rc = store_resolve(&p->store, r->img, err);
	if (!rc)
		rc = restore_plan_image(r, err);
	if (!rc && (rc = ckpt_fault("receive.planned")))
		rc = ckpt_fail_errno(err, E_RESTORE, rc, "fault point receive.planned");
	if (!rc)
		rc = restore_build(r, err);
	if (rc && err->id == E_PID_TAKEN)
		(void)ckpt_remedy(err,
				  "stop it there, or run ckpt receive in a pid namespace of its "
				  "own: unshare -fp --mount-proc ckpt receive …");
	return rc;
}

static bool is_main(const struct task_slot *ts)
{
	return ts->thread && ts->thread == ts->task->threads[0];
}

static void addresses_enter(struct peer *p)
{
	char text[NETADDR_TEXT_MAX];

	for (size_t i = 0; i < p->naddrs; i++) {
		int rc = netaddr_add(&p->addrs[i]);

		netaddr_print(&p->addrs[i], text);
		if (rc)
			ui_warn(p->ui, "cannot give this node the address %s: %s", text,
				strerror(-rc));
	}
}

static void addresses_announce(const struct peer *p)
{
	for (size_t i = 0; i < p->naddrs; i++)
		(void)netaddr_announce(&p->addrs[i]);
}

static void held_done(struct peer *p)
{
	held_remove(p->id);
	if (p->held_fd >= 0)
		(void)close(p->held_fd);
	p->held_fd = -1;
}

struct entering {
	struct peer *p;
	Ckpt__MigState verdict;
	bool entered, again;
	int rc;
	struct ckpt_err err;
};

/*
 * The verdict, and what follows from it. A kill of ckpt does not reach this: the connections would
 * be mute for good, and the address nowhere.
 */
static int enter_guarded(void *arg)
{
	struct entering *e = arg;
	struct peer *p = e->p;

	if (e->verdict != CKPT__MIG_STATE__MIG_STATE_RUNNING) {
		e->rc = verdict_make(p->id, CKPT__MIG_STATE__MIG_STATE_RUNNING, &e->verdict,
				     &e->err);
		if (e->rc || e->verdict != CKPT__MIG_STATE__MIG_STATE_RUNNING)
			return 0;
	}
	if (!e->again)
		(void)ckpt_fault("receive.entering");
	addresses_enter(p);
	hook_warn(p, "enter");
	addresses_announce(p);
	if (!e->again)
		(void)ckpt_fault("receive.addressed");
	restore_net_open(&p->restore);
	e->entered = true;
	return 0;
}

/* Somebody may kill the helper, too. */
static int enter(struct peer *p, struct ckpt_err *err)
{
	struct entering e = { .p = p };

	if (guard_run(enter_guarded, &e) && !e.entered) {
		e.again = true;
		(void)enter_guarded(&e);
	}
	if (e.rc) {
		*err = e.err;
		return e.rc;
	}
	if (e.verdict == CKPT__MIG_STATE__MIG_STATE_RUNNING)
		return 0;
	return ckpt_fail(err, E_PEER, -ECANCELED, "the source was told that this copy is dropped");
}

/*
 * From "held, dies with us" to "runs without us" through a state in which our death stops it
 * but neither kills it nor lets it run: only the verdict decides between the two.
 */
static int let_run(struct peer *p, struct ckpt_err *err)
{
	struct restore_ctx *r = &p->restore;
	struct decision who = { 0 };
	int rc = 0;

	for (size_t i = 0; !rc && i < r->slots.n; i++)
		if (is_main(&r->slots.v[i]))
			rc = decision_add(&who, r->slots.v[i].slot->tid,
					  r->slots.v[i].task->stopped, err);
	for (size_t i = 0; !rc && i < p->naddrs; i++) {
		struct netaddr *a = vec_push(&who.addrs);

		if (a)
			*a = p->addrs[i];
		else
			rc = ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	}
	if (!rc)
		rc = held_write(p->id, &who, &p->held_fd, err);
	decision_free(&who);
	if (rc)
		return rc;
	for (size_t i = 0; !rc && i < r->slots.n; i++)
		if (is_main(&r->slots.v[i]))
			rc = hold_pend(r->slots.v[i].slot->tid);
	for (size_t i = 0; !rc && i < r->slots.n; i++)
		if (r->slots.v[i].thread &&
		    ptrace(PTRACE_SETOPTIONS, r->slots.v[i].slot->tid, 0, PTRACE_O_TRACESYSGOOD))
			rc = -errno;
	if (!rc)
		rc = ckpt_fault("receive.pended");
	if (rc)
		return ckpt_fail_errno(err, E_RESTORE, rc, "cannot let the program go");
	rc = enter(p, err);
	if (rc)
		return rc;
	(void)ckpt_fault("receive.decided");
	for (size_t i = 0; i < r->slots.n; i++)
		if (is_main(&r->slots.v[i]) && !r->slots.v[i].task->stopped)
			(void)hold_take_back(r->slots.v[i].slot->tid);
	restore_release(r);
	(void)ckpt_fault("receive.released");
	held_done(p);
	return 0;
}

static int serve_offer(struct peer *p, struct receive_result *ret, struct ckpt_err *err)
{
	Ckpt__MigRestored done = CKPT__MIG_RESTORED__INIT;
	struct ckpt_err late = { 0 };
	uint64_t begin;
	int rc;

	rc = store_open(&p->store, err);
	if (!rc)
		rc = make_dir(p, err);
	p->raw = malloc(MIG_PAGES_MAX * CKPT_PAGE);
	p->base = malloc(MIG_PAGES_MAX * CKPT_PAGE);
	if (!rc && (!p->raw || !p->base))
		rc = ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	p->restore_opts = (struct ckpt_restore_opts) {
		.dir = p->path,
		.detach = true,
		.addresses_later = p->naddrs || p->opts->hook,
	};
	if (!rc)
		rc = restore_begin(&p->restore, &p->restore_opts, p->ui, err);
	if (!rc)
		rc = take_all(p, err);
	begin = io_now_us();
	if (!rc)
		rc = build(p, err);
	if (rc)
		return rc;
	ret->memory_bytes = p->memory_bytes;
	ret->build_us = done.build_us = io_now_us() - begin;
	ret->pid = done.pid = p->restore.root;
	done.processes = p->restore.procs;
	done.warm = p->restore.warm ? (uint32_t)p->restore.warm->tasks.n : 0;
	done.filled_bytes = p->restore.filled;
	if (p->track)
		(void)snprintf(ret->checkpoint, sizeof(ret->checkpoint), "%s/%d-%.8s",
			       p->opts->keep_image, ret->pid, p->id);
	done.checkpoint = ret->checkpoint;
	rc = hook_tell(p, "ready", err);
	if (rc) {
		restore_drop(&p->restore);
		return rc;
	}
	rc = ckpt_fault("receive.restored");
	if (!rc)
		rc = wire_send_msg(p->link, MIG_RESTORED, &done.base);
	if (rc)
		rc = wire_fail(p->link, &p->buf, rc, err);
	else if (!wire_expect(p->link, &p->buf, MIG_RUN, NULL, err))
		rc = err->code;
	if (!rc)
		rc = let_run(p, err);
	if (rc) {
		restore_drop(&p->restore);
		held_done(p);
		return rc;
	}
	p->restore.root = 0;
	p->prepared = false;
	/* It runs. Whether the source heard it or not changes nothing here. */
	ret->outcome = RECEIVE_UNCONFIRMED;
	if (!wire_send(p->link, MIG_RUNNING, NULL, 0, NULL, 0) &&
	    wire_expect(p->link, &p->buf, MIG_DONE, NULL, &late)) {
		ret->outcome = RECEIVE_RUNS;
		verdict_remove(p->id);
	}
	/* Once more, now that nobody there answers for it. */
	addresses_announce(p);
	return 0;
}

/* A source in doubt. Without a verdict so far, there will never be one to run. */
static int serve_ask(struct peer *p, const Ckpt__MigAsk *ask, struct receive_result *ret,
		     struct ckpt_err *err)
{
	Ckpt__MigVerdict v = CKPT__MIG_VERDICT__INIT;
	struct ckpt_err late = { 0 };
	int rc;

	if (ask->id.len != MIG_ID_BYTES)
		return fail_frame(p, err, "a question about nothing");
	decision_id(ask->id.data, p->id);
	rc = verdict_make(p->id, CKPT__MIG_STATE__MIG_STATE_DROPPED, &v.state, err);
	if (rc)
		return rc;
	held_settle(p->id, v.state == CKPT__MIG_STATE__MIG_STATE_RUNNING);
	rc = wire_send_msg(p->link, MIG_VERDICT, &v.base);
	if (rc)
		return wire_fail(p->link, &p->buf, rc, err);
	ret->outcome = RECEIVE_ANSWERED;
	/* The source has ended its copy. A verdict to drop stays: RUN may still be on its way. */
	if (v.state == CKPT__MIG_STATE__MIG_STATE_RUNNING &&
	    wire_expect(p->link, &p->buf, MIG_DONE, NULL, &late)) {
		verdict_remove(p->id);
		ret->outcome = RECEIVE_RUNS;
	}
	return 0;
}

static int serve(struct peer *p, struct receive_result *ret, struct ckpt_err *err)
{
	Ckpt__MigHello *hello = wire_hello(p->link, &p->buf, false, err);
	enum mig_type type;
	size_t len;
	int rc;

	if (!hello)
		return err->code;
	ckpt__mig_hello__free_unpacked(hello, NULL);
	rc = wire_recv(p->link, &p->buf, &type, &len, err);
	if (rc)
		return rc;
	if (type == MIG_OFFER) {
		Ckpt__MigOffer *offer = ckpt__mig_offer__unpack(NULL, len, p->buf.data);

		rc = offer ? answer_offer(p, offer, err) : fail_frame(p, err, "a broken offer");
		if (offer)
			ckpt__mig_offer__free_unpacked(offer, NULL);
		return rc ? rc : serve_offer(p, ret, err);
	}
	if (type == MIG_ASK) {
		Ckpt__MigAsk *ask = ckpt__mig_ask__unpack(NULL, len, p->buf.data);

		rc = ask ? serve_ask(p, ask, ret, err) : fail_frame(p, err, "a broken question");
		if (ask)
			ckpt__mig_ask__free_unpacked(ask, NULL);
		return rc;
	}
	return fail_frame(p, err, "no offer");
}

int ckpt_receive(struct link *l, const struct receive_opts *opts, struct ckpt_ui *ui,
		 struct receive_result *ret, struct ckpt_err *err)
{
	struct peer p = { .link = l,
			  .opts = opts,
			  .ui = ui,
			  .dir_fd = -1,
			  .records_fd = -1,
			  .held_fd = -1,
			  .store = { .fd = -1 },
			  .lost = CKPT__MIG_ROUND__INIT };
	int rc;

	memset(ret, 0, sizeof(*ret));
	rc = serve(&p, ret, err);
	if (rc && p.restore.root > 0)
		restore_drop(&p.restore);
	if (p.prepared)
		hook_warn(&p, "drop");
	if (rc)
		wire_send_error(l, err);
	if (p.restore.img)
		restore_end(&p.restore);
	if (p.records_fd >= 0)
		(void)close(p.records_fd);
	if (p.dir_fd >= 0)
		(void)close(p.dir_fd);
	store_close(&p.store);
	lost_free(&p);
	spaces_free(&p);
	free(p.raw);
	free(p.base);
	wire_buf_free(&p.buf);
	if (rc)
		link_linger(l);
	return rc;
}
