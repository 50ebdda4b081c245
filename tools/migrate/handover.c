// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who runs it from now on. The source writes down what it is about to do, lets nothing run on its
 * own if it dies, takes the connections and addresses away, and asks the peer to go on; what
 * happens when an answer is missing, and how a later command settles it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "kern/hold.h"
#include "kern/netlock.h"
#include "kern/procfs.h"
#include "kind/fd/tcprepair.h"
#include "migrate/hook.h"
#include "migrate/source.h"

#define END_WAIT_US 5000000u

/* ---- the network of a tree that leaves ---------------------------------------------------- */

static struct hook hook_of(const struct decision *d, const char *peer)
{
	return (struct hook) {
		.path = *d->hook ? d->hook : NULL,
		.timeout_ms = d->hook_timeout_ms,
		.side = "source",
		.id = d->id,
		.peer = peer,
		.pid = d->pids.n ? d->pids.v[0].pid : 0,
		.addrs = d->addrs.v,
		.naddrs = d->addrs.n,
	};
}

static void hook_warn(struct ckpt_ui *ui, const struct decision *d, const char *peer,
		      const char *point)
{
	struct hook h = hook_of(d, peer);
	struct ckpt_err err = { 0 };

	if (hook_run(&h, point, &err))
		ui_warn(ui, "%s", err.msg);
}

static int addresses_leave(const struct decision *d, struct ckpt_err *err)
{
	char text[NETADDR_TEXT_MAX];

	for (size_t i = 0; i < d->addrs.n; i++) {
		int rc = netaddr_remove(&d->addrs.v[i]);

		netaddr_print(&d->addrs.v[i], text);
		if (rc)
			return ckpt_fail_errno(err, E_ADDRESS, rc, "cannot remove %s", text);
	}
	return 0;
}

static void addresses_back(struct ckpt_ui *ui, const struct decision *d)
{
	auto_fd fd = d->addrs.n ? netaddr_announcer() : -1;
	char text[NETADDR_TEXT_MAX];

	for (size_t i = 0; i < d->addrs.n; i++) {
		const struct netaddr *a = &d->addrs.v[i];
		int rc = netaddr_add(a);

		netaddr_print(a, text);
		if (rc)
			ui_warn(ui, "cannot put %s back: %s", text, strerror(-rc));
		(void)netaddr_announce(fd, a);
	}
}

/* Its packets are dropped by a table that outlives us, then its addresses go. */
static int network_leave(struct source *s, struct ckpt_err *err)
{
	const struct decision *d = &s->decision;
	struct hook h = hook_of(d, s->link.peer);
	int rc = *d->lock ? dump_net_keep(&s->dump, d->lock, err) : 0;

	if (!rc)
		rc = ckpt_fault_fail("migrate.locked", E_PEER, err);
	if (!rc)
		rc = addresses_leave(d, err);
	if (!rc)
		rc = ckpt_fault_fail("migrate.unaddressed", E_PEER, err);
	return rc ? rc : hook_run(&h, "leave", err);
}

/* All that network_leave() may have done; the program goes on here next. */
static void network_back(struct ckpt_ui *ui, const struct decision *d, const char *peer)
{
	addresses_back(ui, d);
	hook_warn(ui, d, peer, "back");
	if (*d->lock)
		(void)netlock_remove(NULL, d->lock);
}

/* Its sockets are gone. Where nobody said how addresses move, they may still be here: then the
 * kernel would answer its peers with a reset. */
static bool network_left(struct ckpt_ui *ui, const struct decision *d, const char *peer)
{
	bool stays = *d->lock && !d->addrs.n && !*d->hook;

	hook_warn(ui, d, peer, "left");
	if (stays)
		ui_warn(ui,
			"the network lock %s stays here: when the address has moved, nft delete "
			"table inet %s",
			d->lock, d->lock);
	else if (*d->lock)
		(void)netlock_remove(NULL, d->lock);
	return stays;
}

/* ---- the decision --------------------------------------------------------------------------- */

static int decision_fill(struct source *s, struct ckpt_err *err)
{
	struct decision *d = &s->decision;

	decision_id(s->id, d->id);
	(void)snprintf(d->to, sizeof(d->to), "%s", s->opts->to);
	(void)snprintf(d->key, sizeof(d->key), "%s", s->opts->auth.key ? s->opts->auth.key : "");
	d->insecure = s->opts->auth.insecure;
	if (dump_net_any(&s->dump))
		netlock_name(s->id, d->lock);
	for (size_t i = 0; i < s->dump.target.tasks.n; i++) {
		const struct target_task *t = &s->dump.target.tasks.v[i];

		if (!t->zombie && decision_add(d, t->pid, t->threads.v[0].group_stopped, err))
			return err->code;
	}
	return 0;
}

