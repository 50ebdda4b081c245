// SPDX-License-Identifier: GPL-2.0-only
#include "track/wire.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD offsetof(struct keeper_msg, tasks)

union fds_room {
	struct cmsghdr align;
	char buf[CMSG_SPACE(KEEPER_BATCH * sizeof(int))];
};

int keeper_send(int sock, struct keeper_msg *m)
{
	union fds_room room = { 0 };
	struct iovec iov = { m, HEAD + m->count * sizeof(m->tasks[0]) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[KEEPER_BATCH];
	size_t n = 0;
	ssize_t sent;

	m->version = KEEPER_VERSION;
	for (uint32_t i = 0; i < m->count; i++)
		if (m->tasks[i].fd >= 0)
			fds[n++] = m->tasks[i].fd;
	if (n) {
		struct cmsghdr *c;

		h.msg_control = room.buf;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	do
		sent = sendmsg(sock, &h, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	return (size_t)sent == iov.iov_len ? 0 : -EPROTO;
}

int keeper_recv(int sock, struct keeper_msg *m)
{
	union fds_room room = { 0 };
	struct iovec iov = { m, sizeof(*m) };
	struct msghdr h = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = room.buf,
			    .msg_controllen = sizeof(room.buf) };
	int fds[KEEPER_BATCH];
	size_t n = 0, used = 0;
	ssize_t got;
	bool bad;

	do
		got = recvmsg(sock, &h, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (!got)
		return -ECONNRESET;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
		size_t k;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds + n, CMSG_DATA(c), k * sizeof(int));
		n += k;
	}
	bad = (size_t)got < HEAD || m->version != KEEPER_VERSION || m->count > KEEPER_BATCH ||
	      (size_t)got != HEAD + m->count * sizeof(m->tasks[0]) || (h.msg_flags & MSG_CTRUNC);
	for (uint32_t i = 0; !bad && i < m->count; i++)
		if (m->tasks[i].fd >= 0) {
			bad = used == n;
			if (!bad)
				m->tasks[i].fd = fds[used++];
		}
	if (!bad && used == n) {
		m->path[sizeof(m->path) - 1] = 0;
		m->backend[sizeof(m->backend) - 1] = 0;
		return 0;
	}
	while (n)
		(void)close(fds[--n]);
	return -EPROTO;
}

void keeper_socket_path(int pid, char *buf, size_t len)
{
	struct stat st = { 0 };

	/* The same number means another process in another pid namespace. */
	(void)stat("/proc/self/ns/pid", &st);
	(void)snprintf(buf, len, "/run/ckpt/track-%lu-%d.sock", (unsigned long)st.st_ino, pid);
}
