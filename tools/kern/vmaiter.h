/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flags of mappings without a look at their pages. /proc/PID/smaps tells them
 * too, but counts every page of every mapping for it (12 ms per GiB). Here a
 * BPF iterator reads vm_flags of each mapping (Linux 6.1, CONFIG_DEBUG_INFO_BTF,
 * CAP_SYS_ADMIN); where the kernel has none, or a flag is not known for certain,
 * the caller reads smaps.
 */
#ifndef CKPT_KERN_VMAITER_H
#define CKPT_KERN_VMAITER_H

#include <stdbool.h>
#include <stdint.h>

#include "kern/btf.h"

#define VMA_ITER_LEARNT 8u

/* May be given to another process, with its descriptor. */
struct vma_iter {
	int32_t prog_fd; /* the loaded program; -1: none */
	uint32_t learnt_n;
	struct {
		uint64_t vm;   /* one bit of vm_flags that is not the same in every kernel */
		uint64_t proc; /* PROC_VMF_* that smaps shows for it; 0: nothing */
	} learnt[VMA_ITER_LEARNT];
};

/* One mapping as the kernel has it. */
struct vma_iter_entry {
	uint64_t start, end, vm_flags;
	/* The userfaultfd it is registered with: no meaning but to be equal or not. 0: none, or not
	 * known. */
	uint64_t uffd;
	uint64_t anon; /* 0: of a file, it has no page of its own, and never had; 1 if not known */
};

/* Load the program and find out, on mappings of a child made for that, what this kernel's bits
 * mean. Takes some 10 ms. @types: loaded when they are not yet; the caller frees. 0 or -errno, then
 * @ret says "none". */
int vma_iter_open(struct vma_iter *ret, struct btf *types);
void vma_iter_close(struct vma_iter *it);
/* The mappings of thread @tid in ascending order; the caller frees *ret. 0 or -errno. */
int vma_iter_read(const struct vma_iter *it, int tid, struct vma_iter_entry **ret, uint64_t *ret_n);
/* What smaps would say of them, as PROC_VMF_*. False: there is a bit nobody knows. */
bool vma_iter_flags(const struct vma_iter *it, uint64_t vm_flags, uint64_t *ret);

#endif
