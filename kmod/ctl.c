// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: the generic netlink family. Each command is parsed by its policy, its
 * sender is checked, and one function is called. The message tree is drawn in
 * include/uapi/linux/ckpt.h.
 *
 * Requests run in parallel: session->mutex is what serialises.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <net/genetlink.h>

#include "ckpt.h"
#include "compat/compat.h"

static struct genl_family family;
static bool ctl_up;

u64 ckpt_features(void)
{
	u64 features = CKPT_FEATURE_TRACK | CKPT_FEATURE_FOLLOW_FORKS | CKPT_FEATURE_UNMAPPED;

	if (!IS_ENABLED(CONFIG_PREEMPT_RT))
		features |= CKPT_FEATURE_GRANULE_FIXED | CKPT_FEATURE_GRANULE_ADAPTIVE |
			    CKPT_FEATURE_COW_SNAPSHOT;
	return features;
}

/* ---- helpers ------------------------------------------------------------------ */

static struct sk_buff *reply_new(struct genl_info *info, size_t payload, void **ret_hdr)
{
	struct sk_buff *msg = genlmsg_new(payload, GFP_KERNEL);

	if (!msg)
		return NULL;
	*ret_hdr = genlmsg_put_reply(msg, info, &family, 0, info->genlhdr->cmd);
	if (*ret_hdr)
		return msg;
	nlmsg_free(msg);
	return NULL;
}

static int reply_send(struct sk_buff *msg, struct genl_info *info, void *hdr)
{
	genlmsg_end(msg, hdr);
	return genlmsg_reply(msg, info);
}

/* The session that the request names, locked, with a reference. */
static struct ckpt_session *session_lock(struct genl_info *info)
{
	struct ckpt_session *s;

	if (GENL_REQ_ATTR_CHECK(info, CKPT_A_SESSION)) {
		NL_SET_ERR_MSG(info->extack, "which session? SESSION is missing");
		return ERR_PTR(-EINVAL);
	}
	s = ckpt_session_get(nla_get_u32(info->attrs[CKPT_A_SESSION]), info->snd_portid,
			     info->extack);
	if (IS_ERR(s))
		return s;
	if (mutex_lock_killable(&s->mutex)) {
		ckpt_session_put(s);
		return ERR_PTR(-EINTR);
	}
	if (s->dead) {
		mutex_unlock(&s->mutex);
		ckpt_session_put(s);
		NL_SET_ERR_MSG(info->extack, "the session has ended");
		return ERR_PTR(-ENOENT);
	}
	return s;
}

static void session_unlock(struct ckpt_session *s)
{
	mutex_unlock(&s->mutex);
	ckpt_session_put(s);
}

/* The track that the request names, NULL when it names none. */
static int named_track(struct ckpt_session *s, struct genl_info *info, struct ckpt_track **ret_t)
{
	*ret_t = NULL;
	if (!info->attrs[CKPT_A_TRACK])
		return 0;
	*ret_t = ckpt_session_track(s, nla_get_u32(info->attrs[CKPT_A_TRACK]));
	if (*ret_t)
		return 0;
	NL_SET_ERR_MSG_ATTR(info->extack, info->attrs[CKPT_A_TRACK],
			    "the session has no track with this id");
	return -ENOENT;
}

/* ---- commands ------------------------------------------------------------------ */

static int do_info(struct genl_info *info)
{
	struct sk_buff *msg;
	void *hdr;

	msg = reply_new(info, NLMSG_DEFAULT_SIZE, &hdr);
	if (!msg)
		return -ENOMEM;
	if (nla_put_u32(msg, CKPT_A_VERSION, CKPT_ABI_VERSION) ||
	    nla_put_u64_64bit(msg, CKPT_A_FEATURES, ckpt_features(), CKPT_A_PAD)) {
		nlmsg_free(msg);
		return -EMSGSIZE;
	}
	return reply_send(msg, info, hdr);
}

