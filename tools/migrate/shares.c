// SPDX-License-Identifier: GPL-2.0-only
#include "migrate/shares.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/quiet.h"
#include "base/vec.h"
#include "image/content.h"
#include "migrate/watched.h"

#define PART_PAGES 512u   /* of which hashes are kept together: 2 MiB */
#define PARTS_MAX 8192u   /* 64 MiB of hashes, 16 GiB of pages; the rest is sent in the end */
#define CHUNK_PAGES 64u   /* read and hashed while it is in the cache */
#define CHUNKS_THREAD 16u /* fewer are not worth a thread */
#define SHARES_MAX 4096u  /* as many as a peer makes early (RESTORE_EARLY_MAX) */

struct part {
	unsigned char hash[PART_PAGES][CONTENT_HASH_BYTES];
	unsigned char have[PART_PAGES]; /* bytes: two threads may be at work on it */
};

struct share {
	const struct fd_kind *kind;
	uint64_t dev, ino;
	uint32_t number;
	uint64_t bytes; /* as the peer knows */
	bool seen;
	struct part **parts; /* by address */
	size_t nparts;
};

struct chunk {
	uint64_t addr;
	uint32_t npages;
};

/* One object, looked at by two threads. */
struct pass {
	struct shares *h;
	struct share *o;
	int fd;
	struct {
		struct chunk *v;
		size_t n, cap;
	} chunks;
	atomic_size_t next;
	atomic_int rc;
};

/* ---- pages ------------------------------------------------------------------------------ */

static struct part *part_of(const struct share *o, uint64_t addr, size_t *ret_at)
{
	uint64_t page = addr / CKPT_PAGE, at = page / PART_PAGES;

	*ret_at = (size_t)(page % PART_PAGES);
	return at < o->nparts ? o->parts[at] : NULL;
}

/* Room for the hashes of a chunk. 0; 1: there is no more, and the end sends it; -ENOMEM. */
static int part_need(struct shares *h, struct share *o, uint64_t addr)
{
	size_t at = (size_t)(addr / CKPT_PAGE / PART_PAGES);

	if (at >= o->nparts) {
		size_t n = at + 1 > 2 * o->nparts ? at + 1 : 2 * o->nparts;
		struct part **p = reallocarray(o->parts, n, sizeof(*p));

		if (!p)
			return -ENOMEM;
		memset(p + o->nparts, 0, (n - o->nparts) * sizeof(*p));
		o->parts = p;
		o->nparts = n;
	}
	if (o->parts[at])
		return 0;
	if (h->parts >= PARTS_MAX)
		return 1;
	o->parts[at] = calloc(1, sizeof(struct part));
	h->parts += o->parts[at] != NULL;
	return o->parts[at] ? 0 : -ENOMEM;
}

static int send_run(struct pass *p, uint64_t addr, const char *data, uint32_t n)
{
	struct source *s = p->h->s;
	bool zero = page_is_zero(data);

	return source_send_pages(s, MIG_SHARED | p->o->number, addr, zero ? NULL : data, n);
}

/* What is not as it was sent last goes out; the hash kept is of the very bytes sent. */
static int chunk_pass(struct pass *p, const struct chunk *c, char *buf)
{
	size_t len = (size_t)c->npages * CKPT_PAGE, got = 0, first;
	struct part *part = part_of(p->o, c->addr, &first);
	unsigned char now[CHUNK_PAGES][CONTENT_HASH_BYTES];
	bool differs[CHUNK_PAGES] = { false };
	uint32_t n;

	while (got < len) {
		ssize_t more = pread(p->fd, buf + got, len - got, (off_t)(c->addr + got));

		/* It may have become shorter; then the end knows. */
		if (more <= 0)
			break;
		got += (size_t)more;
	}
	n = (uint32_t)((got + CKPT_PAGE - 1) / CKPT_PAGE);
	memset(buf + got, 0, (size_t)n * CKPT_PAGE - got);
	/* What cannot be read is for the end. */
	memset(part->have + first + n, 0, c->npages - n);
	for (uint32_t i = 0; i < n; i++) {
		content_hash(p->h->seed, buf + (size_t)i * CKPT_PAGE, now[i]);
		differs[i] = !part->have[first + i] ||
			     memcmp(part->hash[first + i], now[i], CONTENT_HASH_BYTES) != 0;
	}
	for (uint32_t i = 0, k; i < n; i = k) {
		const char *data = buf + (size_t)i * CKPT_PAGE;
		int rc;

		k = i + 1;
		if (!differs[i])
			continue;
		while (k < n && differs[k] &&
		       page_is_zero(buf + (size_t)k * CKPT_PAGE) == page_is_zero(data))
			k++;
		rc = send_run(p, c->addr + (uint64_t)i * CKPT_PAGE, data, k - i);
		if (rc)
			return rc;
		for (uint32_t j = i; j < k; j++) {
			memcpy(part->hash[first + j], now[j], CONTENT_HASH_BYTES);
			part->have[first + j] = 1;
		}
	}
	return 0;
}

