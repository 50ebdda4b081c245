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
	return sum;
}

static uint16_t sum_end(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

int tcpraw_send(const struct netlock_conn *c, const struct tcpraw_seg *seg)
{
	bool v4 = c->family == AF_INET;
	size_t addr = v4 ? 4 : 16, ip = v4 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr);
	uint8_t packet[sizeof(struct ip6_hdr) + sizeof(struct tcp_head)] = { 0 };
	struct tcp_head h = {
		.source = c->rport,
		.dest = c->lport,
		.seq = htonl(seg->seq),
		.ack = htonl(seg->ack),
		.offset = sizeof(h) / 4 << 4,
		.flags = seg->flags,
		.window = htons(seg->window),
	};
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} to = { .sa.sa_family = (sa_family_t)c->family };
	auto_fd fd = socket(c->family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	uint32_t sum = IPPROTO_TCP + sizeof(h), mark = NETLOCK_MARK;
	int one = 1;

	sum = sum_add(sum, c->remote, addr);
	sum = sum_add(sum, c->local, addr);
	h.sum = sum_end(sum_add(sum, &h, sizeof(h)));
	if (v4) {
		struct iphdr *i = (void *)packet;

		i->version = 4;
		i->ihl = 5;
		i->tot_len = htons((uint16_t)(ip + sizeof(h)));
		i->ttl = 64;
		i->protocol = IPPROTO_TCP;
		memcpy(&i->saddr, c->remote, 4);
		memcpy(&i->daddr, c->local, 4);
		memcpy(&to.in.sin_addr, c->local, 4);
	} else {
		struct ip6_hdr *i = (void *)packet;

		i->ip6_vfc = 6 << 4;
		i->ip6_plen = htons(sizeof(h));
		i->ip6_nxt = IPPROTO_TCP;
		i->ip6_hlim = 64;
		memcpy(&i->ip6_src, c->remote, 16);
		memcpy(&i->ip6_dst, c->local, 16);
		memcpy(&to.in6.sin6_addr, c->local, 16);
	}
	memcpy(packet + ip, &h, sizeof(h));
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) ||
	    setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_HDRINCL : IPV6_HDRINCL, &one,
		       sizeof(one)) ||
	    sendto(fd, packet, ip + sizeof(h), 0, &to.sa, v4 ? sizeof(to.in) : sizeof(to.in6)) < 0)
		return -errno;
	return 0;
}