static int do_open(struct genl_info *info)
{
	struct nlattr *attr = info->attrs[CKPT_A_SESSION_FLAGS];
	struct nlattr *wanted = info->attrs[CKPT_A_POOL_PAGES];
	unsigned long pool_pages = READ_ONCE(ckpt_settings.cow_pool_pages);
	u32 flags = attr ? nla_get_u32(attr) : 0;
	struct ckpt_session *s;
	struct sk_buff *msg;
	void *hdr;

	if (wanted)
		pool_pages = min_t(u64, pool_pages, nla_get_u64(wanted));

	if ((flags & CKPT_SESSION_COW) && !(ckpt_features() & CKPT_FEATURE_COW_SNAPSHOT)) {
		NL_SET_ERR_MSG_ATTR(info->extack, attr, "this kernel has no snapshots (PREEMPT_RT)");
		return -EOPNOTSUPP;
	}
	msg = reply_new(info, NLMSG_DEFAULT_SIZE, &hdr);
	if (!msg)
		return -ENOMEM;
	s = ckpt_session_open(info->snd_portid, flags, pool_pages);
	if (IS_ERR(s)) {
		if (flags & CKPT_SESSION_COW)
			NL_SET_ERR_MSG(info->extack, "no memory for the session and its pool");
		nlmsg_free(msg);
		return PTR_ERR(s);
	}
	/* There is room for it in a message of default size. */
	(void)nla_put_u32(msg, CKPT_A_SESSION, s->id);
	if (flags & CKPT_SESSION_COW)
		(void)nla_put_u64_64bit(msg, CKPT_A_POOL_PAGES, pool_pages, CKPT_A_PAD);
	ckpt_session_put(s);
	return reply_send(msg, info, hdr);
}

static int do_attach(struct genl_info *info)
{
	struct ckpt_session *s;
	struct ckpt_track *t;
	struct mm_struct *mm;
	struct sk_buff *msg;
	struct pid *pid;
	u32 other = 0;
	void *hdr;
	int err;

	if (GENL_REQ_ATTR_CHECK(info, CKPT_A_PID)) {
		NL_SET_ERR_MSG(info->extack, "which process? PID is missing");
		return -EINVAL;
	}
	msg = reply_new(info, NLMSG_DEFAULT_SIZE, &hdr);
	if (!msg)
		return -ENOMEM;
	s = session_lock(info);
	if (IS_ERR(s)) {
		err = PTR_ERR(s);
		goto err_free_msg;
	}
	err = ckpt_access_open_mm(nla_get_s32(info->attrs[CKPT_A_PID]), &mm, &pid, info->extack);
	if (err)
		goto err_unlock_session;
	err = ckpt_track_attach(s, mm, pid, false, &t, &other);
	if (err == -EBUSY)
		NL_SET_ERR_MSG(info->extack, "the process is tracked by another session");
	if (!err && (nla_put_u32(msg, CKPT_A_SESSION, s->id) ||
		     nla_put_u32(msg, CKPT_A_TRACK, t->id) ||
		     nla_put_s32(msg, CKPT_A_PID, pid_vnr(t->pid))))
		err = -EMSGSIZE;
	mmput(mm);
	put_pid(pid);
	if (err)
		goto err_unlock_session;
	session_unlock(s);
	return reply_send(msg, info, hdr);

err_unlock_session:
	session_unlock(s);
err_free_msg:
	nlmsg_free(msg);
	return err;
}

static int put_result(struct sk_buff *msg, const struct ckpt_track *t)
{
	struct nlattr *nest = nla_nest_start(msg, CKPT_A_RESULT);

	if (!nest)
		return -EMSGSIZE;
	if (nla_put_u32(msg, CKPT_A_TRACK, t->id) ||
	    nla_put_s32(msg, CKPT_A_PID, pid_vnr(t->pid)) ||
	    nla_put_u32(msg, CKPT_A_RESULT_FLAGS, t->runs_flags) ||
	    nla_put_u64_64bit(msg, CKPT_A_EPOCH, t->runs_epoch, CKPT_A_PAD) ||
	    nla_put_u64_64bit(msg, CKPT_A_PAGES, t->runs.pages, CKPT_A_PAD) ||
	    nla_put_u64_64bit(msg, CKPT_A_RUNS, t->runs.nr, CKPT_A_PAD) ||
	    nla_put_u64_64bit(msg, CKPT_A_WALL_NS, t->runs_ns, CKPT_A_PAD))
		return -EMSGSIZE;
	nla_nest_end(msg, nest);
	return 0;
}

