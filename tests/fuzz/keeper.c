// SPDX-License-Identifier: GPL-2.0-only
/*
 * libFuzzer: both sides of the conversation between ckpt and a keeper. The first byte chooses the side;
 * the rest is a list of { u8 flags, u8 descriptors, u16 length, bytes }, one packet each. Flags: the
 * version is right; the length is that of the tasks it counts.
 */
#include <sys/socket.h>

#include "track/keeper.c" /* the other side is a loop around client_serve() */

#include "fuzz.h"

static void packet(int sock, struct input *in)
{
	uint8_t flags = (uint8_t)take(in, 1), nfds = (uint8_t)take(in, 1) % 8;
	struct input piece = take_piece(in, take(in, 2) % 8192);
	static struct keeper_msg m;
	size_t len = piece.left < sizeof(m) ? piece.left : sizeof(m);
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(8 * sizeof(int))];
	} room = { 0 };
	struct iovec iov = { &m, len };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };

	memset(&m, 0, sizeof(m));
	memcpy(&m, piece.p, len);
	if (flags & 1)
		m.version = KEEPER_VERSION;
	if (flags & 2) {
		m.count %= KEEPER_BATCH + 1;
		iov.iov_len = offsetof(struct keeper_msg, tasks) + m.count * sizeof(m.tasks[0]);
	}
	if (flags & 4)
		m.op = flags >> 4;
	if (nfds) {
		struct cmsghdr *c;
		int fds[8];

		for (int i = 0; i < nfds; i++)
			fds[i] = sock;
		h.msg_control = room.buf;
		h.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	(void)sendmsg(sock, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void as_keeper(struct input *in)
{
	struct keeper *k = calloc(1, sizeof(*k));
	int s[2];

	k->path = "/nowhere/of/fuzz";
	for (size_t i = 0; i < CLIENTS; i++)
		k->clients[i].fd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s))
		abort();
	k->clients[0].fd = s[0];
	while (in->left && k->clients[0].fd >= 0 && !k->stop) {
		packet(s[1], in);
		client_serve(k, &k->clients[0]);
		while (recv(s[1], &k->msg, sizeof(k->msg), MSG_DONTWAIT) > 0)
			;
	}
	if (k->clients[0].fd >= 0)
		client_drop(k, &k->clients[0]);
	keeper_tasks_free(&k->tasks);
	(void)close(s[1]);
	free(k);
}

static void as_ckpt(struct input *in, int which)
{
	struct keeper_tasks tasks = { 0 };
	struct keeper_state st;
	struct ckpt_err err = { 0 };
	unsigned char id[KEEPER_ID_BYTES] = { 0 };
	int s[2], rc = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s))
		abort();
	while (in->left)
		packet(s[1], in);
	if (which == 0)
		rc = keeper_status(s[0], &st, &err);
	else if (which == 1)
		rc = keeper_begin(s[0], &st, &tasks, &err);
	else if (which == 2)
		rc = keeper_commit(s[0], id, "path", &tasks, &err);
	else
		rc = keeper_rebase(s[0], id, id, "path", &err);
	(void)rc;
	keeper_tasks_free(&tasks);
	(void)close(s[0]);
	(void)close(s[1]);
}

static int next_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t side = (uint8_t)take(&in, 1);
	int before = next_fd();

	if (side & 4)
		as_ckpt(&in, side & 3);
	else
		as_keeper(&in);
	/* Whatever came, no descriptor of it is left. */
	if (next_fd() != before)
		abort();
	return 0;
}
