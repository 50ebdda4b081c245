// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: the walk over a target's page tables, for arming and for collecting.
 *
 * Arming takes the write permission and the soft-dirty bit from every page of
 * the tracked mappings. From then on, until the next scan:
 *
 *	changed  ⇔  soft-dirty, or writable, or pinned, or said so by the log
 *
 * The scan looks only where the log points, where a mapping is new, and where
 * the kernel may hand out write permission without a fault (VM_SOFTDIRTY is set
 * again on a mapping that grew; then mprotect, NUMA hinting and swap-in may
 * upgrade a clean PTE). Clearing VM_SOFTDIRTY is what makes them refrain.
 *
 * It holds mmap_lock for write and every VMA's lock: a fault that was logged
 * before the log is read can then not make its PTE writable afterwards. With
 * less, pages were lost: see docs/kmod.md.
 *
 * What it must not know: netlink, sessions.
 */
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/pgtable.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/swapops.h>

#include "ckpt.h"
#include "compat/compat.h"
#include "pgtable.h"

#define MAP_PAGES(name) unsigned long name[BITS_TO_LONGS(CKPT_CHUNK_PAGES)]

/*
 * One walk.
 * @arm:	protect, and consume the log
 * @runs:	where to report, or NULL
 * @force_all:	every page counts as changed
 * @scan_all:	look at every page
 * @pins:	the target ever pinned pages: look for them
 * @zapped:	as taken from the log
 * @prot:	as taken from the log
 * @known_at:	first range of track->known that ends behind the walk
 * @next_known:	what will be known when this walk has armed
 * @gone_at:	first range of track->known that ends behind the last VMA
 * @vma_force:	every page of the current VMA counts as changed
 * @vma_all:	look at every page of the current VMA
 * @started:	@cursor and @chunk are valid
 * @cursor:	index of @chunk, ULONG_MAX when none is left
 * @chunk:	the touched chunk there, or NULL when none is left
 * @grown:	there was a fault in @chunk while its mapping had grown
 * @flush_start: range of the TLB that must be flushed
 * @flush_end:	its end, 0: nothing
 */
struct scan {
	struct ckpt_track *t;
	struct mm_struct *mm;
	bool arm;
	struct ckpt_runs *runs;
	bool force_all;
	bool scan_all;
	bool pins;
	struct ckpt_ranges zapped;
	struct ckpt_ranges prot;
	size_t known_at;
	struct ckpt_known next_known;
	size_t gone_at;
	bool vma_force;
	bool vma_all;
	bool started;
	unsigned long cursor;
	struct ckpt_chunk *chunk;
	bool grown;
	unsigned long flush_start;
	unsigned long flush_end;
	struct ckpt_scan_result result;
};

/* ---- results --------------------------------------------------------------- */

static void emit(struct scan *s, unsigned long start, unsigned long end, u32 state)
{
	if (s->runs && start < end)
		ckpt_runs_add(s->runs, start, end, state);
}

/* Nothing is mapped in [start, end) now: tell of what was. */
static void emit_gone(struct scan *s, unsigned long start, unsigned long end)
{
	const struct ckpt_known *known = &s->t->known;
	size_t i;

	if (!s->runs || !s->runs->unmapped)
		return;
	while (s->gone_at < known->nr && known->r[s->gone_at].end <= start)
		s->gone_at++;
	for (i = s->gone_at; i < known->nr && known->r[i].start < end; i++)
		emit(s, max(start, known->r[i].start), min(end, known->r[i].end), CKPT_RUN_UNMAPPED);
}

