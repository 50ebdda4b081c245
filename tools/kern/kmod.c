// SPDX-License-Identifier: GPL-2.0-only
/*
 * Owns: the netlink conversation with ckpt.ko, on libnl-genl. One request at a
 * time on one socket, events on another: an event can then never sit between a
 * request and its answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "kern/kmod.h"

#define SYSFS "/sys/kernel/ckpt"
/* Runs come in messages of up to 32 KiB; several may be on their way. */
#define RECV_BYTES (1 << 20)

struct kmod {
	struct nl_sock *sock;
	struct nl_sock *events;
	int family;
	uint32_t session;
	uint64_t features;
};

/* One request: what its answers leave behind. */
struct talk {
	int (*answer)(struct nlattr **attrs, const struct nlmsghdr *h, struct talk *t);
	void *arg;
	struct ckpt_err *err;
	int ret;     /* of @answer */
	int refused; /* -errno the kernel said */
	bool done;
	char why[160]; /* extended acknowledgement */
};

bool kmod_present(void)
{
	return !access(SYSFS "/version", F_OK);
}

/* How long attributes are at least, so that what is read of them is there. */
static const struct nla_policy policy[CKPT_A_MAX + 1] = {
	[CKPT_A_VERSION] = { .type = NLA_U32 },       [CKPT_A_FEATURES] = { .type = NLA_U64 },
	[CKPT_A_SESSION] = { .type = NLA_U32 },       [CKPT_A_SESSION_FLAGS] = { .type = NLA_U32 },
	[CKPT_A_TRACK] = { .type = NLA_U32 },         [CKPT_A_PID] = { .type = NLA_S32 },
	[CKPT_A_COLLECT_FLAGS] = { .type = NLA_U32 }, [CKPT_A_RESULT_FLAGS] = { .type = NLA_U32 },
	[CKPT_A_EPOCH] = { .type = NLA_U64 },         [CKPT_A_PAGES] = { .type = NLA_U64 },
	[CKPT_A_RUNS] = { .type = NLA_U64 },          [CKPT_A_WALL_NS] = { .type = NLA_U64 },
	[CKPT_A_OWNER] = { .type = NLA_U32 },         [CKPT_A_EVENT_TYPE] = { .type = NLA_U32 },
	[CKPT_A_CHILD_PID] = { .type = NLA_S32 },
};

/* ---- one request and its answers ------------------------------------------------------- */

static int on_valid(struct nl_msg *msg, void *arg)
{
	struct nlattr *attrs[CKPT_A_MAX + 1];
	struct nlmsghdr *h = nlmsg_hdr(msg);
	struct talk *t = arg;

	if (!t->answer || t->ret)
		return NL_OK;
	if (genlmsg_parse(h, 0, attrs, CKPT_A_MAX, policy) < 0)
		t->ret = -EBADMSG;
	else
		t->ret = t->answer(attrs, h, t);
	return NL_OK;
}

static int on_done(struct nl_msg *msg, void *arg)
{
	struct nlmsghdr *h = nlmsg_hdr(msg);
	struct talk *t = arg;
	int code = 0;

	/* A dump that failed half-way says so here. */
	if (h->nlmsg_type == NLMSG_DONE && nlmsg_datalen(h) >= (int)sizeof(code))
		memcpy(&code, nlmsg_data(h), sizeof(code));
	if (code < 0)
		t->refused = code;
	t->done = true;
	return NL_STOP;
}

/* The kernel's text lies behind the message it repeats, unless it was told not to repeat it. */
static void read_ext_ack(const struct nlmsghdr *h, const struct nlmsgerr *e, struct talk *t)
{
	size_t skip = sizeof(*e);
	struct nlattr *a;
	int left;

	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(h->nlmsg_flags & NLM_F_CAPPED)) {
		if (e->msg.nlmsg_len < sizeof(e->msg) || e->msg.nlmsg_len > h->nlmsg_len)
			return;
		skip += e->msg.nlmsg_len - sizeof(e->msg);
	}
	left = (int)h->nlmsg_len - (int)(NLMSG_HDRLEN + NLMSG_ALIGN(skip));
	if (left <= 0)
		return;
	a = nla_find((struct nlattr *)((char *)nlmsg_data(h) + NLMSG_ALIGN(skip)), left,
		     NLMSGERR_ATTR_MSG);
	if (a)
		nla_strlcpy(t->why, a, sizeof(t->why));
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *e, void *arg)
{
	struct nlmsghdr *h = (struct nlmsghdr *)((char *)e - NLMSG_HDRLEN);
	struct talk *t = arg;

	(void)from;
	t->refused = e->error;
	t->done = true;
	read_ext_ack(h, e, t);
	return NL_STOP;
}

