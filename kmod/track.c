// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: tracks, and the table in which the fault hook finds them by address
 * space. A track pins the mm_struct (through its mmu notifier) but does not keep
 * the address space alive: the target may exit at any time.
 */
#include <linux/rculist.h>
#include <linux/sched/coredump.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "ckpt.h"

struct hlist_head ckpt_table[1 << CKPT_TABLE_BITS];
static DEFINE_SPINLOCK(table_lock);
static atomic_t last_id;
/* Tracks that are in no session any more and not freed yet. */
static atomic_t being_forgotten;

/* The track of @mm. Caller is in an RCU read-side section. */
struct ckpt_track *ckpt_track_find(struct mm_struct *mm)
{
	struct ckpt_track *t;

	hlist_for_each_entry_rcu(t, &ckpt_table[hash_ptr(mm, CKPT_TABLE_BITS)], hash)
		if (t->mm == mm)
			return t;
	return NULL;
}

/* Enter @t in the table, unless its mm is there: then 0 and the session's id. */
static bool claim(struct ckpt_track *t, u32 *ret_other)
{
	struct ckpt_track *other;

	spin_lock(&table_lock);
	rcu_read_lock();
	other = ckpt_track_find(t->mm);
	if (other)
		*ret_other = other->session->id;
	else
		hlist_add_head_rcu(&t->hash, &ckpt_table[hash_ptr(t->mm, CKPT_TABLE_BITS)]);
	rcu_read_unlock();
	spin_unlock(&table_lock);
	return !other;
}

static void unclaim(struct ckpt_track *t)
{
	spin_lock(&table_lock);
	hlist_del_rcu(&t->hash);
	spin_unlock(&table_lock);
}

/*
 * Attach @mm, of which the caller holds a user, to @s. -EBUSY with the id of
 * the other session in *@ret_other when it is tracked already; attaching twice
 * in one session finds the same track. @followed: nobody asked for it. Caller holds session->mutex.
 */
int ckpt_track_attach(struct ckpt_session *s, struct mm_struct *mm, struct pid *pid, bool followed,
		      struct ckpt_track **ret_track, u32 *ret_other)
{
	struct ckpt_track *t;
	int err;

	lockdep_assert_held(&s->mutex);
	list_for_each_entry(t, &s->tracks, node) {
		if (t->mm == mm) {
			t->followed &= followed;
			*ret_track = t;
			return 0;
		}
	}
	t = kzalloc(sizeof(*t), GFP_KERNEL);
	if (!t)
		return -ENOMEM;
	ckpt_log_init(&t->log);
	t->mm = mm;
	t->session = s;
	t->followed = followed;
	t->pid = get_pid(pid);
	t->id = atomic_inc_return(&last_id);
	t->notifier.ops = &ckpt_notifier_ops;

	err = -EBUSY;
	if (!claim(t, ret_other))
		goto err_free_track;
	err = mmu_notifier_register(&t->notifier, mm);
	if (err)
		goto err_unclaim;
	if (READ_ONCE(ckpt_settings.thp_mode) == CKPT_THP_DISABLE && !test_bit(MMF_DISABLE_THP, &mm->flags)) {
		/* Said before it is done: a child that is forked in between may have a copy of it. */
		WRITE_ONCE(t->thp_off, true);
		smp_mb__before_atomic();
		set_bit(MMF_DISABLE_THP, &mm->flags);
	}
	list_add_tail(&t->node, &s->tracks);
	*ret_track = t;
	return 0;

err_unclaim:
	unclaim(t);
	synchronize_rcu();
err_free_track:
	ckpt_track_free(t);
	return err;
}

/*
 * Stop all that writes to the log. The caller has taken the track off its
 * session's list, and waits for a grace period before it frees it. PTEs stay
 * write-protected: each costs the target one more fault.
 */
void ckpt_track_unlink(struct ckpt_track *t)
{
	ckpt_snap_end(t);
	unclaim(t);
	if (t->thp_off)
		clear_bit(MMF_DISABLE_THP, &t->mm->flags);
	mmu_notifier_unregister(&t->notifier, t->mm);
}

/*
 * Forget children that attached themselves and have ended: a program may fork for days, and nobody detaches what
 * he never attached. One that a result spoke of stays until a result said that it has ended and the next @scan
 * begins: until then its runs can be asked for. Never waits, as children may end faster than grace periods do.
 * Caller holds session->mutex.
 */