/* The pages of @data and @drop between @lo and @hi, all in the chunk at @base. */
static void emit_pages(struct scan *s, unsigned long base, unsigned long lo, unsigned long hi,
		       const unsigned long *data, const unsigned long *now,
		       const unsigned long *drop)
{
	unsigned int i = (lo - base) >> PAGE_SHIFT, end = (hi - base) >> PAGE_SHIFT;
	unsigned int first;

	if (!s->runs)
		return;
	while (i < end) {
		u32 state = test_bit(i, data) ? CKPT_RUN_DATA :
			    test_bit(i, drop) ? CKPT_RUN_DROPPED : 0;

		if (state == CKPT_RUN_DATA && s->runs->snapshot && test_bit(i, now))
			state = CKPT_RUN_DATA_NOW;

		if (!state) {
			i = min_t(unsigned int, find_next_bit(data, end, i),
				  find_next_bit(drop, end, i));
			continue;
		}
		first = i;
		if (state == CKPT_RUN_DATA)
			i = s->runs->snapshot ?
				    min_t(unsigned int, find_next_zero_bit(data, end, i),
					  find_next_bit(now, end, i)) :
				    find_next_zero_bit(data, end, i);
		else if (state == CKPT_RUN_DATA_NOW)
			i = find_next_zero_bit(now, end, i);
		else
			while (i < end && test_bit(i, drop) && !test_bit(i, data))
				i++;
		ckpt_runs_add(s->runs, base + ((unsigned long)first << PAGE_SHIFT),
			 base + ((unsigned long)i << PAGE_SHIFT), state);
	}
}

/* ---- which pages count as changed whatever their PTE says ------------------ */

/*
 * Is @addr in a range whose pages all changed? *@ret_end, at most @end, is where
 * that may become different. Addresses only grow during a scan.
 */
static bool forced(struct scan *s, unsigned long addr, unsigned long end, unsigned long *ret_end)
{
	const struct ckpt_known *known = &s->t->known;
	bool in_zapped = false, is_new = true;
	unsigned int i;

	*ret_end = end;
	if (s->force_all || s->vma_force)
		return true;

	while (s->known_at < known->nr && known->r[s->known_at].end <= addr)
		s->known_at++;
	if (s->known_at < known->nr) {
		const struct ckpt_range *r = &known->r[s->known_at];

		is_new = addr < r->start;
		*ret_end = min(*ret_end, is_new ? r->start : r->end);
	}
	for (i = 0; i < s->zapped.nr; i++) {
		const struct ckpt_range *r = &s->zapped.r[i];

		if (addr < r->start) {
			*ret_end = min(*ret_end, r->start);
		} else if (addr < r->end) {
			in_zapped = true;
			*ret_end = min(*ret_end, r->end);
		}
	}
	return is_new || in_zapped;
}

static void force_pages(struct scan *s, unsigned long base, unsigned long lo, unsigned long hi,
			unsigned long *map)
{
	unsigned long end;

	for (; lo < hi; lo = end)
		if (forced(s, lo, hi, &end))
			bitmap_set(map, (lo - base) >> PAGE_SHIFT, (end - lo) >> PAGE_SHIFT);
}

/* ---- one PTE, one PMD ------------------------------------------------------- */

static void flush_later(struct scan *s, unsigned long start, unsigned long end)
{
	if (!s->flush_end || start < s->flush_start)
		s->flush_start = start;
	s->flush_end = max(s->flush_end, end);
}

static struct page *pte_struct_page(pte_t pte)
{
	if (pte_special(pte) || !pfn_valid(pte_pfn(pte)))
		return NULL;
	return pte_page(pte);
}

/* Take write permission and the soft-dirty bit; the PT lock is held. */
static pte_t pte_protect(pte_t *ptep)
{
	pte_t old, new;

	do {
		old = READ_ONCE(*ptep);
		new = pte_clear_soft_dirty(pte_wrprotect(old));
	} while (!ckpt_pte_replace(ptep, old, new));
	return old;
}

/* What became of one page. */
enum page_state {
	PAGE_CLEAN = 0,
	PAGE_DATA = CKPT_RUN_DATA,
	PAGE_DROPPED = CKPT_RUN_DROPPED,
	PAGE_NOW = CKPT_RUN_DATA_NOW,	/* as data; a snapshot cannot keep it */
};

static enum page_state scan_present(struct scan *s, pte_t *ptep, pte_t pte, unsigned long addr,
				    bool force, bool *ret_carry)
{
	bool touched = pte_write(pte) || pte_soft_dirty(pte);
	struct page *page;

	if (!touched && !force)
		return PAGE_CLEAN;
	page = pte_struct_page(pte);
	if (s->arm && s->pins && page && PageAnon(page) && folio_maybe_dma_pinned(page_folio(page))) {
		/* A device may write at any time: never clean while pinned. */
		*ret_carry = true;
		return PAGE_NOW;
	}
	if (s->arm && touched) {
		pte_protect(ptep);
		flush_later(s, addr, addr + PAGE_SIZE);
	}
	if (page && PageAnon(page))
		return PAGE_DATA;
	return touched ? PAGE_NOW : PAGE_DROPPED;
}

