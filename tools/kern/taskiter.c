// SPDX-License-Identifier: GPL-2.0-only
#include "kern/taskiter.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "kern/btf.h"

#define READ_BYTES (64u << 10)

struct layout {
	uint32_t func;                                /* what the iterator calls */
	int mm, files, fs, nsproxy, cred, thread_pid; /* in struct task_struct */
	int user_ns;                                  /* in struct cred */
	int level, numbers;                           /* in struct pid */
	int nr, ns;                                   /* in struct upid */
	uint32_t upid_bytes;
};

static int layout_find(struct layout *ret)
{
	struct btf b = { 0 };
	int rc = btf_load(&b);
	uint32_t task, cred, pid, upid;

	if (!rc) {
		task = btf_find(&b, BTF_KIND_STRUCT, "task_struct");
		cred = btf_find(&b, BTF_KIND_STRUCT, "cred");
		pid = btf_find(&b, BTF_KIND_STRUCT, "pid");
		upid = btf_find(&b, BTF_KIND_STRUCT, "upid");
		*ret = (struct layout) {
			.func = btf_find(&b, BTF_KIND_FUNC, "bpf_iter_task"),
			.mm = btf_offset(&b, task, "mm"),
			.files = btf_offset(&b, task, "files"),
			.fs = btf_offset(&b, task, "fs"),
			.nsproxy = btf_offset(&b, task, "nsproxy"),
			.cred = btf_offset(&b, task, "real_cred"),
			.thread_pid = btf_offset(&b, task, "thread_pid"),
			.user_ns = btf_offset(&b, cred, "user_ns"),
			.level = btf_offset(&b, pid, "level"),
			.numbers = btf_offset(&b, pid, "numbers"),
			.nr = btf_offset(&b, upid, "nr"),
			.ns = btf_offset(&b, upid, "ns"),
			.upid_bytes = btf_size(&b, upid),
		};
		if (!ret->func || !ret->upid_bytes || ret->mm < 0 || ret->files < 0 ||
		    ret->fs < 0 || ret->nsproxy < 0 || ret->cred < 0 || ret->thread_pid < 0 ||
		    ret->user_ns < 0 || ret->level < 0 || ret->numbers < 0 || ret->nr < 0 ||
		    ret->ns < 0)
			rc = -EOPNOTSUPP;
	}
	btf_free(&b);
	return rc;
}

/* Copy @bytes from (register @base) + @off to (r10) + @to; zeros when there is nothing. */
#define FETCH(to, bytes, base, off)                                                                \
	STORE_IMM(10, 0, to), COPY(1, 10), ADD(1, to), SET(2, bytes), COPY(3, base), ADD(3, off),  \
		CALL(BPF_FUNC_probe_read_kernel)

#define KIN(member) ((int)offsetof(struct task_kin, member) - (int)sizeof(struct task_kin))
#define WORK (-(int)sizeof(struct task_kin) - 8) /* a word behind it */
#define BODY 101 /* instructions between the first jump and the end */

int task_iter_open(void)
{
	struct layout l = { 0 };
	int rc = layout_find(&l);
	/* Its argument: { struct bpf_iter_meta { seq, … } *, task * }, the last NULL at the end.
	 * Pids are numbered by namespace; ours is that of whoever reads. */
	const struct bpf_insn insns[] = {
		COPY(6, 1),
		LOAD(7, 6, 8),
		IF_NULL(7, BODY),
		FETCH(KIN(vm), 8, 7, l.mm),
		FETCH(KIN(files), 8, 7, l.files),
		FETCH(KIN(fs), 8, 7, l.fs),
		FETCH(KIN(ns), 8, 7, l.nsproxy),
		FETCH(WORK, 8, 7, l.cred),
		LOAD(8, 10, WORK),
		FETCH(KIN(user_ns), 8, 8, l.user_ns),
		FETCH(WORK, 8, 7, l.thread_pid),
		LOAD(8, 10, WORK), /* r8: the task's struct pid */
		FETCH(WORK, 4, 8, l.level),
		LOAD(9, 10, WORK),
		MUL(9, (int)l.upid_bytes),
		ADD_REG(9, 8),
		FETCH(KIN(pid_ns), 8, 9, l.numbers + l.ns),
		CALL(BPF_FUNC_get_current_task),
		COPY(9, 0),
		FETCH(WORK, 8, 9, l.thread_pid),
		LOAD(9, 10, WORK),
		FETCH(WORK, 4, 9, l.level),
		LOAD(9, 10, WORK),
		MUL(9, (int)l.upid_bytes),
		ADD_REG(9, 8),
		FETCH(KIN(pid), 4, 9, l.numbers + l.nr),
		LOAD(1, 6, 0),
		LOAD(1, 1, 0),
		COPY(2, 10),
		ADD(2, -(int)sizeof(struct task_kin)),
		SET(3, sizeof(struct task_kin)),
		CALL(BPF_FUNC_seq_write),
		SET(0, 0),
		EXIT(),
	};

	_Static_assert(ARRAY_SIZE(insns) == 3 + BODY + 2, "the jump to the end");
	return rc ? rc : bpf_iter_program("ckpt_kin", l.func, insns, ARRAY_SIZE(insns));
}

static int kin_compare(const void *a, const void *b)
{
	uint64_t x = ((const struct task_kin *)a)->pid, y = ((const struct task_kin *)b)->pid;

	return (x > y) - (x < y);
}

int task_iter_read(int prog_fd, struct task_kins *ret)
{
	auto_fd fd = bpf_iter_open(prog_fd, 0);
	auto_free char *buf = NULL;
	size_t len = 0, cap = 0;

	if (fd < 0)
		return fd;
	for (ssize_t n = 1; n;) {
		if (cap - len < READ_BYTES) {
			char *larger = realloc(buf, cap = cap ? cap * 2 : 2 * READ_BYTES);

			if (!larger)
				return -ENOMEM;
			buf = larger;
		}
		n = read(fd, buf + len, cap - len);
		if (n < 0 && errno != EINTR)
			return -errno;
		len += n > 0 ? (size_t)n : 0;
	}
	if (!len || len % sizeof(struct task_kin))
		return -ENODATA;
	ret->v = (struct task_kin *)(void *)take_ptr(buf);
	ret->n = len / sizeof(struct task_kin);
	qsort(ret->v, ret->n, sizeof(*ret->v), kin_compare);
	return 0;
}

const struct task_kin *task_kin_find(const struct task_kins *k, int pid)
{
	struct task_kin key = { .pid = (uint64_t)pid };

	return k->n ? bsearch(&key, k->v, k->n, sizeof(key), kin_compare) : NULL;
}
