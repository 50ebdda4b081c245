/* SPDX-License-Identifier: GPL-2.0-only */
/* Walking the messages of a netlink datagram. libmnl's mnl_nlmsg_ok() takes a length of 2 GiB and
 * more for a negative one, and NLMSG_NEXT() goes behind the end when the last message is not
 * padded. */
#ifndef CKPT_KERN_NLMSG_H
#define CKPT_KERN_NLMSG_H

#include <errno.h>
#include <linux/netlink.h>
#include <stddef.h>

#define for_each_message(h, buf, left)                                                             \
	for (const struct nlmsghdr *h = (const void *)(buf); message_ok(h, left);                  \
	     h = message_next(h, &(left)))

static inline int message_ok(const struct nlmsghdr *h, size_t left)
{
	return left >= sizeof(*h) && h->nlmsg_len >= sizeof(*h) && h->nlmsg_len <= left;
}

static inline const struct nlmsghdr *message_next(const struct nlmsghdr *h, size_t *left)
{
	size_t n = NLMSG_ALIGN(h->nlmsg_len);

	if (n > *left)
		n = *left;
	*left -= n;
	return (const void *)((const char *)h + n);
}

/* Of an NLMSG_ERROR: 0 or -errno. */
static inline int message_error(const struct nlmsghdr *h)
{
	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(struct nlmsgerr)))
		return -EPROTO;
	return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
}

#endif