/*
 * Send @msg, which is consumed, and hear all answers. Returns 0, what t->answer returned, or the
 * kernel's -errno with t->refused set; the caller says what it means.
 */
static int converse(struct kmod *k, struct nl_msg *msg, struct talk *t)
{
	struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
	int ret;

	if (!cb) {
		nlmsg_free(msg);
		return ckpt_fail(t->err, E_NOMEM, -ENOMEM, "no memory for a netlink request");
	}
	nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_valid, t);
	nl_cb_set(cb, NL_CB_FINISH, NL_CB_CUSTOM, on_done, t);
	nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, on_done, t);
	nl_cb_err(cb, NL_CB_CUSTOM, on_error, t);
	ret = nl_send_auto(k->sock, msg);
	nlmsg_free(msg);
	while (ret >= 0 && !t->done)
		ret = nl_recvmsgs(k->sock, cb);
	nl_cb_put(cb);
	/* First: libnl returns its own translation of a refusal, too. */
	if (t->refused)
		return t->refused;
	if (ret < 0)
		return ckpt_fail(t->err, E_KERNEL, -EIO, "netlink to the ckpt module: %s",
				 nl_geterror(ret));
	return t->ret;
}

static struct nl_msg *request(struct kmod *k, int cmd, int flags)
{
	struct nl_msg *msg = nlmsg_alloc();

	if (msg && !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, k->family, 0, flags, (uint8_t)cmd,
				CKPT_GENL_VERSION)) {
		nlmsg_free(msg);
		msg = NULL;
	}
	/* The few attributes that follow always fit into a new message. */
	if (msg && k->session)
		(void)nla_put_u32(msg, CKPT_A_SESSION, k->session);
	return msg;
}

static int no_memory(struct ckpt_err *err)
{
	return ckpt_fail(err, E_NOMEM, -ENOMEM, "no memory for a netlink request");
}

/* What a refusal of the kernel means to the user. @what: "cannot track process 12" */
static int refusal(struct ckpt_err *err, const struct talk *t, const char *what)
{
	const char *why = t->why[0] ? t->why : strerror(-t->refused);

	switch (-t->refused) {
	case EPERM:
		return ckpt_fail(err, E_PERM, t->refused, "%s: %s", what, why);
	case ESRCH:
		return ckpt_fail(err, E_NO_SUCH_PID, t->refused, "%s: %s", what, why);
	case EBUSY:
		ckpt_fail(err, E_ALREADY_TRACED, t->refused, "%s: %s", what, why);
		ckpt_remedy(err, "end the other tracker first; see " SYSFS "/sessions");
		return t->refused;
	case ENOENT:
		return ckpt_fail(err, E_TRACK, t->refused, "%s: %s", what, why);
	case ENOMEM:
		return ckpt_fail(err, E_NOMEM, t->refused, "%s: %s", what, why);
	default:
		return ckpt_fail(err, E_KERNEL, t->refused, "%s: %s", what, why);
	}
}

/* ---- open and close ---------------------------------------------------------------------- */

static int sock_open(struct nl_sock **ret)
{
	struct nl_sock *sock = nl_socket_alloc();
	int one = 1;

	if (!sock)
		return -ENOMEM;
	if (genl_connect(sock)) {
		nl_socket_free(sock);
		return -EPROTO;
	}
	nl_socket_set_buffer_size(sock, RECV_BYTES, 0);
	(void)setsockopt(nl_socket_get_fd(sock), SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one));
	*ret = sock;
	return 0;
}

static int got_info(struct nlattr **attrs, const struct nlmsghdr *h, struct talk *t)
{
	struct kmod *k = t->arg;

	(void)h;
	if (!attrs[CKPT_A_VERSION] || !attrs[CKPT_A_FEATURES])
		return ckpt_fail(t->err, E_KERNEL, -EBADMSG,
				 "the ckpt module does not say its version");
	if (nla_get_u32(attrs[CKPT_A_VERSION]) != CKPT_ABI_VERSION)
		return ckpt_fail(t->err, E_KERNEL, -EPROTO,
				 "the ckpt module speaks version %u, this program %u",
				 nla_get_u32(attrs[CKPT_A_VERSION]), CKPT_ABI_VERSION);
	k->features = nla_get_u64(attrs[CKPT_A_FEATURES]);
	return 0;
}

