// SPDX-License-Identifier: GPL-2.0-only
#include "kern/tcpraw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

struct tcp_head {
	uint16_t source, dest;
	uint32_t seq, ack;
	uint8_t offset; /* length of the head in words, in the upper half */
	uint8_t flags;
	uint16_t window, sum, urgent;
};
_Static_assert(sizeof(struct tcp_head) == 20, "TCP head");

static uint32_t sum_add(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	if (len % 2)
		sum += (uint32_t)p[len - 1] << 8;
	return sum;
}

static uint16_t sum_end(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

#define HEADS_MAX (sizeof(struct ip6_hdr) + sizeof(struct tcp_head) + TCPRAW_OPTIONS_MAX)

/* The TCP part of the packet. Its length. */
static size_t tcp_fill(uint8_t *to, const struct netlock_conn *c, const struct tcpraw_seg *seg,
		       size_t addr)
{
	size_t head = sizeof(struct tcp_head) + seg->n_options, len = head + seg->n_data;
	struct tcp_head h = {
		.source = c->rport,
		.dest = c->lport,
		.seq = htonl(seg->seq),
		.ack = htonl(seg->ack),
		.offset = (uint8_t)(head / 4 << 4),
		.flags = seg->flags,
		.window = htons(seg->window),
	};
	uint32_t sum = IPPROTO_TCP + (uint32_t)len;

	if (seg->n_options)
		memcpy(to + sizeof(h), seg->options, seg->n_options);
	if (seg->n_data)
		memcpy(to + head, seg->data, seg->n_data);
	sum = sum_add(sum, c->remote, addr);
	sum = sum_add(sum, c->local, addr);
	sum = sum_add(sum, &h, sizeof(h));
	h.sum = sum_end(sum_add(sum, to + sizeof(h), len - sizeof(h)));
	memcpy(to, &h, sizeof(h));
	return len;
}

int tcpraw_send(const struct netlock_conn *c, const struct tcpraw_seg *seg)
{
	bool v4 = c->family == AF_INET;
	size_t addr = v4 ? 4 : 16, ip = v4 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr), len;
	uint8_t packet[HEADS_MAX + TCPRAW_DATA_MAX] = { 0 };
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} to = { .sa.sa_family = (sa_family_t)c->family };
	auto_fd fd = socket(c->family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	uint32_t mark = NETLOCK_MARK;
	int one = 1;

	if (seg->n_options > TCPRAW_OPTIONS_MAX || seg->n_options % 4 ||
	    seg->n_data > TCPRAW_DATA_MAX)
		return -EINVAL;
	len = tcp_fill(packet + ip, c, seg, addr);
	if (v4) {
		struct iphdr *i = (void *)packet;

		i->version = 4;
		i->ihl = 5;
		i->tot_len = htons((uint16_t)(ip + len));
		i->ttl = 64;
		i->protocol = IPPROTO_TCP;
		memcpy(&i->saddr, c->remote, 4);
		memcpy(&i->daddr, c->local, 4);
		memcpy(&to.in.sin_addr, c->local, 4);
	} else {
		struct ip6_hdr *i = (void *)packet;

		i->ip6_vfc = 6 << 4;
		i->ip6_plen = htons((uint16_t)len);
		i->ip6_nxt = IPPROTO_TCP;
		i->ip6_hlim = 64;
		memcpy(&i->ip6_src, c->remote, 16);
		memcpy(&i->ip6_dst, c->local, 16);
		memcpy(&to.in6.sin6_addr, c->local, 16);
	}
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) ||
	    setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_HDRINCL : IPV6_HDRINCL, &one,
		       sizeof(one)) ||
	    sendto(fd, packet, ip + len, 0, &to.sa, v4 ? sizeof(to.in) : sizeof(to.in6)) < 0)
		return -errno;
	return 0;
}
