/* SPDX-License-Identifier: GPL-2.0-only */
/* IP addresses of this network namespace: look, add, remove, tell the neighbours. */
#ifndef CKPT_KERN_NETADDR_H
#define CKPT_KERN_NETADDR_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define NETADDR_TEXT_MAX 96 /* ADDR/PLEN@DEV */

struct netaddr {
	int family;       /* AF_INET or AF_INET6 */
	uint8_t addr[16]; /* 4 of them for AF_INET */
	uint8_t plen;
	char dev[IF_NAMESIZE]; /* "": whichever fits */
};

/* ADDR/PLEN[@DEV]. False for anything else, and for addresses that are no single host's. */
bool netaddr_parse(const char *text, struct netaddr *ret);
/* The same back; without @DEV when none is named. */
void netaddr_print(const struct netaddr *a, char ret[NETADDR_TEXT_MAX]);

/* Who has @a here, as its device's name; any prefix length matches unless @exact. 0, -ENOENT when
 * nobody, or -errno. */
int netaddr_find(const struct netaddr *a, bool exact, char ret_dev[IF_NAMESIZE]);
/* The device by which this node reaches @a. 0 or -errno. */
int netaddr_route(const struct netaddr *a, char ret_dev[IF_NAMESIZE]);
/* Other addresses that would go with @a, being its secondaries: the kernel's rule for IPv4. */
bool netaddr_has_secondaries(const struct netaddr *a);
/* Give it to a->dev (usable at once), or take it away. Adding what is there, and removing what is
 * not, is no error. 0 or -errno. */
int netaddr_add(const struct netaddr *a);
int netaddr_remove(const struct netaddr *a);
/* A socket to announce by, or -errno. To close it the kernel waits for all processors: some 10 ms.
 */
int netaddr_announcer(void);
/* Tell everybody on a->dev's link that @a is here now: gratuitous ARP, or an unsolicited neighbour
 * advertisement. 0 or -errno; devices without link addresses have nobody to tell. */
int netaddr_announce(int announcer_fd, const struct netaddr *a);

#endif
