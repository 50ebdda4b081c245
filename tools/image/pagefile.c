// SPDX-License-Identifier: GPL-2.0-only
#include "image/pagefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

struct page_place page_place(uint32_t stripes, uint64_t off)
{
	uint64_t stripe = off / CKPT_STRIPE_BYTES, in = off % CKPT_STRIPE_BYTES;

	if (stripes < 2)
		return (struct page_place) { 0, off, UINT64_MAX - off };
	return (struct page_place) { (uint32_t)(stripe % stripes),
				     stripe / stripes * CKPT_STRIPE_BYTES + in,
				     CKPT_STRIPE_BYTES - in };
}

uint64_t page_place_bytes(uint32_t stripes, uint32_t file, uint64_t bytes)
{
	uint64_t turn = (uint64_t)CKPT_STRIPE_BYTES * stripes, whole = bytes / turn;
	uint64_t rest = bytes % turn, before = (uint64_t)file * CKPT_STRIPE_BYTES;

	if (file >= stripes)
		return 0;
	rest = rest > before ? rest - before : 0;
	return whole * CKPT_STRIPE_BYTES + (rest < CKPT_STRIPE_BYTES ? rest : CKPT_STRIPE_BYTES);
}

const char *page_file_name(uint32_t file, char buf[static PAGE_FILE_NAME_BYTES])
{
	if (!file)
		return CKPT_FILE_PAGES;
	(void)snprintf(buf, PAGE_FILE_NAME_BYTES, CKPT_FILE_PAGES ".%u", file);
	return buf;
}

static bool inventory_needs(const Ckpt__Inventory *inv, const char *feature)
{
	for (size_t i = 0; i < inv->n_required; i++)
		if (!strcmp(inv->required[i], feature))
			return true;
	return false;
}

/* Open the next file; *ret_bytes is how long it is. */
static int open_one(struct page_file *p, int dir_fd, uint64_t *ret_bytes)
{
	char name[PAGE_FILE_NAME_BYTES];
	struct stat st;
	int fd = openat(dir_fd, page_file_name(p->n, name), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	p->fd[p->n++] = fd;
	if (fstat(fd, &st))
		return -errno;
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

int page_file_open(struct page_file *p, int dir_fd, const Ckpt__Inventory *inv, uint64_t bytes)
{
	bool striped = inventory_needs(inv, IMAGE_FEATURE_STRIPED);
	uint64_t has;
	int rc = 0;

	memset(p, 0, sizeof(*p));
	p->bytes = bytes;
	p->packed = inventory_needs(inv, IMAGE_FEATURE_PACKED);
	p->stripes = striped ? inv->stripes : 1;
	if (!p->stripes || p->stripes > CKPT_STRIPES_MAX || (p->packed && striped))
		return -EBADMSG;
	if (p->packed) {
		rc = open_one(p, dir_fd, &has);
		return rc ? rc
			  : pack_get_index(p->fd[0], has,
					   (bytes + CKPT_PAGE_SUM_BYTES - 1) / CKPT_PAGE_SUM_BYTES,
					   &p->pack);
	}
	while (!rc && p->n < p->stripes && (!p->n || page_place_bytes(p->stripes, p->n, bytes))) {
		rc = open_one(p, dir_fd, &has);
		if (!rc && has != page_place_bytes(p->stripes, p->n - 1, bytes))
			rc = -EBADMSG;
	}
	return rc;
}

void page_file_close(struct page_file *p)
{
	for (uint32_t i = 0; i < p->n; i++)
		(void)close(p->fd[i]);
	free(p->pack.v);
	memset(p, 0, sizeof(*p));
}

int page_file_read(const struct page_file *p, void *buf, uint64_t len, uint64_t off)
{
	while (len) {
		struct page_place at = page_place(p->stripes, off);
		uint64_t n = len < at.room ? len : at.room;
		int rc = at.file < p->n ? io_pread_full(p->fd[at.file], buf, n, at.off) : -ENODATA;

		if (rc)
			return rc;
		buf = (char *)buf + n;
		off += n;
		len -= n;
	}
	return 0;
}

void page_file_replace(struct page_file *p, int fd)
{
	uint64_t bytes = p->bytes;

	page_file_close(p);
	*p = (struct page_file) { .bytes = bytes, .stripes = 1, .n = 1, .fd = { fd } };
}