/* What put_result() needs. */
#define RESULT_BYTES (nla_total_size(0) + 3 * nla_total_size(4) + 4 * nla_total_size_64bit(8))

static int snapshot_possible(struct ckpt_session *s, struct ckpt_track *one, unsigned int how,
			     struct netlink_ext_ack *extack)
{
	struct ckpt_track *t;

	if (!(how & CKPT_HOW_SNAPSHOT))
		return 0;
	if (!s->pool || !(how & CKPT_HOW_ARM)) {
		NL_SET_ERR_MSG(extack, "SNAPSHOT needs REARM, and a session opened with SESSION_COW");
		return -EINVAL;
	}
	list_for_each_entry(t, &s->tracks, node) {
		if ((one && t != one) || !ckpt_snap_opened(t))
			continue;
		NL_SET_ERR_MSG(extack, "a snapshot of this target is still being read");
		return -EBUSY;
	}
	return 0;
}

static int scan(struct genl_info *info, unsigned int how)
{
	struct ckpt_track *one, *t;
	struct ckpt_session *s;
	struct sk_buff *msg;
	size_t count = 0;
	void *hdr;
	int err;

	/* Children that were forked before this belong to what is collected. */
	flush_workqueue(ckpt_wq);
	s = session_lock(info);
	if (IS_ERR(s))
		return PTR_ERR(s);
	ckpt_track_forget_ended(s, true);
	err = named_track(s, info, &one);
	if (err)
		goto err_unlock_session;
	err = snapshot_possible(s, one, how, info->extack);
	if (err)
		goto err_unlock_session;
	/* All memory for the answer comes first: after the scan it must get out. */
	err = -ENOMEM;
	list_for_each_entry(t, &s->tracks, node)
		count++;
	msg = reply_new(info, nla_total_size(4) + count * RESULT_BYTES, &hdr);
	if (!msg)
		goto err_unlock_session;
	err = nla_put_u32(msg, CKPT_A_SESSION, s->id);
	list_for_each_entry(t, &s->tracks, node) {
		if (one && t != one)
			continue;
		ckpt_track_collect(t, how);
		err = err ?: put_result(msg, t);
	}
	if (err)
		goto err_free_msg;
	session_unlock(s);
	return reply_send(msg, info, hdr);

err_free_msg:
	nlmsg_free(msg);
err_unlock_session:
	session_unlock(s);
	return err;
}

static int do_arm(struct genl_info *info)
{
	return scan(info, CKPT_HOW_ARM);
}

static int do_collect(struct genl_info *info)
{
	struct nlattr *attr = info->attrs[CKPT_A_COLLECT_FLAGS];
	u32 flags = attr ? nla_get_u32(attr) : 0;

	return scan(info, CKPT_HOW_REPORT | (flags & CKPT_COLLECT_REARM ? CKPT_HOW_ARM : 0) |
			  (flags & CKPT_COLLECT_UNMAPPED ? CKPT_HOW_UNMAPPED : 0) |
			  (flags & CKPT_COLLECT_SNAPSHOT ? CKPT_HOW_SNAPSHOT : 0));
}

/* Runs in the sender's context, so the descriptor becomes the sender's. */
static int do_snapshot(struct genl_info *info)
{
	struct ckpt_session *s;
	struct ckpt_track *t;
	struct sk_buff *msg;
	struct file *file;
	int err, fd;
	u64 pages;
	void *hdr;

	msg = reply_new(info, NLMSG_DEFAULT_SIZE, &hdr);
	if (!msg)
		return -ENOMEM;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		nlmsg_free(msg);
		return fd;
	}
	s = session_lock(info);
	if (IS_ERR(s)) {
		err = PTR_ERR(s);
		goto err_put_fd;
	}
	err = named_track(s, info, &t);
	if (!err && !t) {
		NL_SET_ERR_MSG(info->extack, "which track? TRACK is missing");
		err = -EINVAL;
	}
	if (err)
		goto err_unlock_session;
	file = ckpt_snap_open(t, &pages);
	if (IS_ERR(file)) {
		NL_SET_ERR_MSG(info->extack, "this track has no snapshot that can be opened");
		err = PTR_ERR(file);
		goto err_unlock_session;
	}
	if (nla_put_u32(msg, CKPT_A_SESSION, s->id) || nla_put_u32(msg, CKPT_A_TRACK, t->id) ||
	    nla_put_s32(msg, CKPT_A_FD, fd) ||
	    nla_put_u64_64bit(msg, CKPT_A_PAGES, pages, CKPT_A_PAD) ||
	    nla_put_u64_64bit(msg, CKPT_A_POOL_PAGES, ckpt_pool_free_pages(s->pool), CKPT_A_PAD)) {
		err = -EMSGSIZE;
		goto err_put_file;
	}
	session_unlock(s);
	err = reply_send(msg, info, hdr);
	if (err) {
		put_unused_fd(fd);
		fput(file);
		return err;
	}
	fd_install(fd, file);
	return 0;

