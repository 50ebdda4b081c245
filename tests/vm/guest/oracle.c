// SPDX-License-Identifier: GPL-2.0-only
/*
 * What really changed, found without the module: the content of every page of
 * every private mapping before and after, read through /proc/PID/mem, and the
 * kernel's own soft-dirty bits.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm.h"

struct page_hash {
	uintptr_t addr;
	uint64_t hash;
};

struct image {
	struct page_hash *p;
	size_t n, cap;
};

static uint64_t hash_page(const unsigned char *data)
{
	const uint64_t *p = (const uint64_t *)data;
	uint64_t h = 0, any = 0;

	for (size_t i = 0; i < PAGE / 8; i++) {
		any |= p[i];
		h = (h ^ p[i]) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
	}
	return any ? h : 0; /* 0: all zero, like a page that is not there */
}

bool pid_maps(pid_t pid, void (*fn)(uintptr_t start, uintptr_t end, const char *perms, bool file,
				    void *arg), void *arg)
{
	char path[64], line[512], perms[8];
	uintptr_t start, end;
	unsigned long inode;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s %*s %*s %lu", &start, &end, perms,
			   &inode) == 4)
			fn(start, end, perms, inode || strstr(line, "[v"), arg);
	fclose(f);
	return true;
}

struct taking {
	struct image *img;
	int mem, pagemap;
};

static void take_page(struct image *img, uintptr_t addr, const unsigned char *data)
{
	uint64_t hash = hash_page(data);

	if (!hash)
		return;
	if (img->n == img->cap) {
		img->cap = img->cap ? img->cap * 2 : 4096;
		img->p = realloc(img->p, img->cap * sizeof(*img->p));
	}
	img->p[img->n++] = (struct page_hash){ addr, hash };
}

static void take_pages(struct taking *t, uintptr_t addr, size_t n)
{
	static unsigned char data[64 * PAGE];
	ssize_t got = pread(t->mem, data, n * PAGE, addr);

	for (size_t i = 0; i < n; i++) {
		/* At a hole (behind the end of a file) the rest is read page by page. */
		if (got < (ssize_t)((i + 1) * PAGE) && pread(t->mem, data + i * PAGE, PAGE, addr + i * PAGE) != PAGE)
			continue;
		take_page(t->img, addr + i * PAGE, data + i * PAGE);
	}
}

static void take_mapping(uintptr_t start, uintptr_t end, const char *perms, bool file, void *arg)
{
	uint64_t maps[64];
	struct taking *t = arg;

	if (perms[3] != 'p' || start >= (1UL << 47))
		return;
	for (uintptr_t a = start; a < end; a += 64 * PAGE) {
		size_t n = (end - a) / PAGE < 64 ? (end - a) / PAGE : 64;

		if (pread(t->pagemap, maps, n * 8, a / PAGE * 8) != (ssize_t)(n * 8))
			FAIL("cannot read pagemap at %#" PRIxPTR, a);
		for (size_t i = 0, more; i < n; i += more) {
			/* Without a page, anonymous memory is zero: nothing to keep. Read what is present or swapped. */
			for (more = 0; i + more < n && (file || maps[i + more] >> 62); more++)
				;
			if (more)
				take_pages(t, a + i * PAGE, more);
			else
				more = 1;
		}
	}
}

struct image *image_take(pid_t pid)
{
	struct taking t = { .img = calloc(1, sizeof(struct image)) };
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	t.mem = SYS(open(path, O_RDONLY | O_CLOEXEC));
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	t.pagemap = SYS(open(path, O_RDONLY | O_CLOEXEC));
	CHECK(pid_maps(pid, take_mapping, &t));
	close(t.mem);
	close(t.pagemap);
	return t.img;
}

void image_free(struct image *img)
{
	free(img->p);
	free(img);
}

