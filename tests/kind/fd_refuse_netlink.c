// SPDX-License-Identifier: GPL-2.0-only
/* A netlink socket of a protocol that keeps state for it. */
/* t: refuse=E-UNSUPPORTED "may know more than it tells" */
#include "fd_lib.h"
#include <linux/netlink.h>

int main(int argc, char **argv)
{
	fd_init(argc, argv);
	MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC));

	t_ready();

	return t_done();
}
