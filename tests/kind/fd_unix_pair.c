// SPDX-License-Identifier: GPL-2.0-only
/* Socket pairs of all three types: queues in both directions, boundaries, options, half-closed
 * ones. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <linux/sockios.h>
#include <sys/un.h>

#define BIG 150000

static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
static const int sizes[] = { 1, 1000, 9, 5000, 2, 77 };
#define N_SIZES ((int)(sizeof(sizes) / sizeof(sizes[0])))

static int opt(int fd, int name)
{
	int v = -1;

	(void)getsockopt(fd, SOL_SOCKET, name, &v, &(socklen_t) { sizeof(v) });
	return v;
}

static void set(int fd, int name, int v)
{
	MUST(setsockopt(fd, SOL_SOCKET, name, &v, sizeof(v)));
}

int main(int argc, char **argv)
{
	static char buf[BIG], got[BIG];
	int p[3][2], shut_w[2], shut_r[2], closed[3], opts[2], own[2], big[2], full[2], empty[2];
	int sndbuf, rcvbuf, filled = 0, n, ends[2];
	struct ucred cred;
	struct timeval tv = { 3, 500000 }, tv_got;

	fd_init(argc, argv);
	(void)signal(SIGPIPE, SIG_IGN);
	fd_fill(buf, sizeof(buf), 21);
	for (int t = 0; t < 3; t++) {
		MUST(socketpair(AF_UNIX, types[t] | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p[t]));
		for (int i = 0; i < N_SIZES; i++)
			MUST(send(p[t][0], buf + i, (size_t)sizes[i], 0));
		MUST(send(p[t][1], "back", 4, 0));
		/* The peer is gone; what it said is still there. */
		MUST(socketpair(AF_UNIX, types[t] | SOCK_NONBLOCK, 0, ends));
		MUST(send(ends[1], "last words", 10, 0));
		(void)close(ends[1]);
		closed[t] = ends[0];
	}
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, empty));
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, shut_w));
	MUST(send(shut_w[0], "fin", 3, 0));
	MUST(shutdown(shut_w[0], SHUT_WR));
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, shut_r));
	MUST(shutdown(shut_r[0], SHUT_RD));

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, opts));
	set(opts[0], SO_SNDBUF, 30000);
	set(opts[0], SO_RCVBUF, 40000);
	set(opts[0], SO_PASSCRED, 1);
	set(opts[0], SO_PEEK_OFF, 5);
	MUST(setsockopt(opts[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	set(opts[0], SO_PRIORITY, 3);
	sndbuf = opt(opts[0], SO_SNDBUF);
	rcvbuf = opt(opts[0], SO_RCVBUF);

	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, big));
	set(big[0], SO_SNDBUF, BIG * 4);
	MUST(write(big[0], buf, BIG) == BIG ? 0 : -1);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, full));
	while ((n = (int)write(full[0], buf + filled % 1000, 1000)) > 0)
		filled += n;
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, own));
	MUST(fcntl(own[0], F_SETOWN, getpid()));
	MUST(fcntl(own[0], F_SETSIG, SIGUSR1));

	t_ready();

	for (int t = 0; t < 3; t++) {
		const char *name = (const char *[]) { "stream", "dgram", "seqpacket" }[t];

		t_check(opt(p[t][0], SO_TYPE) == types[t] && opt(p[t][0], SO_DOMAIN) == AF_UNIX,
			"%s: type", name);
		t_check(fcntl(p[t][0], F_GETFL) == (O_RDWR | O_NONBLOCK) &&
				fcntl(p[t][1], F_GETFD) == FD_CLOEXEC,
			"%s: flags %#o", name, fcntl(p[t][0], F_GETFL));
		for (int i = 0; i < N_SIZES; i++) {
			n = (int)recv(p[t][1], got,
				      types[t] == SOCK_STREAM ? (size_t)sizes[i] : sizeof(got), 0);
			t_check(n == sizes[i] && !memcmp(got, buf + i, (size_t)n),
				"%s: message %d has %d bytes, not %d", name, i, n, sizes[i]);
		}
		t_check(recv(p[t][1], got, 1, 0) < 0 && errno == EAGAIN, "%s: one too many", name);
		t_check(recv(p[t][0], got, 100, 0) == 4 && !memcmp(got, "back", 4), "%s: back",
			name);
		t_check(send(p[t][0], "new", 3, 0) == 3 && recv(p[t][1], got, 100, 0) == 3,
			"%s: new data", name);
		t_check(recv(closed[t], got, 100, 0) == 10 && !memcmp(got, "last words", 10),
			"%s: last words", name);
		if (types[t] == SOCK_DGRAM)
			t_check(send(closed[t], "x", 1, 0) < 0 && errno == ECONNREFUSED,
				"%s: peer is back: %s", name, strerror(errno));
		else
			t_check(send(closed[t], "x", 1, 0) < 0 && errno == EPIPE &&
					recv(closed[t], got, 1, 0) == 0,
				"%s: peer is back: %s", name, strerror(errno));
	}
	t_check(!fd_poll(empty[0], POLLIN) && write(empty[0], "x", 1) == 1 &&
			read(empty[1], got, 10) == 1,
		"empty pair");
	t_check(!getsockopt(empty[0], SOL_SOCKET, SO_PEERCRED, &cred,
			    &(socklen_t) { sizeof(cred) }) &&
			cred.pid == getpid() && cred.uid == getuid() && cred.gid == getgid(),
		"peer credentials: pid %d uid %u", cred.pid, cred.uid);

	t_check(recv(shut_w[1], got, 10, 0) == 3 && recv(shut_w[1], got, 10, 0) == 0,
		"SHUT_WR: end");
	t_check(send(shut_w[0], "x", 1, 0) < 0 && errno == EPIPE, "SHUT_WR: can send");
	t_check(send(shut_w[1], "y", 1, 0) == 1 && recv(shut_w[0], got, 10, 0) == 1,
		"SHUT_WR: other direction");
	t_check(recv(shut_r[0], got, 10, 0) == 0, "SHUT_RD: no end");
	t_check(send(shut_r[1], "x", 1, 0) < 0 && errno == EPIPE, "SHUT_RD: peer can send");
	t_check(send(shut_r[0], "y", 1, 0) == 1 && recv(shut_r[1], got, 10, 0) == 1,
		"SHUT_RD: other direction");

	t_check(opt(opts[0], SO_SNDBUF) == sndbuf, "SO_SNDBUF %d, not %d", opt(opts[0], SO_SNDBUF),
		sndbuf);
	t_check(opt(opts[0], SO_RCVBUF) == rcvbuf, "SO_RCVBUF %d, not %d", opt(opts[0], SO_RCVBUF),
		rcvbuf);
	t_check(opt(opts[0], SO_PASSCRED) == 1 && opt(opts[1], SO_PASSCRED) == 0, "SO_PASSCRED");
	t_check(opt(opts[0], SO_PEEK_OFF) == 5 && opt(opts[1], SO_PEEK_OFF) == -1,
		"SO_PEEK_OFF %d %d", opt(opts[0], SO_PEEK_OFF), opt(opts[1], SO_PEEK_OFF));
	t_check(opt(opts[0], SO_PRIORITY) == 3, "SO_PRIORITY");
	t_check(!getsockopt(opts[0], SOL_SOCKET, SO_RCVTIMEO, &tv_got,
			    &(socklen_t) { sizeof(tv_got) }) &&
			tv_got.tv_sec == 3 && tv_got.tv_usec / 100000 == 5,
		"SO_RCVTIMEO %ld.%06ld", tv_got.tv_sec, tv_got.tv_usec);

	for (n = 0; n < BIG;) {
		int r = (int)read(big[1], got + n, (size_t)(BIG - n));

		if (r <= 0)
			break;
		n += r;
	}
	t_check(n == BIG && fd_filled(got, BIG, 21), "%d bytes of the big queue", n);
	for (n = 0; n < filled;) {
		int r = (int)read(full[1], got, 1000);

		if (r != 1000 || memcmp(got, buf + n % 1000, 1000))
			break;
		n += r;
	}
	t_check(n == filled, "%d of %d bytes of the full queue", n, filled);
	t_check(fcntl(own[0], F_GETOWN) == getpid() && fcntl(own[0], F_GETSIG) == SIGUSR1, "owner");
	return t_done();
}