/* Swapped out, on its way to another frame, or something rarer. */
static enum page_state scan_swap(struct scan *s, pte_t *ptep, pte_t pte, unsigned long addr,
				 bool force, bool *ret_carry)
{
	swp_entry_t entry = pte_to_swp_entry(pte);
	bool touched = pte_swp_soft_dirty(pte);
	pte_t new = pte_swp_clear_soft_dirty(pte);

	if (is_pte_marker_entry(entry))
		return force ? PAGE_DROPPED : PAGE_CLEAN;
	if (is_migration_entry(entry)) {
		if (is_writable_migration_entry(entry)) {
			/* It would come back writable without a fault. */
			touched = true;
			if (PageAnon(pfn_swap_entry_to_page(entry)))
				entry = make_readable_exclusive_migration_entry(swp_offset(entry));
			else
				entry = make_readable_migration_entry(swp_offset(entry));
			new = swp_entry_to_pte(entry);
			if (pte_swp_uffd_wp(pte))
				new = pte_swp_mkuffd_wp(new);
		}
	} else if (non_swap_entry(entry)) {
		/* Device memory, poison: never seen here, never called clean. */
		*ret_carry = s->arm;
		return PAGE_NOW;
	}
	if (!touched && !force)
		return PAGE_CLEAN;
	/* Nobody changes a non-present PTE without the PT lock. */
	if (s->arm && touched)
		set_pte_at(s->mm, addr, ptep, new);
	return PAGE_NOW;
}

/*
 * A huge page. Returns false when it is none any more, or was split: the caller
 * looks again. With thp_mode whole it stays, and changes as one.
 */
static bool scan_huge(struct scan *s, struct vm_area_struct *vma, pmd_t *pmd, unsigned long base,
		      bool force, enum page_state *ret_state, bool *ret_carry)
{
	bool whole = READ_ONCE(ckpt_settings.thp_mode) == CKPT_THP_WHOLE;
	bool touched, split = false, ret = true;
	struct page *page;
	spinlock_t *ptl;
	pmd_t val, new;

	*ret_state = PAGE_CLEAN;
	ptl = pmd_lock(s->mm, pmd);
	val = ckpt_pmd_read(pmd);
	if (pmd_none(val) || (pmd_present(val) && !pmd_leaf(val))) {
		ret = false;
		goto out_unlock;
	}
	if (!pmd_present(val)) {
		/* Migrating as a whole. It may come back writable. */
		*ret_state = PAGE_NOW;
		*ret_carry = s->arm;
		goto out_unlock;
	}
	touched = pmd_write(val) || pmd_soft_dirty(val);
	page = pmd_page(val);
	if (s->arm && s->pins && PageAnon(page) && folio_maybe_dma_pinned(page_folio(page))) {
		*ret_state = PAGE_NOW;
		*ret_carry = true;
		goto out_unlock;
	}
	if (touched || force)
		*ret_state = PageAnon(page) ? PAGE_DATA : touched ? PAGE_NOW : PAGE_DROPPED;
	if (!s->arm)
		goto out_unlock;
	if (!whole) {
		split = true;
		goto out_unlock;
	}
	while (touched) {
		val = ckpt_pmd_read(pmd);
		new = pmd_clear_soft_dirty(pmd_wrprotect(val));
		if (ckpt_pmd_replace(pmd, val, new)) {
			flush_later(s, base, base + CKPT_CHUNK_BYTES);
			break;
		}
	}
out_unlock:
	spin_unlock(ptl);
	if (split) {
		/* Its PTEs inherit both bits, so nothing is forgotten. */
		WRITE_ONCE(s->t->scanner, current);
		ckpt_split_pmd(vma, pmd, base);
		WRITE_ONCE(s->t->scanner, NULL);
		ret = false;
	}
	return ret;
}

