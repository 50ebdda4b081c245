// SPDX-License-Identifier: GPL-2.0-only
/* The sending end: look, ask, copy while it runs, stop it, copy the rest. */
#include "migrate/source.h"

#include <errno.h>
#include <lz4.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"
#include "dump/watch.h"
#include "migrate/hook.h"
#include "migrate/preflight.h"

#define LZ4_EVERY 64u /* frames between two looks whether packing pays */
#define LINK_MEMORY (64u << 20)

void source_event(struct source *s, const struct migrate_event *e)
{
	if (s->opts->event)
		s->opts->event(s->opts->arg, e);
}

/* ---- pages ------------------------------------------------------------------------------ */

/* Bytes a second that the link has taken of late; a guess before it was asked. */
static uint64_t link_rate(const struct source *s)
{
	return s->wire_us ? s->wire_bytes * 1000000 / s->wire_us : UINT64_MAX >> 20;
}

static int send_measured(struct source *s, const struct mig_pages *h, const void *data)
{
	uint64_t begin = io_now_us(), us;
	int rc;

	/* Nothing is due from the peer: it has failed, or is gone. wire_fail() asks. */
	if (link_readable(&s->link))
		return -EPIPE;
	rc = wire_send(&s->link, MIG_PAGES, h, sizeof(*h), data, h->bytes);

	us = io_now_us() - begin;
	s->sends_us += us;
	s->wire_bytes += h->bytes + sizeof(*h);
	s->wire_us += us;
	/* What was long ago counts less. */
	if (s->wire_bytes > LINK_MEMORY) {
		s->wire_bytes /= 2;
		s->wire_us /= 2;
	}
	return rc;
}

/* Packing pays when it saves a third and, unless asked for, when the link would take longer for
 * what it saves. Looked at now and then, for data changes. */
static int pack(struct source *s, const void *data, size_t len)
{
	uint64_t begin, us, saved, nth = s->lz4_try;
	int n;

	if (s->opts->pack == MIG_PACK_NONE)
		return 0;
	/* Often at first: how fast the link is shows after some frames. */
	s->lz4_try += !s->lz4_pays;
	if (!s->lz4_pays && nth & (nth - 1) && nth % LZ4_EVERY)
		return 0;
	begin = io_now_us();
	n = LZ4_compress_fast(data, s->packed, (int)len,
			      LZ4_compressBound(MIG_PAGES_MAX * CKPT_PAGE), 4);
	us = io_now_us() - begin;
	s->lz4_pays = n > 0 && (size_t)n < len - len / 3;
	saved = s->lz4_pays ? len - (size_t)n : 0;
	if (s->lz4_pays && s->opts->pack == MIG_PACK_AUTO)
		s->lz4_pays = saved * 1000000 / link_rate(s) > us;
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
	rc = send_measured(s, &h, n > 0 ? s->packed : data);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int source_send_delta(struct source *s, uint32_t pid, uint64_t addr, const void * xor, uint64_t sum,
		      uint32_t npages)
{
	size_t len = (size_t)npages * CKPT_PAGE;
	struct mig_pages h = { .addr = addr, .pid = pid, .npages = npages, .coding = MIG_XOR };
	int rc = 1, n;

	pthread_mutex_lock(&s->lock);
	n = LZ4_compress_fast(xor, s->packed + sizeof(sum), (int)len,
			      LZ4_compressBound(MIG_PAGES_MAX *CKPT_PAGE), 1);
	if (n > 0 && (size_t)n + sizeof(sum) < len / 2) {
		memcpy(s->packed, &sum, sizeof(sum));
		h.bytes = (uint32_t)n + (uint32_t)sizeof(sum);
		s->res->pages += npages;
		s->res->saved_xor += len - h.bytes;
		rc = send_measured(s, &h, s->packed);
	}
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

		if (rc) {
			__atomic_store_n(&s->pages_failed, rc, __ATOMIC_RELAXED);
			return rc;
		}
		buf = (const char *)buf + n;
		off += n;
		len -= n;
	}
	return 0;
}

