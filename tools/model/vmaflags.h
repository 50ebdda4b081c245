/* SPDX-License-Identifier: GPL-2.0-only */
/* What madvise and mlock left on a mapping: the bits of Vma.flags in the image, the
 * VmFlags letters they come from, and the advice that sets them again. */
#ifndef CKPT_MODEL_VMAFLAGS_H
#define CKPT_MODEL_VMAFLAGS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "kern/procfs.h"

/* Bit numbers are part of the image format: append only. */
static const struct vma_flag {
	const char *name;
	uint64_t proc; /* PROC_VMF_* */
	int advice;    /* madvise(2) that sets it; -1: done elsewhere */
} vma_flags[] = {
	{ "dontfork", PROC_VMF(dc), MADV_DONTFORK },
	{ "wipeonfork", PROC_VMF(wf), MADV_WIPEONFORK },
	{ "dontdump", PROC_VMF(dd), MADV_DONTDUMP },
	{ "hugepage", PROC_VMF(hg), MADV_HUGEPAGE },
	{ "nohugepage", PROC_VMF(nh), MADV_NOHUGEPAGE },
	{ "mergeable", PROC_VMF(mg), MADV_MERGEABLE },
	{ "sequential", PROC_VMF(sr), MADV_SEQUENTIAL },
	{ "random", PROC_VMF(rr), MADV_RANDOM },
	{ "locked", PROC_VMF(lo), -1 },
	{ "lockonfault", PROC_VMF(lf), -1 },
	{ "sealed", PROC_VMF(sl), -1 },
};
#define VMA_FLAG_COUNT (sizeof(vma_flags) / sizeof(vma_flags[0]))
#define VMA_FLAG_HUGEPAGE (1ull << 3)
#define VMA_FLAG_LOCKED (1ull << 8)
#define VMA_FLAG_LOCKONFAULT (1ull << 9)
#define VMA_FLAG_SEALED (1ull << 10)

static inline uint64_t vma_flags_from_proc(uint64_t proc)
{
	uint64_t flags = 0;

	for (size_t i = 0; i < VMA_FLAG_COUNT; i++)
		if (proc & vma_flags[i].proc)
			flags |= 1ull << i;
	return flags;
}

#endif
