// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: what comes over the wire of a migration. The first byte chooses the side; the rest is a
 * list of { u8 type, u16 length, payload }, frames with right checksums. Of records the payload is a
 * list of records of the image (records.c), of an inventory how long the page file is. Nothing is
 * restored: the functions that would are below.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#include "migrate/decision.h"
#include "migrate/migrate.h"
#include "migrate/preflight.h"
#include "migrate/store.h"
#include "base/vec.h"
#include "migrate/wire.h"
#include "restore/restore.h"

static unsigned char *stream;
static size_t stream_len, stream_at, stream_cap;
static unsigned char *records;
static size_t records_len;

/* ---- instead of tools/restore ---------------------------------------------------------------- */

int restore_begin(struct restore_ctx *r, const struct ckpt_restore_opts *opts, struct ckpt_ui *ui,
		  struct ckpt_err *err)
{
	(void)err;
	memset(r, 0, sizeof(*r));
	r->opts = opts;
	r->ui = ui;
	r->img = calloc(1, sizeof(*r->img));
	r->img->dir_fd = -1;
	return 0;
}

int restore_warm_begin(struct restore_ctx *r, int pid, int lone_sid, Ckpt__Mm *const *mms,
		       size_t n,
		       struct ckpt_err *err)
{
	struct warm_task *w = calloc(1, sizeof(*w)), **at;

	(void)lone_sid;
	(void)mms;
	(void)n;
	(void)err;
	r->warm = calloc(1, sizeof(*r->warm));
	at = vec_push(&r->warm->tasks);
	*at = w;
	w->pid = r->root = pid;
	return 0;
}

struct warm_task *restore_warm_find(const struct restore_ctx *r, int pid)
{
	for (size_t i = 0; r->warm && i < r->warm->tasks.n; i++)
		if (r->warm->tasks.v[i]->pid == pid)
			return r->warm->tasks.v[i];
	return NULL;
}

int restore_warm_follow(struct restore_ctx *r, const struct warm_follow *f, struct ckpt_err *err)
{
	(void)r;
	(void)f;
	(void)err;
	return 0;
}

int restore_warm_settle(struct restore_ctx *r,
			int (*gone)(void *arg, const struct warm_task *w, bool lives,
				    struct ckpt_err *err),
			void *arg, struct ckpt_err *err)
{
	(void)r;
	(void)gone;
	(void)arg;
	(void)err;
	return 0;
}

int restore_warm_map(struct restore_ctx *r, struct warm_task *w, const Ckpt__Mm *mm,
		     struct ckpt_err *err)
{
	(void)r;
	(void)w;
	(void)mm;
	(void)err;
	return 0;
}

bool restore_warm_has(const struct warm_task *w, uint64_t start, uint64_t end)
{
	(void)w;
	(void)end;
	return start & 1 << 14;
}

int restore_warm_write(const struct warm_task *w, uint64_t addr, const void *data, size_t len)
{
	(void)w;
	(void)addr;
	/* All of it is there. */
	return XXH3_64bits(data, len) == 1 ? -EIO : 0;
}

int restore_warm_read(const struct warm_task *w, uint64_t addr, void *data, size_t len)
{
	(void)w;
	(void)addr;
	memset(data, 0, len);
	return 0;
}

int restore_warm_present(const struct warm_task *w, uint64_t start, uint64_t npages, bool *ret)
{
	(void)w;
	(void)start;
	memset(ret, 0, npages * sizeof(*ret));
	return 0;
}

int restore_warm_keep(struct restore_ctx *r, struct warm_task *w, const struct mm_runs *keep,
		      struct ckpt_err *err)
{
	(void)r;
	(void)w;
	(void)keep;
	(void)err;
	return 0;
}

/* Nothing but a memory file: a fuzzer makes no segments, and no files in the way of others. */
int restore_early_make(struct restore_ctx *r, uint32_t number, const Ckpt__State *state,
		       struct ckpt_err *err)
{
	const struct fd_kind *kind = state ? fd_kind_by_name(state->kind) : NULL;
	struct early_object *e;

	if (!kind || !kind->early || restore_early_find(r, number) ||
	    r->early.n >= RESTORE_EARLY_MAX)
		return ckpt_fail(err, E_PEER, -EBADMSG, "an impossible shared object");
	e = vec_push(&r->early);
	e->number = number;
	e->kind = kind;
	e->plain = true;
	e->msg = kind_state_unpack(state, kind->desc, err);
	e->fd = memfd_create("fuzz", MFD_CLOEXEC);
	return e->msg ? 0 : err->code;
}

