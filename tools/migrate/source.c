// SPDX-License-Identifier: GPL-2.0-only
/* The sending end: look, ask, copy while it runs, stop it, copy the rest, hand over. */
#include "migrate/source.h"

#include <errno.h>
#include <lz4.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "kern/hold.h"
#include "kern/procfs.h"
#include "migrate/preflight.h"

#define LZ4_EVERY 64u /* frames between two looks whether packing pays */

void source_event(struct source *s, const struct migrate_event *e)
{
	if (s->opts->event)
		s->opts->event(s->opts->arg, e);
}

/* ---- pages ------------------------------------------------------------------------------ */

/* Packing pays when it saves a third; looked at now and then, for data changes. */
static int pack(struct source *s, const void *data, size_t len)
{
	int n;

	if (!s->opts->compress)
		return 0;
	if (!s->lz4_pays && s->lz4_try++ % LZ4_EVERY)
		return 0;
	n = LZ4_compress_fast(data, s->packed, (int)len,
			      LZ4_compressBound(MIG_PAGES_MAX * CKPT_PAGE), 4);
	s->lz4_pays = n > 0 && (size_t)n < len - len / 3;
	return s->lz4_pays ? n : 0;
}

int source_send_pages(struct source *s, uint32_t pid, uint64_t addr, const void *data,
		      uint32_t npages)
{
	size_t len = (size_t)npages * CKPT_PAGE;
	struct mig_pages h = { .addr = addr, .pid = pid, .npages = npages };
	int rc, n = 0;

	pthread_mutex_lock(&s->lock);
	s->res->pages += npages;
	if (!data) {
		h.coding = MIG_ZERO;
		s->res->zero_pages += npages;
		s->res->saved_zero += len;
	} else if ((n = pack(s, data, len)) > 0) {
		h.coding = MIG_LZ4;
		h.bytes = (uint32_t)n;
		s->res->saved_lz4 += len - (size_t)n;
	} else {
		h.bytes = (uint32_t)len;
	}
	rc = wire_send(&s->link, MIG_PAGES, &h, sizeof(h), n > 0 ? s->packed : data, h.bytes);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* ---- the image goes to the link --------------------------------------------------------- */

static struct source *of_sink(struct image_sink *sink)
{
	return (struct source *)((char *)sink - offsetof(struct source, sink));
}

static int sink_records(struct image_sink *sink, const void *buf, size_t len, struct ckpt_err *err)
{
	struct source *s = of_sink(sink);
	const char *p = buf;

	while (len) {
		size_t n = len < MIG_CHUNK ? len : MIG_CHUNK;
		int rc = wire_send(&s->link, MIG_RECORDS, NULL, 0, p, n);

		if (rc)
			return wire_fail(&s->link, &s->buf, rc, err);
		p += n;
		len -= n;
	}
	return 0;
}

static int sink_pages(struct image_sink *sink, const void *buf, size_t len, uint64_t off)
{
	struct source *s = of_sink(sink);

	while (len) {
		size_t n = len < MIG_PAGES_MAX * CKPT_PAGE ? len : MIG_PAGES_MAX * CKPT_PAGE;
		int rc = source_send_pages(s, 0, off, buf, (uint32_t)(n / CKPT_PAGE));

		if (rc)
			return rc;
		buf = (const char *)buf + n;
		off += n;
		len -= n;
	}
	return 0;
}

static int sink_commit(struct image_sink *sink, const void *inventory, size_t len,
		       uint64_t pages_bytes, struct ckpt_err *err)
{
	struct source *s = of_sink(sink);
	struct mig_inventory h = { .pages_bytes = pages_bytes };
	int rc = wire_send(&s->link, MIG_INVENTORY, &h, sizeof(h), inventory, len);

	return rc ? wire_fail(&s->link, &s->buf, rc, err) : 0;
}

/* ---- before ----------------------------------------------------------------------------- */

struct blockers {
	struct source *s;
	int n;
	struct ckpt_err first;
};

static void found_here(void *arg, const struct ckpt_err *why)
{
	struct blockers *b = arg;

	if (!b->n++)
		b->first = *why;
	if (b->s->opts->blocker)
		b->s->opts->blocker(b->s->opts->arg, why, false);
}

static int offer(struct source *s, struct blockers *b, struct ckpt_err *err)
{
	Ckpt__MigOffer *o = preflight_offer(s->opts->pid, s->id, err);
	Ckpt__MigAnswer *a;
	int rc;

	if (!o)
		return err->code;
	rc = wire_send_msg(&s->link, MIG_OFFER, &o->base);
	ckpt__mig_offer__free_unpacked(o, NULL);
	if (rc)
		return wire_fail(&s->link, &s->buf, rc, err);
	a = wire_expect(&s->link, &s->buf, MIG_ANSWER, &ckpt__mig_answer__descriptor, err);
	if (!a)
		return err->code;
	for (size_t i = 0; i < a->n_blockers; i++) {
		struct ckpt_err why = { 0 };

		wire_error_from(a->blockers[i], s->link.peer, &why);
		if (!b->n++)
			b->first = why;
		if (s->opts->blocker)
			s->opts->blocker(s->opts->arg, &why, true);
	}
	ckpt__mig_answer__free_unpacked(a, NULL);
	return 0;
}

static int prepare(struct source *s, struct ckpt_err *err)
{
	struct blockers b = { .s = s };
	struct ckpt_err look = { 0 };
	Ckpt__MigHello *hello;
	int n = ckpt_dump_check(&s->dump_opts, s->ui, found_here, &b, &look), rc;

	if (n < 0) {
		*err = look;
		return n;
	}
	rc = link_connect(s->opts->to, &s->opts->auth, &s->link, err);
	if (rc)
		return rc;
	s->link.limit = s->opts->bandwidth;
	hello = wire_hello(&s->link, &s->buf, true, err);
	if (!hello)
		return err->code;
	(void)snprintf(s->link.peer, sizeof(s->link.peer), "%s", hello->hostname);
	ckpt__mig_hello__free_unpacked(hello, NULL);
	rc = ckpt_fault_fail("migrate.connected", E_PEER, err);
	if (!rc)
		rc = offer(s, &b, err);
	if (rc)
		return rc;
	if (b.n) {
		*err = b.first;
		if (b.n > 1)
			(void)ckpt_remedy(err,
					  "%d things stop this migration; see them all: ckpt "
					  "migrate --check",
					  b.n);
		return err->code;
	}
	return ckpt_fault_fail("migrate.offered", E_PEER, err);
}

/* ---- the hand-over ---------------------------------------------------------------------- */

static int decision_fill(struct source *s, struct ckpt_err *err)
{
	struct decision *d = &s->decision;

	decision_id(s->id, d->id);
	(void)snprintf(d->to, sizeof(d->to), "%s", s->opts->to);
	(void)snprintf(d->key, sizeof(d->key), "%s", s->opts->auth.key ? s->opts->auth.key : "");
	d->insecure = s->opts->auth.insecure;
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
	s->decision.run_sent = true;
	return rc ? rc : decision_write(&s->decision, err);
}

/* It goes on here: the peer has no copy that will ever run. */
static void resume_here(struct source *s)
{
	for (size_t i = 0; i < s->decision.pids.n; i++)
		if (!s->decision.pids.v[i].stopped)
			(void)hold_take_back(s->decision.pids.v[i].pid);
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

static int hand_over(struct source *s, char *ret_in_doubt, struct ckpt_err *err)
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
	(void)ckpt_fault("migrate.running");
	target_thaw(&s->dump.target, TARGET_KILL);
	(void)ckpt_fault("migrate.killed");
	decision_remove(s->decision.id);
	if (s->link.ops)
		(void)wire_send(&s->link, MIG_DONE, NULL, 0, NULL, 0);
	return 0;
}

static int final(struct source *s, char *ret_in_doubt, struct ckpt_err *err)
{
	struct dump_ctx *d = &s->dump;
	Ckpt__MigRestored *done = NULL;
	uint64_t begin = io_now_us(), before = s->res->pages - s->res->zero_pages;
	int rc;

	s->link.limit = 0;
	s->sink = (struct image_sink) { sink_records, sink_pages, sink_commit };
	rc = dump_begin(d, &s->dump_opts, s->ui, err);
	if (!rc)
		rc = image_create_stream(&d->writer, &s->sink, s->ui, err);
	if (!rc)
		rc = target_freeze(&d->target, s->opts->pid, err);
	if (rc)
		return rc;
	d->tracking = rounds_tracking(s);
	rc = dump_frozen(d, err);
	if (!rc)
		rc = ckpt_fault_fail("migrate.frozen", E_PEER, err);
	if (!rc)
		rc = dump_commit(d, begin, err);
	if (!rc)
		rc = ckpt_fault_fail("migrate.sent", E_PEER, err);
	s->res->freeze_us = d->stats.freeze_us;
	s->res->collect_us = d->stats.collect_us + d->stats.pages_us;
	s->res->final_pages = s->res->pages - s->res->zero_pages - before;
	if (!rc && !(done = wire_expect(&s->link, &s->buf, MIG_RESTORED,
					&ckpt__mig_restored__descriptor, err)))
		rc = err->code;
	if (!rc)
		rc = ckpt_fault_fail("migrate.restored", E_PEER, err);
	if (rc) {
		target_thaw(&d->target, TARGET_RUN);
	} else {
		s->res->build_us = done->build_us;
		s->res->pid = done->pid;
		s->res->bytes = s->link.sent;
		rc = hand_over(s, ret_in_doubt, err);
	}
	if (done)
		ckpt__mig_restored__free_unpacked(done, NULL);
	return rc;
}

int ckpt_migrate(const struct migrate_opts *opts, struct ckpt_ui *ui, struct migrate_result *ret,
		 char *ret_in_doubt, struct ckpt_err *err)
{
	struct source s = { .opts = opts, .ui = ui, .res = ret, .link = { .rfd = -1, .wfd = -1 } };
	uint64_t begin = io_now_us();
	int rc;

	memset(ret, 0, sizeof(*ret));
	pthread_mutex_init(&s.lock, NULL);
	s.dump.writer.dir_fd = s.dump.writer.pages_fd = s.dump.writer.records_fd = -1;
	s.dump_opts = (struct ckpt_dump_opts) {
		.pid = opts->pid,
		.dir = "the stream",
		.end = TARGET_KILL,
		.tcp = opts->tcp,
		.ghost_limit = 64u << 20,
		.threads = (int)sysconf(_SC_NPROCESSORS_ONLN),
	};
	s.packed = malloc((size_t)LZ4_compressBound(MIG_PAGES_MAX * CKPT_PAGE));
	if (!s.packed || getrandom(s.id, sizeof(s.id), 0) != sizeof(s.id))
		rc = ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	else
		rc = prepare(&s, err);
	if (!rc && !opts->check_only)
		rc = rounds_run(&s, err);
	if (!rc && !opts->check_only)
		rc = final(&s, ret_in_doubt, err);
	if (rc && s.link.ops && !*ret_in_doubt)
		wire_send_error(&s.link, err);
	ret->total_us = io_now_us() - begin;
	dump_end(&s.dump);
	rounds_end(&s);
	decision_free(&s.decision);
	link_close(&s.link);
	wire_buf_free(&s.buf);
	free(s.packed);
	pthread_mutex_destroy(&s.lock);
	return rc;
}

/* ---- afterwards ------------------------------------------------------------------------- */

/* Let it go on, or end it and wait for that. */
static void act(const struct decision *d, bool there)
{
	uint64_t end = io_now_us() + 5000000;

	for (size_t i = 0; i < d->pids.n; i++) {
		const struct decision_pid *p = &d->pids.v[i];

		if (decision_same(p) && (there || !p->stopped))
			(void)kill(p->pid, there ? SIGKILL : SIGCONT);
	}
	for (size_t i = 0; there && i < d->pids.n; i++)
		while (decision_same(&d->pids.v[i]) && io_now_us() < end)
			(void)usleep(1000);
}

int ckpt_migrate_resolve(const char *id, const char *to, const struct link_auth *auth,
			 enum migrate_outcome *ret, struct ckpt_err *err)
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
		act(&d, *ret == MIGRATE_THERE);
		decision_remove(d.id);
		if (l.ops)
			(void)wire_send(&l, MIG_DONE, NULL, 0, NULL, 0);
	}
	link_close(&l);
	decision_free(&d);
	return rc;
}
