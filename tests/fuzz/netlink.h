/* SPDX-License-Identifier: GPL-2.0-only */
/* What the fuzzers of netlink share: answers from a script, a list of { u16 length, bytes }. */
#ifndef CKPT_FUZZ_NETLINK_H
#define CKPT_FUZZ_NETLINK_H

#include <errno.h>
#include <linux/netlink.h>
#include <sanitizer/asan_interface.h>

#include "input.h"

static struct input script;
static bool fit;
/* Behind a datagram is nothing that anybody may look at. */
static char *behind;
static size_t behind_len;

static void forget_behind(void)
{
	if (behind)
		ASAN_UNPOISON_MEMORY_REGION(behind, behind_len);
	behind = NULL;
}

/* Make the messages of a datagram follow each other. */
static void fit_lengths(unsigned char *buf, size_t len)
{
	for (size_t at = 0; at + sizeof(struct nlmsghdr) <= len;) {
		struct nlmsghdr *h = (void *)(buf + at);

		h->nlmsg_len = (uint32_t)sizeof(*h) + h->nlmsg_len % 512;
		if (h->nlmsg_len > len - at)
			h->nlmsg_len = (uint32_t)(len - at);
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
}

static ssize_t fuzz_recv(int fd, void *buf, size_t len, int flags)
{
	struct input piece;

	size_t room = len;

	(void)fd;
	(void)flags;
	forget_behind();
	if (!script.left) {
		errno = EAGAIN;
		return -1;
	}
	piece = take_piece(&script, take(&script, 2));
	if (piece.left < len)
		len = piece.left;
	memcpy(buf, piece.p, len);
	if (fit)
		fit_lengths(buf, len);
	behind = (char *)buf + len;
	behind_len = room - len;
	ASAN_POISON_MEMORY_REGION(behind, behind_len);
	return (ssize_t)len;
}

#endif
