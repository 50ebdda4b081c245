// SPDX-License-Identifier: GPL-2.0-only
#include "kern/netaddr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip6.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "kern/nlmsg.h"

#define ANSWER_MAX 32768

static size_t addr_len(const struct netaddr *a)
{
	return a->family == AF_INET ? 4 : 16;
}

/* ---- text ------------------------------------------------------------------------------- */

static bool is_host(const struct netaddr *a)
{
	struct in6_addr six;
	uint32_t four;

	memcpy(&six, a->addr, sizeof(six));
	memcpy(&four, a->addr, sizeof(four));
	four = ntohl(four);
	if (a->family == AF_INET)
		return four && four >> 24 != 127 && four < 0xe0000000u;
	return !IN6_IS_ADDR_UNSPECIFIED(&six) && !IN6_IS_ADDR_LOOPBACK(&six) &&
	       !IN6_IS_ADDR_MULTICAST(&six) && !IN6_IS_ADDR_V4MAPPED(&six) &&
	       !IN6_IS_ADDR_LINKLOCAL(&six);
}

bool netaddr_parse(const char *text, struct netaddr *ret)
{
	char host[NETADDR_TEXT_MAX];
	struct netaddr a = { 0 };
	unsigned long plen;
	char *slash, *end;

	if (strlen(text) >= sizeof(host))
		return false;
	memcpy(host, text, strlen(text) + 1);
	slash = strchr(host, '/');
	if (!slash)
		return false;
	*slash = 0;
	a.family = strchr(host, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(a.family, host, a.addr) != 1 || !is_host(&a))
		return false;
	if (slash[1] < '0' || slash[1] > '9')
		return false;
	plen = strtoul(slash + 1, &end, 10);
	if (plen < 1 || plen > addr_len(&a) * 8)
		return false;
	a.plen = (uint8_t)plen;
	if (*end == '@') {
		if (!end[1] || strlen(end + 1) >= sizeof(a.dev))
			return false;
		memcpy(a.dev, end + 1, strlen(end + 1) + 1);
	} else if (*end) {
		return false;
	}
	*ret = a;
	return true;
}

void netaddr_print(const struct netaddr *a, char ret[NETADDR_TEXT_MAX])
{
	char host[INET6_ADDRSTRLEN] = "?";

	(void)inet_ntop(a->family, a->addr, host, sizeof(host));
	(void)snprintf(ret, NETADDR_TEXT_MAX, "%s/%u%s%s", host, a->plen, a->dev[0] ? "@" : "",
		       a->dev);
}

/* ---- rtnetlink -------------------------------------------------------------------------- */

struct request {
	_Alignas(struct nlmsghdr) char buf[512];
	struct nlmsghdr *h;
};

static void request_begin(struct request *r, uint16_t type, uint16_t flags)
{
	r->h = mnl_nlmsg_put_header(r->buf);
	r->h->nlmsg_type = type;
	r->h->nlmsg_flags = NLM_F_REQUEST | flags;
	r->h->nlmsg_seq = 1;
}

/* Send, and give every message of the answer to @cb, which may end it with another value than 0.
 * That value, 0 at the end of the answer, or -errno. */
static int ask(const struct request *r, int (*cb)(const struct nlmsghdr *h, void *arg), void *arg)
{
	auto_fd fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	auto_free char *buf = malloc(ANSWER_MAX);
	int rc;

	if (!buf)
		return -ENOMEM;
	if (fd < 0 || send(fd, r->buf, r->h->nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(fd, buf, ANSWER_MAX, 0);
		size_t left = (size_t)n;

		if (n < 0)
			return -errno;
		for_each_message (h, buf, left) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return message_error(h);
			rc = cb ? cb(h, arg) : 0;
			if (rc || !(h->nlmsg_flags & NLM_F_MULTI))
				return rc;
		}
	}
}

static const struct nlattr *attr_find(const struct nlmsghdr *h, size_t head, uint16_t type)
{
	const struct nlattr *a;

	mnl_attr_for_each(a, h, head)
	{
		/* It counts what a message is padded with as part of it. */
		if ((const char *)a + a->nla_len > (const char *)h + h->nlmsg_len)
			break;
		if (mnl_attr_get_type(a) == type)
			return a;
	}
	return NULL;
}

struct search {
	const struct netaddr *want;
	bool exact;
	bool found, secondaries, is_primary;
	char dev[IF_NAMESIZE];
};

static bool same_net(const struct netaddr *a, const uint8_t *other)
{
	size_t whole = a->plen / 8, rest = a->plen % 8;

	if (memcmp(a->addr, other, whole) != 0)
		return false;
	return !rest || !((a->addr[whole] ^ other[whole]) >> (8 - rest));
}

