// SPDX-License-Identifier: GPL-2.0-only
#include "migrate/store.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "base/vec.h"
#include "migrate/wire.h"

int store_open(struct store *s, struct ckpt_err *err)
{
	memset(s, 0, sizeof(*s));
	s->fd = memfd_create("ckpt-receive", MFD_CLOEXEC);
	if (s->fd < 0)
		return ckpt_fail_errno(err, E_NOMEM, -errno, "cannot make a memory file");
	return 0;
}

void store_close(struct store *s)
{
	for (size_t i = 0; i < s->slots; i++)
		free(s->hash[i]);
	free(s->hash);
	s->hash = NULL;
	s->slots = s->n = 0;
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
}

static size_t hash_of(const struct store *s, uint32_t pid, uint64_t key)
{
	uint64_t h = (key ^ ((uint64_t)pid << 40)) * 0x9e3779b97f4a7c15ull;

	return (size_t)(h >> 32) & (s->slots - 1);
}

static struct store_chunk *chunk_find(const struct store *s, uint32_t pid, uint64_t addr)
{
	uint64_t key = addr / STORE_CHUNK + 1;

	if (!s->slots)
		return NULL;
	for (size_t i = hash_of(s, pid, key); s->hash[i]; i = (i + 1) & (s->slots - 1))
		if (s->hash[i]->key == key && s->hash[i]->pid == pid)
			return s->hash[i];
	return NULL;
}

static int hash_grow(struct store *s)
{
	size_t slots = s->slots ? s->slots * 2 : 256, old = s->slots;
	struct store_chunk **from = s->hash, **to = calloc(slots, sizeof(*to));

	if (!to)
		return -ENOMEM;
	s->hash = to;
	s->slots = slots;
	for (size_t i = 0; i < old; i++) {
		size_t at;

		if (!from[i])
			continue;
		for (at = hash_of(s, from[i]->pid, from[i]->key); to[at];)
			at = (at + 1) & (slots - 1);
		to[at] = from[i];
	}
	free(from);
	return 0;
}

static struct store_chunk *chunk_get(struct store *s, uint32_t pid, uint64_t addr)
{
	struct store_chunk *c = chunk_find(s, pid, addr);
	size_t at;

	if (c)
		return c;
	if (s->n * 2 >= s->slots && hash_grow(s))
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->key = addr / STORE_CHUNK + 1;
	c->pid = pid;
	c->index = (uint32_t)s->n++;
	for (at = hash_of(s, pid, c->key); s->hash[at];)
		at = (at + 1) & (s->slots - 1);
	s->hash[at] = c;
	return c;
}

static uint64_t chunk_off(const struct store_chunk *c, uint64_t addr)
{
	return STORE_ROUNDS + (uint64_t)c->index * STORE_CHUNK + addr % STORE_CHUNK;
}

static bool bit(const uint64_t *map, uint64_t page)
{
	return map[page / 64] >> (page % 64) & 1;
}

/* Ones from bit @at of @word on; the rest of the word at most. */
static uint64_t ones_from(uint64_t word, uint64_t at)
{
	word = ~(word >> at);
	/* Above what was shifted out are ones now: never more than 64 - at. */
	return word ? (uint64_t)__builtin_ctzll(word) : 64;
}

/* The same in a map of a whole chunk, as long as it goes on. */
static uint64_t ones_of_chunk(const uint64_t *map, uint64_t page)
{
	uint64_t n = ones_from(map[page / 64], page % 64);

	for (uint64_t w = page / 64 + 1; (page + n) / 64 == w && w < STORE_CHUNK_PAGES / 64; w++)
		n += ones_from(map[w], 0);
	return n;
}

enum place { PLACE_STORE, PLACE_WARM };

static int put_part(struct store *s, struct store_chunk *c, uint64_t addr, uint32_t npages,
		    const void *data, enum place place)
{
	uint64_t first = addr % STORE_CHUNK / CKPT_PAGE, off = chunk_off(c, addr);
	uint64_t len = (uint64_t)npages * CKPT_PAGE;

	for (uint64_t p = first; p < first + npages; p++) {
		uint64_t b = 1ull << (p % 64);

		c->have[p / 64] |= b;
		if (place == PLACE_WARM || data)
			c->zero[p / 64] &= ~b;
		else
			c->zero[p / 64] |= b;
		if (place == PLACE_WARM) {
			c->warm[p / 64] |= b;
			c->stored[p / 64] &= ~b;
		} else {
			c->stored[p / 64] |= b;
		}
	}
	if (place == PLACE_WARM)
		return 0;
	if (data)
		return io_pwrite_full(s->fd, data, len, off);
	if (fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len))
		return -errno;
	return 0;
}

static int put(struct store *s, uint32_t pid, uint64_t addr, uint32_t npages, const void *data,
	       enum place place, struct ckpt_err *err)
{
	const char *p = data;

