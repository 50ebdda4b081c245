// SPDX-License-Identifier: GPL-2.0-only
/* Addresses and ports: what the program has, and whether the peer can give it the same. */
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kern/sockdiag.h"
#include "kind/fd/inet.h"
#include "migrate/preflight.h"

#define BIT(s) (1u << (s))
#define CONNECTED                                                                                  \
	(BIT(TCP_ESTABLISHED) | BIT(TCP_SYN_SENT) | BIT(TCP_FIN_WAIT1) | BIT(TCP_FIN_WAIT2) |      \
	 BIT(TCP_CLOSE_WAIT) | BIT(TCP_LAST_ACK) | BIT(TCP_CLOSING))
#define PORTS_MAX 65536u

/* ---- the source ------------------------------------------------------------------------- */

static bool on_loopback(const struct tcp_diag *t)
{
	struct in6_addr six;

	memcpy(&six, t->local, sizeof(six));
	if (t->family == AF_INET)
		return t->local[0] == 127;
	return IN6_IS_ADDR_LOOPBACK(&six) || (IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
}

static bool has_both_ends(struct dump_ctx *d, const struct tcp_diags *all, const struct tcp_diag *t)
{
	for (size_t i = 0; i < all->n; i++)
		if (all->v[i].lport == t->rport && all->v[i].rport == t->lport && all->v[i].ino &&
		    dump_tree_anon(d, all->v[i].ino))
			return true;
	return false;
}

static int add_port(Ckpt__MigOffer *o, const struct tcp_diag *t, bool udp)
{
	Ckpt__MigPort *p = kind_msg_new(&ckpt__mig_port__descriptor);
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = t->lport };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = t->lport };
	size_t len = t->family == AF_INET ? sizeof(in) : sizeof(in6);

	memcpy(&in.sin_addr, t->local, 4);
	memcpy(&in6.sin6_addr, t->local, 16);
	if (!p || kind_push(&o->n_ports, &o->ports, p) || !(p->name.data = malloc(len)))
		return -ENOMEM;
	memcpy(p->name.data, t->family == AF_INET ? (void *)&in : (void *)&in6, len);
	p->name.len = len;
	p->connected = !udp && t->state != TCP_LISTEN;
	p->udp = udp;
	p->v6only = t->v6only;
	return 0;
}

static int offer_udp(struct dump_ctx *d, Ckpt__MigOffer *o, struct ckpt_err *err)
{
	struct tcp_diags all = { 0 };
	int rc = sockdiag_udp_read(&all, err);

	if (rc == -ENOENT)
		return 0;
	for (size_t i = 0; !rc && i < all.n && o->n_ports < PORTS_MAX; i++)
		if (all.v[i].lport && all.v[i].ino && dump_tree_anon(d, all.v[i].ino) &&
		    add_port(o, &all.v[i], true))
			rc = ckpt_oom(err);
	vec_free(&all);
	return rc;
}

static int offer_ports(const struct migrate_opts *opts, Ckpt__MigOffer *o,
		       void (*found)(void *arg, const struct ckpt_err *why), void *arg,
		       struct ckpt_err *err)
{
	struct ckpt_dump_opts dump_opts = { .pid = opts->pid };
	struct dump_ctx d = { .opts = &dump_opts };
	struct tcp_diags all = { 0 };
	int rc = sockdiag_tcp_read(CONNECTED | BIT(TCP_LISTEN), &all, err);

	for (size_t i = 0; !rc && i < all.n && o->n_ports < PORTS_MAX; i++) {
		const struct tcp_diag *t = &all.v[i];
		struct ckpt_err why = { 0 };

		if (!t->ino || !dump_tree_anon(&d, t->ino) ||
		    (t->state != TCP_LISTEN && opts->tcp != CKPT_TCP_KEEP))
			continue;
		if (add_port(o, t, false))
			rc = ckpt_oom(err);
		if (rc || t->state == TCP_LISTEN || !on_loopback(t) || has_both_ends(&d, &all, t))
			continue;
		(void)ckpt_fail(&why, E_TCP, -EOPNOTSUPP,
				"a TCP connection over the loopback, from port %u to port %u of a "
				"program that stays",
				ntohs(t->lport), ntohs(t->rport));
		(void)ckpt_remedy(&why, "end the connection, move both programs, or drop it: --tcp "
					"close");
		found(arg, &why);
	}
	vec_free(&all);
	if (!rc)
		rc = offer_udp(&d, o, err);
	dump_tree_free(&d);
	return rc;
}

