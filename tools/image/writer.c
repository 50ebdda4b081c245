// SPDX-License-Identifier: GPL-2.0-only
#include "image/writer.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/vec.h"

#define INVENTORY_TMP CKPT_FILE_INVENTORY ".tmp"
#define FLUSH_AT (4u << 20)

static const char *const image_files[] = { CKPT_FILE_RECORDS, INVENTORY_TMP };

static int fail_write(struct image_writer *w, struct ckpt_err *err, int rc, const char *name)
{
	return ckpt_fail_errno(err, E_IMAGE_WRITE, rc, "cannot write %s/%s", w->path, name);
}

static int dir_is_empty(int dir_fd)
{
	auto_fd dup_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_dir DIR *d = dup_fd >= 0 ? fdopendir(dup_fd) : NULL;
	struct dirent *e;

	if (!d)
		return -errno;
	dup_fd = -1; /* the stream owns it */
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			return 0;
	return 1;
}

void image_writer_init(struct image_writer *w)
{
	memset(w, 0, sizeof(*w));
	w->dir_fd = w->records_fd = -1;
	for (uint32_t i = 0; i < CKPT_STRIPES_MAX; i++)
		w->pages_fd[i] = -1;
	w->stripes = 1;
}

int image_open_stripe(struct image_writer *w, uint32_t file)
{
	char name[PAGE_FILE_NAME_BYTES];

	if (w->sink || w->pages_fd[file] >= 0)
		return 0;
	w->pages_fd[file] = openat(w->dir_fd, page_file_name(file, name),
				   O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return w->pages_fd[file] < 0 ? -errno : 0;
}

static int writer_init(struct image_writer *w, const char *path, struct ckpt_ui *ui,
		       struct ckpt_err *err)
{
	image_writer_init(w);
	w->ui = ui;
	w->path = strdup(path);
	w->sum_state = XXH3_createState();
	w->buf = malloc(w->cap = FLUSH_AT);
	if (!w->path || !w->sum_state || !w->buf)
		return ckpt_oom(err);
	XXH3_128bits_reset(w->sum_state);
	memcpy(w->buf, CKPT_IMAGE_MAGIC, CKPT_IMAGE_MAGIC_LEN);
	w->len = CKPT_IMAGE_MAGIC_LEN;
	return 0;
}

int image_create_stream(struct image_writer *w, struct image_sink *sink, struct ckpt_ui *ui,
			struct ckpt_err *err)
{
	int rc = writer_init(w, "the stream", ui, err);

	w->sink = sink;
	return rc;
}

/* What an image directory cannot be made or used for. */
static int dir_fail(struct ckpt_err *err, const char *what, const char *path)
{
	int rc = ckpt_fail_errno(err, E_IMAGE_DIR, -errno, "%s %s", what, path);

	if (rc == -ENOENT)
		return ckpt_remedy(err, "make the directory above it first (mkdir -p)");
	if (rc == -EROFS)
		return ckpt_remedy(err, "name a directory on a file system that can be written");
	if (rc == -ENOSPC || rc == -EDQUOT)
		return ckpt_remedy(err, "free space on the file system of the image and repeat");
	return rc;
}

int image_create(struct image_writer *w, const char *path, struct ckpt_ui *ui, struct ckpt_err *err)
{
	int rc;

	rc = writer_init(w, path, ui, err);
	if (rc)
		return rc;
	w->made_dir = !mkdir(path, 0700);
	if (!w->made_dir && errno != EEXIST)
		return dir_fail(err, "cannot create the image directory", path);
	w->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->dir_fd < 0)
		return dir_fail(err, "cannot open the image directory", path);
	rc = dir_is_empty(w->dir_fd);
	if (rc < 0)
		return ckpt_fail_errno(err, E_IMAGE_DIR, rc, "cannot read the image directory %s",
				       path);
	if (!rc) {
		close(w->dir_fd);
		w->dir_fd = -1; /* not ours: abort must not touch it */
		return ckpt_fail(err, E_IMAGE_DIR, -ENOTEMPTY,
				 "the image directory %s is not empty", path);
	}
	w->records_fd =
		openat(w->dir_fd, CKPT_FILE_RECORDS, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (w->records_fd < 0 || image_open_stripe(w, 0))
		return dir_fail(err, "cannot create files in", path);
	return 0;
}

uint64_t image_frame_sum(const struct ckpt_frame *f, const void *payload)
{
	return XXH3_64bits_withSeed(payload, f->len, ((uint64_t)f->type << 32) | f->len);
}

static int records_flush(struct image_writer *w, struct ckpt_err *err)
{
	int rc;

	if (w->sink)
		rc = w->sink->records(w->sink, w->buf, w->len, err);
	else
		rc = io_pwrite_full(w->records_fd, w->buf, w->len, w->records_bytes);
	if (rc)
		return fail_write(w, err, rc, CKPT_FILE_RECORDS);
	XXH3_128bits_update(w->sum_state, w->buf, w->len);
	w->records_bytes += w->len;
	w->len = 0;
	return 0;
}

/* Room for a frame with @len bytes; the payload is to be written behind the frame. */
static struct ckpt_frame *frame_room(struct image_writer *w, size_t len, struct ckpt_err *err)
{
	size_t need = sizeof(struct ckpt_frame) + ((len + 7) & ~7ul);

	if (len > CKPT_RECORD_MAX) {
		(void)ckpt_fail(err, E_INTERNAL, -E2BIG, "a record of %zu bytes is too large", len);
		return NULL;
	}
	if (w->len + need > w->cap) {
		if (records_flush(w, err))
			return NULL;
		if (need > w->cap) {
			unsigned char *p = realloc(w->buf, need);

			if (!p) {
				(void)ckpt_oom(err);
				return NULL;
			}
			w->buf = p;
			w->cap = need;
		}
	}
	return (struct ckpt_frame *)(w->buf + w->len);
}

int image_put(struct image_writer *w, enum ckpt_record type, const ProtobufCMessage *msg,
	      struct ckpt_err *err)
{
	size_t len = msg ? protobuf_c_message_get_packed_size(msg) : 0;
	struct ckpt_frame *f = frame_room(w, len, err);
	unsigned char *payload;
	size_t padded = (len + 7) & ~7ul;

	if (!f)
		return err->code;
	payload = (unsigned char *)(f + 1);
	if (msg)
		protobuf_c_message_pack(msg, payload);
	memset(payload + len, 0, padded - len);
	f->type = type;
	f->len = (uint32_t)len;
	f->xxh3 = image_frame_sum(f, payload);
	w->len += sizeof(*f) + padded;
	return 0;
}

static int put_page_sums(struct image_writer *w, struct ckpt_err *err)
{
	for (size_t at = 0; at < w->sums.n;) {
		Ckpt__PageSums m = CKPT__PAGE_SUMS__INIT;
		size_t n = w->sums.n - at;
		int rc;

		if (n > 65536)
			n = 65536;
		m.first = at;
		m.sums.data = (uint8_t *)(w->sums.v + at);
		m.sums.len = n * sizeof(*w->sums.v);
		rc = image_put(w, CKPT_REC_PAGESUMS, &m.base, err);
		if (rc)
			return rc;
		at += n;
	}
	return 0;
}

static int write_inventory(struct image_writer *w, Ckpt__Inventory *inv, struct ckpt_err *err)
{
	size_t len = ckpt__inventory__get_packed_size(inv);
	size_t total = CKPT_IMAGE_MAGIC_LEN + sizeof(struct ckpt_frame) + len;
	auto_free unsigned char *buf = malloc(total);
	auto_fd fd = -1;
	struct ckpt_frame f = { .type = CKPT_REC_INVENTORY, .len = (uint32_t)len };
	int rc;

	if (!buf)
		return ckpt_oom(err);
	memcpy(buf, CKPT_IMAGE_MAGIC, CKPT_IMAGE_MAGIC_LEN);
	ckpt__inventory__pack(inv, buf + CKPT_IMAGE_MAGIC_LEN + sizeof(f));
	f.xxh3 = image_frame_sum(&f, buf + CKPT_IMAGE_MAGIC_LEN + sizeof(f));
	memcpy(buf + CKPT_IMAGE_MAGIC_LEN, &f, sizeof(f));
	if (w->sink)
		return w->sink->commit(w->sink, buf, total, w->pages_bytes, err);
	fd = openat(w->dir_fd, INVENTORY_TMP, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	rc = fd < 0 ? -errno : io_pwrite_full(fd, buf, total, 0);
	if (!rc && fsync(fd))
		rc = -errno;
	if (!rc)
		rc = ckpt_fault("image.rename");
	if (!rc && renameat(w->dir_fd, INVENTORY_TMP, w->dir_fd, CKPT_FILE_INVENTORY))
		rc = -errno;
	if (!rc && fsync(w->dir_fd))
		rc = -errno;
	return rc ? fail_write(w, err, rc, CKPT_FILE_INVENTORY) : 0;
}

void image_stripe(struct image_writer *w, int threads)
{
	if (w->sink || w->how != PACK_HOW_NONE || threads < 2)
		return;
	w->stripes = threads < (int)CKPT_STRIPES_MAX ? (uint32_t)threads : CKPT_STRIPES_MAX;
}

void image_pack(struct image_writer *w, enum pack_how how)
{
	w->how = how;
	if (how != PACK_HOW_NONE)
		w->stripes = 1;
}

int image_take_pages(struct image_writer *w, int dir_fd, const struct page_file *from,
		     const uint64_t *sums, size_t n, struct ckpt_err *err)
{
	(void)close(w->pages_fd[0]);
	w->pages_fd[0] = -1;
	if (unlinkat(w->dir_fd, CKPT_FILE_PAGES, 0))
		return fail_write(w, err, -errno, CKPT_FILE_PAGES);
	for (uint32_t i = 0; i < from->n; i++) {
		char buf[PAGE_FILE_NAME_BYTES];
		const char *name = page_file_name(i, buf);

		if (linkat(dir_fd, name, w->dir_fd, name, 0))
			return fail_write(w, err, -errno, name);
		w->pages_fd[i] = openat(w->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (w->pages_fd[i] < 0)
			return fail_write(w, err, -errno, name);
	}
	for (size_t i = 0; i < n; i++) {
		uint64_t *sum = vec_push(&w->sums);

		if (!sum)
			return ckpt_oom(err);
		*sum = sums[i];
	}
	w->taken = true;
	w->stripes = from->stripes;
	w->pages_bytes = from->bytes;
	if (from->packed)
		w->how = PACK_HOW_LZ4; /* or another: its blocks say */
	return 0;
}

/* The end of the page file. 0 or -errno. */
static int end_pages(struct image_writer *w)
{
	if (w->sink || w->taken)
		return 0;
	if (w->how != PACK_HOW_NONE)
		return pack_put_index(w->pages_fd[0], w->packed.v, w->packed.n,
				      atomic_load(&w->packed_bytes));
	for (uint32_t i = 0; i < w->stripes; i++)
		if (w->pages_fd[i] >= 0 &&
		    ftruncate(w->pages_fd[i],
			      (off_t)page_place_bytes(w->stripes, i, w->pages_bytes)))
			return -errno;
	return 0;
}

/* What a reader has to know of the page file; NULL: nothing. */
static const char *pages_feature(const struct image_writer *w)
{
	if (w->how != PACK_HOW_NONE)
		return IMAGE_FEATURE_PACKED;
	/* The second file is made with the second stripe: before, there is nothing to know. */
	return w->pages_fd[1] >= 0 ? IMAGE_FEATURE_STRIPED : NULL;
}

/* With the inventory as @w makes it. */
static int put_inventory(struct image_writer *w, Ckpt__Inventory *inv, struct ckpt_err *err)
{
	auto_free char **required = calloc(inv->n_required + 1, sizeof(*required));
	const char *feature = pages_feature(w);
	char **was = inv->required;
	size_t n = inv->n_required;
	int rc;

	inv->stripes = w->pages_fd[1] >= 0 ? w->stripes : 0;
	if (!feature)
		return write_inventory(w, inv, err);
	if (!required)
		return ckpt_oom(err);
	for (size_t i = 0; i < n; i++)
		required[i] = was[i];
	required[n] = (char *)feature;
	inv->required = required;
	inv->n_required = n + 1;
	rc = write_inventory(w, inv, err);
	inv->required = was;
	inv->n_required = n;
	return rc;
}

int image_commit(struct image_writer *w, Ckpt__Inventory *inv, struct ckpt_err *err)
{
	Ckpt__FileDigest rec = CKPT__FILE_DIGEST__INIT, pages = CKPT__FILE_DIGEST__INIT;
	Ckpt__FileDigest *files[] = { &rec, &pages };
	XXH128_canonical_t rec_sum, pages_sum, id;
	XXH128_canonical_t both[2];
	int rc = put_page_sums(w, err);

	if (!rc)
		rc = image_put(w, CKPT_REC_END, NULL, err);
	if (!rc)
		rc = records_flush(w, err);
	if (rc)
		return rc;
	XXH128_canonicalFromHash(&rec_sum, XXH3_128bits_digest(w->sum_state));
	/* The page file's digest is that of its block sums, which the records hold. */
	XXH128_canonicalFromHash(&pages_sum,
				 XXH3_128bits(w->sums.v, w->sums.n * sizeof(*w->sums.v)));
	both[0] = rec_sum;
	both[1] = pages_sum;
	XXH128_canonicalFromHash(&id, XXH3_128bits(both, sizeof(both)));
	rec.name = (char *)CKPT_FILE_RECORDS;
	rec.bytes = w->records_bytes;
	rec.digest = (ProtobufCBinaryData) { sizeof(rec_sum), rec_sum.digest };
	pages.name = (char *)CKPT_FILE_PAGES;
	pages.bytes = w->pages_bytes;
	pages.digest = (ProtobufCBinaryData) { sizeof(pages_sum), pages_sum.digest };
	inv->format = CKPT_IMAGE_FORMAT;
	inv->n_files = ARRAY_SIZE(files);
	inv->files = files;
	memcpy(w->content_id, id.digest, sizeof(w->content_id));
	inv->content_id = (ProtobufCBinaryData) { sizeof(id), id.digest };
	rc = end_pages(w);
	if (!rc)
		rc = ckpt_fault("image.fsync");
	if (!rc && !w->sink && fdatasync(w->records_fd))
		rc = -errno;
	for (uint32_t i = 0; !rc && i < w->stripes; i++)
		if (w->pages_fd[i] >= 0 && fdatasync(w->pages_fd[i]))
			rc = -errno;
	rc = rc ? fail_write(w, err, rc, CKPT_FILE_PAGES) : put_inventory(w, inv, err);
	/* These live on our stack. */
	inv->n_files = 0;
	inv->files = NULL;
	inv->content_id = (ProtobufCBinaryData) { 0 };
	if (!rc && !w->sink) {
		close(w->dir_fd);
		w->dir_fd = -1; /* committed: abort only frees */
	}
	return rc;
}

void image_abort(struct image_writer *w)
{
	char name[PAGE_FILE_NAME_BYTES];

	if (w->dir_fd >= 0) {
		for (size_t i = 0; i < ARRAY_SIZE(image_files); i++)
			(void)unlinkat(w->dir_fd, image_files[i], 0);
		for (uint32_t i = 0; i < CKPT_STRIPES_MAX; i++)
			if (w->pages_fd[i] >= 0)
				(void)unlinkat(w->dir_fd, page_file_name(i, name), 0);
		(void)close(w->dir_fd);
		if (w->made_dir)
			(void)rmdir(w->path);
	}
	if (w->records_fd >= 0)
		(void)close(w->records_fd);
	for (uint32_t i = 0; i < CKPT_STRIPES_MAX; i++)
		if (w->pages_fd[i] >= 0)
			(void)close(w->pages_fd[i]);
	XXH3_freeState(w->sum_state);
	vec_free(&w->sums);
	vec_free(&w->packed);
	free(w->buf);
	free(w->path);
	image_writer_init(w);
}
