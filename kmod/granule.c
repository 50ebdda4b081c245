// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: granularity, i.e. how many pages one write fault makes writable.
 *
 * A granule of 16 pages costs a sequential writer a sixteenth of the faults,
 * and a random writer up to sixteen times the dirty pages. Fixed mode opens the
 * granule that a fault falls into; adaptive mode opens pages only ahead of
 * faults that arrive in sequence, doubling up to the granule, and less where
 * the last scan found that the opened pages were not even touched.
 *
 * Only pages that the kernel itself would make writable without copying are
 * opened, and each is marked soft-dirty: opened means reported.
 */
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/pgtable.h>

#include "ckpt.h"
#include "compat/compat.h"
#include "pgtable.h"

#ifdef CONFIG_ARCH_HAS_USER_SHADOW_STACK
#define VM_CKPT_SHADOW_STACK VM_SHADOW_STACK
#else
#define VM_CKPT_SHADOW_STACK 0
#endif

#define NEVER_WIDEN (VM_SHARED | VM_MAYSHARE | VM_PFNMAP | VM_MIXEDMAP | VM_IO | VM_HUGETLB | \
		     VM_UFFD_WP | VM_CKPT_SHADOW_STACK)

/* May @pte become writable without its own fault? The PT lock is held. */
static bool may_open(pte_t pte)
{
	struct page *page;

	/* A clean PTE stays as it is: MADV_FREE tells a write by the dirty bit. */
	if (!pte_present(pte) || pte_write(pte) || pte_protnone(pte) || pte_special(pte) ||
	    pte_uffd_wp(pte) || !pte_dirty(pte) || !pfn_valid(pte_pfn(pte)))
		return false;
	page = pte_page(pte);
	return PageAnon(page) && PageAnonExclusive(page);
}

/* Open pages [first, end) of a chunk, but not @own: its fault is being handled. */
struct opening {
	struct ckpt_chunk *chunk;
	unsigned int first;
	unsigned int end;
	unsigned int own;
	unsigned int opened;
};

static void open_table(pte_t *table, void *arg)
{
	struct opening *o = arg;
	unsigned int i;

	for (i = o->first; i < o->end; i++) {
		pte_t old = READ_ONCE(table[i]), new;

		if (i == o->own || !may_open(old))
			continue;
		/* Not accessed: a later scan can tell that nobody came. */
		new = pte_mkold(pte_mksoft_dirty(ckpt_pte_mkwrite(old)));
		/* No flush: a CPU that still has it read-only faults and looks. */
		if (!ckpt_pte_replace(&table[i], old, new))
			continue;
		__set_bit(i, o->chunk->widened);
		o->opened++;
	}
}

/*
 * Which pages [*@ret_first, *@ret_end) of @chunk to open at a write fault of page
 * @own, when a granule has @granule pages (a power of two). Nothing but @own
 * itself: none. Adaptive mode remembers in the chunk where the next fault of a
 * sequence would come. Threads may race for that: a wrong guess costs faults only.
 */
static void granule_range(struct ckpt_chunk *chunk, unsigned int own, unsigned int granule,
			  enum ckpt_granule_mode mode, unsigned int *ret_first,
			  unsigned int *ret_end)
{
	unsigned int most, order = 0, end;

	if (mode == CKPT_GRANULE_FIXED) {
		*ret_first = own & ~(granule - 1);
		*ret_end = *ret_first + granule;
		return;
	}
	most = ilog2(granule);
	most -= min_t(unsigned int, most, READ_ONCE(chunk->narrow));
	if (own && own == READ_ONCE(chunk->next))
		order = min_t(unsigned int, READ_ONCE(chunk->order) + 1, most);
	end = min_t(unsigned int, own + (1U << order), CKPT_CHUNK_PAGES);
	WRITE_ONCE(chunk->order, order);
	WRITE_ONCE(chunk->next, end);
	*ret_first = own;
	*ret_end = end;
}

/*
 * A write fault at @addr is about to be handled; it is logged in @chunk. The
 * fault hook calls this: preemption is off, mmap_lock or the VMA's lock is held.
 */
void ckpt_granule_fault(struct ckpt_track *t, struct ckpt_chunk *chunk,
			struct vm_area_struct *vma, unsigned long addr, unsigned int flags)
{
	unsigned int granule = READ_ONCE(ckpt_settings.granule_pages);
	unsigned long base = addr & CKPT_CHUNK_MASK;
	unsigned int own = (addr - base) >> PAGE_SHIFT;
	struct opening o = { .chunk = chunk, .own = own };
	unsigned int first, end;
	unsigned long empty_end;
	pmd_t *pmd;

	/* There a page table lock sleeps, and this context must not. */
	if (IS_ENABLED(CONFIG_PREEMPT_RT))
		return;
	if (granule <= 1 || !(vma->vm_flags & VM_WRITE) || (vma->vm_flags & NEVER_WIDEN))
		return;

	granule_range(chunk, own, granule, READ_ONCE(ckpt_settings.granule_mode), &first, &end);
	if (end - first <= 1)
		return;
	if (base + ((unsigned long)first << PAGE_SHIFT) < vma->vm_start)
		first = (vma->vm_start - base) >> PAGE_SHIFT;
	if (base + ((unsigned long)end << PAGE_SHIFT) > vma->vm_end)
		end = (vma->vm_end - base) >> PAGE_SHIFT;
	o.first = first;
	o.end = end;
	pmd = ckpt_pmd_find(vma->vm_mm, addr, &empty_end);
	if (pmd && ckpt_with_table(vma->vm_mm, pmd, open_table, &o) && o.opened)
		atomic64_add(o.opened, &t->session->count.widened);
}

/*
 * Of the pages opened in [first, end) of @chunk, @untouched were not accessed
 * until this scan. Learn from it; returns @untouched, 0 when nothing was opened.
 * The scan's locks keep the fault hook out.
 */
unsigned int ckpt_granule_judge(struct ckpt_chunk *chunk, unsigned int first, unsigned int end,
				unsigned int untouched)
{
	unsigned int opened = 0, i;

	i = first;
	for_each_set_bit_from(i, chunk->widened, end)
		opened++;
	if (!opened)
		return 0;
	bitmap_clear(chunk->widened, first, end - first);
	if (untouched * 2 > opened)
		chunk->narrow = min(chunk->narrow + 1, 9);
	else if (!untouched && chunk->narrow)
		chunk->narrow--;
	return untouched;
}