static void *pass_worker(void *arg)
{
	struct pass *p = arg;
	auto_free char *buf = aligned_alloc(CKPT_PAGE, (size_t)CHUNK_PAGES * CKPT_PAGE);
	int rc = buf ? 0 : -ENOMEM;

	while (!rc && !atomic_load(&p->rc)) {
		size_t at = atomic_fetch_add(&p->next, 1);

		if (at >= p->chunks.n)
			break;
		rc = chunk_pass(p, &p->chunks.v[at], buf);
	}
	if (rc)
		atomic_store(&p->rc, rc);
	return NULL;
}

/* It has no pages in [from, to): what went out of these counts no more. */
static void forget(struct share *o, uint64_t from, uint64_t to)
{
	uint64_t page = from / CKPT_PAGE, end = to / CKPT_PAGE;

	while (page < end && page / PART_PAGES < o->nparts) {
		size_t at = (size_t)(page / PART_PAGES), first = (size_t)(page % PART_PAGES);
		uint64_t n = PART_PAGES - first < end - page ? PART_PAGES - first : end - page;

		if (o->parts[at])
			memset(o->parts[at]->have + first, 0, (size_t)n);
		page += n;
	}
}

/* Where it has pages. No chunk lies in two parts. */
static int chunks_find(struct pass *p)
{
	const uint64_t step = (uint64_t)CHUNK_PAGES * CKPT_PAGE;
	uint64_t bytes = p->o->bytes, last = 0;
	off_t data = 0, hole;

	while ((data = lseek(p->fd, data, SEEK_DATA)) >= 0 && (uint64_t)data < bytes) {
		uint64_t at = (uint64_t)data & ~(uint64_t)(CKPT_PAGE - 1), end;

		forget(p->o, last, at);
		hole = lseek(p->fd, data, SEEK_HOLE);
		end = hole < 0 || (uint64_t)hole > bytes ? bytes : (uint64_t)hole;
		for (; at < end; at = (at / step + 1) * step) {
			uint64_t to = (at / step + 1) * step;
			int rc = part_need(p->h, p->o, at);
			struct chunk *c = rc ? NULL : vec_push(&p->chunks);

			if (rc > 0)
				continue;
			if (!c)
				return -ENOMEM;
			c->addr = at;
			c->npages = (uint32_t)(((to < end ? to : end) - at + CKPT_PAGE - 1) /
					       CKPT_PAGE);
			p->h->bytes += (uint64_t)c->npages * CKPT_PAGE;
		}
		data = (off_t)end;
		last = end;
	}
	forget(p->o, last, UINT64_MAX);
	return 0;
}

static int share_pass(struct shares *h, struct share *o, int fd)
{
	struct pass p = { .h = h, .o = o, .fd = fd };
	uint64_t begin = io_now_us(), sent = h->s->sends_us;
	pthread_t other;
	int rc = chunks_find(&p);
	bool two;

	two = !rc && p.chunks.n > CHUNKS_THREAD && !quiet_thread(&other, pass_worker, &p);
	if (!rc)
		(void)pass_worker(&p);
	if (two)
		(void)pthread_join(other, NULL);
	vec_free(&p.chunks);
	begin = io_now_us() - begin;
	sent = h->s->sends_us - sent;
	begin = begin > sent ? begin - sent : 0;
	h->us += begin;
	h->stop_us += watched_has(h->watched, o->dev, o->ino) ? 0 : begin;
	return rc ? rc : atomic_load(&p.rc);
}

/* ---- objects ---------------------------------------------------------------------------- */

static void share_free(struct shares *h, struct share *o)
{
	h->by_number.v[o->number - 1] = NULL;
	for (size_t i = 0; i < o->nparts; i++) {
		h->parts -= o->parts[i] != NULL;
		free(o->parts[i]);
	}
	free(o->parts);
	free(o);
}

