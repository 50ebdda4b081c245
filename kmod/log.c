// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: the log of an address space, i.e. where to look at the next collect.
 *
 * Writers are the fault hook, the mmu notifier and the scan itself; all may run
 * in atomic context. The scan is the only reader. A log may say too much, never
 * too little: when it cannot remember something it says "look everywhere".
 *
 * A chunk is TOUCHED in two places: a mark in the xarray (so that the scan finds
 * it without looking at the others) and a bit in its state (so that the second
 * fault of an epoch takes no lock). The scan clears the mark, then the bit, then
 * takes the pages of @must; a writer sets its pages, then the bit, then the mark
 * if the bit was clear. So a page set at any instant is either taken by the scan
 * or its chunk is marked again.
 */
#include <linux/slab.h>

#include "ckpt.h"

/* A zap of at most this many chunks is remembered page by page. */
#define ZAP_CHUNKS_MAX 16

static struct kmem_cache *chunk_cache;

int ckpt_log_cache_init(void)
{
	chunk_cache = kmem_cache_create("ckpt_chunk", sizeof(struct ckpt_chunk), 0, 0, NULL);
	return chunk_cache ? 0 : -ENOMEM;
}

/* Chunks are freed after a grace period; nobody may be in one when the cache goes. */
void ckpt_log_cache_exit(void)
{
	rcu_barrier();
	kmem_cache_destroy(chunk_cache);
}

void ckpt_log_init(struct ckpt_log *log)
{
	xa_init(&log->chunks);
	spin_lock_init(&log->lock);
}

static void chunk_free_rcu(struct rcu_head *rcu)
{
	kmem_cache_free(chunk_cache, container_of(rcu, struct ckpt_chunk, rcu));
}

/* Nobody else can reach the log any more. */
void ckpt_log_destroy(struct ckpt_log *log)
{
	struct ckpt_chunk *chunk;
	unsigned long index;

	xa_for_each(&log->chunks, index, chunk)
		kmem_cache_free(chunk_cache, chunk);
	xa_destroy(&log->chunks);
}

/* @flag: CKPT_LOG_SCAN_ALL or CKPT_LOG_FORCE_ALL. Any context. */
void ckpt_log_degrade(struct ckpt_track *t, int flag)
{
	if (test_and_set_bit(flag, &t->log.flags))
		return;
	atomic64_inc(&t->session->count.overflows);
	ckpt_track_event(t, CKPT_PENDING_OVERFLOW);
}

/* Returns false when the chunk is being forgotten: remember it in another way. */
static bool chunk_touch(struct ckpt_log *log, unsigned long index, struct ckpt_chunk *chunk)
{
	/* The caller's bits in @must come first: see the top of this file. */
	smp_mb__before_atomic();
	if (!test_and_set_bit(CKPT_CHUNK_TOUCHED, &chunk->state))
		xa_set_mark(&log->chunks, index, CKPT_TOUCHED);
	return !test_bit(CKPT_CHUNK_DYING, &chunk->state);
}

/*
 * Forget @chunk if nothing was logged there. Only a scan calls this, so no
 * fault hook is in it; the notifier may be, and looks at DYING after it has set
 * its bits.
 */
void ckpt_log_forget(struct ckpt_log *log, unsigned long index, struct ckpt_chunk *chunk)
{
	set_bit(CKPT_CHUNK_DYING, &chunk->state);
	smp_mb__after_atomic();
	if (test_bit(CKPT_CHUNK_TOUCHED, &chunk->state) ||
	    !bitmap_empty(chunk->must, CKPT_CHUNK_PAGES)) {
		clear_bit(CKPT_CHUNK_DYING, &chunk->state);
		return;
	}
	if (log->cache[index % CKPT_LOG_CACHE] == chunk)
		log->cache[index % CKPT_LOG_CACHE] = NULL;
	xa_erase(&log->chunks, index);
	atomic_long_dec(&log->nr_chunks);
	call_rcu(&chunk->rcu, chunk_free_rcu);
}

static void zap_range(struct ckpt_log *log, unsigned long start, unsigned long end)
{
	spin_lock(&log->lock);
	ckpt_ranges_add(&log->zapped, start, end);
	spin_unlock(&log->lock);
}

/*
 * The chunk at @index, made if need be; NULL when there is no memory for it or
 * the limit is reached. Caller is in an RCU read-side section. A new chunk is
 * not marked: the caller touches it.
 */
static struct ckpt_chunk *chunk_get(struct ckpt_track *t, unsigned long index)
{
	struct ckpt_log *log = &t->log;
	struct ckpt_chunk *chunk = xa_load(&log->chunks, index);
	long limit = READ_ONCE(ckpt_settings.log_limit_bytes) / sizeof(*chunk);
	int err;

	if (likely(chunk))
		return chunk;
	if (atomic_long_inc_return(&log->nr_chunks) > limit)
		goto err_count;
	chunk = kmem_cache_zalloc(chunk_cache, GFP_ATOMIC | __GFP_NOWARN);
	if (!chunk)
		goto err_count;
	chunk->index = index;
	err = xa_insert(&log->chunks, index, chunk, GFP_ATOMIC | __GFP_NOWARN);
	if (!err)
		return chunk;
	kmem_cache_free(chunk_cache, chunk);
	atomic_long_dec(&log->nr_chunks);
	/* Another fault was faster. */
	return err == -EBUSY ? xa_load(&log->chunks, index) : NULL;

err_count:
	atomic_long_dec(&log->nr_chunks);
	return NULL;
}

