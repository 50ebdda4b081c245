// SPDX-License-Identifier: GPL-2.0-only
/*
 * From "held, dies with us" to "runs without us": the verdict, the addresses, and the states in
 * between, none of which a kill of ckpt may make permanent.
 */
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/vec.h"
#include "kern/guard.h"
#include "kern/hold.h"
#include "migrate/decision.h"
#include "migrate/peer.h"

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

void peer_announce(struct peer *p)
{
	if (p->naddrs && p->announcer_fd < 0)
		p->announcer_fd = netaddr_announcer();
	for (size_t i = 0; i < p->naddrs; i++)
		(void)netaddr_announce(p->announcer_fd, &p->addrs[i]);
}

void peer_held_done(struct peer *p)
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
	peer_hook_warn(p, "enter");
	peer_announce(p);
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
int peer_let_run(struct peer *p, struct ckpt_err *err)
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
			rc = ckpt_oom(err);
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
	peer_held_done(p);
	return 0;
}