/* Take the pages that the log holds for this chunk, once per scan. */
static void take_must(struct scan *s, struct ckpt_chunk *chunk, unsigned long index)
{
	unsigned int i;
	bool any = false;

	s->grown = test_bit(CKPT_CHUNK_GROWN, &chunk->state);
	if (!s->arm) {
		memcpy(chunk->seen, chunk->must, sizeof(chunk->seen));
		return;
	}
	clear_bit(CKPT_CHUNK_GROWN, &chunk->state);
	xa_clear_mark(&s->t->log.chunks, index, CKPT_TOUCHED);
	clear_bit(CKPT_CHUNK_TOUCHED, &chunk->state);
	smp_mb__after_atomic();
	for (i = 0; i < BITS_TO_LONGS(CKPT_CHUNK_PAGES); i++) {
		chunk->seen[i] = xchg(&chunk->must[i], 0);
		any |= chunk->seen[i];
	}
	if (any)
		xa_set_mark(&s->t->log.chunks, index, CKPT_CARRYING);
}

/* What scan_chunk() finds, page by page. */
struct pages {
	struct scan *s;
	struct ckpt_chunk *chunk;
	unsigned long base;
	unsigned int first;
	unsigned int end;
	unsigned int untouched;	/* opened by granule.c, and nobody came */
	bool carry_any;
	MAP_PAGES(force);	/* changed whatever the PTE says */
	MAP_PAGES(data);
	MAP_PAGES(now);		/* of @data, what a snapshot cannot keep */
	MAP_PAGES(drop);
	MAP_PAGES(carry);	/* count as changed at the next collect too */
};

static void scan_pte(struct pages *p, pte_t *ptep, pte_t pte, unsigned int i)
{
	unsigned long addr = p->base + ((unsigned long)i << PAGE_SHIFT);
	bool must = test_bit(i, p->force), keep = false;
	enum page_state state;

	if (p->chunk && test_bit(i, p->chunk->widened) && pte_present(pte) && !pte_young(pte))
		p->untouched++;
	if (pte_none(pte))
		state = must ? PAGE_DROPPED : PAGE_CLEAN;
	else if (pte_present(pte))
		state = scan_present(p->s, ptep, pte, addr, must, &keep);
	else
		state = scan_swap(p->s, ptep, pte, addr, must, &keep);
	if (state == PAGE_DATA || state == PAGE_NOW)
		__set_bit(i, p->data);
	if (state == PAGE_NOW)
		__set_bit(i, p->now);
	else if (state == PAGE_DROPPED)
		__set_bit(i, p->drop);
	if (keep) {
		__set_bit(i, p->carry);
		p->carry_any = true;
	}
}

/* As scan_pte() finds it where nothing else is to be said of the page. */
static __always_inline bool pte_clean(pte_t pte)
{
	return pte_present(pte) && !pte_write(pte) && !pte_soft_dirty(pte);
}

/* Of the pages in a touched chunk most are clean, and this is where an arm spends its time. */
static void scan_table(pte_t *table, void *arg)
{
	struct pages *p = arg;
	unsigned int i = p->first;

	while (i < p->end) {
		unsigned int until = min_t(unsigned int, p->end, (i | (CKPT_PTES_AT_ONCE - 1)) + 1);
		unsigned long asked = p->force[i / BITS_PER_LONG];

		if (p->chunk)
			asked |= p->chunk->widened[i / BITS_PER_LONG];
		asked >>= i % BITS_PER_LONG;
		if (until - i == CKPT_PTES_AT_ONCE && !(asked & GENMASK(CKPT_PTES_AT_ONCE - 1, 0)) &&
		    ckpt_ptes_clean(table + i)) {
			i = until;
			continue;
		}
		for (; i < until; i++, asked >>= 1) {
			pte_t pte = READ_ONCE(table[i]);

			if (asked & 1 || !pte_clean(pte))
				scan_pte(p, table + i, pte, i);
		}
	}
}

static bool overlaps(const struct ckpt_ranges *set, unsigned long start, unsigned long end)
{
	unsigned int i;

	for (i = 0; i < set->nr; i++)
		if (start < set->r[i].end && set->r[i].start < end)
			return true;
	return false;
}

/*
 * Look at [lo, hi), the part of @vma in one chunk. Called once for each pair of
 * VMA and chunk: a huge page that is armed at the second call would have hidden
 * from it what it was at the first.
 */