/*
 * A write fault at @addr is about to be handled. The caller's context holds the
 * target's mmap_lock or the VMA's lock, so no scan runs until the PTE is made.
 * Returns the chunk, or NULL when the log has degraded. RCU read-side section.
 */
struct ckpt_chunk *ckpt_log_fault(struct ckpt_track *t, unsigned long addr)
{
	unsigned long index = addr >> CKPT_CHUNK_SHIFT;
	struct ckpt_chunk **slot = &t->log.cache[index % CKPT_LOG_CACHE];
	struct ckpt_chunk *chunk = READ_ONCE(*slot);

	if (!chunk || chunk->index != index) {
		chunk = chunk_get(t, index);
		if (unlikely(!chunk)) {
			ckpt_log_degrade(t, CKPT_LOG_SCAN_ALL);
			return NULL;
		}
		WRITE_ONCE(*slot, chunk);
	}
	if (!test_bit(CKPT_CHUNK_TOUCHED, &chunk->state))
		(void)chunk_touch(&t->log, index, chunk);
	return chunk;
}

/*
 * A fault at @addr, in a mapping that grew, is about to be handled: it may make PTEs of its chunk writable that nobody
 * writes to yet. The mapping may have lost its mark until the scan, by being merged with another. As ckpt_log_fault().
 */
void ckpt_log_grown(struct ckpt_track *t, unsigned long addr)
{
	struct ckpt_chunk *chunk = ckpt_log_fault(t, addr);

	if (chunk)
		set_bit(CKPT_CHUNK_GROWN, &chunk->state);
	else
		zap_range(&t->log, addr & CKPT_CHUNK_MASK, (addr & CKPT_CHUNK_MASK) + CKPT_CHUNK_BYTES);
}

static void set_pages(unsigned long *map, unsigned int first, unsigned int end)
{
	unsigned int word;

	for (word = first / BITS_PER_LONG; word * BITS_PER_LONG < end; word++) {
		unsigned long mask = ~0UL;

		if (word == first / BITS_PER_LONG)
			mask &= BITMAP_FIRST_WORD_MASK(first);
		if (word == end / BITS_PER_LONG)
			mask &= BITMAP_LAST_WORD_MASK(end);
		atomic_long_or(mask, (atomic_long_t *)&map[word]);
	}
}

/* Caller holds what protects @set. */
void ckpt_ranges_add(struct ckpt_ranges *set, unsigned long start, unsigned long end)
{
	struct ckpt_range *last = set->nr ? &set->r[set->nr - 1] : NULL;

	if (last && (set->nr == CKPT_RANGES_MAX ||
		     (start <= last->end && last->start <= end))) {
		last->start = min(last->start, start);
		last->end = max(last->end, end);
		return;
	}
	set->r[set->nr++] = (struct ckpt_range){ start, end };
}

/* The content of [start, end) is about to be replaced. Any context. */
void ckpt_log_zap(struct ckpt_track *t, unsigned long start, unsigned long end)
{
	struct ckpt_log *log = &t->log;
	unsigned long addr, next;

	start &= PAGE_MASK;
	end = min(end, TASK_SIZE_MAX);
	if (start >= end)
		return;
	end = PAGE_ALIGN(end);

	if (end - start > ZAP_CHUNKS_MAX * CKPT_CHUNK_BYTES) {
		zap_range(log, start, end);
		return;
	}
	rcu_read_lock();
	for (addr = start; addr < end; addr = next) {
		unsigned long index = addr >> CKPT_CHUNK_SHIFT;
		struct ckpt_chunk *chunk = chunk_get(t, index);

		next = min((addr & CKPT_CHUNK_MASK) + CKPT_CHUNK_BYTES, end);
		if (!chunk) {
			/* A range needs no memory. */
			zap_range(log, addr, end);
			break;
		}
		set_pages(chunk->must, (addr & ~CKPT_CHUNK_MASK) >> PAGE_SHIFT,
			  ((next - 1) & ~CKPT_CHUNK_MASK) / PAGE_SIZE + 1);
		if (!chunk_touch(log, index, chunk))
			zap_range(log, addr, next);
	}
	rcu_read_unlock();
}

/* The protection of [start, end) is about to change. Any context. */
void ckpt_log_prot(struct ckpt_track *t, unsigned long start, unsigned long end)
{
	spin_lock(&t->log.lock);
	ckpt_ranges_add(&t->log.prot, start, end);
	spin_unlock(&t->log.lock);
}

/* These pages of the chunk at @base count as changed at the next collect too. */
void ckpt_log_pages(struct ckpt_track *t, unsigned long base, const unsigned long *pages)
{
	unsigned long index = base >> CKPT_CHUNK_SHIFT;
	struct ckpt_chunk *chunk;
	unsigned int i;

	rcu_read_lock();
	chunk = chunk_get(t, index);
	if (chunk) {
		for (i = 0; i < BITS_TO_LONGS(CKPT_CHUNK_PAGES); i++)
			atomic_long_or(pages[i], (atomic_long_t *)&chunk->must[i]);
	}
	if (!chunk || !chunk_touch(&t->log, index, chunk))
		zap_range(&t->log, base, base + CKPT_CHUNK_BYTES);
	rcu_read_unlock();
}
