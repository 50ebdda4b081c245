// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: what the kernel answers on netlink: sock_diag, nf_tables and the module ckpt. The first
 * byte chooses who is asked; the rest is a list of { u16 length, bytes }, one datagram each. Lengths in
 * the headers of messages are made to fit when the byte says so.
 */
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/types.h>

static ssize_t fuzz_recv(int fd, void *buf, size_t len, int flags);
#define recv fuzz_recv
#include "kern/sockdiag.c"
#include "kern/kmod.c"
#undef recv

#include "netlink.h"

static int heard(const struct kmod_result *result, const struct ckpt_run *v, size_t n, void *arg,
		 struct ckpt_err *err)
{
	uint64_t *sum = arg;

	(void)result;
	(void)err;
	for (size_t i = 0; i < n; i++)
		*sum += v[i].start ^ v[i].pages;
	return 0;
}

/* One answer of the module, to each of those who ask for one. */
static void module_answers(void)
{
	struct input piece = take_piece(&script, take(&script, 2));
	size_t len = NLMSG_ALIGN(piece.left) + NLMSG_HDRLEN + GENL_HDRLEN;
	struct nlmsghdr *h = calloc(1, len);
	struct kmod k = { .session = 1 };
	struct kmod_result result = { 0 };
	struct results res = { 0 };
	struct ckpt_err err = { 0 };
	uint64_t sum = 0;
	uint32_t track = 0;
	struct hearing hear = { .result = &result, .fn = heard, .arg = &sum };
	struct talk talks[] = {
		{ .answer = got_info, .arg = &k, .err = &err },
		{ .answer = got_session, .arg = &k, .err = &err },
		{ .answer = got_track, .arg = &track, .err = &err },
		{ .answer = got_results, .arg = &res, .err = &err },
		{ .answer = got_runs, .arg = &hear, .err = &err },
	};

	h->nlmsg_len = (uint32_t)(piece.left + NLMSG_HDRLEN + GENL_HDRLEN);
	memcpy((char *)h + NLMSG_HDRLEN + GENL_HDRLEN, piece.p, piece.left);
	for (size_t i = 0; i < sizeof(talks) / sizeof(talks[0]); i++) {
		struct nl_msg *msg = nlmsg_convert(h);

		if (msg)
			(void)on_valid(msg, &talks[i]);
		nlmsg_free(msg);
	}
	vec_free(&res);
	/* The same as an error message. */
	if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct nlmsgerr))) {
		struct talk t = { .err = &err };

		h->nlmsg_flags = NLM_F_ACK_TLVS;
		(void)on_error(NULL, NLMSG_DATA(h), &t);
	}
	free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct unix_diags all;
	struct tcp_diags tcp;
	struct ckpt_err err = { 0 };
	uint8_t who;

	script = (struct input) { data, size };
	who = (uint8_t)take(&script, 1);
	fit = who & 4;
	if ((who & 3) == 0) {
		if (!sockdiag_unix_read(&all, &err)) {
			for (size_t i = 0; i < all.n; i++)
				if (!sockdiag_unix_find(&all, all.v[i].ino))
					abort();
			sockdiag_unix_free(&all);
		}
	} else if ((who & 3) == 1) {
		if (!sockdiag_tcp_read(~0u, &tcp, &err))
			vec_free(&tcp);
	} else {
		while (script.left)
			module_answers();
	}
	forget_behind();
	return 0;
}