static int got_session(struct nlattr **attrs, const struct nlmsghdr *h, struct talk *t)
{
	struct kmod *k = t->arg;

	(void)h;
	if (!attrs[CKPT_A_SESSION])
		return ckpt_fail(t->err, E_KERNEL, -EBADMSG, "the ckpt module opened no session");
	k->session = nla_get_u32(attrs[CKPT_A_SESSION]);
	return 0;
}

/* Find the module, and whether it is one to talk to. */
static int hello(struct kmod *k, struct ckpt_err *err)
{
	struct talk t = { .answer = got_info, .arg = k, .err = err };
	struct nl_msg *msg;
	int r;

	k->family = genl_ctrl_resolve(k->sock, CKPT_GENL_NAME);
	if (k->family < 0) {
		ckpt_fail(err, E_KERNEL, -ENOENT, "the kernel module ckpt is not loaded");
		ckpt_remedy(err, "load it: modprobe ckpt");
		return -ENOENT;
	}
	msg = request(k, CKPT_CMD_INFO, 0);
	if (!msg)
		return no_memory(err);
	r = converse(k, msg, &t);
	return t.refused ? refusal(err, &t, "cannot use the ckpt module") : r;
}

int kmod_open(bool follow_forks, uint64_t pool_pages, struct kmod **ret, struct ckpt_err *err)
{
	uint32_t flags = follow_forks ? CKPT_SESSION_FOLLOW_FORKS : 0;
	struct talk t;
	struct nl_msg *msg;
	struct kmod *k;
	int r;

	k = calloc(1, sizeof(*k));
	if (!k)
		return no_memory(err);
	r = sock_open(&k->sock);
	if (r) {
		r = ckpt_fail_errno(err, E_KERNEL, r, "cannot open a netlink socket");
		goto err_close;
	}
	r = hello(k, err);
	if (r)
		goto err_close;

	msg = request(k, CKPT_CMD_OPEN, 0);
	if (!msg) {
		r = no_memory(err);
		goto err_close;
	}
	if (pool_pages && (k->features & CKPT_FEATURE_COW_SNAPSHOT)) {
		flags |= CKPT_SESSION_COW;
		(void)nla_put_u64(msg, CKPT_A_POOL_PAGES, pool_pages);
	}
	if (flags)
		(void)nla_put_u32(msg, CKPT_A_SESSION_FLAGS, flags);
	t = (struct talk) { .answer = got_session, .arg = k, .err = err };
	r = converse(k, msg, &t);
	if (t.refused)
		r = refusal(err, &t, "cannot open a tracking session");
	if (r)
		goto err_close;
	*ret = k;
	return 0;

err_close:
	kmod_close(k);
	return r;
}

/* The session that the socket owns, by what is said of its tracks. */
static int got_status(struct nlattr **attrs, const struct nlmsghdr *h, struct talk *t)
{
	struct kmod *k = t->arg;

	(void)h;
	if (attrs[CKPT_A_OWNER] && attrs[CKPT_A_SESSION] &&
	    nla_get_u32(attrs[CKPT_A_OWNER]) == nl_socket_get_local_port(k->sock))
		k->session = nla_get_u32(attrs[CKPT_A_SESSION]);
	return 0;
}

/* Throw away what a holder before us asked for and did not read. */
static void drain(int fd)
{
	char buf[64];

	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && errno != EINTR && errno != ENOBUFS)
			return;
	}
}

