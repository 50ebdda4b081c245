// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: the reader of images. The input is a list of { u8 type, u16 length, payload }; it becomes
 * a directory whose checksums, sizes and digests are right, so that the decoders behind them are met.
 * What they accept is walked as a restore would walk it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/io.h"
#include "image/chain.h"
#include "image/reader.h"
#include "image/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[256];

static void put_file(const char *name, const void *buf, size_t len)
{
	char path[300];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || io_pwrite_full(fd, buf, len, 0))
		abort();
	(void)close(fd);
}

static size_t put_frame(unsigned char *to, uint32_t type, const void *payload, uint32_t len)
{
	struct ckpt_frame f = { .type = type, .len = len };

	f.xxh3 = image_frame_sum(&f, payload);
	memcpy(to, &f, sizeof(f));
	if (len)
		memcpy(to + sizeof(f), payload, len);
	return sizeof(f) + ((len + 7) & ~7u);
}

static void put_inventory(const void *records, size_t len)
{
	Ckpt__Inventory inv = CKPT__INVENTORY__INIT;
	Ckpt__FileDigest rec = CKPT__FILE_DIGEST__INIT, pag = CKPT__FILE_DIGEST__INIT;
	Ckpt__FileDigest *files[] = { &rec, &pag };
	XXH128_canonical_t a, b;
	unsigned char buf[4096] = { 0 }, payload[2048];
	size_t n;

	XXH128_canonicalFromHash(&a, XXH3_128bits(records, len));
	XXH128_canonicalFromHash(&b, XXH3_128bits("", 0));
	rec.name = (char *)CKPT_FILE_RECORDS;
	rec.bytes = len;
	rec.digest = (ProtobufCBinaryData) { 16, a.digest };
	pag.name = (char *)CKPT_FILE_PAGES;
	pag.digest = (ProtobufCBinaryData) { 16, b.digest };
	inv.format = CKPT_IMAGE_FORMAT;
	inv.machine = (char *)"x86_64";
	inv.page_bytes = CKPT_PAGE;
	inv.n_files = 2;
	inv.files = files;
	inv.content_id = (ProtobufCBinaryData) { 16, a.digest };
	n = ckpt__inventory__pack(&inv, payload);
	memcpy(buf, CKPT_IMAGE_MAGIC, CKPT_IMAGE_MAGIC_LEN);
	(void)put_frame(buf + CKPT_IMAGE_MAGIC_LEN, CKPT_REC_INVENTORY, payload, (uint32_t)n);
	put_file(CKPT_FILE_INVENTORY, buf, CKPT_IMAGE_MAGIC_LEN + sizeof(struct ckpt_frame) + n);
}

static void walk(struct image *img)
{
	uint64_t seen = 0;

	for (uint32_t id = 1; id <= img->mms.n; id++) {
		struct image_maps maps = image_maps_of_mm(img, id);

		for_each_image_run(run, maps) seen += run->npages;
	}
	for (uint32_t id = 1; id <= img->objects.n; id++) {
		struct image_maps maps = image_maps_of_object(img, id);

		for_each_image_run(run, maps) seen += run->npages;
	}
	for (size_t i = 0; i < img->tasks.n; i++)
		if (image_task(img, img->tasks.v[i]->pid, NULL) != img->tasks.v[i])
			abort();
	(void)seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *buf = calloc(1, 64 + size * 24), *p = buf;
	struct ckpt_err err = { 0 };
	struct image img;

	if (!buf)
		return 0;
	if (!dir[0]) {
		(void)snprintf(dir, sizeof(dir), "%.200s/image-XXXXXX",
			       getenv("T_DIR") ? getenv("T_DIR") : "/tmp");
		if (!mkdtemp(dir))
			abort();
		put_file(CKPT_FILE_PAGES, "", 0);
	}
	memcpy(p, CKPT_IMAGE_MAGIC, CKPT_IMAGE_MAGIC_LEN);
	p += CKPT_IMAGE_MAGIC_LEN;
	while (size >= 3) {
		uint32_t len = data[1] | (uint32_t)data[2] << 8, type = data[0];

		data += 3;
		size -= 3;
		if (len > size)
			len = (uint32_t)size;
		p += put_frame(p, type, data, len);
		data += len;
		size -= len;
	}
	p += put_frame(p, CKPT_REC_END, "", 0);
	put_file(CKPT_FILE_RECORDS, buf, (size_t)(p - buf));
	put_inventory(buf, (size_t)(p - buf));
	if (!image_read(&img, dir, &err))
		walk(&img);
	image_free(&img);
	free(buf);
	return 0;
}
