// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: the reader of images. The input is a list of { u8 type, u16 length, payload }; it becomes
 * a directory whose checksums, sizes and digests are right, so that the decoders behind them are met.
 * What they accept is walked as a restore would walk it.
 */
#include "fuzz.h"

#include "image/chain.h"
#include "image/reader.h"

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
	unsigned char *buf = calloc(1, RECORDS_ROOM(size)), inventory[4096];
	const char *dir = work_dir();
	struct ckpt_err err = { 0 };
	struct image img;
	size_t len;

	if (!buf)
		return 0;
	len = put_records(buf, (struct input) { data, size });
	put_file(dir, CKPT_FILE_PAGES, "", 0);
	put_file(dir, CKPT_FILE_RECORDS, buf, len);
	put_file(dir, CKPT_FILE_INVENTORY, inventory, put_inventory(inventory, buf, len, 0));
	if (!image_read(&img, dir, &err))
		walk(&img);
	image_free(&img);
	free(buf);
	return 0;
}
