// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: what /proc says of a program, much of which the program chooses: names, directories,
 * arguments. The first byte chooses who reads; the rest is the text of every file that is read.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/types.h>

static FILE *fuzz_fopen(const char *path, const char *mode);
#define fopen fuzz_fopen
#include "kern/procfs.c"
#undef fopen

#include "dump/dump.h"
#include "input.h"
#include "kern/mounts.h"
#include "kern/vmaiter.h"
#include "kind/fd/lock.h"
#include "kind/kind.h"

#define ARENA_BYTES (256u << 10)
#define REMOTE 0x7f0000000000ull

/* Ends with a NUL that does not count. */
static char *text;
static size_t text_len;

/* ---- instead of tools/base/io.c and tools/kern/vmaiter.c ---------------------------------------- */

static FILE *fuzz_fopen(const char *path, const char *mode)
{
	(void)path;
	(void)mode;
	return text_len ? fmemopen(text, text_len, "r") : NULL;
}

static ssize_t copy_text(char **ret_buf)
{
	*ret_buf = malloc(text_len + 1);
	memcpy(*ret_buf, text, text_len + 1);
	return (ssize_t)text_len;
}

ssize_t io_read_file(int dirfd, const char *path, char **ret_buf)
{
	(void)dirfd;
	(void)path;
	return copy_text(ret_buf);
}

ssize_t io_read_small(int dirfd, const char *path, char **ret_buf)
{
	(void)dirfd;
	(void)path;
	return copy_text(ret_buf);
}

int vma_iter_read(const struct vma_iter *it, int tid, struct vma_iter_entry **ret, uint64_t *ret_n)
{
	struct vma_iter_entry *e = calloc(4, sizeof(*e));

	(void)it;
	(void)tid;
	for (uint64_t i = 0; i < 4; i++)
		e[i] = (struct vma_iter_entry) { 0x1000 * i, 0x1000 * (i + 1), 0 };
	*ret = e;
	*ret_n = 4;
	return 0;
}

/* ---- the readers --------------------------------------------------------------------------------- */

static void mappings(bool iterate)
{
	struct vma_iter it = { .prog_fd = iterate ? 0 : -1 };
	struct proc_vmas vmas;
	struct ckpt_err err = { 0 };
	uint64_t start, end;
	size_t sum = 0;

	if (!proc_vmas_read(1, &it, &vmas, &err)) {
		for (size_t i = 0; i < vmas.n; i++)
			sum += vmas.v[i].path ? strlen(vmas.v[i].path) : 0;
		if (sum > text_len)
			abort();
		proc_vmas_free(&vmas);
	}
	(void)proc_map_find(text, "[vdso]", &start, &end);
}

static void mounts(void)
{
	char *copy, *at;
	struct mount m;
	size_t sum = 0;

	(void)copy_text(&copy);
	at = copy;
	while (mount_next(&at, &m))
		sum += strlen(m.root) + strlen(m.at) + strlen(m.how) + strlen(m.type) + strlen(m.source) +
		       strlen(m.super);
	/* Nothing is there twice, and nothing that was not there. */
	if (sum > text_len)
		abort();
	free(copy);
}

static void stats(void)
{
	struct proc_stat st;
	struct ckpt_err err = { 0 };
	uint64_t v;
	bool nested;
	int pid;

	if (!proc_stat_read(1, &st, &err) && strlen(st.comm) >= sizeof(st.comm))
		abort();
	(void)proc_inner_pid(1, 1, &pid, &nested, &err);
	for (int n = 0; n < 3; n++)
		(void)proc_field_num(text, "Uid", n, 10, &v);
}

static void locks(void)
{
	struct fd_facts f = { .pid = getpid(), .fd = 1, .local = 1, .link = "/f", .fdinfo = text };
	Ckpt__Object *obj = kind_msg_new(&ckpt__object__descriptor);
	Ckpt__Fd *fd = kind_msg_new(&ckpt__fd__descriptor);
	struct ckpt_err err = { 0 };

	if (!lock_check(&f, &err) && !lock_dump_object(&f, obj, &err))
		(void)!lock_dump_posix(&f, fd, &err);
	ckpt__object__free_unpacked(obj, NULL);
	ckpt__fd__free_unpacked(fd, NULL);
}

/* Aspects of a task that ask nobody but /proc, or whose questions depend on it. */
static void aspects(void)
{
	static const char *const readers[] = { "limits", "cgroups", "timers", "task-traits", "creds" };
	static struct dump_ctx ctx;
	static struct ckpt_dump_opts opts;
	static struct target_thread thread;
	static struct target_task task = { .threads = { .v = &thread, .n = 1 }, .mem_fd = -1, .parent = -1 };
	static struct proc_stat stat;
	static void *base;
	struct task_facts f = { .task = &task, .thread = &thread, .status = text, .stat = &stat, .main = true };

	if (!base)
		base = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	task.pid = task.vpid = thread.tid = thread.vtid = opts.pid = getpid();
	ctx.opts = &opts;
	ctx.target.tasks.v = &task;
	ctx.target.tasks.n = ctx.target.tasks.cap = 1;
	for (size_t i = 0; i < ARRAY_SIZE(readers); i++) {
		const struct task_kind *k = task_kind_by_name(readers[i]);
		uint64_t priv[TASK_KIND_PRIV_WORDS] = { 0 };
		struct ckpt_err err = { 0 };
		struct ckpt_slot *slot;
		ProtobufCMessage *m;
		struct arena a;
		struct steps s;

		if (!k)
			abort();
		memset(base, 0, ARENA_BYTES);
		arena_init(&a, base, REMOTE, ARENA_BYTES);
		steps_init(&s, &a);
		m = kind_msg_new(k->desc);
		if (!k->ask || !k->ask(&ctx, &f, &s, priv, &err)) {
			slot = arena_slot(&a);
			if (slot && !steps_commit(&s, slot, &err))
				(void)k->dump(&ctx, &f, &a, slot, priv, m, &err);
		}
		steps_free(&s);
		protobuf_c_message_free_unpacked(m, NULL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	text_len = size - 1;
	text = malloc(text_len + 1);
	memcpy(text, data + 1, text_len);
	text[text_len] = 0;
	switch (data[0] % 6) {
	case 0:
		mappings(false);
		break;
	case 1:
		mappings(true);
		break;
	case 2:
		mounts();
		break;
	case 3:
		stats();
		break;
	case 4:
		locks();
		break;
	default:
		aspects();
	}
	free(text);
	return 0;
}