static int look_addr(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
	struct search *s = arg;
	const struct nlattr *a;

	if (h->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(h) < sizeof(*m) ||
	    m->ifa_family != s->want->family)
		return 0;
	/* Of a point-to-point device, IFA_ADDRESS is the other end. */
	a = attr_find(h, sizeof(*m), IFA_LOCAL);
	if (!a)
		a = attr_find(h, sizeof(*m), IFA_ADDRESS);
	if (!a || mnl_attr_get_payload_len(a) != addr_len(s->want))
		return 0;
	if (memcmp(mnl_attr_get_payload(a), s->want->addr, addr_len(s->want)) != 0) {
		if (m->ifa_flags & IFA_F_SECONDARY && m->ifa_prefixlen == s->want->plen &&
		    same_net(s->want, mnl_attr_get_payload(a)))
			s->secondaries = true;
		return 0;
	}
	if (s->exact && m->ifa_prefixlen != s->want->plen)
		return 0;
	if (!if_indextoname(m->ifa_index, s->dev) ||
	    (s->want->dev[0] && strcmp(s->dev, s->want->dev) != 0 && s->exact))
		return 0;
	s->found = true;
	s->is_primary = !(m->ifa_flags & IFA_F_SECONDARY);
	return 0;
}

static int search(struct search *s)
{
	struct ifaddrmsg *m;
	struct request r;

	request_begin(&r, RTM_GETADDR, NLM_F_DUMP);
	m = mnl_nlmsg_put_extra_header(r.h, sizeof(*m));
	m->ifa_family = (uint8_t)s->want->family;
	return ask(&r, look_addr, s);
}

int netaddr_find(const struct netaddr *a, bool exact, char ret_dev[IF_NAMESIZE])
{
	struct search s = { .want = a, .exact = exact };
	int rc = search(&s);

	if (rc || !s.found)
		return rc ? rc : -ENOENT;
	memcpy(ret_dev, s.dev, sizeof(s.dev));
	return 0;
}

static bool sysctl_on(const char *dev)
{
	auto_free char *text = NULL;
	char path[80];

	(void)snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/promote_secondaries", dev);
	return io_read_file(-100, path, &text) > 0 && text[0] == '1';
}

bool netaddr_has_secondaries(const struct netaddr *a)
{
	struct search s = { .want = a, .exact = true };

	return a->family == AF_INET && !search(&s) && s.found && s.is_primary && s.secondaries &&
	       !sysctl_on("all") && !sysctl_on(s.dev);
}

static int look_route(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *a = attr_find(h, sizeof(struct rtmsg), RTA_OIF);

	if (h->nlmsg_type != RTM_NEWROUTE || !a ||
	    mnl_attr_get_payload_len(a) != sizeof(uint32_t) ||
	    !if_indextoname(mnl_attr_get_u32(a), arg))
		return -ENETUNREACH;
	return 1;
}

int netaddr_route(const struct netaddr *a, char ret_dev[IF_NAMESIZE])
{
	struct rtmsg *m;
	struct request r;
	int rc;

	request_begin(&r, RTM_GETROUTE, 0);
	m = mnl_nlmsg_put_extra_header(r.h, sizeof(*m));
	m->rtm_family = (uint8_t)a->family;
	m->rtm_dst_len = (uint8_t)(addr_len(a) * 8);
	mnl_attr_put(r.h, RTA_DST, addr_len(a), a->addr);
	rc = ask(&r, look_route, ret_dev);
	return rc > 0 ? 0 : rc < 0 ? rc : -ENETUNREACH;
}

static int change(const struct netaddr *a, uint16_t type, uint16_t flags)
{
	struct ifaddrmsg *m;
	struct request r;
	unsigned int index = if_nametoindex(a->dev);

	if (!index)
		return -errno;
	request_begin(&r, type, NLM_F_ACK | flags);
	m = mnl_nlmsg_put_extra_header(r.h, sizeof(*m));
	m->ifa_family = (uint8_t)a->family;
	m->ifa_prefixlen = a->plen;
	m->ifa_index = index;
	/* The one who had it has given it up: nothing to be found out. */
	m->ifa_flags = a->family == AF_INET6 ? IFA_F_NODAD : 0;
	mnl_attr_put(r.h, IFA_LOCAL, addr_len(a), a->addr);
	mnl_attr_put(r.h, IFA_ADDRESS, addr_len(a), a->addr);
	return ask(&r, NULL, NULL);
}

