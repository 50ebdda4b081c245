// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: what nf_tables and rtnetlink answer. The first byte chooses who is asked; the rest is a
 * list of { u16 length, bytes }, one datagram each. Lengths in the headers of messages are made to fit
 * when the byte says so. Nothing is really asked.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

static ssize_t fuzz_recv(int fd, void *buf, size_t len, int flags);
static ssize_t fuzz_send(int fd, const void *buf, size_t len, int flags);
static int fuzz_socket(int family, int type, int protocol);
#define recv fuzz_recv
#define send fuzz_send
#define socket fuzz_socket
#include "kern/netaddr.c"
#include "kern/netlock.c"
#undef recv
#undef send
#undef socket

#include "netlink.h"

static ssize_t fuzz_send(int fd, const void *buf, size_t len, int flags)
{
	(void)fd;
	(void)buf;
	(void)flags;
	return (ssize_t)len;
}

static int fuzz_socket(int family, int type, int protocol)
{
	(void)family;
	(void)type;
	(void)protocol;
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct netaddr a = { .family = AF_INET, .addr = { 127, 0, 0, 1 }, .plen = 8 };
	char dev[IF_NAMESIZE];
	uint8_t who;

	script = (struct input) { data, size };
	who = (uint8_t)take(&script, 1);
	fit = who & 4;
	if (who & 8)
		a = (struct netaddr) { .family = AF_INET6, .addr = { [15] = 1 }, .plen = 128 };
	if ((who & 3) == 0)
		(void)answers(-1);
	else if ((who & 3) == 1)
		(void)netaddr_find(&a, who & 16, dev);
	else if ((who & 3) == 2)
		(void)netaddr_has_secondaries(&a);
	else
		(void)netaddr_route(&a, dev);
	forget_behind();
	return 0;
}
