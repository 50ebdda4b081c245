// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: sessions. A session is found by its id and the socket of its owner, and
 * ends with DETACH, with that socket, or with the module.
 */
#include <linux/slab.h>

#include "ckpt.h"

DEFINE_MUTEX(ckpt_sessions_mutex);
LIST_HEAD(ckpt_sessions);
struct workqueue_struct *ckpt_wq;

static u32 last_id;

static void send_events(struct work_struct *work)
{
	struct ckpt_session *s = container_of(work, struct ckpt_session, event_work);
	struct ckpt_track *t;

	mutex_lock(&s->mutex);
	list_for_each_entry(t, &s->tracks, node) {
		if (test_and_clear_bit(CKPT_PENDING_GONE, &t->events))
			ckpt_ctl_event(CKPT_EVENT_GONE, s->id, t->id, t->pid, NULL);
		if (test_and_clear_bit(CKPT_PENDING_OVERFLOW, &t->events))
			ckpt_ctl_event(CKPT_EVENT_LOG_OVERFLOW, s->id, t->id, t->pid, NULL);
		if (test_and_clear_bit(CKPT_PENDING_FORK_LOST, &t->events))
			ckpt_ctl_event(CKPT_EVENT_FORK_LOST, s->id, t->id, t->pid, NULL);
		if (test_and_clear_bit(CKPT_PENDING_POOL, &t->events))
			ckpt_ctl_event(CKPT_EVENT_POOL_EXHAUSTED, s->id, t->id, t->pid, NULL);
		if (test_and_clear_bit(CKPT_PENDING_EXEC, &t->events))
			ckpt_ctl_event(CKPT_EVENT_EXEC, s->id, t->id, t->pid, NULL);
	}
	ckpt_track_forget_ended(s, false);
	mutex_unlock(&s->mutex);
}

/*
 * Returns the session with a reference for the caller, or ERR_PTR(); as soon as it is
 * listed, another thread may end it.
 * @pool_pages: with CKPT_SESSION_COW, for its snapshots.
 */
struct ckpt_session *ckpt_session_open(u32 owner, u32 flags, unsigned long pool_pages)
{
	struct ckpt_session *s;
	int err;

	s = kzalloc(sizeof(*s), GFP_KERNEL);
	if (!s)
		return ERR_PTR(-ENOMEM);
	mutex_init(&s->mutex);
	INIT_LIST_HEAD(&s->tracks);
	INIT_WORK(&s->event_work, send_events);
	s->owner = owner;
	s->flags = flags;
	if (flags & CKPT_SESSION_COW) {
		s->pool = ckpt_pool_new(pool_pages);
		if (!s->pool) {
			kfree(s);
			return ERR_PTR(-ENOMEM);
		}
	}

	mutex_lock(&ckpt_sessions_mutex);
	if (!++last_id)
		++last_id;
	s->id = last_id;
	err = ckpt_sysfs_add_session(s);
	if (!err) {
		kobject_get(&s->kobj);
		list_add_tail(&s->node, &ckpt_sessions);
	}
	mutex_unlock(&ckpt_sessions_mutex);
	if (err) {
		ckpt_session_put(s);
		return ERR_PTR(err);
	}
	return s;
}

/*
 * The session with this id, if @owner owns it, with a reference; 0 as @owner
 * finds anyone's. The caller locks session->mutex and looks at ->dead.
 */
struct ckpt_session *ckpt_session_get(u32 id, u32 owner, struct netlink_ext_ack *extack)
{
	struct ckpt_session *s;

	mutex_lock(&ckpt_sessions_mutex);
	list_for_each_entry(s, &ckpt_sessions, node) {
		if (s->id != id)
			continue;
		if (owner && s->owner != owner) {
			mutex_unlock(&ckpt_sessions_mutex);
			NL_SET_ERR_MSG(extack, "the session belongs to another socket");
			return ERR_PTR(-EPERM);
		}
		kobject_get(&s->kobj);
		mutex_unlock(&ckpt_sessions_mutex);
		return s;
	}
	mutex_unlock(&ckpt_sessions_mutex);
	NL_SET_ERR_MSG(extack, "there is no session with this id");
	return ERR_PTR(-ENOENT);
}