err_put_file:
	fput(file);
err_unlock_session:
	session_unlock(s);
err_put_fd:
	put_unused_fd(fd);
	nlmsg_free(msg);
	return err;
}

static int do_detach(struct genl_info *info)
{
	struct ckpt_session *s = session_lock(info);
	struct ckpt_track *t;
	int err;

	if (IS_ERR(s))
		return PTR_ERR(s);
	err = named_track(s, info, &t);
	if (err)
		goto out_unlock_session;
	if (!t) {
		mutex_unlock(&s->mutex);
		ckpt_session_close(s);
		ckpt_session_put(s);
		return 0;
	}
	list_del(&t->node);
	ckpt_track_unlink(t);
	synchronize_rcu();
	ckpt_track_free(t);
out_unlock_session:
	session_unlock(s);
	return err;
}

/* ---- dumps ---------------------------------------------------------------------- */

#define RUNS_PER_MSG_MAX ((U16_MAX - NLA_HDRLEN) / sizeof(struct ckpt_run))

/* cb->args[0]: next run, cb->args[1]: 1 + the result they belong to. */
static int dump_runs(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct nlattr **attrs = ckpt_dump_attrs(cb);
	struct ckpt_session *s;
	struct ckpt_track *t;
	size_t left, n;
	void *hdr;
	int err;

	if (!ckpt_access_allowed(cb->skb))
		return -EPERM;
	if (!attrs[CKPT_A_SESSION] || !attrs[CKPT_A_TRACK]) {
		NL_SET_ERR_MSG(cb->extack, "which track? SESSION or TRACK is missing");
		return -EINVAL;
	}
	s = ckpt_session_get(nla_get_u32(attrs[CKPT_A_SESSION]), NETLINK_CB(cb->skb).portid,
			     cb->extack);
	if (IS_ERR(s))
		return PTR_ERR(s);
	if (mutex_lock_killable(&s->mutex)) {
		ckpt_session_put(s);
		return -EINTR;
	}
	err = -ENOENT;
	t = ckpt_session_track(s, nla_get_u32(attrs[CKPT_A_TRACK]));
	if (!t) {
		NL_SET_ERR_MSG(cb->extack, "the session has no track with this id");
		goto out_unlock_session;
	}
	/* A newer result: the reader must start again, and must be told. */
	err = -EAGAIN;
	if (cb->args[1] && cb->args[1] != 1 + (long)t->runs_seq)
		goto out_unlock_session;
	cb->args[1] = 1 + (long)t->runs_seq;

	left = t->runs.nr - cb->args[0];
	err = 0;
	if (!left)
		goto out_unlock_session;
	err = -EMSGSIZE;
	hdr = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &family, NLM_F_MULTI,
			  CKPT_CMD_RUNS);
	if (!hdr)
		goto out_unlock_session;
	if (nla_put_u32(skb, CKPT_A_TRACK, t->id) ||
	    nla_put_u64_64bit(skb, CKPT_A_EPOCH, t->runs_epoch, CKPT_A_PAD) ||
	    skb_tailroom(skb) < nla_total_size(sizeof(struct ckpt_run)))
		goto err_cancel_msg;
	n = min3(left, (size_t)(skb_tailroom(skb) - NLA_HDRLEN) / sizeof(struct ckpt_run),
		 RUNS_PER_MSG_MAX);
	if (nla_put(skb, CKPT_A_RUN_DATA, n * sizeof(struct ckpt_run), &t->runs.r[cb->args[0]]))
		goto err_cancel_msg;
	genlmsg_end(skb, hdr);
	cb->args[0] += n;
	err = skb->len;
	goto out_unlock_session;