static void scan_chunk(struct scan *s, struct vm_area_struct *vma, unsigned long lo,
		       unsigned long hi, struct ckpt_chunk *chunk)
{
	unsigned long base = lo & CKPT_CHUNK_MASK, empty_end;
	struct pages p = {
		.s = s,
		.chunk = chunk,
		.base = base,
		.first = (lo - base) >> PAGE_SHIFT,
		.end = (hi - base) >> PAGE_SHIFT,
	};
	enum page_state state;
	pmd_t *pmd, val;
	bool keep;

	s->result.chunks++;
	/* A PTE that such a fault made writable still is, unless protection changed since (fork). */
	if (chunk && s->grown && overlaps(&s->prot, lo, hi))
		bitmap_set(p.force, p.first, p.end - p.first);
	force_pages(s, base, lo, hi, p.force);
	if (chunk)
		bitmap_or(p.force, p.force, chunk->seen, CKPT_CHUNK_PAGES);

again:
	pmd = ckpt_pmd_find(s->mm, lo, &empty_end);
	if (!pmd) {
		bitmap_copy(p.drop, p.force, CKPT_CHUNK_PAGES);
		goto out;
	}
	val = ckpt_pmd_read(pmd);
	if (!pmd_present(val) || pmd_leaf(val)) {
		keep = false;
		if (!scan_huge(s, vma, pmd, base, find_next_bit(p.force, p.end, p.first) < p.end,
			       &state, &keep))
			goto again;
		if (state == PAGE_DATA || state == PAGE_NOW)
			bitmap_set(p.data, p.first, p.end - p.first);
		if (state == PAGE_NOW)
			bitmap_set(p.now, p.first, p.end - p.first);
		else if (state == PAGE_DROPPED)
			bitmap_copy(p.drop, p.force, CKPT_CHUNK_PAGES);
		if (keep) {
			bitmap_set(p.carry, p.first, p.end - p.first);
			p.carry_any = true;
		}
		goto out;
	}
	if (!ckpt_with_table(s->mm, pmd, scan_table, &p))
		goto again;
out:
	if (s->arm && chunk)
		s->result.widened_clean += ckpt_granule_judge(chunk, p.first, p.end, p.untouched);
	emit_pages(s, base, lo, hi, p.data, p.now, p.drop);
	if (p.carry_any)
		ckpt_log_pages(s->t, base, p.carry);
}

/* ---- the walk --------------------------------------------------------------- */

/*
 * Go to the first touched chunk at or behind @index. What is passed lies outside
 * of every tracked mapping: it is taken from the log too, or it would stay there
 * for ever. (Should an invalidation mark a chunk behind us at this moment, then
 * the scan has raced with it and puts back what it took.)
 */
static void cursor_seek(struct scan *s, unsigned long index)
{
	struct xarray *chunks = &s->t->log.chunks;

	while (s->cursor < index || !s->started) {
		if (s->started) {
			s->chunk = xa_find_after(chunks, &s->cursor, ULONG_MAX, CKPT_TOUCHED);
		} else {
			s->chunk = xa_find(chunks, &s->cursor, ULONG_MAX, CKPT_TOUCHED);
			s->started = true;
		}
		if (!s->chunk) {
			s->cursor = ULONG_MAX;
			return;
		}
		take_must(s, s->chunk, s->cursor);
	}
}

/*
 * Mappings whose pages only this address space can change, and change only
 * through its page tables. Everything else is reported as UNTRACKED.
 */
static bool vma_tracked(const struct vm_area_struct *vma)
{
	return !(vma->vm_flags & (VM_SHARED | VM_MAYSHARE | VM_HUGETLB | VM_PFNMAP | VM_IO |
				  VM_MIXEDMAP)) &&
	       !vma_is_dax(vma);
}

/* Look at every page table of [addr, end) that can hold anything of interest. */
static void scan_vma(struct scan *s, struct vm_area_struct *vma)
{
	unsigned long addr = vma->vm_start, end = vma->vm_end, hi, until, empty_end;
	struct ckpt_chunk *chunk;
	bool force;

	while (addr < end) {
		cond_resched();
		cursor_seek(s, addr >> CKPT_CHUNK_SHIFT);
		chunk = s->chunk && s->cursor == addr >> CKPT_CHUNK_SHIFT ? s->chunk : NULL;
		hi = min((addr & CKPT_CHUNK_MASK) + CKPT_CHUNK_BYTES, end);

		if (!chunk) {
			/* How far is nothing logged, and everything of one kind? */
			until = end;
			if (s->chunk)
				until = min(until, s->cursor << CKPT_CHUNK_SHIFT);
			force = forced(s, addr, until, &until);
			if (!force && !s->vma_all && until >= hi) {
				addr = until == end ? end : until & CKPT_CHUNK_MASK;
				continue;
			}
			/* Where no page table is there is nothing to look at. */
			if (!ckpt_pmd_find(s->mm, addr, &empty_end) && until >= hi) {
				if (empty_end)
					until = min(until, empty_end);
				if (until != end)
					until &= CKPT_CHUNK_MASK;
				if (force)
					emit(s, addr, until, CKPT_RUN_DROPPED);
				addr = until;
				continue;
			}
		}
		scan_chunk(s, vma, addr, hi, chunk);
		addr = hi;
	}
}