	while (npages) {
		uint64_t room = (STORE_CHUNK - addr % STORE_CHUNK) / CKPT_PAGE;
		uint32_t n = npages < room ? npages : (uint32_t)room;
		struct store_chunk *c = chunk_get(s, pid, addr);
		int rc = c ? put_part(s, c, addr, n, p, place) : -ENOMEM;

		if (rc)
			return ckpt_fail_errno(err, E_NOMEM, rc,
					       "cannot keep the memory of task %u", pid);
		addr += (uint64_t)n * CKPT_PAGE;
		npages -= n;
		if (p)
			p += (uint64_t)n * CKPT_PAGE;
	}
	return 0;
}

int store_put(struct store *s, uint32_t pid, uint64_t addr, uint32_t npages, const void *data,
	      struct ckpt_err *err)
{
	return put(s, pid, addr, npages, data, PLACE_STORE, err);
}

int store_note(struct store *s, uint32_t pid, uint64_t addr, uint32_t npages, struct ckpt_err *err)
{
	return put(s, pid, addr, npages, NULL, PLACE_WARM, err);
}

void store_see_none(struct store *s, uint32_t pid)
{
	for (size_t i = 0; i < s->slots; i++)
		if (s->hash[i] && s->hash[i]->pid == pid)
			memset(s->hash[i]->stored, 0, sizeof(s->hash[i]->stored));
}

void store_see(struct store *s, uint32_t pid, uint64_t addr, uint64_t npages)
{
	while (npages) {
		uint64_t first = addr % STORE_CHUNK / CKPT_PAGE, n = STORE_CHUNK_PAGES - first;
		struct store_chunk *c = chunk_find(s, pid, addr);

		if (n > npages)
			n = npages;
		for (uint64_t p = first; c && p < first + n; p++)
			c->stored[p / 64] |= 1ull << (p % 64);
		addr += n * CKPT_PAGE;
		npages -= n;
	}
}

void store_forget_unseen(struct store *s, uint32_t pid)
{
	for (size_t i = 0; i < s->slots; i++)
		for (size_t k = 0;
		     s->hash[i] && s->hash[i]->pid == pid && k < STORE_CHUNK_PAGES / 64; k++)
			s->hash[i]->have[k] &= s->hash[i]->stored[k];
}

void store_forget_task(struct store *s, uint32_t pid)
{
	for (size_t i = 0; i < s->slots; i++) {
		struct store_chunk *c = s->hash[i];

		if (!c || c->pid != pid)
			continue;
		memset(c->have, 0, sizeof(c->have));
		memset(c->zero, 0, sizeof(c->zero));
		memset(c->stored, 0, sizeof(c->stored));
		memset(c->warm, 0, sizeof(c->warm));
	}
}

static int cool_chunk(struct store *s, struct store_chunk *c,
		      int (*read)(void *arg, uint64_t addr, void *data, size_t len), void *arg)
{
	char page[CKPT_PAGE];

	for (uint64_t p = 0; p < STORE_CHUNK_PAGES; p++) {
		uint64_t addr = (c->key - 1) * STORE_CHUNK + p * CKPT_PAGE;
		int rc;

		if (!bit(c->have, p) || bit(c->stored, p))
			continue;
		/* What is not mapped there any more came to nothing at the source, too. */
		rc = read(arg, addr, page, sizeof(page));
		if (rc) {
			c->have[p / 64] &= ~(1ull << (p % 64));
			continue;
		}
		rc = put_part(s, c, addr, 1, page, PLACE_STORE);
		if (rc)
			return rc;
	}
	memset(c->warm, 0, sizeof(c->warm));
	return 0;
}

int store_cool(struct store *s, uint32_t pid,
	       int (*read)(void *arg, uint64_t addr, void *data, size_t len), void *arg)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < s->slots; i++)
		if (s->hash[i] && s->hash[i]->pid == pid)
			rc = cool_chunk(s, s->hash[i], read, arg);
	return rc;
}

static int heat_chunk(struct store *s, struct store_chunk *c,
		      int (*write)(void *arg, uint64_t addr, const void *data, size_t len),
		      void *arg)
{
	char page[CKPT_PAGE];

	for (uint64_t p = 0; p < STORE_CHUNK_PAGES; p++) {
		uint64_t addr = (c->key - 1) * STORE_CHUNK + p * CKPT_PAGE;
		int rc;

		if (!bit(c->have, p) || !bit(c->stored, p) || bit(c->zero, p))
			continue;
		rc = io_pread_full(s->fd, page, sizeof(page), chunk_off(c, addr));
		if (rc)
			return rc;
		if (write(arg, addr, page, sizeof(page)))
			continue;
		rc = put_part(s, c, addr, 1, NULL, PLACE_WARM);
		if (rc)
			return rc;
		(void)fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)chunk_off(c, addr), CKPT_PAGE);
	}
	return 0;
}

