// SPDX-License-Identifier: GPL-2.0-only
/*
 * A BPF program of some forty instructions, attached to the iterator "task_vma" of
 * one task, writes start, end and vm_flags of each mapping, and a little more. Where these lie in
 * the kernel's struct is looked up in the kernel's own description of its types.
 */
#include "kern/vmaiter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "kern/procfs.h"

#define PAGE 4096u

/* ---- the program ---------------------------------------------------------------------------- */

struct layout {
	uint32_t func;         /* what the iterator calls */
	int start, end, flags; /* in struct vm_area_struct */
	int uffd, anon;        /* may be -1 */
};

static int layout_find(struct layout *ret, struct btf *b)
{
	int rc = btf_load(b);
	uint32_t vma;

	if (rc)
		return rc;
	vma = btf_struct(b, "vm_area_struct");
	ret->func = btf_find(b, BTF_KIND_FUNC, "bpf_iter_task_vma");
	ret->start = btf_offset(b, vma, "vm_start");
	ret->end = btf_offset(b, vma, "vm_end");
	ret->flags = btf_offset(b, vma, "vm_flags");
	ret->uffd = btf_offset(b, vma, "vm_userfaultfd_ctx");
	ret->anon = btf_offset(b, vma, "anon_vma");
	return !ret->func || ret->start < 0 || ret->end < 0 || ret->flags < 0 ? -EOPNOTSUPP : 0;
}

static int program_load(const struct layout *l)
{
	/* Its argument: { struct bpf_iter_meta { seq, … } *, task *, vma * }, the last two NULL at
	 * the end. */
	const struct bpf_insn nothing = SET(0, 0);
	const struct bpf_insn insns[] = {
		COPY(6, 1),
		LOAD(2, 6, 8),
		IF_NULL(2, 30),
		LOAD(7, 6, 16),
		IF_NULL(7, 28),
		LOAD(2, 7, l->start),
		STORE(10, 2, -40),
		LOAD(2, 7, l->end),
		STORE(10, 2, -32),
		LOAD(2, 7, l->flags),
		STORE(10, 2, -24),
		FETCH(-16, 8, 7, l->uffd < 0 ? 0 : l->uffd),
		l->uffd < 0 ? (struct bpf_insn)STORE_IMM(10, 0, -16) : nothing,
		FETCH(-8, 8, 7, l->anon < 0 ? 0 : l->anon),
		l->anon < 0 ? (struct bpf_insn)STORE_IMM(10, 1, -8) : nothing,
		LOAD(1, 6, 0),
		LOAD(1, 1, 0),
		COPY(2, 10),
		ADD(2, -40),
		SET(3, sizeof(struct vma_iter_entry)),
		CALL(BPF_FUNC_seq_write),
		SET(0, 0),
		EXIT(),
	};

	return bpf_iter_program("ckpt_vmas", l->func, insns, ARRAY_SIZE(insns));
}

/* When the mappings do not fit into the kernel's buffer of 32 KiB, the iterator does not end (seen
 * up to 6.18): behind the last it begins again, somewhere. */
static bool ascends(const void *buf, size_t len, size_t n)
{
	const struct vma_iter_entry *e =
		(const struct vma_iter_entry *)(const void *)((const char *)buf + len);

	return n >= sizeof(*e) && (!len || e[0].start >= e[-1].end);
}

int vma_iter_read(const struct vma_iter *it, int tid, struct vma_iter_entry **ret, uint64_t *ret_n)
{
	static const struct bpf_iter_records as = { .bytes = sizeof(**ret),
						    .max = SIZE_MAX,
						    .more = ascends };
	void *v = NULL;
	size_t n = 0;
	int rc = bpf_iter_read(it->prog_fd, BPF_ITER_THREAD, tid, &as, &v, &n);

	if (rc)
		return rc;
	*ret = v;
	*ret_n = n;
	return 0;
}

/* ---- what the bits mean --------------------------------------------------------------------- */

/* Bits that have been the same, and shown in the same way, in every kernel since 6.1. Lock on fault
 * (0x80000) is shown by newer ones alone. */
