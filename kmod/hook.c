// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: the ftrace hooks. They are set once, when the module is loaded, and
 * are PERMANENT: nobody can switch ftrace off under them.
 *
 * A hook runs with preemption off at the entry of the hooked function, whose
 * caller holds mmap_lock or the VMA's lock. It may not sleep and must not fault.
 * An untracked program pays for it too, so the way out comes first.
 */
#include <linux/ftrace.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>

#include "ckpt.h"
#include "compat/compat.h"

/* handle_mm_fault(vma, address, flags, regs) */
static void notrace fault_hook(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *op,
			       struct ftrace_regs *fregs)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)ckpt_fregs_arg(fregs, 0);
	unsigned int flags;
	struct ckpt_chunk *chunk;
	struct ckpt_track *t;
	unsigned long addr;
	bool grown;

	if (likely(!ckpt_track_maybe(vma->vm_mm)))
		return;
	/* UNSHARE replaces a page (KSM) and keeps the soft-dirty bit of the old PTE. Where a mapping grew, a read
	 * may make PTEs writable. */
	flags = ckpt_fregs_arg(fregs, 2);
	grown = (vma->vm_flags & (VM_SOFTDIRTY | VM_SHARED)) == VM_SOFTDIRTY;
	if (!(flags & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE)) && !grown)
		return;
	preempt_disable_notrace();
	rcu_read_lock();
	t = ckpt_track_find(vma->vm_mm);
	if (!t)
		goto out;
	addr = ckpt_fregs_arg(fregs, 1);
	if (unlikely(rcu_access_pointer(t->snap)))
		ckpt_snap_fault(t, vma, addr, flags & FAULT_FLAG_WRITE);
	if (unlikely(grown))
		ckpt_log_grown(t, addr);
	if (!(flags & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE)))
		goto out;
	atomic64_inc(&t->session->count.faults);
	chunk = ckpt_log_fault(t, addr);
	if (unlikely(flags & FAULT_FLAG_UNSHARE))
		ckpt_log_zap(t, addr, addr + 1);
	else if (chunk && !rcu_access_pointer(t->snap))
		ckpt_granule_fault(t, chunk, vma, addr, flags);
out:
	rcu_read_unlock();
	preempt_enable_notrace();
}

static void notrace install_hook(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *op,
				 struct ftrace_regs *fregs)
{
	struct vm_area_struct *vma;
	struct ckpt_track *t;
	unsigned long addr;

	ckpt_install_args(fregs, &vma, &addr);
	preempt_disable_notrace();
	rcu_read_lock();
	t = ckpt_track_find(vma->vm_mm);
	if (t)
		ckpt_log_fault(t, addr);
	rcu_read_unlock();
	preempt_enable_notrace();
}

/*
 * UFFDIO_MOVE fills PTEs with no lock held yet when this runs: an arm may come
 * in between. The PTEs are soft-dirty, so looking at all of them from now on
 * finds every page.
 */
static void notrace move_hook(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *op,
			      struct ftrace_regs *fregs)
{
	struct ckpt_track *t;

	preempt_disable_notrace();
	rcu_read_lock();
	t = ckpt_track_find(ckpt_move_mm(fregs));
	if (t)
		ckpt_log_degrade(t, CKPT_LOG_SCAN_ALWAYS);
	rcu_read_unlock();
	preempt_enable_notrace();
}

/*
 * __split_huge_pmd(vma, pmd, address, …) is called for every VMA that is split
 * inside of 2 MiB, huge page or not, and announces all 2 MiB as cleared. Nothing
 * changes: remember whose next announcement does not count.
 */
static void notrace split_hook(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *op,
			       struct ftrace_regs *fregs)
{
	struct vm_area_struct *vma = (struct vm_area_struct *)ckpt_fregs_arg(fregs, 0);
	struct ckpt_track *t;

	preempt_disable_notrace();
	rcu_read_lock();
	t = ckpt_track_find(vma->vm_mm);
	if (t) {
		WRITE_ONCE(t->split_task, NULL);
		WRITE_ONCE(t->split_addr, ckpt_fregs_arg(fregs, 2) & CKPT_CHUNK_MASK);
		smp_store_release(&t->split_task, current);
	}
	rcu_read_unlock();
	preempt_enable_notrace();
}

/*
 * RECURSION: the hooks guard themselves, in that nothing they call can reach a
 * hooked function.
 */
#define HOOK_FLAGS (FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_RECURSION)

static struct {
	struct ftrace_ops ops;
	char *function;
	bool wanted;
} hooks[] = {
	{ { .func = fault_hook, .flags = HOOK_FLAGS }, "handle_mm_fault", true },
	{ { .func = install_hook, .flags = HOOK_FLAGS }, "mfill_atomic_install_pte", true },
	{ { .func = move_hook, .flags = HOOK_FLAGS }, "move_pages", CKPT_HAS_UFFD_MOVE },
	{ { .func = split_hook, .flags = HOOK_FLAGS }, "__split_huge_pmd", true },
};

static void remove_hooks(int nr)
{
	while (nr-- > 0) {
		if (!hooks[nr].wanted)
			continue;
		unregister_ftrace_function(&hooks[nr].ops);
		ftrace_free_filter(&hooks[nr].ops);
	}
}

int ckpt_hook_init(void)
{
	int i, err;

	for (i = 0; i < ARRAY_SIZE(hooks); i++) {
		if (!hooks[i].wanted)
			continue;
		err = ftrace_set_filter(&hooks[i].ops, hooks[i].function,
					strlen(hooks[i].function), 1);
		if (err)
			goto err_remove_hooks;
		err = register_ftrace_function(&hooks[i].ops);
		if (err) {
			ftrace_free_filter(&hooks[i].ops);
			goto err_remove_hooks;
		}
	}
	return 0;

err_remove_hooks:
	pr_err("cannot hook %s() (%d)%s\n", hooks[i].function, err,
	       err == -EBUSY ? ": is kernel.ftrace_enabled 0?" : "");
	remove_hooks(i);
	return err;
}

void ckpt_hook_exit(void)
{
	remove_hooks(ARRAY_SIZE(hooks));
}