int netaddr_add(const struct netaddr *a)
{
	int rc = change(a, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);

	return rc == -EEXIST ? 0 : rc;
}

int netaddr_remove(const struct netaddr *a)
{
	int rc = change(a, RTM_DELADDR, 0);

	return rc == -EADDRNOTAVAIL ? 0 : rc;
}

/* ---- the neighbours --------------------------------------------------------------------- */

struct arp_frame {
	uint16_t hw_type, proto;
	uint8_t hw_len, proto_len;
	uint16_t op;
	uint8_t sender_mac[6], sender[4], target_mac[6], target[4];
};
_Static_assert(sizeof(struct arp_frame) == 28, "ARP layout");

struct na_frame {
	struct ip6_hdr ip;
	struct nd_neighbor_advert na;
	uint8_t option, option_len, mac[6];
};
_Static_assert(sizeof(struct na_frame) == 72, "neighbour advertisement layout");

static uint16_t checksum(const struct na_frame *f)
{
	const uint8_t *v[] = { (const uint8_t *)&f->ip.ip6_src, (const uint8_t *)&f->na };
	const size_t len[] = { 32, sizeof(*f) - sizeof(f->ip) };
	uint32_t sum = IPPROTO_ICMPV6 + (uint32_t)len[1];

	for (int k = 0; k < 2; k++)
		for (size_t i = 0; i < len[k]; i += 2)
			sum += (uint32_t)v[k][i] << 8 | v[k][i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static int send_frame(int fd, int index, uint16_t proto, const uint8_t *to, const void *data,
		      size_t len)
{
	struct sockaddr_ll ll = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(proto),
		.sll_ifindex = index,
		.sll_halen = ETH_ALEN,
	};

	memcpy(ll.sll_addr, to, ETH_ALEN);
	return sendto(fd, data, len, 0, (void *)&ll, sizeof(ll)) < 0 ? -errno : 0;
}

/* Some hosts learn from a request, others from an answer. */
static int announce4(int fd, int index, const uint8_t *mac, const struct netaddr *a)
{
	static const uint8_t all[ETH_ALEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	struct arp_frame f = {
		.hw_type = htons(ARPHRD_ETHER),
		.proto = htons(ETH_P_IP),
		.hw_len = ETH_ALEN,
		.proto_len = 4,
		.op = htons(ARPOP_REQUEST),
	};
	int rc;

	memcpy(f.sender_mac, mac, ETH_ALEN);
	memcpy(f.sender, a->addr, 4);
	memcpy(f.target, a->addr, 4);
	rc = send_frame(fd, index, ETH_P_ARP, all, &f, sizeof(f));
	f.op = htons(ARPOP_REPLY);
	memcpy(f.target_mac, all, ETH_ALEN);
	return rc ? rc : send_frame(fd, index, ETH_P_ARP, all, &f, sizeof(f));
}

static int announce6(int fd, int index, const uint8_t *mac, const struct netaddr *a)
{
	static const uint8_t all[ETH_ALEN] = { 0x33, 0x33, 0, 0, 0, 1 };
	struct na_frame f = {
		.ip = { .ip6_plen = htons(sizeof(f) - sizeof(f.ip)),
			.ip6_nxt = IPPROTO_ICMPV6,
			.ip6_hlim = 255 },
		.na = { .nd_na_type = ND_NEIGHBOR_ADVERT,
			.nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE },
		.option = ND_OPT_TARGET_LINKADDR,
		.option_len = 1,
	};

	f.ip.ip6_vfc = 6 << 4;
	memcpy(&f.ip.ip6_src, a->addr, 16);
	(void)inet_pton(AF_INET6, "ff02::1", &f.ip.ip6_dst);
	memcpy(&f.na.nd_na_target, a->addr, 16);
	memcpy(f.mac, mac, ETH_ALEN);
	f.na.nd_na_cksum = checksum(&f);
	return send_frame(fd, index, ETH_P_IPV6, all, &f, sizeof(f));
}

int netaddr_announcer(void)
{
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

int netaddr_announce(int fd, const struct netaddr *a)
{
	struct ifreq ifr = { 0 };
	const uint8_t *mac = (const uint8_t *)ifr.ifr_hwaddr.sa_data;
	int index = (int)if_nametoindex(a->dev);

	if (fd < 0)
		return fd;
	if (!index)
		return -errno;
	memcpy(ifr.ifr_name, a->dev, sizeof(a->dev));
	if (ioctl(fd, SIOCGIFHWADDR, &ifr))
		return -errno;
	if (ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		return 0;
	return a->family == AF_INET ? announce4(fd, index, mac, a) : announce6(fd, index, mac, a);
}
