// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: copy-on-write snapshots: the pages that a collect reported, as they were
 * at its arm, while the target runs on.
 *
 * Each page has a slot. It begins PENDING and leaves that state once, by cmpxchg:
 *
 *	PENDING ──► a kept page ──► DONE	captured before it changed, then read
 *	   │└─────────────────────► DONE	read from the target itself
 *	   └──────► LOST			was to change while the pool was empty
 *
 * What must hold: PENDING ⇒ the page is mapped where it was, read-only, with its
 * content of the arm. So whatever ends that asks for a capture before:
 *
 *	a write fault			hook, this page (a huge page: all of it)
 *	any fault in a VMA that grew	hook, the chunk: mprotect, NUMA hinting and
 *					swap-in may have upgraded clean PTEs there
 *	zap, move, migrate, swap out	notifier, before the change
 *	mprotect, NUMA hinting		notifier, where the VMA grew
 *	exit, exec			notifier: pages are kept as they are, by reference
 *
 * Captures of a page exclude each other by its page table lock. The reader copies
 * without it and looks afterwards whether the page was still PENDING.
 *
 * What it must not know: netlink, how it was found out what changed.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pgtable.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "ckpt.h"
#include "compat/compat.h"
#include "pgtable.h"

/* What a slot holds; anything else is a struct page, and with bit 0 a reference to the
 * target's own instead of one of the pool. */
#define SLOT_PENDING	0UL
#define SLOT_DONE	1UL
#define SLOT_LOST	2UL
#define SLOT_REF	1UL

struct snap_range {
	unsigned long start;
	unsigned long end;
	size_t first;	/* slot of the first page */
};

/**
 * struct ckpt_snap - the snapshot of one track
 * @ref:	one of the track until it ends, one of the file
 * @track:	whose it is; NULL when it has ended. Under ckpt_snap_mutex
 * @count:	of @session
 * @mm:		grabbed
 * @pool:	where captured pages go, with a reference
 * @session:	with a reference
 * @nr:		number of @ranges
 * @ranges:	the DATA runs, in address order
 * @pages:	in all ranges
 * @slot:	one for each page
 * @opened:	there is a file. Under ckpt_snap_mutex
 * @ended:	nothing is captured any more
 * @released:	the address space is gone: no slot is PENDING
 * @told:	the loss of a page was announced
 * @wait:	for @ended or @released
 * @mutex:	one reader at a time; protects @batch
 * @batch:	pages of the target that are being read
 * @free_work:	after a grace period
 */
struct ckpt_snap {
	struct kref ref;
	struct ckpt_track *track;
	struct ckpt_counters *count;
	struct mm_struct *mm;
	struct ckpt_pool *pool;
	struct ckpt_session *session;
	size_t nr;
	struct snap_range *ranges;
	size_t pages;
	unsigned long *slot;
	bool opened;
	bool ended;
	bool released;
	unsigned long told;
	wait_queue_head_t wait;
	struct mutex mutex;
	struct page *batch[CKPT_CHUNK_PAGES];
	struct rcu_work free_work;
};

static DEFINE_MUTEX(ckpt_snap_mutex);

/* ---- life --------------------------------------------------------------------- */

static void drop_kept(struct ckpt_snap *snap, unsigned long kept)
{
	if (kept <= SLOT_LOST)
		return;
	if (kept & SLOT_REF)
		put_page((struct page *)(kept & ~SLOT_REF));
	else
		ckpt_pool_give(snap->pool, (struct page *)kept);
}

/* Nobody can reach it any more. */
static void snap_free(struct work_struct *work)
{
	struct ckpt_snap *snap = container_of(to_rcu_work(work), struct ckpt_snap, free_work);
	size_t i;

	for (i = 0; i < snap->pages; i++) {
		drop_kept(snap, snap->slot[i]);
		cond_resched();
	}
	ckpt_pool_put(snap->pool);
	ckpt_session_put(snap->session);
	mmdrop(snap->mm);
	kvfree(snap->slot);
	kvfree(snap->ranges);
	kfree(snap);
}