int kmod_adopt(int fd, struct kmod **ret, struct ckpt_err *err)
{
	struct talk t = { .answer = got_status, .err = err };
	struct nl_msg *msg;
	struct kmod *k;
	int r;

	k = calloc(1, sizeof(*k));
	if (!k)
		return no_memory(err);
	t.arg = k;
	/* Its own copy: whoever fails here still has the descriptor. */
	r = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (r < 0) {
		r = ckpt_fail_errno(err, E_KERNEL, -errno, "cannot take over a tracking session");
		goto err_close;
	}
	k->sock = nl_socket_alloc();
	if (!k->sock || nl_socket_set_fd(k->sock, NETLINK_GENERIC, r)) {
		close(r);
		r = ckpt_fail(err, E_KERNEL, -EBADF, "this is no netlink socket of a session");
		goto err_close;
	}
	drain(r);
	r = hello(k, err);
	if (r)
		goto err_close;
	msg = request(k, CKPT_CMD_STATUS, NLM_F_DUMP);
	if (!msg) {
		r = no_memory(err);
		goto err_close;
	}
	r = converse(k, msg, &t);
	if (t.refused)
		r = refusal(err, &t, "cannot take over a tracking session");
	if (!r && !k->session)
		r = ckpt_fail(err, E_TRACK, -ENOENT,
			      "the tracking session of this socket has no target any more");
	if (r)
		goto err_close;
	close(fd);
	*ret = k;
	return 0;

err_close:
	kmod_close(k);
	return r;
}

int kmod_fd(const struct kmod *k)
{
	return nl_socket_get_fd(k->sock);
}

struct kmod *kmod_close(struct kmod *k)
{
	if (!k)
		return NULL;
	nl_socket_free(k->events);
	nl_socket_free(k->sock);
	free(k);
	return NULL;
}

uint64_t kmod_features(const struct kmod *k)
{
	return k->features;
}

uint64_t kmod_pool_pages(const struct kmod *k)
{
	auto_free char *text = NULL;
	char path[96];

	(void)snprintf(path, sizeof(path), SYSFS "/sessions/%u/cow_pool_free_pages", k->session);
	return io_read_file(AT_FDCWD, path, &text) < 0 ? 0 : strtoull(text, NULL, 10);
}

uint32_t kmod_session(const struct kmod *k)
{
	return k->session;
}

/* ---- attach and detach ------------------------------------------------------------------- */

static int got_track(struct nlattr **attrs, const struct nlmsghdr *h, struct talk *t)
{
	uint32_t *ret_track = t->arg;

	(void)h;
	if (!attrs[CKPT_A_TRACK])
		return ckpt_fail(t->err, E_KERNEL, -EBADMSG, "the ckpt module names no track");
	*ret_track = nla_get_u32(attrs[CKPT_A_TRACK]);
	return 0;
}

int kmod_attach(struct kmod *k, pid_t pid, uint32_t *ret_track, struct ckpt_err *err)
{
	uint32_t track = 0;
	struct talk t = { .answer = got_track, .arg = &track, .err = err };
	struct nl_msg *msg = request(k, CKPT_CMD_ATTACH, 0);
	char what[64];
	int r;

	if (!msg)
		return no_memory(err);
	(void)nla_put_s32(msg, CKPT_A_PID, pid);
	r = converse(k, msg, &t);
	if (t.refused) {
		(void)snprintf(what, sizeof(what), "cannot track process %d", pid);
		return refusal(err, &t, what);
	}
	if (!r)
		*ret_track = track;
	return r;
}

int kmod_detach(struct kmod *k, uint32_t track, struct ckpt_err *err)
{
	struct talk t = { .err = err };
	struct nl_msg *msg = request(k, CKPT_CMD_DETACH, 0);
	int r;

	if (!msg)
		return no_memory(err);
	if (track)
		(void)nla_put_u32(msg, CKPT_A_TRACK, track);
	r = converse(k, msg, &t);
	return t.refused ? refusal(err, &t, "cannot end tracking") : r;
}

/* ---- arm and collect ---------------------------------------------------------------------- */

struct results {
	VEC(struct kmod_result);
};

static uint64_t u64_of(struct nlattr *a)
{
	return a ? nla_get_u64(a) : 0;
}

/* The answer holds one RESULT per track, so it is walked and not indexed. */
static int got_results(struct nlattr **attrs, const struct nlmsghdr *h, struct talk *t)
{
	struct results *res = t->arg;
	struct nlattr *a;
	int left;

	(void)attrs;
	nlmsg_for_each_attr(a, (struct nlmsghdr *)h, GENL_HDRLEN, left)
	{
		struct nlattr *in[CKPT_A_MAX + 1];
		struct kmod_result *r;

		if (nla_type(a) != CKPT_A_RESULT)
			continue;
		if (nla_parse_nested(in, CKPT_A_MAX, a, policy) < 0 || !in[CKPT_A_TRACK] ||
		    !in[CKPT_A_RESULT_FLAGS])
			return ckpt_fail(t->err, E_KERNEL, -EBADMSG,
					 "the ckpt module sent a malformed result");
		r = vec_push(res);
		if (!r)
			return no_memory(t->err);
		r->track = nla_get_u32(in[CKPT_A_TRACK]);
		r->pid = in[CKPT_A_PID] ? nla_get_s32(in[CKPT_A_PID]) : 0;
		r->flags = nla_get_u32(in[CKPT_A_RESULT_FLAGS]);
		r->epoch = u64_of(in[CKPT_A_EPOCH]);
		r->pages = u64_of(in[CKPT_A_PAGES]);
		r->nr_runs = u64_of(in[CKPT_A_RUNS]);
		r->wall_ns = u64_of(in[CKPT_A_WALL_NS]);
	}
	return 0;
}

