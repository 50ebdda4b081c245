// SPDX-License-Identifier: GPL-2.0-only
#include "migrate/wire.h"

#include "base/io.h"
#include "base/quiet.h"
#include "base/sum.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <xxhash.h>

#define ALIVE_NS 500000000 /* LINK_STILL_MS is eight times that */

static uint64_t frame_sum(const struct link *l, uint64_t seq, const struct ckpt_frame *f,
			  const void *head, size_t head_len, const void *data, size_t len)
{
	uint64_t sum = (seq + 1) * 0x9e3779b97f4a7c15ull ^ ((uint64_t)f->type << 32 | f->len);

	sum = XXH3_64bits_withSeed(head, head_len, sum);
	if (f->type == MIG_PAGES && l->ops->sealed)
		return sum;
	if (len && f->type == MIG_PAGES) {
		uint64_t pages = sum_bytes(data, len);

		return XXH3_64bits_withSeed(&pages, sizeof(pages), sum);
	}
	return len ? XXH3_64bits_withSeed(data, len, sum) : sum;
}

/* How many bytes of a payload are its head: the sum is made in these two parts. */
static size_t head_bytes(uint32_t type, size_t len)
{
	size_t n = type == MIG_PAGES       ? sizeof(struct mig_pages)
		   : type == MIG_INVENTORY ? sizeof(struct mig_inventory)
					   : 0;

	return n < len ? n : len;
}

int wire_send(struct link *l, enum mig_type type, const void *head, size_t head_len,
	      const void *data, size_t len)
{
	struct ckpt_frame f = { .type = type, .len = (uint32_t)(head_len + len) };
	unsigned char small[4096];
	size_t n = sizeof(f) + head_len;
	int rc;

	if (len > MIG_FRAME_MAX - 64 || n > sizeof(small))
		return -E2BIG;
	f.xxh3 = frame_sum(l, l->wseq++, &f, head, head_len, data, len);
	memcpy(small, &f, sizeof(f));
	if (head_len)
		memcpy(small + sizeof(f), head, head_len);
	if (len && n + len <= sizeof(small)) {
		memcpy(small + n, data, len);
		n += len;
		len = 0;
	}
	rc = link_write_full(l, small, n);
	if (!rc && len)
		rc = link_write_full(l, data, len);
	/* What is part of something larger may wait; a word that decides may not. */
	if (!rc && type != MIG_PAGES && type != MIG_RECORDS && type != MIG_SPACE &&
	    type != MIG_SHARE)
		rc = link_flush(l);
	return rc;
}

int wire_send_msg(struct link *l, enum mig_type type, const ProtobufCMessage *msg)
{
	size_t len = protobuf_c_message_get_packed_size(msg);
	void *buf = malloc(len + 1);
	int rc = -ENOMEM;

	if (buf) {
		protobuf_c_message_pack(msg, buf);
		rc = wire_send(l, type, NULL, 0, buf, len);
	}
	free(buf);
	return rc;
}

void wire_send_error(struct link *l, const struct ckpt_err *err)
{
	Ckpt__MigError m = CKPT__MIG_ERROR__INIT;

	m.id = (char *)ckpt_err_name(err->id);
	m.code = err->code;
	m.message = (char *)err->msg;
	m.where = (char *)err->where;
	m.remedy = (char *)err->remedy;
	(void)wire_send_msg(l, MIG_ERROR, &m.base);
}

void wire_error_from(const Ckpt__MigError *m, const char *who, struct ckpt_err *ret)
{
	enum ckpt_err_id id = E_PEER;

	for (int i = 1; i < E_ID_COUNT; i++)
		if (!strcmp(ckpt_err_name((enum ckpt_err_id)i), m->id))
			id = (enum ckpt_err_id)i;
	(void)ckpt_fail(ret, id, m->code < 0 && m->code > -4096 ? m->code : -EPROTO, "%s",
			m->message);
	if (*m->where)
		(void)ckpt_ctx(ret, "%s", m->where);
	(void)ckpt_ctx(ret, "peer %s", who);
	if (*m->remedy)
		(void)ckpt_remedy(ret, "%s", m->remedy);
}