static int check_address(const struct netaddr *a, struct ckpt_err *why)
{
	char dev[IF_NAMESIZE], text[NETADDR_TEXT_MAX];
	struct netaddr here = *a;

	here.dev[0] = 0;
	netaddr_print(&here, text);
	if (netaddr_find(&here, true, dev))
		return ckpt_fail(why, E_ADDRESS, -EADDRNOTAVAIL,
				 "no device here has the address %s", text);
	if (!netaddr_has_secondaries(&here))
		return 0;
	(void)ckpt_fail(why, E_ADDRESS, -EBUSY,
			"%s cannot leave %s alone: other addresses are its secondaries", text, dev);
	return ckpt_remedy(why, "sysctl net.ipv4.conf.%s.promote_secondaries=1", dev);
}

char *preflight_ns_name(const char *ns)
{
	auto_free char *boot = NULL;
	char path[32], *ret = NULL;
	struct stat st;

	(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", ns);
	if (io_read_file(-100, "/proc/sys/kernel/random/boot_id", &boot) < 0 || stat(path, &st))
		return strdup("");
	boot[strcspn(boot, "\n")] = 0;
	return asprintf(&ret, "%s:%llu", boot, (unsigned long long)st.st_ino) < 0 ? NULL : ret;
}

int preflight_network(const struct migrate_opts *opts, Ckpt__MigOffer *o,
		      void (*found)(void *arg, const struct ckpt_err *why), void *arg,
		      struct ckpt_err *err)
{
	char text[NETADDR_TEXT_MAX];

	o->addresses = calloc(opts->naddrs + 1, sizeof(char *));
	o->network = preflight_ns_name("net");
	if (!o->addresses || !o->network)
		return ckpt_oom(err);
	for (size_t i = 0; i < opts->naddrs; i++) {
		struct ckpt_err why = { 0 };

		netaddr_print(&opts->addrs[i], text);
		o->addresses[i] = strdup(text);
		if (!o->addresses[i])
			return ckpt_oom(err);
		o->n_addresses++;
		if (check_address(&opts->addrs[i], &why))
			found(arg, &why);
	}
	return offer_ports(opts, o, found, arg, err);
}

/* ---- the peer --------------------------------------------------------------------------- */

int preflight_addresses(const Ckpt__MigOffer *o, struct netaddr *ret)
{
	if (o->n_addresses > MOVE_ADDRESSES_MAX)
		return -E2BIG;
	for (size_t i = 0; i < o->n_addresses; i++) {
		if (!netaddr_parse(o->addresses[i], &ret[i]))
			return -EINVAL;
		if (!ret[i].dev[0])
			(void)netaddr_route(&ret[i], ret[i].dev);
	}
	return (int)o->n_addresses;
}

static int check_arrival(Ckpt__MigAnswer *a, const struct netaddr *addr)
{
	struct ckpt_err e = { 0 };
	char dev[IF_NAMESIZE], text[NETADDR_TEXT_MAX];
	struct netaddr here = *addr;

	here.dev[0] = 0;
	netaddr_print(&here, text);
	if (!netaddr_find(&here, false, dev)) {
		(void)ckpt_fail(&e, E_ADDRESS, -EEXIST, "%s has the address %s already", dev, text);
	} else if (!addr->dev[0]) {
		(void)ckpt_fail(&e, E_ADDRESS, -ENETUNREACH, "no device is known for %s", text);
		(void)ckpt_remedy(&e, "name it: --move-address ADDR/PLEN@DEV");
	} else if (!if_nametoindex(addr->dev)) {
		(void)ckpt_fail(&e, E_ADDRESS, -ENODEV, "there is no device %s", addr->dev);
	} else {
		return 0;
	}
	return preflight_blocker(a, &e);
}

static bool comes_along(const struct sockaddr_storage *ss, const struct netaddr *v, size_t n)
{
	const struct sockaddr_in *in = (const void *)ss;
	const struct sockaddr_in6 *in6 = (const void *)ss;
	const uint8_t *addr = ss->ss_family == AF_INET ? (const void *)&in->sin_addr
						       : (const void *)&in6->sin6_addr;
	int family = ss->ss_family;

	if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		family = AF_INET;
		addr += 12;
	}
	for (size_t i = 0; i < n; i++)
		if (v[i].family == family && !memcmp(v[i].addr, addr, family == AF_INET ? 4 : 16))
			return true;
	return false;
}