/* Nothing of it runs on when we die. Written down before, so that somebody can undo it. */
static int stop_for_good(struct source *s, struct ckpt_err *err)
{
	int rc = decision_fill(s, err);

	if (!rc)
		rc = decision_write(&s->decision, err);
	if (!rc)
		rc = ckpt_fault_fail("migrate.recorded", E_PEER, err);
	for (size_t i = 0; !rc && i < s->decision.pids.n; i++) {
		rc = hold_pend(s->decision.pids.v[i].pid);
		if (rc)
			(void)ckpt_fail_errno(err, E_FREEZE, rc, "cannot stop task %d",
					      s->decision.pids.v[i].pid);
	}
	if (!rc)
		rc = ckpt_fault_fail("migrate.stopped", E_PEER, err);
	if (!rc)
		rc = network_leave(s, err);
	s->decision.run_sent = true;
	return rc ? rc : decision_write(&s->decision, err);
}

/* It goes on here: the peer has no copy that will ever run. */
static void resume_here(struct source *s)
{
	network_back(s->ui, &s->decision, s->link.peer);
	s->prepared = false; /* "back" has been run */
	for (size_t i = 0; i < s->decision.pids.n; i++)
		if (!s->decision.pids.v[i].stopped)
			(void)hold_take_back(s->decision.pids.v[i].pid);
	dump_net_unlock(&s->dump);
	target_thaw(&s->dump.target, TARGET_RUN);
	decision_remove(s->decision.id);
}

/* Ask for the verdict. The link stays open: DONE is to follow once the answer is acted upon. */
static int ask_peer(const char *hex, const char *to, const struct link_auth *auth, struct link *l,
		    Ckpt__MigState *ret, struct ckpt_err *err)
{
	Ckpt__MigAsk ask = CKPT__MIG_ASK__INIT;
	Ckpt__MigVerdict *v = NULL;
	Ckpt__MigHello *hello = NULL;
	struct wire_buf buf = { 0 };
	uint8_t id[MIG_ID_BYTES];
	int rc = link_connect(to, auth, l, err);

	if (rc)
		return rc;
	if (!decision_id_parse(hex, id))
		rc = ckpt_fail(err, E_USAGE, -EINVAL, "%s names no migration", hex);
	if (!rc && !(hello = wire_hello(l, &buf, true, err)))
		rc = err->code;
	ask.id.data = id;
	ask.id.len = sizeof(id);
	if (!rc && (rc = wire_send_msg(l, MIG_ASK, &ask.base)))
		rc = wire_fail(l, &buf, rc, err);
	if (!rc && !(v = wire_expect(l, &buf, MIG_VERDICT, &ckpt__mig_verdict__descriptor, err)))
		rc = err->code;
	if (!rc && v->state != CKPT__MIG_STATE__MIG_STATE_RUNNING &&
	    v->state != CKPT__MIG_STATE__MIG_STATE_DROPPED)
		rc = ckpt_fail(err, E_PEER, -EPROTO, "%s gives no verdict", l->peer);
	if (!rc)
		*ret = v->state;
	if (v)
		ckpt__mig_verdict__free_unpacked(v, NULL);
	if (hello)
		ckpt__mig_hello__free_unpacked(hello, NULL);
	wire_buf_free(&buf);
	if (rc)
		link_close(l);
	return rc;
}

/* RUN may have reached the peer or not. Ask until it answers or the time is over. */
static int settle(struct source *s, bool *ret_there, struct ckpt_err *err)
{
	uint64_t end = io_now_us() + s->opts->resolve_us;
	Ckpt__MigState state = CKPT__MIG_STATE__MIG_STATE_UNKNOWN;
	struct ckpt_err why;
	int rc;

	link_close(&s->link);
	for (;;) {
		ckpt_err_clear(&why);
		rc = ask_peer(s->decision.id, s->opts->to, &s->opts->auth, &s->link, &state, &why);
		if (!rc || io_now_us() > end)
			break;
		(void)usleep(50000);
	}
	*ret_there = state == CKPT__MIG_STATE__MIG_STATE_RUNNING;
	if (rc) {
		*err = why;
		(void)ckpt_ctx(err, "nobody knows whether process %d runs there", s->opts->pid);
		(void)ckpt_remedy(err,
				  "it stands still here until the peer can be asked: ckpt migrate "
				  "--resolve %s",
				  s->decision.id);
	}
	return rc;
}

/* All threads have ended, and with them the descriptors. Whether its parent asks for the status of
 * what is left, and when, is not our business. */
static bool has_ended(const struct decision_pid *p)
{
	struct ckpt_err gone = { 0 };
	struct proc_stat st;

	return proc_stat_read(p->pid, &st, &gone) || st.start_time != p->start_time ||
	       (strchr("ZX", st.state) && st.num_threads < 2);
}

/* Wait for the end of all: the kernel closes their sockets on the way. */
static void await_end(const struct decision *d)
{
	uint64_t end = io_now_us() + END_WAIT_US;

	for (size_t i = 0; i < d->pids.n; i++)
		while (!has_ended(&d->pids.v[i]) && io_now_us() < end)
			(void)usleep(200);
}

