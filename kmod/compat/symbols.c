// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: the addresses of kernel functions that are not exported.
 *
 * Each is looked up once with a kprobe that is removed at once, and called
 * through a static call, i.e. a direct call instruction: where the kernel is
 * built with IBT, unexported functions have lost their ENDBR and an indirect
 * call of them would trap. A function that is not found fails the load by name.
 */

#include <linux/kprobes.h>
#include <linux/ptrace.h>
#include <linux/static_call.h>
#include <asm/tlbflush.h>

#include "compat.h"

static void no_flush(struct mm_struct *mm, unsigned long start, unsigned long end,
		     unsigned int stride_shift, bool freed_tables)
{
}

static int no_start(struct mmu_notifier_range *range)
{
	return 0;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
static void no_end(struct mmu_notifier_range *range)
{
}
#else
static void no_end(struct mmu_notifier_range *range, bool only_end)
{
}
#endif

static void no_split(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr, bool freeze,
		     struct folio *folio)
{
}

static bool no_access(struct task_struct *task, unsigned int mode)
{
	return false;
}

DEFINE_STATIC_CALL(ckpt_flush, no_flush);
DEFINE_STATIC_CALL(ckpt_start, no_start);
DEFINE_STATIC_CALL(ckpt_end, no_end);
DEFINE_STATIC_CALL(ckpt_split, no_split);
DEFINE_STATIC_CALL(ckpt_access, no_access);

static void *find(const char *name)
{
	struct kprobe kp = { .symbol_name = name };
	void *addr;
	int err;

	err = register_kprobe(&kp);
	if (err) {
		pr_err("ckpt: this kernel lacks %s() (%d)\n", name, err);
		return NULL;
	}
	addr = kp.addr;
	unregister_kprobe(&kp);
	return addr;
}

int ckpt_symbols_init(void)
{
	void *flush = find("flush_tlb_mm_range");
	void *start = find("__mmu_notifier_invalidate_range_start");
	void *end = find("__mmu_notifier_invalidate_range_end");
	void *split = find("__split_huge_pmd");
	void *access = find("ptrace_may_access");

	if (!flush || !start || !end || !split || !access)
		return -ENOENT;
	static_call_update(ckpt_flush, (typeof(&no_flush))flush);
	static_call_update(ckpt_start, (typeof(&no_start))start);
	static_call_update(ckpt_end, (typeof(&no_end))end);
	static_call_update(ckpt_split, (typeof(&no_split))split);
	static_call_update(ckpt_access, (typeof(&no_access))access);
	return 0;
}

void ckpt_flush_tlb(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	static_call(ckpt_flush)(mm, start, end, PAGE_SHIFT, false);
}

int ckpt_notify_start(struct mmu_notifier_range *range)
{
	if (!mm_has_notifiers(range->mm))
		return 0;
	range->flags |= MMU_NOTIFIER_RANGE_BLOCKABLE;
	return static_call(ckpt_start)(range);
}

void ckpt_notify_end(struct mmu_notifier_range *range)
{
	if (!mm_has_notifiers(range->mm))
		return;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	static_call(ckpt_end)(range);
#else
	static_call(ckpt_end)(range, false);
#endif
}

void ckpt_split_pmd(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr)
{
	static_call(ckpt_split)(vma, pmd, addr, false, NULL);
}

bool ckpt_ptrace_may_access(struct task_struct *task, unsigned int mode)
{
	return static_call(ckpt_access)(task, mode);
}