/* The fault hook holds no reference: wait for it. */
static void snap_release_ref(struct kref *ref)
{
	struct ckpt_snap *snap = container_of(ref, struct ckpt_snap, ref);

	INIT_RCU_WORK(&snap->free_work, snap_free);
	queue_rcu_work(ckpt_wq, &snap->free_work);
}

static void snap_put(struct ckpt_snap *snap)
{
	kref_put(&snap->ref, snap_release_ref);
}

/* The slots for the DATA runs, all PENDING. */
static struct ckpt_snap *snap_new(struct ckpt_track *t, struct mm_struct *mm,
				  const struct ckpt_runs *runs)
{
	const gfp_t gfp = CKPT_GFP_LOCKED | __GFP_ZERO;
	struct ckpt_snap *snap;
	size_t i;

	snap = kzalloc(sizeof(*snap), CKPT_GFP_LOCKED);
	if (!snap)
		return NULL;
	for (i = 0; i < runs->nr; i++) {
		if (runs->r[i].state != CKPT_RUN_DATA)
			continue;
		snap->nr++;
		snap->pages += runs->r[i].pages;
	}
	snap->ranges = kvmalloc_array(snap->nr, sizeof(*snap->ranges), gfp);
	snap->slot = kvmalloc_array(snap->pages, sizeof(*snap->slot), gfp);
	if ((snap->nr && !snap->ranges) || (snap->pages && !snap->slot)) {
		kvfree(snap->ranges);
		kvfree(snap->slot);
		kfree(snap);
		return NULL;
	}
	snap->nr = snap->pages = 0;
	for (i = 0; i < runs->nr; i++) {
		const struct ckpt_run *r = &runs->r[i];

		if (r->state != CKPT_RUN_DATA)
			continue;
		snap->ranges[snap->nr++] = (struct snap_range){
			.start = r->start,
			.end = r->start + ((unsigned long)r->pages << PAGE_SHIFT),
			.first = snap->pages,
		};
		snap->pages += r->pages;
	}
	kref_init(&snap->ref);
	init_waitqueue_head(&snap->wait);
	mutex_init(&snap->mutex);
	mmgrab(mm);
	snap->mm = mm;
	snap->pool = ckpt_pool_get(t->session->pool);
	kobject_get(&t->session->kobj);
	snap->session = t->session;
	snap->count = &t->session->count;
	snap->track = t;
	return snap;
}

/* ckpt_snap_mutex is held, which rcu_dereference_protected() is told. */
static struct ckpt_snap *track_snap(struct ckpt_track *t)
{
	return rcu_dereference_protected(t->snap, lockdep_is_held(&ckpt_snap_mutex));
}

/* Nothing is captured any more; the track's reference goes. */
static void end_locked(struct ckpt_track *t)
{
	struct ckpt_snap *snap = track_snap(t);

	if (!snap)
		return;
	WRITE_ONCE(snap->ended, true);
	/* Who finds no snapshot and lets a page change shows it to no reader. */
	smp_mb();
	RCU_INIT_POINTER(t->snap, NULL);
	snap->track = NULL;
	wake_up_all(&snap->wait);
	snap_put(snap);
}

/*
 * The arm is done, its TLB flush too; mmap_lock is held for write and every VMA's
 * lock, so no page has changed but by what the log notices: the caller looks.
 * Without memory there is no snapshot.
 */
void ckpt_snap_begin(struct ckpt_track *t, struct mm_struct *mm, const struct ckpt_runs *runs)
{
	struct ckpt_snap *snap;

	if (runs->lost || !t->session->pool)
		return;
	snap = snap_new(t, mm, runs);
	if (!snap)
		return;
	mutex_lock(&ckpt_snap_mutex);
	/* One that nobody opened. */
	end_locked(t);
	rcu_assign_pointer(t->snap, snap);
	mutex_unlock(&ckpt_snap_mutex);
}

void ckpt_snap_end(struct ckpt_track *t)
{
	mutex_lock(&ckpt_snap_mutex);
	end_locked(t);
	mutex_unlock(&ckpt_snap_mutex);
}

bool ckpt_snap_exists(struct ckpt_track *t)
{
	return rcu_access_pointer(t->snap);
}