/* What came early, into a file that stands for each object. */
static void fill_objects(struct restore_ctx *r)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	for (uint32_t id = 1; fd >= 0 && id <= r->img->objects.n; id++) {
		const Ckpt__Object *obj = r->img->objects.v[id - 1];
		const struct fd_kind *kind = fd_kind_by_name(obj->state->kind);
		struct ckpt_err err = { 0 };
		void *msg;

		if (!kind || !kind->fits)
			continue;
		msg = kind_state_unpack(obj->state, kind->desc, &err);
		if (msg && ftruncate(fd, (id % 4) << 20) == 0) {
			int early = restore_early_take(r, id, msg);

			(void)restore_early_pages(r, id, early >= 0 ? early : fd, &err);
			if (early >= 0)
				(void)close(early);
		}
		if (msg)
			protobuf_c_message_free_unpacked(msg, NULL);
	}
	if (fd >= 0)
		(void)close(fd);
}

int restore_plan_image(struct restore_ctx *r, struct ckpt_err *err)
{
	uint64_t seen = 0;

	for (uint32_t id = 1; id <= r->img->mms.n; id++) {
		struct image_maps maps = image_maps_of_mm(r->img, id);

		for_each_image_run(run, maps) seen += run->npages;
	}
	fill_objects(r);
	return ckpt_fail(err, E_RESTORE, -ECANCELED, "this is a fuzzer (%llu)", (unsigned long long)seen);
}

int restore_build(struct restore_ctx *r, struct ckpt_err *err)
{
	(void)r;
	(void)err;
	abort();
}

void restore_release(struct restore_ctx *r)
{
	(void)r;
	abort();
}

void restore_drop(struct restore_ctx *r)
{
	r->root = 0;
}

void restore_end(struct restore_ctx *r)
{
	for (size_t i = 0; r->warm && i < r->warm->tasks.n; i++) {
		vec_free(&r->warm->tasks.v[i]->pages);
		free(r->warm->tasks.v[i]);
	}
	if (r->warm)
		vec_free(&r->warm->tasks);
	free(r->warm);
	restore_early_free(r);
	image_free(r->img);
	free(r->img);
	r->img = NULL;
}

/* ---- the link -------------------------------------------------------------------------------- */

static ssize_t script_read(struct link *l, void *buf, size_t len)
{
	(void)l;
	if (len > stream_len - stream_at)
		len = stream_len - stream_at;
	memcpy(buf, stream + stream_at, len);
	stream_at += len;
	return (ssize_t)len;
}

static ssize_t script_write(struct link *l, const void *buf, size_t len)
{
	(void)l;
	(void)buf;
	return (ssize_t)len;
}

static void script_close(struct link *l)
{
	(void)l;
}

static const struct link_ops script_ops = {
	.name = "fuzz", .read = script_read, .write = script_write, .close = script_close
};

static ssize_t script_keep(struct link *l, const void *buf, size_t len)
{
	(void)l;
	if (stream_len + len > stream_cap) {
		stream_cap = 2 * (stream_len + len);
		stream = realloc(stream, stream_cap);
	}
	memcpy(stream + stream_len, buf, len);
	stream_len += len;
	return (ssize_t)len;
}

static const struct link_ops keep_ops = {
	.name = "fuzz", .read = script_read, .write = script_keep, .close = script_close
};

static void link_begin(struct link *l, const struct link_ops *ops)
{
	memset(l, 0, sizeof(*l));
	l->ops = ops;
	l->rfd = l->wfd = -1;
	l->timeout_ms = 10;
	(void)snprintf(l->peer, sizeof(l->peer), "fuzz");
}

/* ---- the script ------------------------------------------------------------------------------ */

static void put_image_records(struct link *l, struct input piece)
{
	unsigned char *buf = calloc(1, RECORDS_ROOM(piece.left));

	free(records);
	records = buf;
	records_len = put_records(buf, piece);
	(void)wire_send(l, MIG_RECORDS, NULL, 0, buf, records_len);
}

static void put_image_inventory(struct link *l, struct input piece)
{
	struct mig_inventory h = { .pages_bytes = take(&piece, 8) };
	unsigned char buf[4096];
	size_t len = put_inventory(buf, records, records_len, h.pages_bytes);

	(void)wire_send(l, MIG_INVENTORY, &h, sizeof(h), buf, len);
}