static const struct {
	uint64_t vm, proc;
} fixed[] = {
	{ 0x77, 0 }, /* READ WRITE EXEC and what they may become */
	{ 0x8, PROC_VMF(sh) },
	{ 0x80, 0 }, /* MAYSHARE */
	{ 0x100, PROC_VMF(gd) },
	{ 0x200, PROC_VMF(um) },
	{ 0x400, PROC_VMF(pf) },
	{ 0x1000, PROC_VMF(uw) },
	{ 0x2000, PROC_VMF(lo) },
	{ 0x4000, PROC_VMF(io) },
	{ 0x8000, PROC_VMF(sr) },
	{ 0x10000, PROC_VMF(rr) },
	{ 0x20000, PROC_VMF(dc) },
	{ 0x40000, PROC_VMF(de) },
	{ 0x100000, PROC_VMF(ac) },
	{ 0x200000, PROC_VMF(nr) },
	{ 0x400000, PROC_VMF(ht) },
	{ 0x800000, PROC_VMF(sf) },
	{ 0x2000000, PROC_VMF(wf) },
	{ 0x4000000, PROC_VMF(dd) },
	{ 0x8000000, PROC_VMF(sd) },
	{ 0x10000000, PROC_VMF(mm) },
	{ 0x20000000, PROC_VMF(hg) },
	{ 0x40000000, PROC_VMF(nh) },
	{ 0x80000000, PROC_VMF(mg) },
};
#define VM_MAYWRITE 0x20u

bool vma_iter_flags(const struct vma_iter *it, uint64_t vm_flags, uint64_t *ret)
{
	uint64_t left = vm_flags, proc = vm_flags & VM_MAYWRITE ? PROC_VMF(mw) : 0;

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
		proc |= left & fixed[i].vm ? fixed[i].proc : 0;
		left &= ~fixed[i].vm;
	}
	for (uint32_t i = 0; i < it->learnt_n; i++) {
		proc |= left & it->learnt[i].vm ? it->learnt[i].proc : 0;
		left &= ~it->learnt[i].vm;
	}
	*ret = proc;
	return !left;
}

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08 /* Linux 6.11 */
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif
#ifndef SYS_mseal
#define SYS_mseal 462 /* Linux 6.10 */
#endif

/* One mapping each of what programs commonly have. What this kernel does not know is left out. */
static void samples_make(void)
{
	static const int advice[] = { MADV_NORMAL,       MADV_DONTFORK, MADV_WIPEONFORK,
				      MADV_DONTDUMP,     MADV_HUGEPAGE, MADV_NOHUGEPAGE,
				      MADV_SEQUENTIAL,   MADV_RANDOM,   MADV_MERGEABLE,
				      MADV_GUARD_INSTALL };
	static const int map[] = { MAP_PRIVATE, MAP_PRIVATE | MAP_NORESERVE,
				   MAP_PRIVATE | MAP_GROWSDOWN, MAP_SHARED, MAP_DROPPABLE };
	/* With gaps, so that none merges with another. */
	size_t n = ARRAY_SIZE(advice) + ARRAY_SIZE(map) + 3, at = 0;
	char *p = mmap(NULL, 2 * n * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const int rw = PROT_READ | PROT_WRITE, anon = MAP_ANONYMOUS | MAP_FIXED;

	if (p == MAP_FAILED)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(advice); i++, at += 2 * PAGE)
		if (mmap(p + at, PAGE, rw, anon | MAP_PRIVATE, -1, 0) != MAP_FAILED)
			(void)madvise(p + at, PAGE, advice[i]);
	for (size_t i = 0; i < ARRAY_SIZE(map); i++, at += 2 * PAGE)
		(void)mmap(p + at, PAGE, rw, anon | map[i], -1, 0);
	if (mmap(p + at, PAGE, rw, anon | MAP_PRIVATE, -1, 0) != MAP_FAILED)
		(void)mlock(p + at, PAGE);
	at += 2 * PAGE;
	if (mmap(p + at, PAGE, rw, anon | MAP_PRIVATE, -1, 0) != MAP_FAILED)
		(void)mlock2(p + at, PAGE, MLOCK_ONFAULT);
	at += 2 * PAGE;
	if (mmap(p + at, PAGE, rw, anon | MAP_PRIVATE, -1, 0) != MAP_FAILED)
		(void)syscall(SYS_mseal, p + at, PAGE, 0);
}

