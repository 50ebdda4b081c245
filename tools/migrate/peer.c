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
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
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
	int root, lone_sid;                       /* as the source said */
	bool warm;                                /* it exists */
	bool cold;                                /* it is not made before all is known */
	struct netaddr addrs[MOVE_ADDRESSES_MAX]; /* that come with it */
	size_t naddrs;
	int held_fd;   /* while we are at work on held processes */
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
	for (uint32_t i = 0; i < h->npages; i++) {
		uint64_t addr = h->addr + (uint64_t)i * CKPT_PAGE;
		int rc = store_read(&p->store, h->pid, addr, to + (size_t)i * CKPT_PAGE);

		if (rc == 1)
			rc = !p->warm || (int)h->pid != p->root ||
					     !restore_warm_has(&p->restore, addr, addr + CKPT_PAGE)
				     ? -ENODATA
				     : restore_warm_read(&p->restore, addr,
							 to + (size_t)i * CKPT_PAGE, CKPT_PAGE);
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
	if (!rc && !ckpt_fault("delta.lost") && XXH3_64bits(raw, bytes) == sum)
		return 0;
	rc = lost_add(p, h, err);
	return rc ? rc : 1;
}

static int take_pages(struct peer *p, size_t len, struct ckpt_err *err)
{
	const struct mig_pages *h = p->buf.data;
	const char *data = (const char *)(h + 1);
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
	if (h->pid && data && p->warm && (int)h->pid == p->root &&
	    restore_warm_has(&p->restore, h->addr, h->addr + bytes)) {
		int rc = restore_warm_write(&p->restore, h->addr, data, bytes);

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
	rc = preflight_check(offer, p->opts->hook != NULL, &a, err);
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

/* The root comes first; out of the way of its memory and of its children's, so far as known. */
static int take_space(struct peer *p, size_t len, struct ckpt_err *err)
{
	Ckpt__Mm *mm = ckpt__mm__unpack(NULL, len, p->buf.data);
	int rc = 0;

	if (!mm)
		return fail_frame(p, err, "a broken address space");
	if ((int)mm->id == p->root && !p->cold) {
		if (!p->warm) {
			p->warm = true;
			rc = restore_warm_begin(&p->restore, p->root, p->lone_sid, &mm, 1, err);
		}
		if (!rc)
			rc = restore_warm_map(&p->restore, mm, err);
	}
	ckpt__mm__free_unpacked(mm, NULL);
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
		if (type == MIG_PAGES) {
			rc = take_pages(p, len, err);
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

static int build(struct peer *p, struct ckpt_err *err)
{
	struct restore_ctx *r = &p->restore;
	int rc;

	rc = image_read_kept(r->img, p->path, err);
	if (!rc && p->warm &&
	    (r->img->tasks.v[0]->pid != p->root ||
	     (r->img->tasks.v[0]->lone_sid ? r->img->tasks.v[0]->sid : 0) != p->lone_sid))
		rc = fail_frame(p, err, "another root than it offered");
	/* All mappings as they are in the end, so that each of them is one. */
	if (!rc && p->warm)
		rc = restore_warm_map(r, r->img->mms.v[r->img->tasks.v[0]->mm - 1], err);
	if (!rc && p->warm)
		rc = store_warm_runs(&p->store, (uint32_t)p->root, &r->warm->pages, err);
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
	free(p.raw);
	free(p.base);
	wire_buf_free(&p.buf);
	return rc;
}
