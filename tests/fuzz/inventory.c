// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: the inventory. The first byte says what the rest is: the file as it is, or a message that
 * gets its magic number and checksum.
 */
#include "fuzz.h"

#include "image/reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *buf = calloc(1, 64 + size);
	const char *dir = work_dir();
	struct ckpt_err err = { 0 };
	struct image img;
	size_t len;

	if (!buf || !size) {
		free(buf);
		return 0;
	}
	len = --size;
	memcpy(buf, data + 1, size);
	if (data[0] & 1) {
		memcpy(buf, CKPT_IMAGE_MAGIC, CKPT_IMAGE_MAGIC_LEN);
		(void)put_frame(buf + CKPT_IMAGE_MAGIC_LEN, CKPT_REC_INVENTORY, data + 1, (uint32_t)size);
		len = CKPT_IMAGE_MAGIC_LEN + sizeof(struct ckpt_frame) + size;
	}
	put_file(dir, CKPT_FILE_INVENTORY, buf, len);
	put_file(dir, CKPT_FILE_RECORDS, "", 0);
	put_file(dir, CKPT_FILE_PAGES, "", 0);
	if (!image_read_inventory(&img, dir, &err)) {
		struct page_file pages;

		(void)!page_file_open(&pages, img.dir_fd, img.inv, (uint64_t)len << (data[0] % 40));
		page_file_close(&pages);
	}
	image_free(&img);
	if (image_read(&img, dir, &err))
		image_free(&img);
	else
		abort(); /* no records */
	free(buf);
	return 0;
}