void ckpt_track_forget_ended(struct ckpt_session *s, bool scan)
{
	struct ckpt_track *t, *next;

	lockdep_assert_held(&s->mutex);
	list_for_each_entry_safe(t, next, &s->tracks, node) {
		/* What its last event says must be said first. */
		if (!t->followed || !READ_ONCE(t->gone) || test_bit(CKPT_PENDING_GONE, &t->events) ||
		    (t->runs_seq && !(scan && t->told)) || ckpt_snap_exists(t))
			continue;
		list_del(&t->node);
		unclaim(t);
		atomic_inc(&being_forgotten);
		mmu_notifier_put(&t->notifier);
	}
}

static void forget(struct work_struct *work)
{
	ckpt_track_free(container_of(to_rcu_work(work), struct ckpt_track, forget_work));
	if (atomic_dec_and_test(&being_forgotten))
		wake_up_var(&being_forgotten);
}

/* Its notifier is called no more. Whoever found it in the table may still look. */
void ckpt_track_forgotten(struct mmu_notifier *mn)
{
	struct ckpt_track *t = container_of(mn, struct ckpt_track, notifier);

	INIT_RCU_WORK(&t->forget_work, forget);
	queue_rcu_work(ckpt_wq, &t->forget_work);
}

void ckpt_track_forget_wait(void)
{
	wait_var_event(&being_forgotten, !atomic_read(&being_forgotten));
}

void ckpt_track_free(struct ckpt_track *t)
{
	ckpt_log_destroy(&t->log);
	ckpt_known_free(&t->known);
	ckpt_runs_free(&t->runs);
	put_pid(t->pid);
	kfree(t);
}

/* Any context. The session's work item tells user space. */
void ckpt_track_event(struct ckpt_track *t, int event)
{
	if (!test_and_set_bit(event, &t->events))
		queue_work(ckpt_wq, &t->session->event_work);
}

/* CKPT_RESULT_* that hold now, apart from those of the last collect. */
u32 ckpt_track_flags(const struct ckpt_track *t)
{
	return (READ_ONCE(t->gone) ? CKPT_RESULT_GONE : 0) | (t->epoch ? 0 : CKPT_RESULT_UNARMED);
}

/*
 * Collect what changed (CKPT_HOW_REPORT) and begin the next epoch (CKPT_HOW_ARM).
 * It cannot fail: what could not be found out is CKPT_RESULT_ALL, and when
 * nothing was done at all the log stays for the next time. Caller holds
 * session->mutex.
 */
void ckpt_track_collect(struct ckpt_track *t, unsigned int how)
{
	bool arm = how & CKPT_HOW_ARM, report = how & CKPT_HOW_REPORT;
	struct ckpt_counters *count = &t->session->count;
	struct ckpt_scan_result result = {};
	u32 flags = ckpt_track_flags(t);
	struct ckpt_runs *runs = &t->runs;
	bool lost;
	int err;

	lockdep_assert_held(&t->session->mutex);
	if (!report)
		flags &= ~CKPT_RESULT_UNARMED; /* there are no runs to speak of */
	runs->nr = 0;
	runs->pages = 0;
	runs->lost = false;
	runs->unmapped = how & CKPT_HOW_UNMAPPED;
	runs->snapshot = how & CKPT_HOW_SNAPSHOT;
	/* What was armed is then not known well enough to say what is gone. */
	lost = runs->unmapped && t->known.lost;
	t->runs_seq++;
	/* One that nobody opened is not wanted any more. */
	if (arm && !ckpt_snap_opened(t))
		ckpt_snap_end(t);

	if (!mmget_not_zero(t->mm)) {
		flags |= CKPT_RESULT_GONE;
		goto out;
	}
	err = ckpt_scan(t, t->mm, arm, report ? runs : NULL, &result);
	mmput(t->mm);
	if (err || runs->lost || lost) {
		if (runs->snapshot)
			ckpt_snap_end(t);
		runs->nr = 0;
		runs->pages = 0;
		flags |= CKPT_RESULT_ALL;
		goto out;
	}
	if (runs->snapshot && ckpt_snap_exists(t))
		flags |= CKPT_RESULT_SNAPSHOT;
	if (result.degraded)
		flags |= CKPT_RESULT_DEGRADED;
	if (arm)
		clear_bit(CKPT_PENDING_OVERFLOW, &t->events);
	atomic64_add(result.chunks, &count->chunks);
	atomic64_add(runs->pages, &count->pages);
	atomic64_add(result.widened_clean, &count->widened_clean);
	atomic64_inc(report ? &count->collects : &count->arms);
	atomic64_add(result.wall_ns, report ? &count->collect_ns : &count->arm_ns);
out:
	t->runs_flags = flags;
	t->runs_epoch = t->epoch;
	t->runs_ns = result.wall_ns;
	t->told = flags & CKPT_RESULT_GONE;
}