static int sink_pages_failed(struct image_sink *sink, int rc, struct ckpt_err *err)
{
	struct source *s = of_sink(sink);

	return wire_fail(&s->link, &s->buf, rc, err);
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
	Ckpt__MigOffer *o = preflight_offer(s->opts, s->id, err);
	Ckpt__MigAnswer *a;
	int rc;

	if (!o)
		return err->code;
	rc = preflight_network(s->opts, o, found_here, b, err);
	if (!rc && (rc = wire_send_msg(&s->link, MIG_OFFER, &o->base)))
		rc = wire_fail(&s->link, &s->buf, rc, err);
	ckpt__mig_offer__free_unpacked(o, NULL);
	if (rc)
		return rc;
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

/* The way to the peer must not be taken away with an address. */
static void check_link(struct source *s, struct blockers *b)
{
	struct sockaddr_storage ss = { 0 };
	const struct sockaddr_in *in = (const void *)&ss;
	const struct sockaddr_in6 *in6 = (const void *)&ss;
	socklen_t len = sizeof(ss);
	const uint8_t *addr;
	int family;

	if (getsockname(s->link.rfd, (void *)&ss, &len))
		return;
	family = ss.ss_family;
	addr = family == AF_INET ? (const void *)&in->sin_addr : (const void *)&in6->sin6_addr;
	for (size_t i = 0; i < s->opts->naddrs; i++) {
		const struct netaddr *a = &s->opts->addrs[i];
		char text[NETADDR_TEXT_MAX];
		struct ckpt_err why = { 0 };

		if (a->family != family || memcmp(a->addr, addr, family == AF_INET ? 4 : 16) != 0)
			continue;
		netaddr_print(a, text);
		(void)ckpt_fail(&why, E_ADDRESS, -EBUSY,
				"%s cannot move: the link to the peer itself uses it", text);
		(void)ckpt_remedy(&why, "reach the peer by another address of this node");
		found_here(b, &why);
	}
}

/* What the decision says of the network, known from the start. */
static int decision_begin(struct source *s, struct ckpt_err *err)
{
	struct decision *d = &s->decision;

	decision_id(s->id, d->id);
	(void)snprintf(d->hook, sizeof(d->hook), "%s", s->opts->hook ? s->opts->hook : "");
	d->hook_timeout_ms = s->opts->hook_timeout_ms;
	for (size_t i = 0; i < s->opts->naddrs; i++) {
		struct netaddr *a = vec_push(&d->addrs);

		if (!a)
			return ckpt_oom(err);
		*a = s->opts->addrs[i];
		a->dev[0] = 0;
		if (netaddr_find(a, true, a->dev))
			return ckpt_fail(err, E_ADDRESS, -EADDRNOTAVAIL,
					 "an address that moves has gone meanwhile");
	}
	return 0;
}

static int hook_tell(struct source *s, const char *point, struct ckpt_err *err)
{
	struct hook h = {
		.path = s->opts->hook,
		.timeout_ms = s->opts->hook_timeout_ms,
		.side = "source",
		.id = s->decision.id,
		.peer = s->link.peer,
		.pid = s->opts->pid,
		.addrs = s->decision.addrs.v,
		.naddrs = s->decision.addrs.n,
	};

	return hook_run(&h, point, err);
}

/* Before the first byte of memory: from here on, the script hears how it ends. */
static int hook_prepare(struct source *s, struct ckpt_err *err)
{
	int rc;

	if (s->opts->check_only)
		return 0;
	rc = decision_begin(s, err);
	if (rc)
		return rc;
	s->prepared = true;
	return hook_tell(s, "prepare", err);
}

static int prepare(struct source *s, struct ckpt_err *err)
{
	struct blockers b = { .s = s };
	struct ckpt_err look = { 0 };
	Ckpt__MigHello *hello;
	int n = dump_check(&s->dump_opts, &s->series.iters, s->ui, found_here, &b, &look), rc;

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
	check_link(s, &b);
	if (!rc)
		rc = offer(s, &b, err);
	if (rc)
		return rc;
	if (b.n) {
		*err = b.first;
		if (b.n > 1)
			(void)ckpt_remedy_of_many(err, (size_t)b.n, "migration",
						  "ckpt migrate --check");
		return err->code;
	}
	rc = ckpt_fault_fail("migrate.offered", E_PEER, err);
	return rc ? rc : hook_prepare(s, err);
}

/* Connections that are just being made, or wait to be accepted, are gone in a moment. */
#define BUSY_TRIES 10

static int freeze_for_good(struct source *s, struct ckpt_err *err)
{
	struct dump_ctx *d = &s->dump;
	int rc = dump_begin(d, &s->dump_opts, s->ui, err);

	if (!rc)
		rc = image_create_stream(&d->writer, &s->sink, s->ui, err);
	if (!rc)
		rc = target_freeze(&d->target, s->opts->pid, err);
	if (rc)
		return rc;
	d->tracking = rounds_tracking(s);
	rc = dump_watch_lend(d) ? ckpt_oom(err) : dump_frozen(d, err);
	if (rc) {
		dump_net_unlock(d);
		target_thaw(&d->target, TARGET_RUN);
	}
	return rc;
}

static int freeze_patiently(struct source *s, struct ckpt_err *err)
{
	int rc = freeze_for_good(s, err);

	/* Nothing of it was sent: what is being made is not saved before all was looked at. */
	for (int i = 1; rc == -EAGAIN && err->id == E_TCP && i < BUSY_TRIES; i++) {
		dump_end(&s->dump);
		ckpt_err_clear(err);
		(void)usleep(20000);
		rc = freeze_for_good(s, err);
	}
	return rc;
}

/* A writer knows only that it could not write. The peer may have said why. */
static int final_failed(struct source *s, int rc, struct ckpt_err *err)
{
	int failed = __atomic_load_n(&s->pages_failed, __ATOMIC_RELAXED);

	if (!failed || err->id != E_IMAGE_WRITE)
		return rc;
	ckpt_err_clear(err);
	return wire_fail(&s->link, &s->buf, failed, err);
}

static int final(struct source *s, char *ret_in_doubt, struct ckpt_err *err)
{
	struct dump_ctx *d = &s->dump;
	Ckpt__MigRestored *done = NULL;
	uint64_t begin = io_now_us(), before = s->res->pages - s->res->zero_pages;
	int rc;

	s->link.limit = 0;
	s->sink = (struct image_sink) { sink_records, sink_pages, sink_pages_failed, sink_commit };
	link_hurry(&s->link);
	rc = freeze_patiently(s, err);
	if (rc)
		return final_failed(s, rc, err);
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
		dump_net_unlock(d);
		target_thaw(&d->target, TARGET_RUN);
		rc = final_failed(s, rc, err);
	} else {
		s->res->build_us = done->build_us;
		s->res->pid = done->pid;
		s->res->processes = done->processes;
		s->res->warm = done->warm;
		s->res->filled = done->filled_bytes;
		(void)snprintf(s->res->checkpoint, sizeof(s->res->checkpoint), "%s",
			       done->checkpoint);
		s->res->bytes = s->link.sent;
		rc = source_hand_over(s, ret_in_doubt, err);
	}
	if (done)
		ckpt__mig_restored__free_unpacked(done, NULL);
	return rc;
}