static void walk(struct scan *s)
{
	struct vm_area_struct *vma;
	unsigned long done = 0;
	VMA_ITERATOR(vmi, s->mm, 0);

	for_each_vma(vmi, vma) {
		bool grown = vma->vm_flags & VM_SOFTDIRTY;

		emit_gone(s, done, vma->vm_start);
		done = vma->vm_end;
		if (!vma_tracked(vma)) {
			emit(s, vma->vm_start, vma->vm_end, CKPT_RUN_UNTRACKED);
			continue;
		}
		/*
		 * In a VMA that grew since it was armed the kernel may have made clean PTEs writable without a
		 * write fault: the log knows where. A write that ptrace forced is not logged.
		 */
		s->vma_all = s->scan_all || grown;
		s->vma_force = grown && !(vma->vm_flags & VM_WRITE);
		scan_vma(s, vma);
		if (s->arm) {
			if (grown)
				ckpt_vma_clear_flags(vma, VM_SOFTDIRTY);
			ckpt_known_add(&s->next_known, vma->vm_start, vma->vm_end);
		}
	}
	emit_gone(s, done, ULONG_MAX);
	cursor_seek(s, ULONG_MAX);
}

/* ---- the log of the epoch that ends ------------------------------------------ */

static void take_log(struct scan *s, unsigned long *ret_flags)
{
	struct ckpt_log *log = &s->t->log;

	spin_lock(&log->lock);
	s->zapped = log->zapped;
	s->prot = log->prot;
	if (s->arm) {
		log->zapped.nr = 0;
		log->prot.nr = 0;
	}
	spin_unlock(&log->lock);

	*ret_flags = READ_ONCE(log->flags);
	if (s->arm) {
		clear_bit(CKPT_LOG_SCAN_ALL, &log->flags);
		clear_bit(CKPT_LOG_FORCE_ALL, &log->flags);
		/* The bits fall before the scan looks: what is set later stays. */
		smp_mb__after_atomic();
	}
	s->force_all = !s->t->epoch || test_bit(CKPT_LOG_FORCE_ALL, ret_flags);
	s->scan_all = s->force_all || test_bit(CKPT_LOG_SCAN_ALL, ret_flags) ||
		      test_bit(CKPT_LOG_SCAN_ALWAYS, ret_flags);
	s->result.degraded = *ret_flags;
}

/*
 * Finish with the bits taken from the log. If an invalidation was on its way
 * (@raced), its page may change after we looked at it: everything that was
 * announced in this epoch counts in the next one too.
 */
static void put_log(struct scan *s, unsigned long flags, bool raced)
{
	struct ckpt_log *log = &s->t->log;
	struct ckpt_chunk *chunk;
	unsigned long index;
	unsigned int i;

	xa_for_each_marked(&log->chunks, index, chunk, CKPT_CARRYING) {
		xa_clear_mark(&log->chunks, index, CKPT_CARRYING);
		if (raced)
			ckpt_log_pages(s->t, index << CKPT_CHUNK_SHIFT, chunk->seen);
		memset(chunk->seen, 0, sizeof(chunk->seen));
	}
	if (!raced)
		return;
	spin_lock(&log->lock);
	for (i = 0; i < s->zapped.nr; i++)
		ckpt_ranges_add(&log->zapped, s->zapped.r[i].start, s->zapped.r[i].end);
	for (i = 0; i < s->prot.nr; i++)
		ckpt_ranges_add(&log->prot, s->prot.r[i].start, s->prot.r[i].end);
	spin_unlock(&log->lock);
	if (test_bit(CKPT_LOG_FORCE_ALL, &flags))
		set_bit(CKPT_LOG_FORCE_ALL, &log->flags);
}