void ckpt_session_put(struct ckpt_session *s)
{
	kobject_put(&s->kobj);
}

struct ckpt_track *ckpt_session_track(struct ckpt_session *s, u32 id)
{
	struct ckpt_track *t;

	lockdep_assert_held(&s->mutex);
	list_for_each_entry(t, &s->tracks, node)
		if (t->id == id)
			return t;
	return NULL;
}

/* End the session. It may be called by several; only the first does it. */
void ckpt_session_close(struct ckpt_session *s)
{
	struct ckpt_track *t, *next;
	LIST_HEAD(tracks);
	bool first;

	mutex_lock(&ckpt_sessions_mutex);
	first = !list_empty(&s->node);
	list_del_init(&s->node);
	mutex_unlock(&ckpt_sessions_mutex);
	if (!first)
		return;

	mutex_lock(&s->mutex);
	s->dead = true;
	list_splice_init(&s->tracks, &tracks);
	list_for_each_entry(t, &tracks, node)
		ckpt_track_unlink(t);
	mutex_unlock(&s->mutex);

	/* Neither the notifier of a track that was forgotten finds this session any more, nor who found it in the table. */
	if (s->flags & CKPT_SESSION_FOLLOW_FORKS)
		mmu_notifier_synchronize();
	synchronize_rcu();
	cancel_work_sync(&s->event_work);
	list_for_each_entry_safe(t, next, &tracks, node)
		ckpt_track_free(t);
	ckpt_sysfs_remove_session(s);
	ckpt_session_put(s);
}

/* A netlink socket closes: end what it owned, before its port is used again. */
static int socket_event(struct notifier_block *nb, unsigned long event, void *data)
{
	const struct netlink_notify *n = data;
	struct ckpt_session *s;

	if (event != NETLINK_URELEASE || n->protocol != NETLINK_GENERIC ||
	    !net_eq(n->net, &init_net))
		return NOTIFY_DONE;
again:
	mutex_lock(&ckpt_sessions_mutex);
	list_for_each_entry(s, &ckpt_sessions, node) {
		if (s->owner != n->portid)
			continue;
		kobject_get(&s->kobj);
		mutex_unlock(&ckpt_sessions_mutex);
		ckpt_session_close(s);
		ckpt_session_put(s);
		goto again;
	}
	mutex_unlock(&ckpt_sessions_mutex);
	return NOTIFY_DONE;
}

static struct notifier_block socket_notifier = { .notifier_call = socket_event };

int ckpt_sessions_init(void)
{
	int err;

	ckpt_wq = alloc_workqueue("ckpt", WQ_UNBOUND, 0);
	if (!ckpt_wq)
		return -ENOMEM;
	err = netlink_register_notifier(&socket_notifier);
	if (err)
		goto err_destroy_wq;
	return 0;

err_destroy_wq:
	destroy_workqueue(ckpt_wq);
	return err;
}

/* No request can arrive any more, and nobody hears of forks. */
void ckpt_sessions_exit(void)
{
	struct ckpt_session *s;

	netlink_unregister_notifier(&socket_notifier);
	flush_workqueue(ckpt_wq);
	for (;;) {
		mutex_lock(&ckpt_sessions_mutex);
		s = list_first_entry_or_null(&ckpt_sessions, struct ckpt_session, node);
		if (s)
			kobject_get(&s->kobj);
		mutex_unlock(&ckpt_sessions_mutex);
		if (!s)
			break;
		ckpt_session_close(s);
		ckpt_session_put(s);
	}
	/* Snapshots are freed by work that waits for a grace period first. */
	rcu_barrier();
	ckpt_track_forget_wait();
	destroy_workqueue(ckpt_wq);
}
