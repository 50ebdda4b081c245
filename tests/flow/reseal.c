// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test of its own: makes the checksums of a changed checkpoint right again.
 *	reseal DIR OLD-RECORDS	OLD-RECORDS: a copy of its records as they were
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct frame {
	uint32_t type, len;
	uint64_t xxh3;
};

struct file {
	char path[512];
	unsigned char *data;
	size_t len;
};

static void load(struct file *f, const char *dir, const char *name)
{
	FILE *in;

	(void)snprintf(f->path, sizeof(f->path), "%s%s%s", dir, *name ? "/" : "", name);
	in = fopen(f->path, "rb");
	if (!in)
		exit(2);
	f->data = calloc(1, 64 << 20);
	f->len = fread(f->data, 1, 64 << 20, in);
	(void)fclose(in);
}

static void store(const struct file *f)
{
	FILE *out = fopen(f->path, "wb");

	if (!out || fwrite(f->data, 1, f->len, out) != f->len || fclose(out))
		exit(2);
}

static void seal(struct file *f)
{
	for (size_t at = 8; at + sizeof(struct frame) <= f->len;) {
		struct frame h;

		memcpy(&h, f->data + at, sizeof(h));
		if (h.len > f->len - at - sizeof(h))
			exit(3);
		h.xxh3 = XXH3_64bits_withSeed(f->data + at + sizeof(h), h.len, (uint64_t)h.type << 32 | h.len);
		memcpy(f->data + at, &h, sizeof(h));
		at += sizeof(h) + ((h.len + 7) & ~7u);
	}
}

int main(int argc, char **argv)
{
	struct file records, old, inventory;
	XXH128_canonical_t was, is;

	if (argc != 3)
		return 2;
	load(&records, argv[1], "records");
	load(&inventory, argv[1], "inventory");
	load(&old, argv[2], "");
	seal(&records);
	store(&records);
	XXH128_canonicalFromHash(&was, XXH3_128bits(old.data, old.len));
	XXH128_canonicalFromHash(&is, XXH3_128bits(records.data, records.len));
	for (size_t i = 0; i + 16 <= inventory.len; i++)
		if (!memcmp(inventory.data + i, &was, 16))
			memcpy(inventory.data + i, &is, 16);
	seal(&inventory);
	store(&inventory);
	return 0;
}
