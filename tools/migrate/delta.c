// SPDX-License-Identifier: GPL-2.0-only
#include "migrate/delta.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "image/format.h"

#define WAYS 8u

/* A page can be in one of the WAYS places of its set. */
struct delta_cache {
	size_t sets;
	uint64_t *keys; /* 0: free */
	uint32_t *used; /* when, by the clock */
	uint32_t clock;
	char *pages;
};

static uint64_t key_of(uint32_t pid, uint64_t addr)
{
	return (uint64_t)pid << 35 | addr / CKPT_PAGE;
}

static size_t set_of(const struct delta_cache *c, uint64_t key)
{
	return (size_t)((key * 0x9e3779b97f4a7c15ull >> 24) % c->sets) * WAYS;
}

struct delta_cache *delta_open(uint64_t bytes)
{
	struct delta_cache *c = calloc(1, sizeof(*c));
	size_t n;

	if (!c)
		return NULL;
	c->sets = (size_t)(bytes / CKPT_PAGE / WAYS);
	n = c->sets * WAYS;
	c->keys = calloc(n + 1, sizeof(*c->keys));
	c->used = calloc(n + 1, sizeof(*c->used));
	c->pages = n ? mmap(NULL, n * CKPT_PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
		     : MAP_FAILED;
	if (c->keys && c->used && c->pages != MAP_FAILED)
		return c;
	delta_close(c);
	return NULL;
}

void delta_close(struct delta_cache *c)
{
	if (!c)
		return;
	if (c->pages && c->pages != MAP_FAILED)
		(void)munmap(c->pages, c->sets * WAYS * CKPT_PAGE);
	free(c->keys);
	free(c->used);
	free(c);
}

uint64_t delta_pages(const struct delta_cache *c)
{
	return c ? c->sets * WAYS : 0;
}

static size_t find(const struct delta_cache *c, uint64_t key, bool *ret_found)
{
	size_t first = set_of(c, key), old = first;

	for (size_t i = first; i < first + WAYS; i++) {
		*ret_found = c->keys[i] == key;
		if (*ret_found)
			return i;
		/* Whoever was not used for longest, a free place first. */
		if (!c->keys[i] ||
		    (c->keys[old] && c->clock - c->used[i] > c->clock - c->used[old]))
			old = i;
	}
	return old;
}

void *delta_find(struct delta_cache *c, uint32_t pid, uint64_t addr)
{
	bool found;
	size_t i;

	if (!c)
		return NULL;
	i = find(c, key_of(pid, addr), &found);
	if (!found)
		return NULL;
	c->used[i] = ++c->clock;
	return c->pages + i * CKPT_PAGE;
}

void delta_keep(struct delta_cache *c, uint32_t pid, uint64_t addr, const void *page)
{
	uint64_t key = key_of(pid, addr);
	bool found;
	size_t i;

	if (!c)
		return;
	i = find(c, key, &found);
	c->keys[i] = key;
	c->used[i] = ++c->clock;
	memcpy(c->pages + i * CKPT_PAGE, page, CKPT_PAGE);
}

void delta_drop(struct delta_cache *c, uint32_t pid, uint64_t addr)
{
	bool found = false;
	size_t i = c ? find(c, key_of(pid, addr), &found) : 0;

	if (found)
		c->keys[i] = 0;
}

uint32_t delta_xor(uint64_t *ret, const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	uint32_t differ = 0;

	for (size_t i = 0; i < CKPT_PAGE / sizeof(*ret); i++) {
		ret[i] = x[i] ^ y[i];
		differ += ret[i] != 0;
	}
	return differ;
}