static int scan(struct kmod *k, int cmd, uint32_t track, uint32_t flags, struct results *res,
		struct ckpt_err *err)
{
	struct talk t = { .answer = got_results, .arg = res, .err = err };
	struct nl_msg *msg = request(k, cmd, 0);
	int r;

	if (!msg)
		return no_memory(err);
	if (track)
		(void)nla_put_u32(msg, CKPT_A_TRACK, track);
	if (flags)
		(void)nla_put_u32(msg, CKPT_A_COLLECT_FLAGS, flags);
	r = converse(k, msg, &t);
	return t.refused ? refusal(err, &t, "cannot collect changed pages") : r;
}

int kmod_arm(struct kmod *k, uint32_t track, struct ckpt_err *err)
{
	struct results res = {};
	int r = scan(k, CKPT_CMD_ARM, track, 0, &res, err);

	for (size_t i = 0; !r && i < res.n; i++)
		if (res.v[i].flags & CKPT_RESULT_ALL)
			r = ckpt_fail(err, E_TRACK, -EAGAIN, "process %d could not be armed",
				      res.v[i].pid);
	vec_free(&res);
	return r;
}

struct hearing {
	const struct kmod_result *result;
	kmod_runs_fn fn;
	void *arg;
	uint64_t heard;
};

static int got_runs(struct nlattr **attrs, const struct nlmsghdr *h, struct talk *t)
{
	struct hearing *hear = t->arg;
	struct nlattr *data = attrs[CKPT_A_RUN_DATA];
	size_t n;

	(void)h;
	if (!data || nla_len(data) % (int)sizeof(struct ckpt_run))
		return ckpt_fail(t->err, E_KERNEL, -EBADMSG, "the ckpt module sent malformed runs");
	/* Somebody collected again on this session meanwhile: these are not ours. */
	if (u64_of(attrs[CKPT_A_EPOCH]) != hear->result->epoch)
		return ckpt_fail(t->err, E_TRACK, -ESTALE, "another collect ran on this session");
	n = (size_t)nla_len(data) / sizeof(struct ckpt_run);
	hear->heard += n;
	return hear->fn(hear->result, nla_data(data), n, hear->arg, t->err);
}

static int collect_runs(struct kmod *k, const struct kmod_result *result, kmod_runs_fn fn,
			void *arg, struct ckpt_err *err)
{
	struct hearing hear = { .result = result, .fn = fn, .arg = arg };
	struct talk t = { .answer = got_runs, .arg = &hear, .err = err };
	struct nl_msg *msg;
	int r;

	if (!result->nr_runs)
		return fn(result, NULL, 0, arg, err);
	msg = request(k, CKPT_CMD_RUNS, NLM_F_DUMP);
	if (!msg)
		return no_memory(err);
	(void)nla_put_u32(msg, CKPT_A_TRACK, result->track);
	r = converse(k, msg, &t);
	if (t.refused)
		return refusal(err, &t, "cannot read changed pages");
	if (!r && hear.heard != result->nr_runs)
		r = ckpt_fail(err, E_KERNEL, -EBADMSG, "the ckpt module sent %llu of %llu runs",
			      (unsigned long long)hear.heard, (unsigned long long)result->nr_runs);
	return r;
}

int kmod_collect_flags(struct kmod *k, uint32_t track, uint32_t flags, kmod_runs_fn fn, void *arg,
		       struct ckpt_err *err)
{
	struct results res = {};
	int r = scan(k, CKPT_CMD_COLLECT, track, flags, &res, err);

	for (size_t i = 0; !r && i < res.n; i++)
		r = collect_runs(k, &res.v[i], fn, arg, err);
	vec_free(&res);
	return r;
}

