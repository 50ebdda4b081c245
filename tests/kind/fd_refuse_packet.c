// SPDX-License-Identifier: GPL-2.0-only
/* A packet socket: refused by name. */
/* t: refuse=E-UNSUPPORTED "packet" */
#include "fd_lib.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>

int main(int argc, char **argv)
{
	int fd;

	fd_init(argc, argv);
	fd = (int)socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0)
		t_skip("packet socket: %s", strerror(errno));

	t_ready();

	t_check(fcntl(fd, F_GETFD) >= 0, "descriptor");
	return t_done();
}