/* Who wants to listen there as well? Sockets that share ports are not told apart. */
static bool port_taken(const struct sockaddr_storage *ss, const Ckpt__MigPort *p)
{
	auto_fd fd = socket(ss->ss_family, (p->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	int one = 1, v6only = p->v6only;

	if (fd < 0)
		return false;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one));
	if (ss->ss_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
	return bind(fd, (const void *)ss, (socklen_t)p->name.len) && errno == EADDRINUSE;
}

static int check_port(const Ckpt__MigPort *p, bool hooked, bool together, const struct netaddr *v,
		      size_t n, Ckpt__MigAnswer *ret)
{
	struct sockaddr_storage ss = { 0 };
	struct ckpt_err e = { 0 };
	char text[80];

	if (p->name.len > sizeof(ss) || p->name.len < sizeof(struct sockaddr_in))
		return 0;
	memcpy(&ss, p->name.data, p->name.len);
	if (ss.ss_family != AF_INET &&
	    (ss.ss_family != AF_INET6 || p->name.len < sizeof(struct sockaddr_in6)))
		return 0;
	inet_address_print(&ss, text, sizeof(text));
	if (!hooked && !comes_along(&ss, v, n) && !inet_is_here(&p->name)) {
		(void)ckpt_fail(&e, E_ADDRESS, -EADDRNOTAVAIL,
				"the program %s %s, which is no address of this node",
				p->connected ? "is connected from"
				: p->udp     ? "receives at"
					     : "listens on",
				text);
		(void)ckpt_remedy(&e, "let it move with the program: --move-address or --hook");
		return preflight_blocker(ret, &e);
	}
	if (p->connected || !port_taken(&ss, p))
		return 0;
	(void)ckpt_fail(&e, E_ADDRESS, -EADDRINUSE, "the %sport %s is taken%s",
			p->udp ? "UDP " : "", text,
			together ? ": both nodes are in one network namespace" : "");
	(void)ckpt_remedy(&e, "see who has it: ss -%snp", p->udp ? "lu" : "lt");
	return preflight_blocker(ret, &e);
}

/* The kernel has room for a connection once, and both ends of the link are in one place. */
static int check_apart(const Ckpt__MigOffer *o, const char *own, Ckpt__MigAnswer *ret)
{
	struct ckpt_err e = { 0 };
	bool connected = o->n_addresses > 0;

	for (size_t i = 0; i < o->n_ports; i++)
		connected = connected || o->ports[i]->connected;
	if (!connected || !*own || strcmp(own, o->network) != 0)
		return 0;
	(void)ckpt_fail(&e, E_ADDRESS, -EEXIST,
			"connections and addresses cannot move within one network namespace");
	(void)ckpt_remedy(&e, "run ckpt receive in the network namespace that they move to");
	return preflight_blocker(ret, &e);
}

int preflight_check_network(const Ckpt__MigOffer *o, bool hooked, Ckpt__MigAnswer *ret)
{
	struct netaddr v[MOVE_ADDRESSES_MAX];
	auto_free char *own = preflight_ns_name("net");
	int n = preflight_addresses(o, v), rc = 0;
	struct ckpt_err e = { 0 };

	if (!own)
		return -ENOMEM;
	if (n < 0) {
		(void)ckpt_fail(&e, E_ADDRESS, n, "addresses that cannot be understood");
		return preflight_blocker(ret, &e);
	}
	rc = check_apart(o, own, ret);
	for (int i = 0; !rc && i < n; i++)
		rc = check_arrival(ret, &v[i]);
	for (size_t i = 0; !rc && i < o->n_ports; i++)
		rc = check_port(o->ports[i], hooked, !strcmp(own, o->network), v, (size_t)n, ret);
	return rc;
}