err_cancel_msg:
	genlmsg_cancel(skb, hdr);
out_unlock_session:
	mutex_unlock(&s->mutex);
	ckpt_session_put(s);
	return err;
}

static int put_status(struct sk_buff *skb, struct netlink_callback *cb, struct ckpt_session *s,
		      struct ckpt_track *t)
{
	void *hdr = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &family,
				NLM_F_MULTI, CKPT_CMD_STATUS);

	if (!hdr)
		return -EMSGSIZE;
	if (nla_put_u32(skb, CKPT_A_SESSION, s->id) || nla_put_u32(skb, CKPT_A_OWNER, s->owner) ||
	    nla_put_u32(skb, CKPT_A_TRACK, t->id) ||
	    nla_put_s32(skb, CKPT_A_PID, pid_vnr(t->pid)) ||
	    nla_put_u64_64bit(skb, CKPT_A_EPOCH, t->epoch, CKPT_A_PAD) ||
	    nla_put_u32(skb, CKPT_A_RESULT_FLAGS, ckpt_track_flags(t))) {
		genlmsg_cancel(skb, hdr);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, hdr);
	return 0;
}

/* cb->args[0]: last session told completely, cb->args[1]: tracks told of the next. */
static int dump_status(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct nlattr *only = ckpt_dump_attrs(cb)[CKPT_A_SESSION];
	struct ckpt_session *s;
	struct ckpt_track *t;
	int err = 0;

	if (!ckpt_access_allowed(cb->skb))
		return -EPERM;
	/* Ids grow along the list. This waits for a scan that is running. */
	if (mutex_lock_killable(&ckpt_sessions_mutex))
		return -EINTR;
	list_for_each_entry(s, &ckpt_sessions, node) {
		long n = 0;

		if (s->id <= cb->args[0] || (only && nla_get_u32(only) != s->id))
			continue;
		if (mutex_lock_killable(&s->mutex)) {
			err = -EINTR;
			break;
		}
		list_for_each_entry(t, &s->tracks, node) {
			if (n++ < cb->args[1])
				continue;
			err = put_status(skb, cb, s, t);
			if (err)
				break;
			cb->args[1]++;
		}
		mutex_unlock(&s->mutex);
		if (err)
			break;
		cb->args[0] = s->id;
		cb->args[1] = 0;
	}
	mutex_unlock(&ckpt_sessions_mutex);
	return skb->len;
}

/* ---- the table ------------------------------------------------------------------- */

#define ID NLA_POLICY_MIN(NLA_U32, 1)

static const struct nla_policy none_policy[CKPT_A_MAX + 1] = {};

static const struct nla_policy open_policy[CKPT_A_MAX + 1] = {
	[CKPT_A_SESSION_FLAGS] = NLA_POLICY_MASK(NLA_U32, CKPT_SESSION_FLAGS_ALL),
	[CKPT_A_POOL_PAGES] = { .type = NLA_U64 },
};

static const struct nla_policy attach_policy[CKPT_A_MAX + 1] = {
	[CKPT_A_SESSION] = ID,
	[CKPT_A_PID] = NLA_POLICY_MIN(NLA_S32, 1),
};

static const struct nla_policy track_policy[CKPT_A_MAX + 1] = {
	[CKPT_A_SESSION] = ID,
	[CKPT_A_TRACK] = ID,
};

static const struct nla_policy collect_policy[CKPT_A_MAX + 1] = {
	[CKPT_A_SESSION] = ID,
	[CKPT_A_TRACK] = ID,
	[CKPT_A_COLLECT_FLAGS] = NLA_POLICY_MASK(NLA_U32, CKPT_COLLECT_FLAGS_ALL),
};

static const struct nla_policy status_policy[CKPT_A_MAX + 1] = {
	[CKPT_A_SESSION] = ID,
};

