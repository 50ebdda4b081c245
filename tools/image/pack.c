// SPDX-License-Identifier: GPL-2.0-only
#include "image/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/sum.h"
#include "base/vec.h"
#include "image/format.h"

#define BLOCK CKPT_PAGE_SUM_BYTES
#define ZSTD_LEVEL 3
#define MAX_THREADS 16

struct pack_trailer {
	char magic[8];
	uint64_t blocks;
	uint64_t index; /* where it begins, bytes */
	uint64_t xxh3;  /* XXH3-64 of the index */
};
#define PACK_MAGIC "CKPTPACK"

bool pack_how_parse(const char *s, enum pack_how *ret)
{
	static const char *const names[] = {
		[PACK_HOW_NONE] = "none", [PACK_HOW_LZ4] = "lz4", [PACK_HOW_ZSTD] = "zstd"
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(s, names[i])) {
			*ret = (enum pack_how)i;
			return true;
		}
	return false;
}

static bool all_zero(const void *block)
{
	const unsigned char *p = block;

	return !p[0] && !memcmp(p, p + 1, BLOCK - 1);
}

void pack_block(enum pack_how how, const void *src, void *dst, struct pack_entry *ret)
{
	/* What does not save an eighth is not worth unpacking. */
	const int room = (int)(BLOCK - BLOCK / 8);
	int len = 0;

	*ret = (struct pack_entry) { .codec = PACK_ZERO };
	if (all_zero(src))
		return;
	if (how == PACK_HOW_LZ4) {
		len = LZ4_compress_default(src, dst, (int)BLOCK, room);
		ret->codec = PACK_LZ4;
	} else if (how == PACK_HOW_ZSTD) {
		size_t n = ZSTD_compress(dst, (size_t)room, src, BLOCK, ZSTD_LEVEL);

		len = ZSTD_isError(n) ? 0 : (int)n;
		ret->codec = PACK_ZSTD;
	}
	if (len <= 0) {
		memcpy(dst, src, BLOCK);
		len = (int)BLOCK;
		ret->codec = PACK_RAW;
	}
	ret->len = (uint32_t)len;
	ret->xxh3 = sum_bytes(dst, ret->len);
}

int pack_put_index(int fd, const struct pack_entry *v, size_t n, uint64_t off)
{
	struct pack_trailer t = { .blocks = n, .index = off };
	int rc;

	memcpy(t.magic, PACK_MAGIC, sizeof(t.magic));
	t.xxh3 = XXH3_64bits(v, n * sizeof(*v));
	rc = io_pwrite_full(fd, v, n * sizeof(*v), off);
	if (!rc)
		rc = io_pwrite_full(fd, &t, sizeof(t), off + n * sizeof(*v));
	return rc;
}

/* Blocks lie in the file before the index; each as long as its codec allows. */
static bool entry_ok(const struct pack_entry *e, uint64_t end)
{
	if (e->codec == PACK_ZERO)
		return !e->len;
	if (e->codec > PACK_ZSTD || !e->len || e->len > BLOCK ||
	    (e->codec == PACK_RAW) != (e->len == BLOCK))
		return false;
	return e->off <= end && e->len <= end - e->off;
}

int pack_get_index(int fd, uint64_t file_bytes, size_t nblocks, struct pack_index *ret)
{
	struct pack_trailer t;
	uint64_t bytes = nblocks * sizeof(struct pack_entry);
	auto_free struct pack_entry *v = NULL;
	uint64_t sum = 0;
	int rc;

	*ret = (struct pack_index) { 0 };
	if (file_bytes < sizeof(t) || bytes > file_bytes - sizeof(t))
		return -EBADMSG;
	rc = io_pread_full(fd, &t, sizeof(t), file_bytes - sizeof(t));
	if (rc)
		return rc;
	if (memcmp(t.magic, PACK_MAGIC, sizeof(t.magic)) != 0 || t.blocks != nblocks ||
	    t.index != file_bytes - sizeof(t) - bytes)
		return -EBADMSG;
	v = malloc(bytes + 1);
	if (!v)
		return -ENOMEM;
	rc = io_pread_full(fd, v, bytes, t.index);
	if (rc)
		return rc;
	if (XXH3_64bits(v, bytes) != t.xxh3)
		return -EBADMSG;
	for (size_t i = 0; i < nblocks; i++) {
		if (!entry_ok(&v[i], t.index))
			return -EBADMSG;
		sum += v[i].len;
	}
	if (sum != t.index) /* bytes that no block covers could be damaged unseen */
		return -EBADMSG;
	ret->v = take_ptr(v);
	ret->n = nblocks;
	return 0;
}

