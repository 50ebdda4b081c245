/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reaching a page table of another address space. The kernel's own walkers are
 * not exported; these run on the target under mmap_lock or a VMA's lock.
 */
#ifndef CKPT_PGTABLE_H
#define CKPT_PGTABLE_H

#include <linux/mm.h>
#include <linux/pgtable.h>

#include "compat/compat.h"

/*
 * The pmd of @addr, NULL when nothing is mapped there, and then nothing is up to
 * *@ret_empty_end either (0: up to the end of the address space).
 */
static inline pmd_t *ckpt_pmd_find(struct mm_struct *mm, unsigned long addr,
				   unsigned long *ret_empty_end)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;

	*ret_empty_end = pgd_addr_end(addr, ULONG_MAX);
	if (pgd_none(*pgd))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	*ret_empty_end = p4d_addr_end(addr, ULONG_MAX);
	if (p4d_none(*p4d))
		return NULL;
	pud = pud_offset(p4d, addr);
	*ret_empty_end = pud_addr_end(addr, ULONG_MAX);
	/* Huge puds exist only in mappings that are not tracked. */
	if (pud_none(*pud) || pud_leaf(*pud))
		return NULL;
	pmd = pmd_offset(pud, addr);
	*ret_empty_end = pmd_addr_end(addr, ULONG_MAX);
	return pmd_none(ckpt_pmd_read(pmd)) ? NULL : pmd;
}

/*
 * Call @fn with the page table that @pmd points to, locked. Returns false when
 * there is none, or it went away meanwhile: look again. The kernel's
 * pte_offset_map_lock() needs a symbol that is not exported since 6.5. RCU keeps
 * the table: since 6.6 a huge page collapse may free it without mmap_lock.
 */
static __always_inline bool ckpt_with_table(struct mm_struct *mm, pmd_t *pmd,
					    void (*fn)(pte_t *table, void *arg), void *arg)
{
	bool done = false;
	spinlock_t *ptl;
	pmd_t val;

	rcu_read_lock();
	val = ckpt_pmd_read(pmd);
	if (pmd_present(val) && !pmd_leaf(val) && !pmd_bad(val)) {
		ptl = pte_lockptr(mm, &val);
		spin_lock(ptl);
		if (pmd_val(val) == pmd_val(ckpt_pmd_read(pmd))) {
			fn((pte_t *)pmd_page_vaddr(val), arg);
			done = true;
		}
		spin_unlock(ptl);
	}
	rcu_read_unlock();
	return done;
}

#endif