/* Chunks that are not touched only save an allocation: forget them under pressure. */
static void prune(struct scan *s)
{
	struct ckpt_log *log = &s->t->log;
	long limit = READ_ONCE(ckpt_settings.log_limit_bytes) / sizeof(struct ckpt_chunk);
	struct ckpt_chunk *chunk;
	unsigned long index;

	if (atomic_long_read(&log->nr_chunks) <= limit / 2)
		return;
	xa_for_each(&log->chunks, index, chunk)
		ckpt_log_forget(log, index, chunk);
}

/* ---- entry -------------------------------------------------------------------- */

static int lock_target(struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, mm, 0);

	if (mmap_write_lock_killable(mm))
		return -EINTR;
	for_each_vma(vmi, vma)
		ckpt_vma_start_write(vma);
	return 0;
}

/*
 * Find what changed since the last arm and, with @arm, begin the next epoch in
 * the same step. @runs may be NULL. Caller holds session->mutex and a reference
 * to the users of @mm. Returns -EINTR or -ENOMEM with nothing done.
 */
int ckpt_scan(struct ckpt_track *t, struct mm_struct *mm, bool arm, struct ckpt_runs *runs,
	      struct ckpt_scan_result *ret_result)
{
	struct mmu_notifier_range range;
	unsigned long flags;
	struct scan *s;
	int err, started;
	bool raced;
	u64 begin;

	s = kvzalloc(sizeof(*s), GFP_KERNEL);
	if (!s)
		return -ENOMEM;
	s->t = t;
	s->mm = mm;
	s->arm = arm;
	s->runs = runs;
	if (arm) {
		/* Some more, as the target may still be mapping. Failing is
		 * allowed: then everything is new at the next collect. */
		s->next_known.cap = READ_ONCE(mm->map_count) + 64;
		s->next_known.r = kvmalloc_array(s->next_known.cap, sizeof(*s->next_known.r),
						 GFP_KERNEL | __GFP_NOWARN);
		if (!s->next_known.r)
			s->next_known.cap = 0;
	}

	err = lock_target(mm);
	if (err)
		goto err_free_scan;
	begin = ktime_get_ns();
	started = atomic_read(&t->log.inv_started);
	raced = atomic_read(&t->log.inv_active);
	smp_mb();
	take_log(s, &flags);
	if (arm) {
		/* Other users of the page tables, e.g. a virtual machine's. */
		ckpt_notifier_range_init(&range, MMU_NOTIFY_SOFT_DIRTY, mm, 0, ULONG_MAX);
		WRITE_ONCE(t->scanner, current);
		(void)ckpt_notify_start(&range);
		WRITE_ONCE(t->scanner, NULL);
		inc_tlb_flush_pending(mm);
		/* From here on a fast pin fails and waits for mmap_lock: a page
		 * is pinned already and seen to be, or not before we are done. */
		raw_write_seqcount_begin(&mm->write_protect_seq);
		smp_mb();
		s->pins = test_bit(MMF_HAS_PINNED, &mm->flags);
	}

	walk(s);

	if (arm) {
		raw_write_seqcount_end(&mm->write_protect_seq);
		if (s->flush_end)
			ckpt_flush_tlb(mm, s->flush_start, s->flush_end);
		dec_tlb_flush_pending(mm);
		WRITE_ONCE(t->scanner, current);
		ckpt_notify_end(&range);
		WRITE_ONCE(t->scanner, NULL);
		if (runs && runs->snapshot)
			ckpt_snap_begin(t, mm, runs);
		smp_mb();
		raced |= atomic_read(&t->log.inv_active) ||
			 atomic_read(&t->log.inv_started) != started;
		/* What began before the snapshot was there did not heed it. */
		if (raced && runs && runs->snapshot)
			ckpt_snap_end(t);
		put_log(s, flags, raced);
		prune(s);
		swap(t->known, s->next_known);
		t->epoch++;
		/* Our own splits left a note, and so may one before the notifier
		 * was registered: nobody consumes it any more. */
		WRITE_ONCE(t->split_task, NULL);
	}
	s->result.wall_ns = ktime_get_ns() - begin;
	mmap_write_unlock(mm);
	*ret_result = s->result;

err_free_scan:
	ckpt_known_free(&s->next_known);
	kvfree(s);
	return err;
}