int pack_read_block(int fd, const struct pack_entry *e, void *dst, void *scratch)
{
	size_t got = 0;
	void *from;
	int rc, n;

	if (e->codec == PACK_ZERO) {
		memset(dst, 0, BLOCK);
		return 0;
	}
	from = e->codec == PACK_RAW ? dst : scratch;
	rc = io_pread_full(fd, from, e->len, e->off);
	if (!rc && sum_bytes(from, e->len) != e->xxh3)
		rc = -EBADMSG;
	if (rc || e->codec == PACK_RAW)
		return rc;
	if (e->codec == PACK_LZ4) {
		n = LZ4_decompress_safe(scratch, dst, (int)e->len, (int)BLOCK);
		got = n < 0 ? 0 : (size_t)n;
	} else {
		got = ZSTD_decompress(dst, BLOCK, scratch, e->len);
	}
	return got == BLOCK ? 0 : -EBADMSG;
}

/* ---- the whole file ------------------------------------------------------------------------- */

struct unpack {
	int from, to;
	const struct pack_index *idx;
	const unsigned char *want;
	uint64_t bytes;
	const atomic_bool *cancel;
	atomic_size_t next, bad;
	atomic_int rc;
};

static void *unpack_worker(void *arg)
{
	struct unpack *u = arg;
	auto_free unsigned char *buf = malloc(2 * (size_t)BLOCK);

	if (!buf)
		atomic_store(&u->rc, -ENOMEM);
	while (!atomic_load(&u->rc)) {
		size_t i = atomic_fetch_add(&u->next, 1);
		uint64_t off = (uint64_t)i * BLOCK, len;
		int rc;

		if (i >= u->idx->n)
			break;
		if (!(u->want[i / 8] & (1u << (i % 8))) || u->idx->v[i].codec == PACK_ZERO)
			continue;
		len = u->bytes - off < BLOCK ? u->bytes - off : BLOCK;
		rc = pack_read_block(u->from, &u->idx->v[i], buf, buf + BLOCK);
		if (!rc)
			rc = io_pwrite_full(u->to, buf, len, off);
		if (!rc && u->cancel && atomic_load(u->cancel))
			rc = -ECANCELED;
		if (rc) {
			atomic_store(&u->bad, i);
			atomic_store(&u->rc, rc);
		}
	}
	return NULL;
}

static uint64_t available_bytes(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			break;
	if (f)
		(void)fclose(f);
	return kib << 10;
}

/* The program wants as much memory again: beyond a third of what is free it goes to the disk. */
static int scratch_file(uint64_t bytes, int dir_fd)
{
	int fd = -1;

	if (bytes > available_bytes() / 3)
		fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = memfd_create("ckpt-pages", MFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int pack_unpack(int fd, const struct pack_index *idx, const unsigned char *want, uint64_t bytes,
		int dir_fd, int threads, const atomic_bool *cancel, size_t *ret_bad)
{
	struct unpack u = {
		.from = fd, .idx = idx, .want = want, .bytes = bytes, .cancel = cancel
	};
	pthread_t tid[MAX_THREADS];
	uint64_t blocks = 0;
	auto_fd to = -1;
	int started = 0, rc;

	for (size_t i = 0; i < idx->n; i++)
		blocks += (want[i / 8] & (1u << (i % 8))) && idx->v[i].codec != PACK_ZERO;
	to = scratch_file(blocks * BLOCK, dir_fd);
	if (to < 0)
		return to;
	if (ftruncate(to, (off_t)bytes))
		return -errno;
	u.to = to;
	if (threads > MAX_THREADS)
		threads = MAX_THREADS;
	for (; started < threads - 1 && blocks > 8; started++)
		if (pthread_create(&tid[started], NULL, unpack_worker, &u))
			break;
	(void)unpack_worker(&u);
	for (int i = 0; i < started; i++)
		(void)pthread_join(tid[i], NULL);
	rc = atomic_load(&u.rc);
	*ret_bad = atomic_load(&u.bad);
	return rc ? rc : take_fd(&to);
}
