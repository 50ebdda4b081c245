// SPDX-License-Identifier: GPL-2.0-only
/* Connected datagram sockets that are no pairs: many clients of one server, chains, half connected.
 */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <stddef.h>
#include <sys/un.h>

int main(int argc, char **argv)
{
	struct sockaddr_un server = { .sun_family = AF_UNIX, .sun_path = "server" };
	struct sockaddr_un self = { .sun_family = AF_UNIX, .sun_path = "self" };
	struct sockaddr_un named = { .sun_family = AF_UNIX, .sun_path = "named" }, from;
	int srv, cl[3], loop, fresh, chain;
	socklen_t len;
	char got[64];

	fd_init(argc, argv);
	srv = (int)MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	MUST(bind(srv, (void *)&server, sizeof(server)));
	for (int i = 0; i < 3; i++) {
		cl[i] = (int)MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
		MUST(connect(cl[i], (void *)&server, sizeof(server)));
	}
	/* Messages of different senders stay in their order. */
	MUST(send(cl[2], "2a", 2, 0));
	MUST(send(cl[0], "0", 1, 0));
	MUST(send(cl[2], "2bcd", 4, 0));
	loop = (int)MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	MUST(bind(loop, (void *)&self, sizeof(self)));
	MUST(connect(loop, (void *)&self, sizeof(self)));
	MUST(send(loop, "me", 2, 0));
	/* A client that has a name of its own. */
	chain = (int)MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	MUST(bind(chain, (void *)&named, sizeof(named)));
	MUST(connect(chain, (void *)&server, sizeof(server)));
	fresh = (int)MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));

	t_ready();

	t_check(recv(srv, got, 64, 0) == 2 && !memcmp(got, "2a", 2), "first");
	t_check(recv(srv, got, 64, 0) == 1 && !memcmp(got, "0", 1), "second");
	t_check(recv(srv, got, 64, 0) == 4 && !memcmp(got, "2bcd", 4), "third");
	t_check(recv(srv, got, 64, 0) < 0 && errno == EAGAIN, "one too many");
	for (int i = 0; i < 3; i++)
		t_check(send(cl[i], "x", 1, 0) == 1 && recv(srv, got, 64, 0) == 1, "client %d: %s",
			i, strerror(errno));
	t_check(recv(loop, got, 64, 0) == 2 && !memcmp(got, "me", 2), "own message");
	t_check(send(loop, "again", 5, 0) == 5, "send to itself");
	len = sizeof(from);
	t_check(recvfrom(loop, got, 64, 0, (void *)&from, &len) == 5 &&
			!strcmp(from.sun_path, "self"),
		"receive from itself");
	len = sizeof(from);
	t_check(send(chain, "n", 1, 0) == 1 &&
			recvfrom(srv, got, 64, 0, (void *)&from, &len) == 1 &&
			!strcmp(from.sun_path, "named"),
		"message of a named client");
	t_check(fcntl(fresh, F_GETFD) == FD_CLOEXEC && fcntl(fresh, F_GETFL) & O_NONBLOCK,
		"unconnected socket's flags");
	t_check(send(fresh, "x", 1, 0) < 0 && errno == ENOTCONN, "unconnected socket: %s",
		strerror(errno));
	return t_done();
}
