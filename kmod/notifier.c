// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: what each event of the mmu notifier means for the log.
 *
 * Must not know: page tables. An event comes *before* the change it announces,
 * so it is logged at the start, and the scan keeps what it took from the log
 * for another epoch while an invalidation is between its start and its end.
 */
#include <linux/sched.h>

#include "ckpt.h"

/*
 * Is this what __split_huge_pmd() announces? The hook at its entry left a note,
 * and the same task comes here next, with exactly that range. Two tasks that
 * split at once overwrite each other's note: then the event counts, which is
 * too much and never too little.
 */
static bool only_split(struct ckpt_track *t, const struct mmu_notifier_range *range)
{
	if (smp_load_acquire(&t->split_task) != current ||
	    READ_ONCE(t->split_addr) != range->start ||
	    range->end != range->start + CKPT_CHUNK_BYTES)
		return false;
	return cmpxchg(&t->split_task, current, NULL) == current;
}

/*
 * The protection of [start, end) is about to change; mmap_lock is held. Only where a mapping grew a clean PTE may become
 * writable by it: then its page counts as changed, as the mapping may lose its mark by being merged with another.
 */
static void protect(struct ckpt_track *t, unsigned long start, unsigned long end)
{
	struct vm_area_struct *vma;

	for (vma = find_vma(t->mm, start); vma && vma->vm_start < end; vma = find_vma(t->mm, vma->vm_end)) {
		if (!(vma->vm_flags & VM_SOFTDIRTY))
			continue;
		ckpt_snap_range(t, max(start, vma->vm_start), min(end, vma->vm_end), true);
		ckpt_log_zap(t, max(start, vma->vm_start), min(end, vma->vm_end));
	}
}

static int range_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct ckpt_track *t = container_of(mn, struct ckpt_track, notifier);

	/* Arming splits huge pages and write-protects: no content changes. */
	if (READ_ONCE(t->scanner) == current)
		return 0;

	atomic_inc(&t->log.inv_active);
	atomic_inc(&t->log.inv_started);
	smp_mb__after_atomic();

	switch (range->event) {
	case MMU_NOTIFY_PROTECTION_VMA:		/* mprotect, NUMA hinting */
		protect(t, range->start, range->end);
		fallthrough;
	case MMU_NOTIFY_PROTECTION_PAGE:	/* fork, write-back of a file */
		ckpt_log_prot(t, range->start, range->end);
		break;
	case MMU_NOTIFY_SOFT_DIRTY:
		/* Somebody else uses clear_refs here: our bits are gone. */
		ckpt_log_degrade(t, CKPT_LOG_FORCE_ALL);
		break;
	case MMU_NOTIFY_RELEASE:
		break;
	case MMU_NOTIFY_CLEAR:
		if (only_split(t, range))
			break;
		ckpt_snap_range(t, range->start, range->end,
				mmu_notifier_range_blockable(range));
		ckpt_log_zap(t, range->start, range->end);
		break;
	case MMU_NOTIFY_UNMAP:
	case MMU_NOTIFY_MIGRATE:
	case MMU_NOTIFY_EXCLUSIVE:
	default:
		ckpt_snap_range(t, range->start, range->end,
				mmu_notifier_range_blockable(range));
		ckpt_log_zap(t, range->start, range->end);
		break;
	}
	return 0;
}

static void range_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct ckpt_track *t = container_of(mn, struct ckpt_track, notifier);

	if (READ_ONCE(t->scanner) == current)
		return;
	smp_mb__before_atomic();
	atomic_dec(&t->log.inv_active);
}

/* The last user of the address space is gone: exit, or exec of its only task. */
static void release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct ckpt_track *t = container_of(mn, struct ckpt_track, notifier);

	ckpt_snap_release(t);
	WRITE_ONCE(t->gone, true);
	ckpt_track_event(t, CKPT_PENDING_GONE);
}

const struct mmu_notifier_ops ckpt_notifier_ops = {
	.invalidate_range_start = range_start,
	.invalidate_range_end = range_end,
	.release = release,
	.free_notifier = ckpt_track_forgotten,
};