int ckpt_migrate(const struct migrate_opts *opts, struct ckpt_ui *ui, struct migrate_result *ret,
		 char *ret_in_doubt, struct ckpt_err *err)
{
	struct source s = { .opts = opts,
			    .ui = ui,
			    .res = ret,
			    .series.iters = DUMP_ITERS_NONE,
			    .link = { .rfd = -1, .wfd = -1 } };
	uint64_t begin = io_now_us();
	int rc;

	memset(ret, 0, sizeof(*ret));
	pthread_mutex_init(&s.lock, NULL);
	image_writer_init(&s.dump.writer);
	s.dump_opts = (struct ckpt_dump_opts) {
		.pid = opts->pid,
		.dir = "the stream",
		.end = TARGET_KILL,
		.tcp = opts->tcp,
		.ghost_limit = 64u << 20,
		.series = &s.series,
		.threads = (int)sysconf(_SC_NPROCESSORS_ONLN),
	};
	s.packed = malloc((size_t)LZ4_compressBound(MIG_PAGES_MAX * CKPT_PAGE) + sizeof(uint64_t));
	if (!s.packed || getrandom(s.id, sizeof(s.id), 0) != sizeof(s.id))
		rc = ckpt_oom(err);
	else
		rc = prepare(&s, err);
	if (!rc && !opts->check_only)
		rc = source_untrack(&s, err);
	if (!rc && !opts->check_only)
		rc = rounds_run(&s, err);
	if (!rc && !opts->check_only)
		rc = final(&s, ret_in_doubt, err);
	if (rc && s.link.ops && !*ret_in_doubt)
		wire_send_error(&s.link, err);
	ret->total_us = io_now_us() - begin;
	if (!s.dump_over)
		dump_end(&s.dump);
	if (rc && s.prepared && !*ret_in_doubt) {
		struct ckpt_err why = { 0 };

		if (hook_tell(&s, "back", &why))
			ui_warn(ui, "%s", why.msg);
	}
	rounds_end(&s);
	dump_series_end(&s.series);
	decision_free(&s.decision);
	link_close(&s.link);
	wire_buf_free(&s.buf);
	free(s.packed);
	pthread_mutex_destroy(&s.lock);
	return rc;
}