/* A System V segment and a memory file may have the same number. */
static struct share *share_find(const struct shares *h, const struct fd_kind *kind, bool segment,
				uint64_t dev, uint64_t ino)
{
	for (size_t i = 0; i < h->all.n; i++) {
		struct share *o = h->all.v[i];

		if (o->ino == ino && o->dev == dev &&
		    (kind ? o->kind == kind : !strcmp(o->kind->name, "sysv-shm") == segment))
			return o;
	}
	return NULL;
}

/* What will be saved for it? NULL: nothing that travels. The caller frees the message. */
static const struct fd_kind *kind_of(const struct fd_facts *f, void **ret_msg)
{
	for (const struct fd_kind *const *k = fd_kinds; *k; k++) {
		void *msg;
		int rc;

		if (!(*k)->foresee)
			continue;
		msg = kind_msg_new((*k)->desc);
		rc = msg ? (*k)->foresee(f, msg) : 0;
		if (rc > 0) {
			*ret_msg = msg;
			return *k;
		}
		if (msg)
			protobuf_c_message_free_unpacked(msg, NULL);
		if (rc < 0)
			break;
	}
	return NULL;
}

static int tell(struct shares *h, const struct share *o, const void *msg, bool gone)
{
	Ckpt__MigShare m = CKPT__MIG_SHARE__INIT;
	int rc;

	m.number = o->number;
	m.bytes = o->bytes;
	m.gone = gone;
	if (msg && !(m.state = kind_state_new(o->kind->name, msg)))
		return -ENOMEM;
	rc = wire_send_msg(&h->s->link, MIG_SHARE, &m.base);
	if (m.state)
		protobuf_c_message_free_unpacked(&m.state->base, NULL);
	return rc;
}

static struct share *share_new(struct shares *h, const struct fd_kind *kind, const struct stat *st)
{
	struct share *o, **slot, **number;

	if (h->all.n >= SHARES_MAX || h->by_number.n >= MIG_SHARES_MAX)
		return NULL;
	o = calloc(1, sizeof(*o));
	number = o ? vec_push(&h->by_number) : NULL;
	slot = number ? vec_push(&h->all) : NULL;
	if (!slot) {
		free(o);
		return NULL;
	}
	*slot = *number = o;
	o->kind = kind;
	o->dev = st->st_dev;
	o->ino = st->st_ino;
	o->number = (uint32_t)h->by_number.n;
	return o;
}

/* The object at @fd, which this round has not met yet. */
static int share_meet(struct shares *h, int pid, int number, int fd, const char *link)
{
	struct fd_facts f = { .pid = pid, .fd = number, .local = fd, .link = link, .fdinfo = "" };
	const struct fd_kind *kind;
	struct share *o;
	void *msg = NULL;
	bool is_new;
	int rc = 0;

	if (fstat(fd, &f.st) || !S_ISREG(f.st.st_mode) || f.st.st_size <= 0 ||
	    (uint64_t)f.st.st_size > MIG_SHARE_BYTES)
		return 0;
	kind = kind_of(&f, &msg);
	if (!kind)
		return 0;
	o = share_find(h, kind, false, f.st.st_dev, f.st.st_ino);
	is_new = !o;
	if (!o)
		o = share_new(h, kind, &f.st);
	if (o && !o->seen) {
		o->seen = true;
		if ((uint64_t)f.st.st_size > o->bytes) {
			o->bytes = (uint64_t)f.st.st_size;
			rc = tell(h, o, is_new ? msg : NULL, false);
		}
		if (!rc)
			rc = share_pass(h, o, fd);
	}
	protobuf_c_message_free_unpacked(msg, NULL);
	return rc;
}

int shares_begin(struct shares *h, struct source *s, const struct watched *watched)
{
	h->s = s;
	h->watched = watched;
	h->bytes = h->us = h->stop_us = 0;
	for (size_t i = 0; i < h->all.n; i++)
		h->all.v[i]->seen = false;
	/* Random, so that nobody can prepare two pages of one hash. */
	return h->seed || getrandom(&h->seed, sizeof(h->seed), 0) == sizeof(h->seed) ? 0 : -EIO;
}

static bool was_met(const struct shares *h, bool segment, uint64_t dev, uint64_t ino)
{
	const struct share *o = share_find(h, NULL, segment, dev, ino);

	return o && o->seen;
}

