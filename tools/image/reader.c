// SPDX-License-Identifier: GPL-2.0-only
#include "image/reader.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/sum.h"
#include "base/vec.h"
#include "image/writer.h"

#define INVENTORY_MAX (1u << 20)

static int corrupt(struct image *img, struct ckpt_err *err, const char *what)
{
	return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "the checkpoint in %s is damaged: %s",
			 img->path, what);
}

/* One frame at @p, of which @left bytes remain. Advances *p over it. */
static int frame_next(struct image *img, const unsigned char **p, size_t *left,
		      struct ckpt_frame *ret, const unsigned char **ret_payload,
		      struct ckpt_err *err)
{
	size_t padded;

	if (*left < sizeof(*ret))
		return corrupt(img, err, "records end in the middle of a frame");
	memcpy(ret, *p, sizeof(*ret));
	padded = ((size_t)ret->len + 7) & ~7ul;
	if (ret->len > CKPT_RECORD_MAX || padded > *left - sizeof(*ret))
		return corrupt(img, err, "a record is longer than its file");
	*ret_payload = *p + sizeof(*ret);
	if (image_frame_sum(ret, *ret_payload) != ret->xxh3)
		return corrupt(img, err, "the checksum of a record does not match");
	*p += sizeof(*ret) + padded;
	*left -= sizeof(*ret) + padded;
	return 0;
}