int kmod_collect(struct kmod *k, uint32_t track, bool rearm, kmod_runs_fn fn, void *arg,
		 struct ckpt_err *err)
{
	return kmod_collect_flags(k, track, rearm ? CKPT_COLLECT_REARM : 0, fn, arg, err);
}

/* ---- snapshots ------------------------------------------------------------------------------ */

static int got_snapshot(struct nlattr **attrs, const struct nlmsghdr *h, struct talk *t)
{
	struct kmod_snapshot *ret = t->arg;

	(void)h;
	if (!attrs[CKPT_A_FD] || !attrs[CKPT_A_PAGES] || !attrs[CKPT_A_POOL_PAGES])
		return ckpt_fail(t->err, E_KERNEL, -EBADMSG, "the ckpt module gives no snapshot");
	ret->fd = nla_get_s32(attrs[CKPT_A_FD]);
	ret->pages = nla_get_u64(attrs[CKPT_A_PAGES]);
	ret->pool = nla_get_u64(attrs[CKPT_A_POOL_PAGES]);
	return 0;
}

int kmod_snapshot(struct kmod *k, uint32_t track, struct kmod_snapshot *ret, struct ckpt_err *err)
{
	struct kmod_snapshot s = { .fd = -1 };
	struct talk t = { .answer = got_snapshot, .arg = &s, .err = err };
	struct nl_msg *msg = request(k, CKPT_CMD_SNAPSHOT, 0);
	int r;

	if (!msg)
		return no_memory(err);
	(void)nla_put_u32(msg, CKPT_A_TRACK, track);
	r = converse(k, msg, &t);
	if (t.refused)
		r = refusal(err, &t, "cannot read a snapshot of changed pages");
	/* The answer may have come and what ends it not: a descriptor left open would refuse the
	 * next snapshot. */
	if (r && s.fd >= 0)
		(void)close(s.fd);
	if (!r)
		*ret = s;
	return r;
}

/* ---- events --------------------------------------------------------------------------------- */

int kmod_event_fd(struct kmod *k)
{
	struct nl_sock *sock;
	int group, r;

	if (k->events)
		return nl_socket_get_fd(k->events);
	r = sock_open(&sock);
	if (r)
		return r;
	group = genl_ctrl_resolve_grp(sock, CKPT_GENL_NAME, CKPT_GENL_MCGRP_EVENTS);
	if (group < 0 || nl_socket_add_membership(sock, group)) {
		nl_socket_free(sock);
		return -ENOENT;
	}
	nl_socket_disable_seq_check(sock);
	(void)nl_socket_set_nonblocking(sock);
	k->events = sock;
	return nl_socket_get_fd(sock);
}

int kmod_event(struct kmod *k, struct kmod_event *ret, struct ckpt_err *err)
{
	int fd = kmod_event_fd(k);

	if (fd < 0)
		return ckpt_fail_errno(err, E_KERNEL, fd, "cannot listen to the ckpt module");
	for (;;) {
		struct nlattr *attrs[CKPT_A_MAX + 1];
		union {
			struct nlmsghdr h;
			char bytes[4096];
		} buf;
		ssize_t n = recv(fd, &buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (n < 0 && errno == ENOBUFS)
			return ckpt_fail(err, E_TRACK, -ENOBUFS,
					 "events of the ckpt module were lost");
		if (n < 0)
			return ckpt_fail_errno(err, E_KERNEL, -errno,
					       "cannot read events of the ckpt module");
		if (!nlmsg_ok(&buf.h, (int)n) ||
		    genlmsg_parse(&buf.h, 0, attrs, CKPT_A_MAX, policy) < 0 ||
		    !attrs[CKPT_A_EVENT_TYPE] || !attrs[CKPT_A_SESSION] || !attrs[CKPT_A_TRACK] ||
		    !attrs[CKPT_A_PID])
			continue;
		if (nla_get_u32(attrs[CKPT_A_SESSION]) != k->session)
			continue;
		*ret = (struct kmod_event) {
			.type = nla_get_u32(attrs[CKPT_A_EVENT_TYPE]),
			.track = nla_get_u32(attrs[CKPT_A_TRACK]),
			.pid = nla_get_s32(attrs[CKPT_A_PID]),
			.child = attrs[CKPT_A_CHILD_PID] ? nla_get_s32(attrs[CKPT_A_CHILD_PID]) : 0,
		};
		return 1;
	}
}
