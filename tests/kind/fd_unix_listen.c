// SPDX-License-Identifier: GPL-2.0-only
/* Listening AF_UNIX sockets: names, backlog, accepted and not yet accepted connections, clients. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <stddef.h>
#include <sys/un.h>

struct name {
	struct sockaddr_un sun;
	socklen_t len;
};

static struct name named(const char *text)
{
	struct name n = { .sun.sun_family = AF_UNIX };

	if (*text == '@') {
		snprintf(n.sun.sun_path + 1, sizeof(n.sun.sun_path) - 1, "%s%s", text + 1, t_dir());
		n.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
				    strlen(n.sun.sun_path + 1));
	} else {
		snprintf(n.sun.sun_path, sizeof(n.sun.sun_path), "%s", text);
		n.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(text) + 1);
	}
	return n;
}

static int listener(const struct name *n, int type, int backlog)
{
	int fd = (int)MUST(socket(AF_UNIX, type | SOCK_NONBLOCK, 0));

	MUST(bind(fd, (void *)&n->sun, n->len));
	MUST(listen(fd, backlog));
	return fd;
}

static int client(const struct name *n, int type)
{
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect(fd, (void *)&n->sun, n->len)) {
		int e = errno;

		(void)close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

static bool has_name(int fd, const struct name *n, bool peer)
{
	struct name got = { .len = sizeof(got.sun) };

	return !(peer ? getpeername : getsockname)(fd, (void *)&got.sun, &got.len) &&
	       got.len == n->len && !memcmp(&got.sun, &n->sun, n->len);
}

int main(int argc, char **argv)
{
	struct name path, abst, seq, gone, dgram, autob = { .len = sizeof(autob.sun) };
	int lp, la, ls, lg, ld, lauto, cl_wait[3], cl_acc, acc, cl_seq, fd, v, dsend, n;
	struct stat st;
	char got[64];
	struct name from;

	fd_init(argc, argv);
	(void)signal(SIGPIPE, SIG_IGN);
	path = named("listen.sock");
	abst = named("@ckpt-test");
	seq = named("seq.sock");
	gone = named("gone.sock");
	dgram = named("dgram.sock");

	(void)umask(077);
	lp = listener(&path, SOCK_STREAM, 5);
	MUST(chmod("listen.sock", 0640));
	la = listener(&abst, SOCK_STREAM, 1);
	ls = listener(&seq, SOCK_SEQPACKET, 5);
	lg = listener(&gone, SOCK_STREAM, 5);
	MUST(unlink("gone.sock"));

	/* One accepted connection, and three that wait. */
	cl_acc = client(&path, SOCK_STREAM);
	MUST(cl_acc);
	acc = (int)MUST(accept4(lp, NULL, NULL, SOCK_NONBLOCK));
	MUST(write(acc, "to client", 9));
	MUST(write(cl_acc, "to server", 9));
	for (int i = 0; i < 3; i++) {
		cl_wait[i] = client(&path, SOCK_STREAM);
		MUST(cl_wait[i]);
	}
	cl_seq = client(&seq, SOCK_SEQPACKET);

	ld = (int)MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	MUST(bind(ld, (void *)&dgram.sun, dgram.len));
	dsend = (int)MUST(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	MUST(sendto(dsend, "unnamed", 7, 0, (void *)&dgram.sun, dgram.len));
	lauto = (int)MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
	autob.sun.sun_family = AF_UNIX;
	MUST(bind(lauto, (void *)&autob.sun, offsetof(struct sockaddr_un, sun_path)));
	MUST(getsockname(lauto, (void *)&autob.sun, &autob.len));
	MUST(sendto(lauto, "named", 5, 0, (void *)&dgram.sun, dgram.len));

	t_ready();

	t_check(!getsockopt(lp, SOL_SOCKET, SO_ACCEPTCONN, &v, &(socklen_t) { sizeof(v) }) && v,
		"does not listen");
	t_check(has_name(lp, &path, false) && has_name(la, &abst, false) &&
			has_name(ls, &seq, false) && has_name(lg, &gone, false) &&
			has_name(lauto, &autob, false) && has_name(ld, &dgram, false),
		"names");
	t_check(!stat("listen.sock", &st) && (st.st_mode & 07777) == 0640, "mode %o", st.st_mode);
	t_check(access("gone.sock", F_OK) < 0, "the unlinked socket has a name again");

	t_check(has_name(acc, &path, false) && has_name(cl_acc, &path, true),
		"names of a connection");
	t_check(read(cl_acc, got, 64) == 9 && !memcmp(got, "to client", 9), "to client");
	t_check(read(acc, got, 64) == 9 && !memcmp(got, "to server", 9), "to server");
	for (int i = 0; i < 3; i++) {
		t_check(write(cl_wait[i], &"012"[i], 1) == 1, "client %d: %s", i, strerror(errno));
		fd = accept(lp, NULL, NULL);
		n = fd < 0 ? -1 : (int)read(fd, got, sizeof(got));
		t_check(n == 1 && got[0] == '0' + i, "waiting connection %d: %d", i, n);
		t_check(write(fd, "ok", 2) == 2 && read(cl_wait[i], got, 64) == 2,
			"answer to connection %d", i);
		t_check(has_name(cl_wait[i], &path, true) && has_name(fd, &path, false),
			"names of connection %d", i);
	}
	t_check(accept(lp, NULL, NULL) < 0 && errno == EAGAIN, "one connection too many");
	fd = client(&path, SOCK_STREAM);
	t_check(fd >= 0 && accept(lp, NULL, NULL) >= 0, "new client: %s", strerror(errno));
	fd = client(&abst, SOCK_STREAM);
	t_check(fd >= 0 && client(&abst, SOCK_STREAM) >= 0, "new abstract clients");
	t_check(client(&abst, SOCK_STREAM) < 0 && errno == EAGAIN, "backlog is larger");
	fd = accept(ls, NULL, NULL);
	t_check(fd >= 0 && send(cl_seq, "seq", 3, 0) == 3 && recv(fd, got, 64, 0) == 3,
		"waiting seqpacket connection");

	from.len = sizeof(from.sun);
	t_check(recvfrom(ld, got, 64, 0, (void *)&from.sun, &from.len) == 7 && from.len == 0,
		"datagram of a nameless sender: %u", from.len);
	from.len = sizeof(from.sun);
	t_check(recvfrom(ld, got, 64, 0, (void *)&from.sun, &from.len) == 5 &&
			from.len == autob.len && !memcmp(&from.sun, &autob.sun, from.len),
		"sender's name of a datagram: %u", from.len);
	t_check(sendto(dsend, "again", 5, 0, (void *)&dgram.sun, dgram.len) == 5 &&
			recv(ld, got, 64, 0) == 5,
		"new datagram");
	return t_done();
}