/* Is it being read? */
bool ckpt_snap_opened(struct ckpt_track *t)
{
	struct ckpt_snap *snap;
	bool ret;

	mutex_lock(&ckpt_snap_mutex);
	snap = track_snap(t);
	ret = snap && snap->opened;
	mutex_unlock(&ckpt_snap_mutex);
	return ret;
}

/* ---- capture -------------------------------------------------------------------- */

/* Slots of [lo, hi), which is in one chunk and one range. */
struct capture {
	struct ckpt_snap *snap;
	unsigned long lo;
	unsigned long *slot;
	unsigned int nr;
	bool by_ref;
};

static bool any_pending(const struct capture *c)
{
	unsigned int i;

	for (i = 0; i < c->nr; i++)
		if (READ_ONCE(c->slot[i]) == SLOT_PENDING)
			return true;
	return false;
}

static void lose(struct ckpt_snap *snap, unsigned long *slot)
{
	struct ckpt_track *t = READ_ONCE(snap->track);

	if (cmpxchg(slot, SLOT_PENDING, SLOT_LOST) != SLOT_PENDING)
		return;
	atomic64_inc(&snap->count->cow_lost);
	/* RCU keeps the track: see the callers. */
	if (t && !test_and_set_bit(0, &snap->told))
		ckpt_track_event(t, CKPT_PENDING_POOL);
}

static void lose_pending(const struct capture *c)
{
	unsigned int i;

	for (i = 0; i < c->nr; i++)
		if (READ_ONCE(c->slot[i]) == SLOT_PENDING)
			lose(c->snap, &c->slot[i]);
}

/* The page table lock of @page's entry is held, @page is mapped there. */
static void capture_page(const struct capture *c, unsigned int i, struct page *page)
{
	struct ckpt_snap *snap = c->snap;
	unsigned long kept;

	if (READ_ONCE(c->slot[i]) != SLOT_PENDING)
		return;
	if (c->by_ref) {
		get_page(page);
		kept = (unsigned long)page | SLOT_REF;
	} else {
		struct page *copy = ckpt_pool_take(snap->pool);

		if (!copy) {
			lose(snap, &c->slot[i]);
			return;
		}
		copy_page(page_address(copy), page_address(page));
		kept = (unsigned long)copy;
	}
	/* The reader may have been faster. */
	if (cmpxchg(&c->slot[i], SLOT_PENDING, kept) != SLOT_PENDING)
		drop_kept(snap, kept);
	else
		atomic64_inc(&snap->count->cow_pages);
}

static void capture_table(pte_t *table, void *arg)
{
	const struct capture *c = arg;
	pte_t *ptep = table + pte_index(c->lo);
	unsigned int i;

	for (i = 0; i < c->nr; i++) {
		pte_t pte = READ_ONCE(ptep[i]);

		if (pte_present(pte) && !pte_special(pte) && pfn_valid(pte_pfn(pte)))
			capture_page(c, i, pte_page(pte));
		else if (READ_ONCE(c->slot[i]) == SLOT_PENDING)
			lose(c->snap, &c->slot[i]);
	}
}

/* False: it is no huge page (any more). */
static bool capture_huge(const struct capture *c, pmd_t *pmd)
{
	spinlock_t *ptl = pmd_lock(c->snap->mm, pmd);
	pmd_t val = ckpt_pmd_read(pmd);
	bool huge = pmd_present(val) && pmd_leaf(val);
	unsigned int i;

	for (i = 0; huge && i < c->nr; i++)
		capture_page(c, i, pmd_page(val) + pte_index(c->lo) + i);
	spin_unlock(ptl);
	return huge;
}

/*
 * The page tables of the range stay where they are: mmap_lock, the VMA's lock, or
 * a lock of reverse mapping is held, or no user of the address space is left.
 */
static void capture_chunk(struct capture *c)
{
	unsigned long empty_end;
	int tries;
	pmd_t *pmd, val;

	/* A huge page is being split or made: it will be one thing or the other. */
	for (tries = 0; tries < 100; tries++) {
		if (!any_pending(c))
			return;
		pmd = ckpt_pmd_find(c->snap->mm, c->lo, &empty_end);
		if (!pmd)
			break;
		val = ckpt_pmd_read(pmd);
		if (!pmd_present(val))
			break;
		if (pmd_leaf(val) ? capture_huge(c, pmd) :
				    ckpt_with_table(c->snap->mm, pmd, capture_table, c))
			return;
	}
	lose_pending(c);
}

