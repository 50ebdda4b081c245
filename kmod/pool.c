// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: pages set aside for copy-on-write snapshots. All memory is taken when the
 * pool is made; afterwards a page is taken and given back in any context. Who
 * holds a page holds the pool as well.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "ckpt.h"

struct ckpt_pool {
	struct kref ref;
	spinlock_t lock;
	unsigned long nr;	/* pages in @page, under @lock */
	unsigned long size;
	struct page *page[];
};

static void pool_release(struct kref *ref)
{
	struct ckpt_pool *pool = container_of(ref, struct ckpt_pool, ref);

	while (pool->nr)
		__free_page(pool->page[--pool->nr]);
	kvfree(pool);
}

/* NULL is fine. May sleep. */
void ckpt_pool_put(struct ckpt_pool *pool)
{
	if (pool)
		kref_put(&pool->ref, pool_release);
}

struct ckpt_pool *ckpt_pool_get(struct ckpt_pool *pool)
{
	kref_get(&pool->ref);
	return pool;
}

/* A pool of @pages pages, charged to the caller's memory cgroup; NULL without memory. */
struct ckpt_pool *ckpt_pool_new(unsigned long pages)
{
	struct ckpt_pool *pool;

	pool = kvzalloc(struct_size(pool, page, pages), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!pool)
		return NULL;
	kref_init(&pool->ref);
	spin_lock_init(&pool->lock);
	pool->size = pages;
	for (; pool->nr < pages; pool->nr++) {
		pool->page[pool->nr] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_NOWARN |
						  __GFP_RETRY_MAYFAIL);
		if (!pool->page[pool->nr] || fatal_signal_pending(current)) {
			pool->nr += !!pool->page[pool->nr];
			ckpt_pool_put(pool);
			return NULL;
		}
		cond_resched();
	}
	return pool;
}

/* A page, or NULL when none is left. Any context that no interrupt enters. */
struct page *ckpt_pool_take(struct ckpt_pool *pool)
{
	struct page *page = NULL;

	spin_lock(&pool->lock);
	if (pool->nr)
		page = pool->page[--pool->nr];
	spin_unlock(&pool->lock);
	return page;
}

void ckpt_pool_give(struct ckpt_pool *pool, struct page *page)
{
	spin_lock(&pool->lock);
	if (!WARN_ON_ONCE(pool->nr == pool->size))
		pool->page[pool->nr++] = page;
	spin_unlock(&pool->lock);
}

/* A guess while others take and give. NULL is fine. */
unsigned long ckpt_pool_free_pages(struct ckpt_pool *pool)
{
	return pool ? READ_ONCE(pool->nr) : 0;
}