int store_heat(struct store *s, uint32_t pid,
	       int (*write)(void *arg, uint64_t addr, const void *data, size_t len), void *arg)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < s->slots; i++)
		if (s->hash[i] && s->hash[i]->pid == pid)
			rc = heat_chunk(s, s->hash[i], write, arg);
	return rc;
}

void store_forget(struct store *s, uint32_t pid, uint64_t addr, uint64_t npages)
{
	for (; npages--; addr += CKPT_PAGE) {
		struct store_chunk *c = chunk_find(s, pid, addr);
		uint64_t page = addr % STORE_CHUNK / CKPT_PAGE;

		if (c)
			c->have[page / 64] &= ~(1ull << (page % 64));
	}
}

int store_read(const struct store *s, uint32_t pid, uint64_t addr, void *page)
{
	const struct store_chunk *c = chunk_find(s, pid, addr);
	uint64_t at = addr % STORE_CHUNK / CKPT_PAGE;

	if (!c || !bit(c->have, at))
		return -ENODATA;
	if (!bit(c->stored, at))
		return 1;
	if (bit(c->zero, at)) {
		memset(page, 0, CKPT_PAGE);
		return 0;
	}
	return io_pread_full(s->fd, page, CKPT_PAGE, chunk_off(c, addr));
}

uint64_t store_had(const struct store *s, uint32_t pid, uint64_t addr, uint64_t npages,
		   bool *ret_had)
{
	uint64_t n = 0;

	while (n < npages) {
		uint64_t page = addr % STORE_CHUNK / CKPT_PAGE, more;
		const struct store_chunk *c = chunk_find(s, pid, addr);
		bool had = c && bit(c->have, page);

		if (!n)
			*ret_had = had;
		else if (had != *ret_had)
			break;
		if (!c)
			more = STORE_CHUNK_PAGES - page;
		else if (had)
			more = ones_of_chunk(c->have, page);
		else
			more = ones_from(~c->have[page / 64], page % 64);
		if (more > npages - n)
			more = npages - n;
		n += more;
		addr += more * CKPT_PAGE;
	}
	return n;
}

static int chunk_cmp(const void *a, const void *b)
{
	const struct store_chunk *x = *(struct store_chunk *const *)a;
	const struct store_chunk *y = *(struct store_chunk *const *)b;

	return x->key < y->key ? -1 : x->key > y->key;
}

static int warm_runs_of(const struct store_chunk *c, struct mm_runs *ret)
{
	for (uint64_t p = 0, len; p < STORE_CHUNK_PAGES; p += len) {
		uint64_t at = (c->key - 1) * STORE_CHUNK + p * CKPT_PAGE;
		struct mm_run *last = ret->n ? &ret->v[ret->n - 1] : NULL;

		len = ones_from(~c->warm[p / 64], p % 64);
		if (len)
			continue;
		len = ones_of_chunk(c->warm, p);
		if (last && last->end == at) {
			last->end += len * CKPT_PAGE;
			continue;
		}
		last = vec_push(ret);
		if (!last)
			return -ENOMEM;
		*last = (struct mm_run) { at, at + len * CKPT_PAGE, STORE_WARM | at, CKPT_RUN_DATA,
					  0 };
	}
	return 0;
}

int store_warm_runs(const struct store *s, uint32_t pid, struct mm_runs *ret, struct ckpt_err *err)
{
	struct store_chunk **all = calloc(s->n + 1, sizeof(struct store_chunk *));
	size_t n = 0;
	int rc = all ? 0 : -ENOMEM;
	bool sorted = true;

	for (size_t i = 0; !rc && i < s->slots; i++)
		if (s->hash[i] && s->hash[i]->pid == pid)
			all[s->hash[i]->index] = s->hash[i];
	/* They mostly came in ascending order. */
	for (size_t i = 0; !rc && i < s->n; i++) {
		if (!all[i])
			continue;
		sorted = sorted && (!n || all[n - 1]->key < all[i]->key);
		all[n++] = all[i];
	}
	if (!sorted)
		qsort(all, n, sizeof(*all), chunk_cmp);
	for (size_t i = 0; !rc && i < n; i++)
		rc = warm_runs_of(all[i], ret);
	free(all);
	return rc ? ckpt_oom(err) : 0;
}

int store_put_final(struct store *s, uint64_t off, uint32_t npages, const void *data,
		    struct ckpt_err *err)
{
	uint64_t len = (uint64_t)npages * CKPT_PAGE;
	int rc;