bool run_covers(const struct vnl_result *r, uintptr_t addr, uint32_t *ret_state)
{
	size_t lo = 0, hi = r->nruns;

	if (r->flags & CKPT_RESULT_ALL)
		return true;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct ckpt_run *run = &r->runs[mid];

		if (addr < run->start)
			hi = mid;
		else if (addr >= run->start + run->pages * PAGE)
			lo = mid + 1;
		else {
			if (ret_state)
				*ret_state = run->state;
			return true;
		}
	}
	return false;
}

uint64_t runs_pages_in(const struct vnl_result *r, uintptr_t start, size_t pages)
{
	uint64_t n = 0;

	for (size_t i = 0; i < pages; i++)
		n += run_covers(r, start + i * PAGE, NULL);
	return n;
}

void runs_check_order(const struct vnl_result *r)
{
	uint64_t end = 0, pages = 0;

	for (uint64_t i = 0; i < r->nruns; i++) {
		const struct ckpt_run *run = &r->runs[i];

		if (run->start < end || !run->pages || run->start % PAGE || run->state < CKPT_RUN_DATA ||
		    run->state > CKPT_RUN_DATA_NOW)
			FAIL("run %" PRIu64 " is malformed: %#llx + %u state %u", i,
			     (unsigned long long)run->start, run->pages, run->state);
		end = run->start + (uint64_t)run->pages * PAGE;
		pages += run->pages;
	}
	if (pages != r->pages)
		FAIL("runs hold %" PRIu64 " pages, the answer said %" PRIu64, pages, r->pages);
}

static bool mapped_somewhere(const struct image *img, uintptr_t addr, uint64_t *ret_hash)
{
	size_t lo = 0, hi = img->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (addr < img->p[mid].addr)
			hi = mid;
		else if (addr > img->p[mid].addr)
			lo = mid + 1;
		else {
			*ret_hash = img->p[mid].hash;
			return true;
		}
	}
	*ret_hash = 0;
	return false;
}

struct lookup {
	uintptr_t addr;
	bool found;
};

static void contains(uintptr_t start, uintptr_t end, const char *perms, bool file, void *arg)
{
	struct lookup *l = arg;

	(void)perms;
	(void)file;
	l->found |= l->addr >= start && l->addr < end;
}

void image_check(const struct image *before, const struct image *after, const struct vnl_result *r)
{
	uint64_t hash;

	for (size_t i = 0; i < after->n; i++) {
		mapped_somewhere(before, after->p[i].addr, &hash);
		if (hash != after->p[i].hash && !run_covers(r, after->p[i].addr, NULL))
			FAIL("LOST: page %#" PRIxPTR " changed and is in no run (of %" PRIu64 ")",
			     after->p[i].addr, r->nruns);
	}
	/* Pages that became zero, i.e. are not in @after, but still mapped. */
	for (size_t i = 0; i < before->n; i++) {
		struct lookup l = { .addr = before->p[i].addr };

		if (mapped_somewhere(after, l.addr, &hash) || run_covers(r, l.addr, NULL))
			continue;
		pid_maps(r->pid, contains, &l);
		if (l.found)
			FAIL("LOST: page %#" PRIxPTR " became zero and is in no run", l.addr);
	}
}

void pages_soft_dirty(pid_t pid, uintptr_t addr, size_t n, bool *ret)
{
	uint64_t entry[512];
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
	for (size_t i = 0; i < n; i++) {
		size_t part = n - i < 512 ? n - i : 512;

		if (i % 512 == 0)
			CHECK(pread(fd, entry, part * 8, (addr / PAGE + i) * 8) == (ssize_t)(part * 8));
		ret[i] = (entry[i % 512] >> 55 & 1) && entry[i % 512] >> 62;
	}
	close(fd);
}

bool vma_has_flag(pid_t pid, uintptr_t addr, const char *flag)
{
	char path[64], line[512];
	uintptr_t start, end;
	bool in = false, found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
			in = addr >= start && addr < end;
		else if (in && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, flag);
	}
	fclose(f);
	return found;
}