static int (*const handlers[CKPT_CMD_MAX + 1])(struct genl_info *info) = {
	[CKPT_CMD_INFO] = do_info,
	[CKPT_CMD_OPEN] = do_open,
	[CKPT_CMD_ATTACH] = do_attach,
	[CKPT_CMD_ARM] = do_arm,
	[CKPT_CMD_COLLECT] = do_collect,
	[CKPT_CMD_DETACH] = do_detach,
	[CKPT_CMD_SNAPSHOT] = do_snapshot,
};

static int ctl_do(struct sk_buff *skb, struct genl_info *info)
{
	int err;

	if (!ckpt_access_allowed(skb)) {
		NL_SET_ERR_MSG(info->extack, "needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN");
		return -EPERM;
	}
	err = handlers[info->genlhdr->cmd](info);
	if (err && !info->extack->_msg) {
		if (err == -ENOMEM)
			NL_SET_ERR_MSG(info->extack, "the kernel has no memory for it");
		else if (err == -EINTR)
			NL_SET_ERR_MSG(info->extack, "a signal came first");
		else if (err == -EMFILE)
			NL_SET_ERR_MSG(info->extack, "the sender has too many descriptors");
	}
	return err;
}

#define DO(name, pol) { .cmd = CKPT_CMD_##name, .doit = ctl_do, .policy = pol, .maxattr = CKPT_A_MAX }
#define DUMP(name, fn, pol) \
	{ .cmd = CKPT_CMD_##name, .dumpit = fn, .policy = pol, .maxattr = CKPT_A_MAX }

static const struct genl_ops ops[] = {
	DO(INFO, none_policy),
	DO(OPEN, open_policy),
	DO(ATTACH, attach_policy),
	DO(ARM, track_policy),
	DO(COLLECT, collect_policy),
	DO(DETACH, track_policy),
	DO(SNAPSHOT, track_policy),
	DUMP(RUNS, dump_runs, track_policy),
	DUMP(STATUS, dump_status, status_policy),
};

static const struct genl_multicast_group groups[] = {
	{ .name = CKPT_GENL_MCGRP_EVENTS },
};

static struct genl_family family = {
	.name = CKPT_GENL_NAME,
	.version = CKPT_GENL_VERSION,
	.maxattr = CKPT_A_MAX,
	.module = THIS_MODULE,
	.parallel_ops = true,
	.ops = ops,
	.n_ops = ARRAY_SIZE(ops),
	.resv_start_op = CKPT_CMD_UNSPEC + 1,
	.mcgrps = groups,
	.n_mcgrps = ARRAY_SIZE(groups),
};

/* Tell whoever listens. May sleep. Pids are those of the initial namespace. */
void ckpt_ctl_event(u32 type, u32 session, u32 track, struct pid *pid, struct pid *child)
{
	struct sk_buff *msg;
	void *hdr;

	if (!READ_ONCE(ctl_up))
		return;
	msg = genlmsg_new(NLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!msg) {
		/* Who listens must know that he missed something: his next recv() gives ENOBUFS. */
		(void)genl_set_err(&family, &init_net, 0, 0, -ENOBUFS);
		return;
	}
	hdr = genlmsg_put(msg, 0, 0, &family, 0, CKPT_CMD_EVENT);
	if (!hdr || nla_put_u32(msg, CKPT_A_EVENT_TYPE, type) ||
	    nla_put_u32(msg, CKPT_A_SESSION, session) || nla_put_u32(msg, CKPT_A_TRACK, track) ||
	    nla_put_s32(msg, CKPT_A_PID, pid_nr(pid)) ||
	    (child && nla_put_s32(msg, CKPT_A_CHILD_PID, pid_nr(child)))) {
		nlmsg_free(msg);
		return;
	}
	genlmsg_end(msg, hdr);
	/* Nobody listening is no error. */
	(void)genlmsg_multicast(&family, msg, 0, 0, GFP_KERNEL);
}

int ckpt_ctl_init(void)
{
	int err = genl_register_family(&family);

	if (!err)
		WRITE_ONCE(ctl_up, true);
	return err;
}

void ckpt_ctl_exit(void)
{
	WRITE_ONCE(ctl_up, false);
	flush_workqueue(ckpt_wq);
	genl_unregister_family(&family);
}
