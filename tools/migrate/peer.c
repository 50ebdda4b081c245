// SPDX-License-Identifier: GPL-2.0-only
/* The receiving end: keep what comes, build the program, let it run when the source says so. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "kern/procfs.h"
#include "migrate/decision.h"
#include "migrate/hook.h"
#include "migrate/peer.h"
#include "migrate/preflight.h"

int peer_bad_frame(struct peer *p, struct ckpt_err *err, const char *what)
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

int peer_hook(struct peer *p, const char *point, struct ckpt_err *err)
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

void peer_hook_warn(struct peer *p, const char *point)
{
	struct ckpt_err err = { 0 };

	if (peer_hook(p, point, &err))
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
	return peer_hook(p, "prepare", &why) ? preflight_blocker(a, &why) : 0;
}

static int answer_offer(struct peer *p, const Ckpt__MigOffer *offer, struct ckpt_err *err)
{
	Ckpt__MigAnswer a = CKPT__MIG_ANSWER__INIT;
	auto_free char *ipc = preflight_ns_name("ipc");
	size_t n;
	int rc;

	if (offer->id.len != MIG_ID_BYTES)
		return peer_bad_frame(p, err, "an offer without a name");
	decision_id(offer->id.data, p->id);
	p->root = offer->root;
	p->lone_sid = offer->lone_sid;
	p->track = offer->track;
	p->same_ipc = ipc && *ipc && !strcmp(ipc, offer->ipc);
	rc = preflight_check(offer, p->opts->hook != NULL, p->opts->keep_image, &a, err);
	if (!rc && offer_prepare(p, offer, &a))
		rc = ckpt_oom(err);
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

static int build(struct peer *p, struct ckpt_err *err)
{
	struct restore_ctx *r = &p->restore;
	int rc;

	rc = image_read_kept(r->img, p->path, err);
	if (!rc && r->warm)
		rc = peer_settle(p, err);
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
		rc = ckpt_oom(err);
	p->restore_opts = (struct ckpt_restore_opts) {
		.dir = p->path,
		.detach = true,
		.addresses_later = p->naddrs || p->opts->hook,
		.ipc_elsewhere = !p->same_ipc,
	};
	if (!rc)
		rc = restore_begin(&p->restore, &p->restore_opts, p->ui, err);
	if (!rc)
		rc = peer_take_all(p, err);
	begin = io_now_us();
	if (rc)
		return rc;
	alive_start(&p->alive, p->link);
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
	rc = peer_hook(p, "ready", err);
	if (rc) {
		restore_drop(&p->restore);
		return rc;
	}
	rc = ckpt_fault("receive.restored");
	alive_stop(&p->alive);
	if (!rc)
		rc = wire_send_msg(p->link, MIG_RESTORED, &done.base);
	if (rc)
		rc = wire_fail(p->link, &p->buf, rc, err);
	else if (!wire_expect(p->link, &p->buf, MIG_RUN, NULL, err))
		rc = err->code;
	if (!rc) {
		alive_start(&p->alive, p->link);
		rc = peer_let_run(p, err);
		alive_stop(&p->alive);
	}
	if (rc) {
		restore_drop(&p->restore);
		peer_held_done(p);
		return rc;
	}
	p->restore.root = 0;
	p->restore.lives = true;
	p->prepared = false;
	/* It runs. Whether the source heard it or not changes nothing here. */
	ret->outcome = RECEIVE_UNCONFIRMED;
	if (!wire_send(p->link, MIG_RUNNING, NULL, 0, NULL, 0) &&
	    wire_expect(p->link, &p->buf, MIG_DONE, NULL, &late)) {
		ret->outcome = RECEIVE_RUNS;
		verdict_remove(p->id);
	}
	/* Once more, now that nobody there answers for it. */
	peer_announce(p);
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
		return peer_bad_frame(p, err, "a question about nothing");
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

		rc = offer ? answer_offer(p, offer, err) : peer_bad_frame(p, err, "a broken offer");
		if (offer)
			ckpt__mig_offer__free_unpacked(offer, NULL);
		return rc ? rc : serve_offer(p, ret, err);
	}
	if (type == MIG_ASK) {
		Ckpt__MigAsk *ask = ckpt__mig_ask__unpack(NULL, len, p->buf.data);

		rc = ask ? serve_ask(p, ask, ret, err)
			 : peer_bad_frame(p, err, "a broken question");
		if (ask)
			ckpt__mig_ask__free_unpacked(ask, NULL);
		return rc;
	}
	return peer_bad_frame(p, err, "no offer");
}

int ckpt_receive(struct link *l, const struct receive_opts *opts, struct ckpt_ui *ui,
		 struct receive_result *ret, struct ckpt_err *err)
{
	struct peer p = { .link = l,
			  .opts = opts,
			  .ui = ui,
			  .dir_fd = -1,
			  .records_fd = -1,
			  .announcer_fd = -1,
			  .held_fd = -1,
			  .store = { .fd = -1 },
			  .lost = CKPT__MIG_ROUND__INIT };
	int rc;

	memset(ret, 0, sizeof(*ret));
	rc = serve(&p, ret, err);
	alive_stop(&p.alive);
	if (rc && p.restore.root > 0)
		restore_drop(&p.restore);
	if (p.prepared)
		peer_hook_warn(&p, "drop");
	if (rc)
		wire_send_error(l, err);
	if (p.restore.img)
		restore_end(&p.restore);
	if (p.records_fd >= 0)
		(void)close(p.records_fd);
	if (p.dir_fd >= 0)
		(void)close(p.dir_fd);
	if (p.announcer_fd >= 0)
		(void)close(p.announcer_fd);
	peer_intake_free(&p);
	store_close(&p.store);
	wire_buf_free(&p.buf);
	if (rc)
		link_linger(l);
	return rc;
}