	if (off > STORE_ROUNDS - len || off % CKPT_PAGE)
		return ckpt_fail(err, E_PEER, -EBADMSG, "pages at an impossible place");
	rc = io_pwrite_full(s->fd, data, len, off);
	return rc ? ckpt_fail_errno(err, E_NOMEM, rc, "cannot keep the last pages") : 0;
}

typedef VEC(struct ckpt_page_run) run_vec;

static int run_push(run_vec *v, const struct ckpt_page_run *r)
{
	struct ckpt_page_run *last = v->n ? &v->v[v->n - 1] : NULL;

	/* Data goes on in the file; shared pages are those of the same address space or object. */
	if (last && last->kind == r->kind &&
	    last->vaddr + (uint64_t)last->npages * CKPT_PAGE == r->vaddr &&
	    (r->kind != CKPT_RUN_DATA ||
	     last->off + (uint64_t)last->npages * CKPT_PAGE == r->off) &&
	    ((r->kind != CKPT_RUN_SHARED && r->kind != CKPT_RUN_PARENT) || last->off == r->off)) {
		last->npages += r->npages;
		return 0;
	}
	last = vec_push(v);
	if (!last)
		return -ENOMEM;
	*last = *r;
	return 0;
}

/* Are all pages of it there, in memory that has them? */
static bool is_warm(const struct store_chunk *c)
{
	uint64_t all = ~0ull, none = 0;

	for (size_t w = 0; w < STORE_CHUNK_PAGES / 64; w++) {
		all &= c->have[w];
		none |= c->zero[w] | c->stored[w];
	}
	return !~all && !none;
}

/* One "unchanged" run as runs of what is kept. */
static int resolve_run(const struct store *s, uint32_t pid, const struct ckpt_page_run *in,
		       run_vec *out)
{
	for (uint64_t i = 0, n; i < in->npages; i += n) {
		uint64_t addr = in->vaddr + i * CKPT_PAGE;
		uint64_t page = addr % STORE_CHUNK / CKPT_PAGE, w = page / 64, b = page % 64;
		const struct store_chunk *c = chunk_find(s, pid, addr);
		struct ckpt_page_run r = { .vaddr = addr };
		uint64_t alike;

		if (!c || !bit(c->have, page))
			return -ENODATA;
		if (bit(c->zero, page)) {
			alike = c->zero[w];
			r.kind = CKPT_RUN_ZERO;
		} else {
			bool stored = bit(c->stored, page);

			alike = ~c->zero[w] & (stored ? c->stored[w] : ~c->stored[w]);
			r.kind = CKPT_RUN_DATA;
			r.off = stored ? chunk_off(c, addr) : STORE_WARM | addr;
		}
		n = !page && is_warm(c) ? STORE_CHUNK_PAGES : ones_from(alike & c->have[w], b);
		if (n > in->npages - i)
			n = in->npages - i;
		r.npages = (uint32_t)n;
		if (run_push(out, &r))
			return -ENOMEM;
	}
	return 0;
}

/* Of an object: what its number has got (restore/early.c). */
static int resolve_shared(const struct store *s, const struct ckpt_page_run *in, run_vec *out)
{
	bool had = false;

	if (!in->off || in->off > MIG_SHARES_MAX ||
	    store_had(s, MIG_SHARED | (uint32_t)in->off, in->vaddr, in->npages, &had) !=
		    in->npages ||
	    !had)
		return -ENODATA;
	return run_push(out, in);
}

static uint32_t pid_of_mm(const struct image *img, uint32_t mm)
{
	for (size_t i = 0; i < img->tasks.n; i++)
		if (img->tasks.v[i]->mm == mm)
			return (uint32_t)img->tasks.v[i]->pid;
	return 0;
}

int store_resolve(struct store *s, struct image *img, struct ckpt_err *err)
{
	for (size_t i = 0; i < img->maps.n; i++) {
		Ckpt__PageMap *m = img->maps.v[i];
		const struct ckpt_page_run *in = (const void *)m->runs.data;
		uint32_t pid = m->mm ? pid_of_mm(img, m->mm) : 0;
		run_vec out = { 0 };
		int rc = 0;

		for (size_t k = 0; !rc && k < m->runs.len / sizeof(*in); k++)
			rc = in[k].kind != CKPT_RUN_PARENT ? run_push(&out, &in[k])
			     : m->object                   ? resolve_shared(s, &in[k], &out)
							   : resolve_run(s, pid, &in[k], &out);
		if (rc) {
			vec_free(&out);
			return ckpt_fail(err, rc == -ENOMEM ? E_NOMEM : E_PEER, rc,
					 "memory of task %u that was to stay the same never came",
					 pid);
		}
		free(m->runs.data);
		m->runs.data = (uint8_t *)out.v;
		m->runs.len = out.n * sizeof(*out.v);
	}
	if (dup3(s->fd, img->pages.fd[0], O_CLOEXEC) < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot use the memory file");
	return 0;
}
