// SPDX-License-Identifier: GPL-2.0-only
/* Descriptors in flight: queued SCM_RIGHTS, alone and with others, of every socket type. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/eventfd.h>
#include <sys/un.h>

static void send_fds(int sock, const char *text, const int *fds, size_t n)
{
	char ctl[CMSG_SPACE(16 * sizeof(int))] = { 0 };
	struct iovec iov = { (void *)text, strlen(text) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ctl,
			    .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	MUST(sendmsg(sock, &m, 0));
}

static int recv_fds(int sock, char *text, size_t size, int *fds)
{
	char ctl[CMSG_SPACE(16 * sizeof(int))];
	struct iovec iov = { text, size - 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof(ctl)
	};
	ssize_t len = recvmsg(sock, &m, MSG_DONTWAIT);
	int n = 0;

	text[len > 0 ? len : 0] = 0;
	if (len < 0)
		return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			memcpy(fds, CMSG_DATA(c), (size_t)n * sizeof(int));
		}
	return n;
}

int main(int argc, char **argv)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
	int p[3][2], kept, ev, file, pipefd[2], carrier[2], fds[16], n;
	char text[64];
	uint64_t v;

	fd_init(argc, argv);
	kept = (int)MUST(eventfd(11, EFD_NONBLOCK)); /* also held by the sender */
	file = (int)MUST(open("file", O_CREAT | O_RDWR, 0600));
	MUST(write(file, "0123456789", 10));
	MUST(lseek(file, 4, SEEK_SET));
	MUST(pipe(pipefd));
	MUST(write(pipefd[1], "piped", 5));
	for (int t = 0; t < 3; t++) {
		MUST(socketpair(AF_UNIX, types[t], 0, p[t]));
		MUST(write(p[t][0], "plain", 5));
		ev = (int)MUST(eventfd((unsigned int)(40 + t), EFD_NONBLOCK));
		send_fds(p[t][0], "three", (int[]) { ev, kept, file }, 3);
		(void)close(ev); /* only in flight now */
		MUST(write(p[t][0], "after", 5));
	}
	/* A socket in flight that itself carries something. */
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, carrier));
	send_fds(carrier[0], "inner", (int[]) { pipefd[0] }, 1);
	send_fds(p[2][0], "outer", (int[]) { carrier[1] }, 1);
	(void)close(carrier[1]);
	(void)close(pipefd[0]);
	(void)close(file);

	t_ready();

	for (int t = 0; t < 3; t++) {
		n = recv_fds(p[t][1], text, types[t] == SOCK_STREAM ? 6 : sizeof(text), fds);
		t_check(n == 0 && !strcmp(text, "plain"), "type %d: first \"%s\" with %d", t, text,
			n);
		n = recv_fds(p[t][1], text, types[t] == SOCK_STREAM ? 6 : sizeof(text), fds);
		t_check(n == 3 && !strcmp(text, "three"), "type %d: second \"%s\" with %d", t, text,
			n);
		if (n != 3)
			continue;
		t_check(read(fds[0], &v, 8) == 8 && v == (uint64_t)(40 + t), "eventfd in flight");
		t_check(fd_same(getpid(), fds[1], getpid(), kept), "not the description kept");
		t_check(lseek(fds[2], 0, SEEK_CUR) == 4, "position of the file in flight");
		if (t)
			t_check(fd_same(getpid(), fds[2], getpid(), file), "file in flight twice");
		file = fds[2];
		n = recv_fds(p[t][1], text, types[t] == SOCK_STREAM ? 6 : sizeof(text), fds);
		t_check(n == 0 && !strcmp(text, "after"), "type %d: third \"%s\" with %d", t, text,
			n);
	}
	n = recv_fds(p[2][1], text, sizeof(text), fds);
	t_check(n == 1 && !strcmp(text, "outer"), "outer: %d", n);
	if (n == 1) {
		carrier[1] = fds[0];
		n = recv_fds(carrier[1], text, sizeof(text), fds);
		t_check(n == 1 && !strcmp(text, "inner"), "inner: %d", n);
		t_check(n == 1 && read(fds[0], text, 5) == 5 && !memcmp(text, "piped", 5), "pipe");
		t_check(write(carrier[0], "x", 1) == 1 && read(carrier[1], text, 5) == 1,
			"carrier");
	}
	return t_done();
}