/* Does this bit mean what it seems to? One that has two meanings is left unknown. */
static void learn(struct vma_iter *it, uint64_t vm, uint64_t proc)
{
	for (uint32_t i = 0; i < it->learnt_n; i++)
		if (it->learnt[i].vm == vm)
			return;
	if (it->learnt_n == VMA_ITER_LEARNT)
		return;
	it->learnt[it->learnt_n].vm = vm;
	it->learnt[it->learnt_n++].proc = proc;
}

static uint64_t unknown_bits(const struct vma_iter *it, uint64_t vm_flags)
{
	uint64_t left = vm_flags & ~(uint64_t)VM_MAYWRITE;

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		left &= ~fixed[i].vm;
	for (uint32_t i = 0; i < it->learnt_n; i++)
		left &= ~it->learnt[i].vm;
	return left;
}

/* Compare what smaps says of the samples with what the program says. */
static int learn_from(struct vma_iter *it, int pid)
{
	struct ckpt_err ignore = { 0 };
	struct proc_vmas vmas = { 0 };
	auto_free struct vma_iter_entry *e = NULL;
	uint64_t n = 0;
	int rc = vma_iter_read(it, pid, &e, &n);

	if (!rc)
		rc = proc_vmas_read(pid, NULL, &vmas, &ignore);
	/* First what one mapping alone teaches, then whether it is true of all. */
	for (int twice = 0; !rc && twice < 2; twice++) {
		for (size_t i = 0, k = 0; !rc && i < vmas.n; i++) {
			const struct proc_vma *v = &vmas.v[i];
			uint64_t proc, left;

			if (proc_vma_is_gate(v))
				continue;
			if (k == n || e[k].start != v->start || e[k].end != v->end) {
				rc = -EPROTO;
				break;
			}
			left = unknown_bits(it, e[k].vm_flags);
			(void)vma_iter_flags(it, e[k].vm_flags, &proc);
			if (!left && proc != v->flags)
				rc = -EPROTO;
			else if (!twice && left && !(left & (left - 1)) && !(proc & ~v->flags))
				learn(it, left, v->flags & ~proc);
			k++;
		}
	}
	proc_vmas_free(&vmas);
	return rc;
}

static int samples_read(struct vma_iter *it)
{
	int up[2], down[2], rc;
	char byte;
	pid_t child;

	if (pipe2(up, O_CLOEXEC))
		return -errno;
	if (pipe2(down, O_CLOEXEC)) {
		rc = -errno;
		(void)close(up[0]);
		(void)close(up[1]);
		return rc;
	}
	child = fork();
	rc = child < 0 ? -errno : 0;
	if (!child) {
		(void)close(down[1]);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		samples_make();
		(void)!write(up[1], "", 1);
		(void)!read(down[0], &byte, 1);
		_exit(0);
	}
	(void)close(up[1]);
	(void)close(down[0]);
	if (!rc && read(up[0], &byte, 1) != 1)
		rc = -ECHILD;
	if (!rc)
		rc = learn_from(it, child);
	(void)close(down[1]);
	(void)close(up[0]);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return rc;
}

int vma_iter_open(struct vma_iter *ret, struct btf *types)
{
	struct vma_iter it = { .prog_fd = -1 };
	struct layout l = { 0 };
	int rc = layout_find(&l, types);

	*ret = it;
	if (rc)
		return rc;
	it.prog_fd = program_load(&l);
	if (it.prog_fd < 0)
		return it.prog_fd;
	rc = samples_read(&it);
	if (rc)
		vma_iter_close(&it);
	*ret = it;
	return rc;
}

void vma_iter_close(struct vma_iter *it)
{
	if (it->prog_fd >= 0)
		(void)close(it->prog_fd);
	*it = (struct vma_iter) { .prog_fd = -1 };
}