/* Index of the first range that ends behind @addr. */
static size_t range_find(const struct ckpt_snap *snap, unsigned long addr)
{
	size_t lo = 0, hi = snap->nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (snap->ranges[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void capture_range(struct ckpt_snap *snap, unsigned long start, unsigned long end,
			  bool by_ref, bool may_sleep)
{
	struct capture c = { .snap = snap, .by_ref = by_ref };
	unsigned long hi;
	size_t i;

	for (i = range_find(snap, start); i < snap->nr && snap->ranges[i].start < end; i++) {
		const struct snap_range *r = &snap->ranges[i];
		unsigned long last = min(end, r->end);

		for (c.lo = max(start, r->start); c.lo < last; c.lo = hi) {
			hi = min((c.lo & CKPT_CHUNK_MASK) + CKPT_CHUNK_BYTES, last);
			c.slot = &snap->slot[r->first + ((c.lo - r->start) >> PAGE_SHIFT)];
			c.nr = (hi - c.lo) >> PAGE_SHIFT;
			capture_chunk(&c);
			if (may_sleep)
				cond_resched();
		}
	}
}

static bool huge_at(struct mm_struct *mm, unsigned long addr)
{
	unsigned long empty_end;
	pmd_t *pmd = ckpt_pmd_find(mm, addr, &empty_end);

	return pmd && pmd_leaf(ckpt_pmd_read(pmd));
}

/* A fault is about to be handled. The fault hook calls this: RCU, no preemption. */
void ckpt_snap_fault(struct ckpt_track *t, struct vm_area_struct *vma, unsigned long addr,
		     bool write)
{
	struct ckpt_snap *snap = rcu_dereference(t->snap);
	bool grown = vma->vm_flags & VM_SOFTDIRTY;
	unsigned long base = addr & CKPT_CHUNK_MASK;

	if (!snap || !(write || grown))
		return;
	addr &= PAGE_MASK;
	if (grown || huge_at(vma->vm_mm, addr))
		capture_range(snap, max(base, vma->vm_start),
			      min(base + CKPT_CHUNK_BYTES, vma->vm_end), false, false);
	else
		capture_range(snap, addr, addr + PAGE_SIZE, false, false);
}

static struct ckpt_snap *snap_get(struct ckpt_track *t)
{
	struct ckpt_snap *snap;

	rcu_read_lock();
	snap = rcu_dereference(t->snap);
	if (snap && !kref_get_unless_zero(&snap->ref))
		snap = NULL;
	rcu_read_unlock();
	return snap;
}

/* [start, end) is about to change. The notifier calls this, and keeps @t. */
void ckpt_snap_range(struct ckpt_track *t, unsigned long start, unsigned long end, bool may_sleep)
{
	struct ckpt_snap *snap;

	if (!rcu_access_pointer(t->snap))
		return;
	snap = snap_get(t);
	if (!snap)
		return;
	capture_range(snap, start & PAGE_MASK, end, false, may_sleep);
	snap_put(snap);
}

/* The last user of the address space is gone, its pages are not yet. */
void ckpt_snap_release(struct ckpt_track *t)
{
	struct ckpt_snap *snap = snap_get(t);

	if (!snap)
		return;
	capture_range(snap, 0, TASK_SIZE_MAX, true, true);
	smp_mb();
	WRITE_ONCE(snap->released, true);
	wake_up_all(&snap->wait);
	snap_put(snap);
}

/* ---- reading ----------------------------------------------------------------------- */

struct gather {
	struct ckpt_snap *snap;
	unsigned long addr;
	const unsigned long *slot;
	unsigned int nr;
};

static void gather_page(const struct gather *g, unsigned int i, struct page *page)
{
	if (READ_ONCE(g->slot[i]) != SLOT_PENDING)
		return;
	get_page(page);
	g->snap->batch[i] = page;
}

static void gather_table(pte_t *table, void *arg)
{
	const struct gather *g = arg;
	unsigned int i;

	for (i = 0; i < g->nr; i++) {
		pte_t pte = READ_ONCE(table[pte_index(g->addr) + i]);

		if (pte_present(pte) && !pte_special(pte) && pfn_valid(pte_pfn(pte)))
			gather_page(g, i, pte_page(pte));
	}
}

static bool gather_huge(const struct gather *g, pmd_t *pmd)
{
	spinlock_t *ptl = pmd_lock(g->snap->mm, pmd);
	pmd_t val = ckpt_pmd_read(pmd);
	bool huge = pmd_present(val) && pmd_leaf(val);
	unsigned int i;

	for (i = 0; huge && i < g->nr; i++)
		gather_page(g, i, pmd_page(val) + pte_index(g->addr) + i);
	spin_unlock(ptl);
	return huge;
}

/*
 * References to the target's pages where a slot is PENDING, in snap->batch. The
 * batch shrinks to one VMA.
 */
static int gather(struct gather *g)
{
	struct ckpt_snap *snap = g->snap;
	struct mm_struct *mm = snap->mm;
	struct vm_area_struct *vma;
	unsigned long empty_end;
	pmd_t *pmd, val;
	unsigned int i;
	int err;

	memset(snap->batch, 0, g->nr * sizeof(*snap->batch));
	if (!mmget_not_zero(mm)) {
		/* What is left is about to be captured. */
		return wait_event_killable(snap->wait, READ_ONCE(snap->released) ||
						       READ_ONCE(snap->ended));
	}
	err = mmap_read_lock_killable(mm);
	if (err)
		goto out_mmput;
	vma = find_vma(mm, g->addr);
	if (!vma || vma->vm_start > g->addr) {
		/* Unmapped, so captured; a page at a time, as this is rare. */
		g->nr = 1;
		goto out_unlock;
	}
	g->nr = min_t(unsigned long, g->nr, (vma->vm_end - g->addr) >> PAGE_SHIFT);
	if ((vma->vm_flags & VM_SOFTDIRTY) && !(vma->vm_flags & VM_WRITE)) {
		/* A debugger may have written here without a fault. */
		rcu_read_lock();
		for (i = 0; i < g->nr; i++)
			if (READ_ONCE(g->slot[i]) == SLOT_PENDING)
				lose(snap, (unsigned long *)&g->slot[i]);
		rcu_read_unlock();
		goto out_unlock;
	}
	for (i = 0; i < 100; i++) {
		pmd = ckpt_pmd_find(mm, g->addr, &empty_end);
		if (!pmd)
			break;
		val = ckpt_pmd_read(pmd);
		if (!pmd_present(val))
			break;
		if (pmd_leaf(val) ? gather_huge(g, pmd) :
				    ckpt_with_table(mm, pmd, gather_table, g))
			break;
	}
out_unlock:
	mmap_read_unlock(mm);
out_mmput:
	mmput(mm);
	return err;
}

/* The page kept in @slot. 0, or why there is none. */
static int read_kept(struct ckpt_snap *snap, unsigned long *slot, struct iov_iter *to)
{
	unsigned long kept = READ_ONCE(*slot);
	size_t n;

	if (kept == SLOT_PENDING) {
		/* It is not where it was, and nobody said so. */
		rcu_read_lock();
		lose(snap, slot);
		rcu_read_unlock();
		kept = READ_ONCE(*slot);
	}
	if (kept == SLOT_LOST)
		return -ENODATA;
	if (kept == SLOT_DONE)
		return -ENXIO;
	n = copy_page_to_iter((struct page *)(kept & ~SLOT_REF), 0, PAGE_SIZE, to);
	if (n != PAGE_SIZE) {
		iov_iter_revert(to, n);
		return -EFAULT;
	}
	/* Nobody but the reader, i.e. us, changes a slot that holds a page. */
	WRITE_ONCE(*slot, SLOT_DONE);
	drop_kept(snap, kept);
	return 0;
}

/* Page @i of the batch. */
static int read_page(struct ckpt_snap *snap, unsigned long *slot, struct page *page,
		     struct iov_iter *to)
{
	size_t n;

	if (!page)
		return read_kept(snap, slot, to);
	n = copy_page_to_iter(page, 0, PAGE_SIZE, to);
	if (n != PAGE_SIZE) {
		iov_iter_revert(to, n);
		return -EFAULT;
	}
	/* Still PENDING: then what we read was not changed yet. A full barrier. */
	if (cmpxchg(slot, SLOT_PENDING, SLOT_DONE) == SLOT_PENDING)
		return 0;
	iov_iter_revert(to, PAGE_SIZE);
	return read_kept(snap, slot, to);
}

/* Pages from @addr on, at most those of one chunk. Returns how many, or -errno. */
static int read_batch(struct ckpt_snap *snap, unsigned long addr, struct iov_iter *to)
{
	size_t at = range_find(snap, addr);
	const struct snap_range *r = &snap->ranges[at];
	struct gather g = { .snap = snap, .addr = addr };
	unsigned long *slot, end;
	unsigned int i;
	int err;

	if (at == snap->nr || addr < r->start)
		return -ENXIO;
	end = min((addr & CKPT_CHUNK_MASK) + CKPT_CHUNK_BYTES, r->end);
	slot = &snap->slot[r->first + ((addr - r->start) >> PAGE_SHIFT)];
	g.slot = slot;
	g.nr = min_t(size_t, (end - addr) >> PAGE_SHIFT, iov_iter_count(to) >> PAGE_SHIFT);
	err = gather(&g);
	if (err)
		return err;
	for (i = 0; i < g.nr && !err; i++)
		err = read_page(snap, &slot[i], snap->batch[i], to);
	if (err)
		i--;
	for (unsigned int k = 0; k < g.nr; k++)
		if (snap->batch[k])
			put_page(snap->batch[k]);
	smp_mb();
	/* Nobody captures any more: what was read may be anything. */
	if (READ_ONCE(snap->ended))
		return -ESTALE;
	return i ?: err;
}

static ssize_t snap_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct ckpt_snap *snap = iocb->ki_filp->private_data;
	size_t done = 0;
	int n = 0;

	if ((iocb->ki_pos | iov_iter_count(to)) & ~PAGE_MASK)
		return -EINVAL;
	if (mutex_lock_interruptible(&snap->mutex))
		return -EINTR;
	while (iov_iter_count(to)) {
		n = read_batch(snap, iocb->ki_pos, to);
		if (n <= 0)
			break;
		iocb->ki_pos += (unsigned long)n << PAGE_SHIFT;
		done += (unsigned long)n << PAGE_SHIFT;
		cond_resched();
		if (signal_pending(current))
			break;
	}
	mutex_unlock(&snap->mutex);
	if (n == -ESTALE)
		return n;
	return done ?: n;
}

static int snap_release_file(struct inode *inode, struct file *file)
{
	struct ckpt_snap *snap = file->private_data;

	mutex_lock(&ckpt_snap_mutex);
	if (snap->track)
		end_locked(snap->track);
	mutex_unlock(&ckpt_snap_mutex);
	snap_put(snap);
	return 0;
}

static const struct file_operations snap_fops = {
	.owner = THIS_MODULE,
	.read_iter = snap_read_iter,
	.llseek = noop_llseek,
	.release = snap_release_file,
};

/* The file of the snapshot of @t, once. -ENOENT: there is none; -EBUSY: it was opened. */
struct file *ckpt_snap_open(struct ckpt_track *t, u64 *ret_pages)
{
	struct ckpt_snap *snap;
	struct file *file;

	mutex_lock(&ckpt_snap_mutex);
	snap = track_snap(t);
	if (!snap || snap->opened) {
		file = ERR_PTR(snap ? -EBUSY : -ENOENT);
		goto out;
	}
	file = anon_inode_getfile("[ckpt-snapshot]", &snap_fops, snap, O_RDONLY);
	if (IS_ERR(file))
		goto out;
	file->f_mode |= FMODE_PREAD;
	kref_get(&snap->ref);
	snap->opened = true;
	*ret_pages = snap->pages;
out:
	mutex_unlock(&ckpt_snap_mutex);
	return file;
}
