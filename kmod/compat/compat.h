/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Everything that differs between the kernels we build for (6.1 … 6.12), and
 * the kernel functions that are not exported. No other file of the module
 * knows a kernel version. Each entry says which kernel makes it unnecessary.
 */
#ifndef CKPT_COMPAT_H
#define CKPT_COMPAT_H

#include <linux/ftrace.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/pgtable.h>
#include <linux/userfaultfd_k.h>
#include <linux/version.h>
#include <net/genetlink.h>

/* ftrace_regs_get_argument(): 6.2 and later. */
static __always_inline unsigned long ckpt_fregs_arg(struct ftrace_regs *fregs, int n)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	return n == 0 ? ftrace_regs_get_argument(fregs, 0) :
	       n == 1 ? ftrace_regs_get_argument(fregs, 1) :
	       n == 2 ? ftrace_regs_get_argument(fregs, 2) :
			ftrace_regs_get_argument(fregs, 3);
#else
	return n == 0 ? fregs->regs.di : n == 1 ? fregs->regs.si :
	       n == 2 ? fregs->regs.dx : fregs->regs.cx;
#endif
}

/* vm_flags_clear(): 6.3 and later. */
static inline void ckpt_vma_clear_flags(struct vm_area_struct *vma, vm_flags_t flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_clear(vma, flags);
#else
	vma->vm_flags &= ~flags;
#endif
}

/* Per-VMA locks: 6.4 and later. Caller holds mmap_lock for write. */
static inline void ckpt_vma_start_write(struct vm_area_struct *vma)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	vma_start_write(vma);
#endif
}

/* mmu_notifier_range_init() took the VMA until 6.3. */
static inline void ckpt_notifier_range_init(struct mmu_notifier_range *range,
					    enum mmu_notifier_event event, struct mm_struct *mm,
					    unsigned long start, unsigned long end)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	mmu_notifier_range_init(range, event, 0, mm, start, end);
#else
	mmu_notifier_range_init(range, event, 0, NULL, mm, start, end);
#endif
}

/* pmdp_get_lockless(): 6.2 and later; on x86-64 a pmd is one word. */
static inline pmd_t ckpt_pmd_read(pmd_t *pmd)
{
	return READ_ONCE(*pmd);
}

#define CKPT_PTES_AT_ONCE 8

/*
 * Are all of CKPT_PTES_AT_ONCE entries present, and neither writable nor soft-dirty? Says no when in doubt. A page of a
 * shadow stack (6.6) is writable by being dirty without _PAGE_RW; of others the bit is _PAGE_SAVED_DIRTY then.
 */
static __always_inline bool ckpt_ptes_clean(const pte_t *ptep)
{
	const pteval_t changed = _PAGE_RW | _PAGE_SOFT_DIRTY |
				 (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0) ? _PAGE_DIRTY : 0);
	pteval_t all = ~(pteval_t)0, any = 0;
	unsigned int i;

#pragma GCC unroll 8
	for (i = 0; i < CKPT_PTES_AT_ONCE; i++) {
		pteval_t val = READ_ONCE(ptep[i]).pte;

		all &= val;
		any |= val;
	}
	return (all & _PAGE_PRESENT) && !(any & changed);
}

/*
 * Make a PTE writable. pte_mkwrite() takes the VMA since 6.6; there
 * pte_mkwrite_novma() leaves the saved-dirty bit of shadow stacks alone, which
 * must not stay set in a writable PTE.
 */
static inline pte_t ckpt_pte_mkwrite(pte_t pte)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	return pte_clear_saveddirty(pte_mkwrite_novma(pte));
#else
	return pte_mkwrite(pte);
#endif
}

/* struct genl_dumpit_info carries a whole genl_info since 6.6. */
static inline struct nlattr **ckpt_dump_attrs(struct netlink_callback *cb)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	return genl_dumpit_info(cb)->info.attrs;
#else
	return genl_dumpit_info(cb)->attrs;
#endif
}

/*
 * A PTE or PMD changes in one atomic step: the CPU may set accessed and dirty
 * at any instant, and a walker that takes no lock must never see "none" in
 * between. Returns false when the entry was not @old any more.
 */
static inline bool ckpt_pte_replace(pte_t *ptep, pte_t old, pte_t new)
{
	return try_cmpxchg(&ptep->pte, &old.pte, new.pte);
}

static inline bool ckpt_pmd_replace(pmd_t *pmdp, pmd_t old, pmd_t new)
{
	return try_cmpxchg(&pmdp->pmd, &old.pmd, new.pmd);
}

/*
 * mfill_atomic_install_pte() puts a page where none was, for UFFDIO_COPY and
 * CONTINUE: neither a fault nor the mmu notifier tells of it. It runs with
 * mmap_lock or the VMA's lock held. It takes (mm, pmd, vma, addr, …) until
 * 6.4 and (pmd, vma, addr, …) later.
 */
static __always_inline void ckpt_install_args(struct ftrace_regs *fregs,
					      struct vm_area_struct **ret_vma,
					      unsigned long *ret_addr)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
	*ret_vma = (void *)ckpt_fregs_arg(fregs, 1);
	*ret_addr = ckpt_fregs_arg(fregs, 2);
#else
	*ret_vma = (void *)ckpt_fregs_arg(fregs, 2);
	*ret_addr = ckpt_fregs_arg(fregs, 3);
#endif
}

/* UFFDIO_MOVE, move_pages(ctx, …): 6.8 and later. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#define CKPT_HAS_UFFD_MOVE 1
static __always_inline struct mm_struct *ckpt_move_mm(struct ftrace_regs *fregs)
{
	return ((struct userfaultfd_ctx *)ckpt_fregs_arg(fregs, 0))->mm;
}
#else
#define CKPT_HAS_UFFD_MOVE 0
static __always_inline struct mm_struct *ckpt_move_mm(struct ftrace_regs *fregs)
{
	return NULL;
}
#endif

/* symbols.c: functions of the kernel that are not exported. */
int ckpt_symbols_init(void);
void ckpt_flush_tlb(struct mm_struct *mm, unsigned long start, unsigned long end);
int ckpt_notify_start(struct mmu_notifier_range *range);
void ckpt_notify_end(struct mmu_notifier_range *range);
void ckpt_split_pmd(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr);
bool ckpt_ptrace_may_access(struct task_struct *task, unsigned int mode);

#endif