int shares_mapped(struct shares *h, int pid, const struct proc_vmas *vmas)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < vmas->n; i++) {
		const struct proc_vma *v = &vmas->v[i];
		struct ckpt_err gone = { 0 };
		auto_free char *link = NULL;
		auto_fd fd = -1;

		if (v->start >= v->end || !v->shared || !v->path || v->flags & PROC_VMF(ht) ||
		    !proc_name_deleted(v->path) ||
		    was_met(h, !strncmp(v->path, "/SYSV", 5), makedev(v->dev_major, v->dev_minor),
			    v->ino))
			continue;
		fd = proc_map_open(pid, v->start, v->end, O_RDONLY | O_NONBLOCK | O_NOATIME);
		if (fd >= 0 && !proc_map_link(pid, v, &link, &gone))
			rc = share_meet(h, pid, -1, fd, link);
	}
	return rc;
}

/* To open it would make its holder give up a lease. */
static bool has_lease(int pid, const char *number)
{
	struct ckpt_err gone = { 0 };
	auto_free char *text = NULL;
	char name[64];

	(void)snprintf(name, sizeof(name), "fdinfo/%s", number);
	return proc_read(pid, name, &text, NULL, &gone) || strstr(text, "LEASE");
}

static int descriptor(struct shares *h, int pid, int dir, const char *number)
{
	char link[PATH_MAX];
	ssize_t n = readlinkat(dir, number, link, sizeof(link) - 1);
	auto_fd fd = -1;
	struct stat st;

	if (n <= 0)
		return 0;
	link[n] = 0;
	if (link[0] != '/' || !proc_name_deleted(link) || fstatat(dir, number, &st, 0) ||
	    !S_ISREG(st.st_mode) || was_met(h, false, st.st_dev, st.st_ino) ||
	    has_lease(pid, number))
		return 0;
	fd = openat(dir, number, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOATIME);
	return fd < 0 ? 0 : share_meet(h, pid, atoi(number), fd, link);
}

int shares_open(struct shares *h, int pid)
{
	char path[32];
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int rc = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (!rc && dir && (e = readdir(dir)))
		if (isdigit((unsigned char)e->d_name[0]))
			rc = descriptor(h, pid, dirfd(dir), e->d_name);
	return rc;
}

int shares_end(struct shares *h)
{
	int rc = 0;

	for (size_t i = h->all.n; !rc && i-- > 0;) {
		struct share *o = h->all.v[i];

		if (o->seen)
			continue;
		rc = tell(h, o, NULL, true);
		h->all.v[i] = h->all.v[--h->all.n];
		share_free(h, o);
	}
	return rc;
}

void shares_free(struct shares *h)
{
	for (size_t i = 0; i < h->all.n; i++)
		share_free(h, h->all.v[i]);
	vec_free(&h->all);
	vec_free(&h->by_number);
}

/* ---- the last dump ---------------------------------------------------------------------- */

uint32_t shares_number(const struct shares *h, const char *kind, uint64_t dev, uint64_t ino)
{
	const struct share *o = share_find(h, fd_kind_by_name(kind), false, dev, ino);

	return o ? o->number : 0;
}

const unsigned char *shares_hash(const struct shares *h, uint32_t number, uint64_t addr)
{
	const struct share *o = number <= h->by_number.n ? h->by_number.v[number - 1] : NULL;
	size_t at;
	const struct part *part = o ? part_of(o, addr, &at) : NULL;

	return part && part->have[at] ? part->hash[at] : NULL;
}

uint64_t shares_had(const struct shares *h, uint32_t number, uint64_t addr, uint64_t npages,
		    bool *ret_had)
{
	const struct share *o = number <= h->by_number.n ? h->by_number.v[number - 1] : NULL;
	uint64_t n = 0;

	*ret_had = false;
	while (o && n < npages) {
		size_t at, k;
		const struct part *part = part_of(o, addr + n * CKPT_PAGE, &at);
		bool had = part && part->have[at];

		if (n && had != *ret_had)
			break;
		*ret_had = had;
		for (k = 1;
		     at + k < PART_PAGES && n + k < npages && (part && part->have[at + k]) == had;
		     k++)
			;
		n += k;
		/* Not to the end of this part: the next page is another. */
		if (at + k < PART_PAGES)
			break;
	}
	return n ? n : npages;
}