/* Nobody runs on: the SIGSTOP that waits for them takes a moment where processors are scarce. */
static void await_stop(const struct decision *d)
{
	uint64_t end = io_now_us() + END_WAIT_US;

	for (size_t i = 0; i < d->pids.n; i++) {
		const struct decision_pid *p = &d->pids.v[i];
		struct ckpt_err gone = { 0 };
		struct proc_stat st;

		while (!proc_stat_read(p->pid, &st, &gone) && st.start_time == p->start_time &&
		       !strchr("TtZX", st.state) && io_now_us() < end)
			(void)usleep(200);
	}
}

/* It runs there. Its sockets end without a word, and only then is the way open again. */
static void end_here(struct source *s)
{
	(void)ckpt_fault("migrate.running");
	dump_net_silence(&s->dump, true);
	(void)ckpt_fault("migrate.silent");
	target_thaw(&s->dump.target, TARGET_KILL);
	(void)ckpt_fault("migrate.killed");
	await_end(&s->decision);
	dump_end(&s->dump);
	s->dump_over = true;
	if (network_left(s->ui, &s->decision, s->link.peer))
		memcpy(s->res->network_lock, s->decision.lock, sizeof(s->decision.lock));
	(void)ckpt_fault("migrate.unlocked");
	decision_remove(s->decision.id);
	if (s->link.ops)
		(void)wire_send(&s->link, MIG_DONE, NULL, 0, NULL, 0);
}

int source_hand_over(struct source *s, char *ret_in_doubt, struct ckpt_err *err)
{
	struct ckpt_err first = { 0 };
	bool there = false;
	int rc = stop_for_good(s, err);

	if (rc) {
		resume_here(s);
		return rc;
	}
	rc = ckpt_fault_fail("migrate.decided", E_PEER, &first);
	if (!rc)
		rc = wire_send(&s->link, MIG_RUN, NULL, 0, NULL, 0);
	if (!rc)
		rc = ckpt_fault_fail("migrate.run_sent", E_PEER, &first);
	if (!rc && wire_expect(&s->link, &s->buf, MIG_RUNNING, NULL, &first))
		there = true;
	if (!there) {
		rc = settle(s, &there, err);
		if (rc) {
			/* They stop where they are: the SIGSTOP waits for them. */
			target_thaw(&s->dump.target, TARGET_RUN);
			await_stop(&s->decision);
			memcpy(ret_in_doubt, s->decision.id, sizeof(s->decision.id));
			return rc;
		}
	}
	if (!there) {
		resume_here(s);
		if (first.id == E_NONE)
			return ckpt_fail(err, E_PEER, -ECONNRESET, "the connection to %s was cut",
					 s->opts->to);
		*err = first;
		return err->code;
	}
	s->res->downtime_us = io_now_us() - s->dump.target.frozen_at_us;
	end_here(s);
	return 0;
}

/* ---- afterwards ------------------------------------------------------------------------- */

/* Let it go on, or end it, silently, and wait for that. */
static void act(const struct decision *d, bool there)
{
	for (size_t i = 0; i < d->pids.n; i++) {
		const struct decision_pid *p = &d->pids.v[i];

		if (there && *d->lock && decision_same(p))
			tcp_silence_task(p->pid);
	}
	for (size_t i = 0; i < d->pids.n; i++) {
		const struct decision_pid *p = &d->pids.v[i];

		if (decision_same(p) && (there || !p->stopped))
			(void)kill(p->pid, there ? SIGKILL : SIGCONT);
	}
	if (there)
		await_end(d);
}

int ckpt_migrate_resolve(const char *id, const char *to, const struct link_auth *auth,
			 struct ckpt_ui *ui, enum migrate_outcome *ret, struct ckpt_err *err)
{
	Ckpt__MigState state = CKPT__MIG_STATE__MIG_STATE_DROPPED;
	struct link l = { .rfd = -1, .wfd = -1 };
	struct link_auth recorded = { 0 };
	struct decision d;
	int rc = decision_read(id, &d, err);

	if (!rc && d.run_sent) {
		recorded.key = *d.key ? d.key : NULL;
		recorded.insecure = d.insecure;
		rc = ask_peer(d.id, to ? to : d.to, auth ? auth : &recorded, &l, &state, err);
	}
	if (!rc) {
		*ret = state == CKPT__MIG_STATE__MIG_STATE_RUNNING ? MIGRATE_THERE : MIGRATE_HERE;
		if (*ret == MIGRATE_HERE)
			network_back(ui, &d, d.to);
		act(&d, *ret == MIGRATE_THERE);
		if (*ret == MIGRATE_THERE)
			(void)network_left(ui, &d, d.to);
		decision_remove(d.id);
		if (l.ops)
			(void)wire_send(&l, MIG_DONE, NULL, 0, NULL, 0);
	}
	link_close(&l);
	decision_free(&d);
	return rc;
}