static void put_pages(struct link *l, struct input piece)
{
	struct mig_pages h = { 0 };
	static unsigned char data[MIG_PAGES_MAX * CKPT_PAGE];
	uint8_t how = (uint8_t)take(&piece, 1);
	size_t len;

	memcpy(&h, piece.p, piece.left < sizeof(h) ? piece.left : sizeof(h));
	(void)take_piece(&piece, sizeof(h));
	if (how & 1)
		h.addr = (h.addr & ((1ull << 47) - 1)) & ~4095ull;
	if (how & 2)
		h.npages = h.npages % 4 + 1;
	if (how & 4)
		h.coding %= MIG_CODINGS;
	if (how & 8)
		h.pid %= 4;
	if (how & 32)
		h.pid = MIG_SHARED | (h.pid % 4);
	len = how & 16 && h.coding == MIG_RAW ? (size_t)(h.npages % MIG_PAGES_MAX) * CKPT_PAGE : piece.left;
	if (how & 16)
		h.bytes = (uint32_t)len;
	memset(data, 0, len);
	memcpy(data, piece.p, piece.left < len ? piece.left : len);
	(void)wire_send(l, MIG_PAGES, &h, sizeof(h), data, len);
}

static void put_script(struct input in)
{
	Ckpt__MigHello hello = CKPT__MIG_HELLO__INIT;
	struct link l;

	link_begin(&l, &keep_ops);
	stream_len = stream_at = 0;
	hello.protocol = MIG_PROTOCOL;
	hello.machine = (char *)"x86_64";
	(void)wire_send_msg(&l, MIG_HELLO, &hello.base);
	while (in.left >= 3) {
		uint32_t type = (uint32_t)take(&in, 1) % (MIG_TYPES + 1);
		struct input piece = take_piece(&in, take(&in, 2));

		if (type == MIG_RECORDS)
			put_image_records(&l, piece);
		else if (type == MIG_INVENTORY)
			put_image_inventory(&l, piece);
		else if (type == MIG_PAGES)
			put_pages(&l, piece);
		else
			(void)wire_send(&l, type, NULL, 0, piece.p, piece.left);
	}
}

static void as_peer(void)
{
	struct receive_opts opts = { 0 };
	struct receive_result res;
	struct ckpt_ui ui = { 0 };
	struct ckpt_err err = { 0 };
	struct link l;

	link_begin(&l, &script_ops);
	(void)ckpt_receive(&l, &opts, &ui, &res, &err);
}

/* What a source hears, in any order. */
static void as_source(void)
{
	static const struct {
		enum mig_type type;
		const ProtobufCMessageDescriptor *desc;
	} due[] = {
		{ MIG_ANSWER, &ckpt__mig_answer__descriptor },
		{ MIG_ROUND, NULL },
		{ MIG_RESTORED, &ckpt__mig_restored__descriptor },
		{ MIG_RUNNING, NULL },
		{ MIG_VERDICT, &ckpt__mig_verdict__descriptor },
	};
	struct wire_buf buf = { 0 };
	struct ckpt_err err = { 0 };
	Ckpt__MigHello *hello;
	struct link l;

	link_begin(&l, &script_ops);
	hello = wire_hello(&l, &buf, true, &err);
	if (hello)
		ckpt__mig_hello__free_unpacked(hello, NULL);
	for (size_t i = 0; hello && i < sizeof(due) / sizeof(due[0]); i++) {
		void *m = wire_expect(&l, &buf, due[i].type, due[i].desc, &err);

		if (!m)
			break;
		if (due[i].type == MIG_ANSWER) {
			Ckpt__MigAnswer *a = m;

			for (size_t k = 0; k < a->n_blockers; k++) {
				struct ckpt_err why = { 0 };

				wire_error_from(a->blockers[k], l.peer, &why);
			}
		}
		if (due[i].desc)
			protobuf_c_message_free_unpacked(m, NULL);
	}
	ckpt_err_clear(&err);
	(void)wire_fail(&l, &buf, -EPIPE, &err);
	wire_buf_free(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t side = (uint8_t)take(&in, 1);

	(void)setenv("CKPT_RUN_DIR", work_dir(), 1);
	records_len = 0;
	put_script(in);
	/* As it is: damaged on the way. */
	if (side & 2 && stream_len > 40)
		stream[40 + side % (stream_len - 40)] ^= 1;
	if (side & 1)
		as_source();
	else
		as_peer();
	return 0;
}
