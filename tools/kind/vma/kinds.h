/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_KIND_VMA_KINDS_H
#define CKPT_KIND_VMA_KINDS_H

#include "kind/kind.h"

extern const struct vma_kind vma_kind_vdso;
extern const struct vma_kind vma_kind_vvar;
extern const struct vma_kind vma_kind_vsyscall;
extern const struct vma_kind vma_kind_sysv;
extern const struct vma_kind vma_kind_hugetlb;
extern const struct vma_kind vma_kind_anon;
extern const struct vma_kind vma_kind_shmem;
extern const struct vma_kind vma_kind_file;

#endif