static int read_inventory(struct image *img, struct ckpt_err *err)
{
	static const char *const known[] = { "chain", IMAGE_FEATURE_PACKED, IMAGE_FEATURE_STRIPED,
					     NULL };
	auto_fd fd = openat(img->dir_fd, CKPT_FILE_INVENTORY, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	auto_free unsigned char *buf = NULL;
	const unsigned char *p, *payload;
	struct ckpt_frame f;
	struct stat st;
	size_t left;
	int rc;

	if (fd < 0 && errno == ENOENT)
		return ckpt_fail(err, E_IMAGE_MISSING, -ENOENT,
				 "%s holds no finished checkpoint (it has no inventory)",
				 img->path);
	if (fd < 0 || fstat(fd, &st))
		return ckpt_fail_errno(err, E_IMAGE_MISSING, -errno, "cannot open %s/inventory",
				       img->path);
	if (st.st_size < CKPT_IMAGE_MAGIC_LEN || st.st_size > INVENTORY_MAX)
		return corrupt(img, err, "the inventory has an impossible size");
	buf = malloc((size_t)st.st_size + 8);
	if (!buf)
		return ckpt_oom(err);
	memset(buf, 0, (size_t)st.st_size + 8);
	rc = io_pread_full(fd, buf, (size_t)st.st_size, 0);
	if (rc)
		return ckpt_fail_errno(err, E_IMAGE_MISSING, rc, "cannot read %s/inventory",
				       img->path);
	if (memcmp(buf, CKPT_IMAGE_MAGIC, CKPT_IMAGE_MAGIC_LEN) != 0)
		return ckpt_fail(err, E_IMAGE_VERSION, -EPROTO, "%s is not a checkpoint of ckpt",
				 img->path);
	p = buf + CKPT_IMAGE_MAGIC_LEN;
	left = ((size_t)st.st_size - CKPT_IMAGE_MAGIC_LEN + 7) & ~7ul;
	rc = frame_next(img, &p, &left, &f, &payload, err);
	if (rc)
		return rc;
	if (f.type != CKPT_REC_INVENTORY ||
	    (uint64_t)st.st_size != CKPT_IMAGE_MAGIC_LEN + sizeof(f) + f.len)
		return corrupt(img, err, "the inventory is not one record");
	img->inv = ckpt__inventory__unpack(NULL, f.len, payload);
	if (!img->inv)
		return corrupt(img, err, "the inventory is malformed");
	if (img->inv->format != CKPT_IMAGE_FORMAT)
		return ckpt_fail(err, E_IMAGE_VERSION, -EPROTO,
				 "%s has format %u, this ckpt reads format %u", img->path,
				 img->inv->format, CKPT_IMAGE_FORMAT);
	for (size_t i = 0; i < img->inv->n_required; i++) {
		bool ok = false;

		for (size_t k = 0; known[k]; k++)
			ok |= !strcmp(known[k], img->inv->required[i]);
		if (!ok)
			return ckpt_fail(err, E_IMAGE_VERSION, -EPROTO,
					 "%s needs the feature \"%s\"", img->path,
					 img->inv->required[i]);
	}
	if (!img->inv->machine || strcmp(img->inv->machine, "x86_64") != 0)
		return ckpt_fail(err, E_IMAGE_VERSION, -EPROTO, "%s is of a machine \"%s\"",
				 img->path, img->inv->machine);
	if (img->inv->page_bytes != CKPT_PAGE)
		return corrupt(img, err, "pages are not of 4096 bytes");
	return 0;
}

/* Unpack a record into the list of its type. */
static int take_record(struct image *img, const struct ckpt_frame *f, const unsigned char *payload,
		       struct ckpt_err *err)
{
	static const struct {
		uint32_t type;
		const ProtobufCMessageDescriptor *desc;
		size_t list; /* offset of the list in struct image */
	} types[] = {
		{ CKPT_REC_TASK, &ckpt__task__descriptor, offsetof(struct image, tasks) },
		{ CKPT_REC_MM, &ckpt__mm__descriptor, offsetof(struct image, mms) },
		{ CKPT_REC_FDTABLE, &ckpt__fd_table__descriptor, offsetof(struct image, tables) },
		{ CKPT_REC_OBJECT, &ckpt__object__descriptor, offsetof(struct image, objects) },
		{ CKPT_REC_PAGEMAP, &ckpt__page_map__descriptor, offsetof(struct image, maps) },
		{ CKPT_REC_PAGEHASHES, &ckpt__page_hashes__descriptor,
		  offsetof(struct image, hashes) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		VEC(ProtobufCMessage *) *list = (void *)((char *)img + types[i].list);
		ProtobufCMessage **slot;

		if (types[i].type != f->type)
			continue;
		slot = vec_push(list);
		if (!slot)
			return ckpt_oom(err);
		*slot = protobuf_c_message_unpack(types[i].desc, NULL, f->len, payload);
		if (!*slot) {
			list->n--;
			return corrupt(img, err, "a record is malformed");
		}
		return 0;
	}
	if (f->type == CKPT_REC_PAGESUMS) {
		Ckpt__PageSums *m = ckpt__page_sums__unpack(NULL, f->len, payload);
		int rc = 0;

		if (!m || m->first != img->sums.n || m->sums.len % 8)
			rc = corrupt(img, err, "page sums are malformed");
		for (size_t i = 0; !rc && i < m->sums.len / 8; i++) {
			uint64_t *s = vec_push(&img->sums);

			if (!s)
				rc = ckpt_oom(err);
			else
				memcpy(s, m->sums.data + i * 8, 8);
		}
		if (m)
			ckpt__page_sums__free_unpacked(m, NULL);
		return rc;
	}
	if (f->type == CKPT_REC_CHAIN) {
		if (img->chain)
			return corrupt(img, err, "it has two chains");
		img->chain = ckpt__chain__unpack(NULL, f->len, payload);
		return img->chain ? 0 : corrupt(img, err, "its chain is malformed");
	}
	return ckpt_fail(err, E_IMAGE_VERSION, -EPROTO, "%s has a record of unknown type %u",
			 img->path, f->type);
}

static const Ckpt__FileDigest *find_file(const struct image *img, const char *name)
{
	for (size_t i = 0; i < img->inv->n_files; i++)
		if (!strcmp(img->inv->files[i]->name, name) && img->inv->files[i]->digest.len == 16)
			return img->inv->files[i];
	return NULL;
}

/* To map fewer bytes takes longer than to read them. */
#define MAPPED_MIN (256u << 10)

/* *ret_copy is to be freed; where that is NULL *ret is to be unmapped. */
static int records_get(const struct image *img, int fd, size_t bytes, const unsigned char **ret,
		       unsigned char **ret_copy, struct ckpt_err *err)
{
	void *mapped;
	int rc;

	*ret_copy = bytes < MAPPED_MIN ? malloc(bytes) : NULL;
	*ret = *ret_copy;
	rc = *ret_copy ? io_pread_full(fd, *ret_copy, bytes, 0) : 0;
	if (rc) {
		free(take_ptr(*ret_copy));
		return ckpt_fail_errno(err, E_IMAGE_CORRUPT, rc, "cannot read %s/records",
				       img->path);
	}
	if (*ret_copy)
		return 0;
	mapped = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (mapped == MAP_FAILED)
		return ckpt_fail_errno(err, E_NOMEM, -errno, "cannot map %s/records", img->path);
	*ret = mapped;
	return 0;
}

static int read_records(struct image *img, struct ckpt_err *err)
{
	const Ckpt__FileDigest *want = find_file(img, CKPT_FILE_RECORDS);
	auto_fd fd = openat(img->dir_fd, CKPT_FILE_RECORDS, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	auto_free unsigned char *copy = NULL;
	const unsigned char *base, *p, *payload;
	XXH128_canonical_t sum;
	struct ckpt_frame f;
	struct stat st;
	size_t left;
	int rc = 0;

	if (!want)
		return corrupt(img, err, "the inventory names no records");
	if (fd < 0 || fstat(fd, &st))
		return corrupt(img, err, "its file \"records\" is missing");
	if ((uint64_t)st.st_size != want->bytes || st.st_size <= CKPT_IMAGE_MAGIC_LEN)
		return corrupt(img, err, "its file \"records\" has another size");
	if (records_get(img, fd, (size_t)st.st_size, &base, &copy, err))
		return err->code;
	XXH128_canonicalFromHash(&sum, XXH3_128bits(base, (size_t)st.st_size));
	if (memcmp(sum.digest, want->digest.data, 16) != 0 ||
	    memcmp(base, CKPT_IMAGE_MAGIC, CKPT_IMAGE_MAGIC_LEN) != 0)
		rc = corrupt(img, err, "the digest of \"records\" does not match");
	p = base + CKPT_IMAGE_MAGIC_LEN;
	left = (size_t)st.st_size - CKPT_IMAGE_MAGIC_LEN;
	while (!rc) {
		rc = frame_next(img, &p, &left, &f, &payload, err);
		if (rc)
			break;
		if (f.type == CKPT_REC_END) {
			if (left)
				rc = corrupt(img, err, "bytes follow its last record");
			break;
		}
		rc = take_record(img, &f, payload, err);
	}
	if (!copy)
		(void)munmap((void *)base, (size_t)st.st_size);
	return rc;
}

static int bad_page_file(struct image *img, uint32_t file, const char *what, struct ckpt_err *err)
{
	char name[PAGE_FILE_NAME_BYTES];

	return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
			 "the checkpoint in %s is damaged: its file \"%s\" %s", img->path,
			 page_file_name(file, name), what);
}

static int open_pages(struct image *img, struct ckpt_err *err)
{
	char name[PAGE_FILE_NAME_BYTES];
	const Ckpt__FileDigest *want = find_file(img, CKPT_FILE_PAGES);
	XXH128_canonical_t sum;
	int rc;

	if (!want)
		return corrupt(img, err, "the inventory names no page file");
	if (want->bytes > INT64_MAX)
		return corrupt(img, err, "its page file has an impossible size");
	rc = page_file_open(&img->pages, img->dir_fd, img->inv, want->bytes);
	if (rc == -ENOENT)
		return bad_page_file(img, img->pages.n, "is missing", err);
	if (rc == -EBADMSG && !img->pages.n)
		return corrupt(img, err, "its pages are striped in an impossible way");
	if (rc == -EBADMSG)
		return bad_page_file(img, img->pages.n - 1,
				     img->pages.packed ? "has no whole index" : "has another size",
				     err);
	if (rc)
		return ckpt_fail_errno(err, E_IMAGE_MISSING, rc, "cannot read %s/%s", img->path,
				       page_file_name(img->pages.n, name));
	XXH128_canonicalFromHash(&sum,
				 XXH3_128bits(img->sums.v, img->sums.n * sizeof(*img->sums.v)));
	if (memcmp(sum.digest, want->digest.data, 16) != 0 ||
	    img->sums.n != (want->bytes + CKPT_PAGE_SUM_BYTES - 1) / CKPT_PAGE_SUM_BYTES)
		return corrupt(img, err, "the sums of the page file do not match");
	return 0;
}

static bool state_ok(const Ckpt__State *s)
{
	return s && s->kind && s->kind[0];
}

static int check_task(struct image *img, const Ckpt__Task *t, size_t at, struct ckpt_err *err)
{
	if (t->pid <= 0 || (at == 0) != (t->ppid == 0))
		return corrupt(img, err, "a task has no place in the tree");
	if (t->zombie)
		return at ? 0 : corrupt(img, err, "the root task is a zombie");
	if (!t->n_threads || t->threads[0]->tid != t->pid)
		return corrupt(img, err, "a task has no main thread");
	if (!t->mm || t->mm > img->mms.n || !t->fdtable || t->fdtable > img->tables.n)
		return corrupt(img, err, "a task lacks memory or descriptors");
	for (size_t i = 0; i < t->n_state; i++)
		if (!state_ok(t->state[i]))
			return corrupt(img, err, "a task has a nameless state");
	for (size_t i = 0; i < t->n_threads; i++) {
		const Ckpt__Thread *th = t->threads[i];

		if (th->ended && (i || t->n_threads < 2))
			return corrupt(img, err, "a thread has ended that is not the first");
		if (th->tid <= 0 || (!th->ended && (th->regs.len != 27 * 8 || th->xsave.len < 512)))
			return corrupt(img, err, "a thread has no registers");
		for (size_t k = 0; k < th->n_state; k++)
			if (!state_ok(th->state[k]))
				return corrupt(img, err, "a thread has a nameless state");
	}
	return 0;
}

static int check_mm(struct image *img, const Ckpt__Mm *mm, size_t at, struct ckpt_err *err)
{
	uint64_t last = 0;

	if (mm->id != at + 1)
		return corrupt(img, err, "address spaces are out of order");
	for (size_t i = 0; i < mm->n_vmas; i++) {
		const Ckpt__Vma *v = mm->vmas[i];

		if (v->start < last || v->end <= v->start || (v->start | v->end) % CKPT_PAGE ||
		    !v->kind || v->object > img->objects.n)
			return corrupt(img, err, "a mapping is impossible");
		last = v->end;
	}
	return 0;
}

static bool run_in_file(uint64_t off, uint64_t bytes, uint64_t file)
{
	return off % CKPT_PAGE == 0 && off <= file && bytes <= file - off;
}

static int check_runs(struct image *img, Ckpt__PageMap *m, struct ckpt_err *err)
{
	struct ckpt_page_run *r = (void *)m->runs.data;
	uint64_t last = 0;

	if (m->runs.len % sizeof(*r) || !m->mm == !m->object || m->mm > img->mms.n ||
	    m->object > img->objects.n)
		return corrupt(img, err, "a page map belongs to nothing");
	for (size_t i = 0; i < m->runs.len / sizeof(*r); i++) {
		uint64_t bytes = (uint64_t)r[i].npages * CKPT_PAGE;

		if (!r[i].npages || r[i].vaddr % CKPT_PAGE || r[i].vaddr < last ||
		    r[i].vaddr + bytes < r[i].vaddr)
			return corrupt(img, err, "page runs overlap");
		last = r[i].vaddr + bytes;
		if (r[i].kind == CKPT_RUN_DATA && !run_in_file(r[i].off, bytes, img->pages.bytes))
			return corrupt(img, err, "a page run lies outside the page file");
		if (r[i].kind == CKPT_RUN_PARENT && !img->kept) {
			uint32_t source = ckpt_run_source(r[i].off);

			if (!source || source >= img->sources.n ||
			    !run_in_file(ckpt_run_off(r[i].off), bytes,
					 img->sources.v[source].pages.bytes))
				return corrupt(img, err, "a page run lies outside its ancestor");
			r[i].kind = CKPT_RUN_DATA;
		}
		if (r[i].kind == CKPT_RUN_SHARED && (!r[i].off || r[i].off >= m->mm))
			return corrupt(img, err, "a page is shared with no earlier address space");
		if (r[i].kind > CKPT_RUN_GUARD)
			return corrupt(img, err, "a page run is of unknown kind");
	}
	return 0;
}

static int check_all(struct image *img, struct ckpt_err *err)
{
	int rc = 0;

	if (!img->tasks.n)
		return corrupt(img, err, "it holds no task");
	for (size_t i = 0; !rc && i < img->tasks.n; i++)
		rc = check_task(img, img->tasks.v[i], i, err);
	for (size_t i = 0; !rc && i < img->mms.n; i++)
		rc = check_mm(img, img->mms.v[i], i, err);
	for (size_t i = 0; !rc && i < img->objects.n; i++)
		if (img->objects.v[i]->id != i + 1 || !state_ok(img->objects.v[i]->state))
			rc = corrupt(img, err, "objects are out of order");
	for (size_t i = 0; !rc && i < img->tables.n; i++) {
		const Ckpt__FdTable *t = img->tables.v[i];

		if (t->id != i + 1)
			rc = corrupt(img, err, "descriptor tables are out of order");
		for (size_t k = 0; !rc && k < t->n_fds; k++)
			if (!t->fds[k]->object || t->fds[k]->object > img->objects.n ||
			    t->fds[k]->fd > 0x7fffffff || (k && t->fds[k]->fd <= t->fds[k - 1]->fd))
				rc = corrupt(img, err, "a descriptor is impossible");
	}
	for (size_t i = 0; !rc && i < img->maps.n; i++)
		rc = check_runs(img, img->maps.v[i], err);
	return rc;
}

static int index_tasks(struct image *img, struct ckpt_err *err);
static size_t owner_of(const struct image *img, const Ckpt__PageMap *m)
{
	return m->mm ? m->mm - 1 : img->mms.n + m->object - 1;
}

/* A counting sort, so that nobody has to search. */
static int index_maps(struct image *img, struct ckpt_err *err)
{
	size_t owners = img->mms.n + img->objects.n;
	size_t *next = calloc(owners + 1, sizeof(*next));

	img->by_owner = calloc(img->maps.n + 1, sizeof(*img->by_owner));
	img->owner_first = calloc(owners + 2, sizeof(*img->owner_first));
	if (!next || !img->by_owner || !img->owner_first) {
		free(next);
		return ckpt_oom(err);
	}
	for (size_t i = 0; i < img->maps.n; i++)
		img->owner_first[owner_of(img, img->maps.v[i]) + 1]++;
	for (size_t i = 0; i < owners; i++) {
		img->owner_first[i + 1] += img->owner_first[i];
		next[i] = img->owner_first[i];
	}
	for (size_t i = 0; i < img->maps.n; i++)
		img->by_owner[next[owner_of(img, img->maps.v[i])]++] = img->maps.v[i];
	free(next);
	return 0;
}

static struct image_maps maps_at(const struct image *img, size_t owner)
{
	return (struct image_maps) { .v = img->by_owner + img->owner_first[owner],
				     .n = img->owner_first[owner + 1] - img->owner_first[owner] };
}

struct image_maps image_maps_of_mm(const struct image *img, uint32_t id)
{
	return maps_at(img, id - 1);
}

struct image_maps image_maps_of_object(const struct image *img, uint32_t id)
{
	return maps_at(img, img->mms.n + id - 1);
}

int image_read_inventory(struct image *img, const char *path, struct ckpt_err *err)
{
	memset(img, 0, sizeof(*img));
	img->dir_fd = -1;
	img->path = strdup(path);
	if (!img->path)
		return ckpt_oom(err);
	img->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (img->dir_fd < 0) {
		int rc = ckpt_fail_errno(err, E_IMAGE_MISSING, -errno,
					 "cannot open the checkpoint %s", path);

		return rc == -EACCES
			       ? ckpt_remedy(
					 err,
					 "run ckpt as root: only who made a checkpoint may read it")
			       : rc;
	}
	return read_inventory(img, err);
}

int image_read_alone(struct image *img, const char *path, struct ckpt_err *err)
{
	int rc = image_read_inventory(img, path, err);

	if (!rc)
		rc = read_records(img, err);
	return rc ? rc : open_pages(img, err);
}

static int read_all(struct image *img, const char *path, bool kept, struct ckpt_err *err)
{
	int rc = image_read_alone(img, path, err);

	img->kept = kept;
	if (!rc)
		rc = image_open_chain(img, err);
	if (!rc)
		rc = check_all(img, err);
	if (!rc)
		rc = index_maps(img, err);
	return rc ? rc : index_tasks(img, err);
}

int image_read(struct image *img, const char *path, struct ckpt_err *err)
{
	return read_all(img, path, false, err);
}

int image_read_kept(struct image *img, const char *path, struct ckpt_err *err)
{
	return read_all(img, path, true, err);
}

static void free_list(void *list_ptr)
{
	VEC(ProtobufCMessage *) *list = list_ptr;

	for (size_t i = 0; i < list->n; i++)
		protobuf_c_message_free_unpacked(list->v[i], NULL);
	vec_free(list);
}

void image_free(struct image *img)
{
	if (img->inv)
		ckpt__inventory__free_unpacked(img->inv, NULL);
	free_list(&img->tasks);
	free_list(&img->mms);
	free_list(&img->tables);
	free_list(&img->objects);
	free_list(&img->maps);
	free_list(&img->hashes);
	vec_free(&img->sums);
	for (size_t i = 0; i < img->sources.n; i++) {
		if (i)
			page_file_close(&img->sources.v[i].pages);
		free(img->sources.v[i].path);
	}
	vec_free(&img->sources);
	if (img->chain)
		ckpt__chain__free_unpacked(img->chain, NULL);
	page_file_close(&img->pages);
	free(img->by_pid);
	free(img->child);
	free(img->child_at);
	free(img->by_owner);
	free(img->owner_first);
	if (img->dir_fd >= 0)
		(void)close(img->dir_fd);
	free(img->path);
	memset(img, 0, sizeof(*img));
	img->dir_fd = -1;
}

Ckpt__Task *image_task(const struct image *img, int pid, size_t *ret_index)
{
	size_t lo = 0, hi = img->tasks.n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		Ckpt__Task *t = img->tasks.v[img->by_pid[mid]];

		if (t->pid == pid) {
			if (ret_index)
				*ret_index = img->by_pid[mid];
			return t;
		}
		if (t->pid < pid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static int pid_cmp(const void *a, const void *b, void *arg)
{
	const struct image *img = arg;

	return img->tasks.v[*(const uint32_t *)a]->pid - img->tasks.v[*(const uint32_t *)b]->pid;
}

/* Tasks by pid and children by parent, so that walking a tree costs what it has. Parents come
 * before their children in an image; a task whose parent does not is refused. */
static int index_tasks(struct image *img, struct ckpt_err *err)
{
	size_t n = img->tasks.n, parent = 0;

	img->by_pid = calloc(n + 1, sizeof(uint32_t));
	img->child = calloc(n + 1, sizeof(uint32_t));
	img->child_at = calloc(n + 2, sizeof(uint32_t));
	if (!img->by_pid || !img->child || !img->child_at)
		return ckpt_oom(err);
	for (size_t i = 0; i < n; i++)
		img->by_pid[i] = (uint32_t)i;
	qsort_r(img->by_pid, n, sizeof(uint32_t), pid_cmp, img);
	for (size_t i = 0; i + 1 < n; i++)
		if (!pid_cmp(&img->by_pid[i], &img->by_pid[i + 1], img))
			return corrupt(img, err, "two tasks have one pid");
	/* Count, sum up, place. */
	for (size_t i = 1; i < n; i++) {
		if (!image_task(img, img->tasks.v[i]->ppid, &parent) || parent >= i ||
		    img->tasks.v[parent]->zombie)
			return corrupt(img, err, "a task comes before its parent");
		img->child_at[parent + 2]++;
	}
	for (size_t i = 2; i < n + 2; i++)
		img->child_at[i] += img->child_at[i - 1];
	for (size_t i = 1; i < n; i++) {
		(void)image_task(img, img->tasks.v[i]->ppid, &parent);
		img->child[img->child_at[parent + 1]++] = (uint32_t)i;
	}
	return 0;
}

int image_bad_block(const char *path, const struct page_file *p, size_t block, int rc,
		    struct ckpt_err *err)
{
	uint64_t off = (uint64_t)block * CKPT_PAGE_SUM_BYTES, len = p->bytes - off;
	struct page_place at = page_place(p->stripes, off);
	char name[PAGE_FILE_NAME_BYTES];

	if (len > CKPT_PAGE_SUM_BYTES)
		len = CKPT_PAGE_SUM_BYTES;
	if (rc != -EBADMSG)
		return ckpt_fail_errno(err, E_IMAGE_CORRUPT, rc, "cannot read %s/%s at %llu", path,
				       page_file_name(at.file, name), (unsigned long long)at.off);
	return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG,
			 "the checkpoint in %s is damaged: %s, bytes %llu to %llu", path,
			 page_file_name(at.file, name), (unsigned long long)at.off,
			 (unsigned long long)(at.off + len - 1));
}

static int verify_own(struct image *img, struct ckpt_ui *ui, struct ckpt_err *err)
{
	auto_free unsigned char *buf = malloc(2 * (size_t)CKPT_PAGE_SUM_BYTES);

	if (!buf)
		return ckpt_oom(err);
	for (size_t i = 0; i < img->sums.n; i++) {
		uint64_t off = (uint64_t)i * CKPT_PAGE_SUM_BYTES;
		uint64_t len = img->pages.bytes - off;
		int rc;

		if (len > CKPT_PAGE_SUM_BYTES)
			len = CKPT_PAGE_SUM_BYTES;
		rc = img->pages.pack.v ? pack_read_block(img->pages.fd[0], &img->pages.pack.v[i],
							 buf, buf + CKPT_PAGE_SUM_BYTES)
				       : page_file_read(&img->pages, buf, len, off);
		if (!rc && sum_bytes(buf, len) != img->sums.v[i])
			rc = -EBADMSG;
		if (rc)
			return image_bad_block(img->path, &img->pages, i, rc, err);
		ui_progress(ui, "verify", off + len, img->pages.bytes);
	}
	return 0;
}

int image_verify_pages(struct image *img, struct ckpt_ui *ui, struct ckpt_err *err)
{
	int rc = verify_own(img, ui, err);

	for (size_t i = 1; !rc && i < img->sources.n; i++) {
		struct image a;

		rc = image_read_alone(&a, img->sources.v[i].path, err);
		if (!rc)
			rc = verify_own(&a, ui, err);
		image_free(&a);
	}
	return rc;
}

/* ---- packed page files ---------------------------------------------------------------------- */

/* The blocks of page file @source that some run reads, one bit each. The caller frees it. */
static unsigned char *blocks_read(const struct image *img, size_t source)
{
	size_t n = img->sources.v[source].pages.pack.n;
	unsigned char *want = calloc(n / 8 + 1, 1);

	for (size_t i = 0; want && i < img->maps.n; i++) {
		const struct ckpt_page_run *r = (const void *)img->maps.v[i]->runs.data;

		for (size_t k = 0; k < img->maps.v[i]->runs.len / sizeof(*r); k++) {
			uint64_t off = ckpt_run_off(r[k].off);
			uint64_t end = off + (uint64_t)r[k].npages * CKPT_PAGE;

			if (r[k].kind != CKPT_RUN_DATA || ckpt_run_source(r[k].off) != source)
				continue;
			for (uint64_t b = off / CKPT_PAGE_SUM_BYTES;
			     b < n && b * CKPT_PAGE_SUM_BYTES < end; b++)
				want[b / 8] |= (unsigned char)(1u << (b % 8));
		}
	}
	return want;
}

static int unpack_source(struct image *img, size_t source, int threads, struct ckpt_err *err)
{
	struct image_source *s = &img->sources.v[source];
	auto_free unsigned char *want = blocks_read(img, source);
	size_t bad = 0;
	int fd;

	if (!want)
		return ckpt_oom(err);
	fd = pack_unpack(s->pages.fd[0], &s->pages.pack, want, s->pages.bytes, img->dir_fd, threads,
			 img->cancel, &bad);
	if (fd == -EBADMSG)
		return ckpt_fail(err, E_IMAGE_CORRUPT, fd,
				 "the checkpoint in %s is damaged: pages, block %zu", s->path, bad);
	if (fd < 0)
		return ckpt_fail_errno(err, E_IMAGE_MISSING, fd, "cannot unpack the pages of %s",
				       s->path);
	page_file_replace(&s->pages, fd);
	if (!source)
		img->pages = s->pages;
	return 0;
}

int image_unpack(struct image *img, int threads, struct ckpt_err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < img->sources.n; i++)
		if (img->sources.v[i].pages.pack.v)
			rc = unpack_source(img, i, threads, err);
	return rc;
}