static int fail_link(struct link *l, int rc, struct ckpt_err *err)
{
	if (rc == -ENODATA || rc == -EPIPE || rc == -ECONNRESET)
		return ckpt_fail(err, E_PEER, -ECONNRESET, "the connection to %s was cut", l->peer);
	/* By the kernel, for want of any sign of life, or because nobody speaks any more. */
	if (rc == -EHOSTUNREACH || rc == -ENETUNREACH || (rc == -ETIMEDOUT && l->dead_ms))
		return ckpt_fail(err, E_PEER, rc, "the link to %s is dead", l->peer);
	if (rc == -ETIMEDOUT)
		return ckpt_fail(err, E_PEER, rc, "%s has not answered for %d s", l->peer,
				 (l->timeout_ms < 1000 ? LINK_TIMEOUT_MS : l->timeout_ms) / 1000);
	return ckpt_fail_errno(err, E_PEER, rc, "the connection to %s", l->peer);
}

static int recv_one(struct link *l, struct wire_buf *b, enum mig_type *ret_type, size_t *ret_len,
		    struct ckpt_err *err)
{
	struct ckpt_frame f;
	size_t head;
	int rc = link_read_full(l, &f, sizeof(f));

	if (rc)
		return fail_link(l, rc, err);
	if (!f.type || f.type >= MIG_TYPES || f.len > MIG_FRAME_MAX)
		return ckpt_fail(err, E_PEER, -EBADMSG, "%s sends something else than a migration",
				 l->peer);
	if (f.len >= b->cap) {
		void *p = realloc(b->data, (size_t)f.len + 1);

		if (!p)
			return ckpt_oom(err);
		b->data = p;
		b->cap = (size_t)f.len + 1;
	}
	rc = link_read_full(l, b->data, f.len);
	if (rc)
		return fail_link(l, rc, err);
	head = head_bytes(f.type, f.len);
	if (frame_sum(l, l->rseq++, &f, b->data, head, (char *)b->data + head, f.len - head) !=
	    f.xxh3)
		return ckpt_fail(err, E_PEER, -EBADMSG,
				 "a frame from %s was damaged, lost or repeated on the way",
				 l->peer);
	if (f.type == MIG_ERROR) {
		Ckpt__MigError *m = ckpt__mig_error__unpack(NULL, f.len, b->data);

		if (!m)
			return ckpt_fail(err, E_PEER, -EBADMSG, "%s sends a malformed error",
					 l->peer);
		wire_error_from(m, l->peer, err);
		l->said = true;
		ckpt__mig_error__free_unpacked(m, NULL);
		return err->code;
	}
	*ret_type = (enum mig_type)f.type;
	*ret_len = f.len;
	return 0;
}

int wire_recv(struct link *l, struct wire_buf *b, enum mig_type *ret_type, size_t *ret_len,
	      struct ckpt_err *err)
{
	uint64_t begin = io_now_us();
	int rc;

	do
		rc = recv_one(l, b, ret_type, ret_len, err);
	while (!rc && *ret_type == MIG_ALIVE && io_now_us() - begin < LINK_TIMEOUT_MS * 1000ull);
	/* Alive is not all that it has to be. */
	if (!rc && *ret_type == MIG_ALIVE)
		rc = ckpt_fail(err, E_PEER, -ETIMEDOUT, "%s has not answered for %d s", l->peer,
			       LINK_TIMEOUT_MS / 1000);
	return rc;
}

