/* SPDX-License-Identifier: GPL-2.0-only */
/* What the fuzzers of images share: putting checksum-correct files together. */
#ifndef CKPT_FUZZ_H
#define CKPT_FUZZ_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "input.h"

#include "base/io.h"
#include "image/format.h"
#include "image/writer.h"

static inline void put_file(const char *dir, const char *name, const void *buf, size_t len)
{
	char path[300];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || io_pwrite_full(fd, buf, len, 0))
		abort();
	(void)close(fd);
}

/* A directory of our own, made once. */
static inline const char *work_dir(void)
{
	static char dir[256];

	if (!dir[0]) {
		(void)snprintf(dir, sizeof(dir), "%.200s/fuzz-XXXXXX",
			       getenv("T_DIR") ? getenv("T_DIR") : "/tmp");
		if (!mkdtemp(dir))
			abort();
	}
	return dir;
}

static inline size_t put_frame(unsigned char *to, uint32_t type, const void *payload, uint32_t len)
{
	struct ckpt_frame f = { .type = type, .len = len };

	f.xxh3 = image_frame_sum(&f, payload);
	memcpy(to, &f, sizeof(f));
	if (len)
		memcpy(to + sizeof(f), payload, len);
	return sizeof(f) + ((len + 7) & ~7u);
}

/* Room for put_records() of an input of @size bytes. */
#define RECORDS_ROOM(size) (64 + (size) * 24)

/* A list of { u8 type, u16 length, payload } as a record file in zeroed @buf; how long it is. */
static inline size_t put_records(unsigned char *buf, struct input in)
{
	unsigned char *p = buf;

	memcpy(p, CKPT_IMAGE_MAGIC, CKPT_IMAGE_MAGIC_LEN);
	p += CKPT_IMAGE_MAGIC_LEN;
	while (in.left >= 3) {
		uint32_t type = (uint32_t)take(&in, 1);
		struct input payload = take_piece(&in, take(&in, 2));

		p += put_frame(p, type, payload.p, (uint32_t)payload.left);
	}
	p += put_frame(p, CKPT_REC_END, "", 0);
	return (size_t)(p - buf);
}

/* The inventory of a checkpoint with these records and @pages_bytes of pages, whose digest is that
 * of no pages; how long it is. @buf has 4096 bytes. */
static inline size_t put_inventory(unsigned char *buf, const void *records, size_t len,
				   uint64_t pages_bytes)
{
	Ckpt__Inventory inv = CKPT__INVENTORY__INIT;
	Ckpt__FileDigest rec = CKPT__FILE_DIGEST__INIT, pag = CKPT__FILE_DIGEST__INIT;
	Ckpt__FileDigest *files[] = { &rec, &pag };
	XXH128_canonical_t a, b;
	unsigned char payload[2048];
	size_t n;

	XXH128_canonicalFromHash(&a, XXH3_128bits(records, len));
	XXH128_canonicalFromHash(&b, XXH3_128bits("", 0));
	rec.name = (char *)CKPT_FILE_RECORDS;
	rec.bytes = len;
	rec.digest = (ProtobufCBinaryData) { 16, a.digest };
	pag.name = (char *)CKPT_FILE_PAGES;
	pag.bytes = pages_bytes;
	pag.digest = (ProtobufCBinaryData) { 16, b.digest };
	inv.format = CKPT_IMAGE_FORMAT;
	inv.machine = (char *)"x86_64";
	inv.page_bytes = CKPT_PAGE;
	inv.n_files = 2;
	inv.files = files;
	inv.content_id = (ProtobufCBinaryData) { 16, a.digest };
	n = ckpt__inventory__pack(&inv, payload);
	memset(buf, 0, 4096);
	memcpy(buf, CKPT_IMAGE_MAGIC, CKPT_IMAGE_MAGIC_LEN);
	(void)put_frame(buf + CKPT_IMAGE_MAGIC_LEN, CKPT_REC_INVENTORY, payload, (uint32_t)n);
	return CKPT_IMAGE_MAGIC_LEN + sizeof(struct ckpt_frame) + n;
}

#endif