/* Nothing here may allocate: the other thread clones copies of ckpt. */
static void *alive_main(void *arg)
{
	struct alive *a = arg;
	int rc = 0;

	pthread_mutex_lock(&a->lock);
	while (!a->end) {
		struct timespec at;

		(void)clock_gettime(CLOCK_MONOTONIC, &at);
		at.tv_nsec += ALIVE_NS;
		at.tv_sec += at.tv_nsec / 1000000000;
		at.tv_nsec %= 1000000000;
		if (pthread_cond_timedwait(&a->changed, &a->lock, &at) != ETIMEDOUT || rc)
			continue;
		/* Who reads the answer next finds out that it cannot be sent. */
		rc = wire_send(a->link, MIG_ALIVE, NULL, 0, NULL, 0);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

void alive_start(struct alive *a, struct link *l)
{
	pthread_condattr_t attr;

	memset(a, 0, sizeof(*a));
	if (!l->ops->mute)
		return;
	a->link = l;
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (!quiet_thread(&a->thread, alive_main, a))
		return;
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	a->link = NULL;
}

void alive_stop(struct alive *a)
{
	if (!a->link)
		return;
	pthread_mutex_lock(&a->lock);
	a->end = true;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	(void)pthread_join(a->thread, NULL);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	a->link = NULL;
}

void *wire_expect(struct link *l, struct wire_buf *b, enum mig_type type,
		  const ProtobufCMessageDescriptor *desc, struct ckpt_err *err)
{
	static char nothing;
	enum mig_type got;
	size_t len;
	void *m;

	if (wire_recv(l, b, &got, &len, err))
		return NULL;
	if (got != type) {
		(void)ckpt_fail(err, E_PEER, -EPROTO, "%s says %d where %d is due", l->peer, got,
				type);
		return NULL;
	}
	if (!desc)
		return &nothing;
	m = protobuf_c_message_unpack(desc, NULL, len, b->data);
	if (!m)
		(void)ckpt_fail(err, E_PEER, -EBADMSG, "%s sends a malformed message", l->peer);
	return m;
}

/* Whoever says why does so before the connection ends. */
#define SAID_MS 2000

int wire_fail(struct link *l, struct wire_buf *b, int rc, struct ckpt_err *err)
{
	struct ckpt_err said = { 0 };
	enum mig_type type;
	size_t len;

	/* What it said last may still be there. Who has been silent for long says nothing now. */
	l->timeout_ms = rc == -ETIMEDOUT ? 1 : SAID_MS;
	while (!wire_recv(l, b, &type, &len, &said))
		;
	if (l->said || (said.id != E_NONE && said.id != E_PEER)) {
		*err = said;
		return err->code;
	}
	return fail_link(l, rc, err);
}

void wire_buf_free(struct wire_buf *b)
{
	free(b->data);
	b->data = NULL;
	b->cap = 0;
}

Ckpt__MigHello *wire_hello(struct link *l, struct wire_buf *b, bool first, struct ckpt_err *err)
{
	Ckpt__MigHello m = CKPT__MIG_HELLO__INIT, *peer = NULL;
	struct utsname un = { 0 };
	int rc = 0;

	(void)uname(&un);
	m.protocol = MIG_PROTOCOL;
	m.program = (char *)"ckpt " CKPT_VERSION;
	m.hostname = un.nodename;
	m.kernel = un.release;
	m.machine = un.machine;
	if (first)
		rc = wire_send_msg(l, MIG_HELLO, &m.base);
	if (!rc)
		peer = wire_expect(l, b, MIG_HELLO, &ckpt__mig_hello__descriptor, err);
	if (peer && !first)
		rc = wire_send_msg(l, MIG_HELLO, &m.base);
	if (rc) {
		(void)fail_link(l, rc, err);
	} else if (peer &&
		   (peer->protocol != MIG_PROTOCOL || strcmp(peer->machine, un.machine) != 0)) {
		rc = ckpt_fail(err, E_PEER, -EPROTO,
			       "%s (%s on %s) speaks migration protocol %u, this node (%s) %u",
			       l->peer, peer->program, peer->machine, peer->protocol, un.machine,
			       MIG_PROTOCOL);
	}
	if (rc && peer) {
		ckpt__mig_hello__free_unpacked(peer, NULL);
		peer = NULL;
	}
	return peer;
}
