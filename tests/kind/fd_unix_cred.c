// SPDX-License-Identifier: GPL-2.0-only
/* Peers in other processes: who they are, as the kernel tells, and credentials of queued messages.
 */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/un.h>

static int child_talk(void *arg)
{
	int *p = arg;
	char got[16];

	return write(p[1], "child", 5) == 5 && read(p[1], got, 16) == 6 && !memcmp(got, "parent", 6)
		       ? 0
		       : 1;
}

int main(int argc, char **argv)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX, .sun_path = "cred.sock" };
	char got[16], ctl[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec iov = { got, sizeof(got) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof(ctl)
	};
	int talk[2], queued[2], l, conn, ready[2];
	struct fd_child child;
	struct ucred cred = { 0 };
	struct cmsghdr *c;
	pid_t pid;
	int status = -1;

	fd_init(argc, argv);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, talk));
	child = fd_child_start(child_talk, talk);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, queued));
	MUST(setsockopt(queued[1], SOL_SOCKET, SO_PASSCRED, &(int) { 1 }, sizeof(int)));
	MUST(send(queued[0], "mine", 4, 0));

	/* A connection whose client is another process. */
	l = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(bind(l, (void *)&sun, sizeof(sun)));
	MUST(listen(l, 1));
	MUST(pipe(ready));
	pid = (pid_t)MUST(fork());
	if (!pid) {
		int fd = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));
		char byte;

		MUST(connect(fd, (void *)&sun, sizeof(sun)));
		MUST(write(ready[1], "r", 1));
		_exit(read(fd, &byte, 1) == 1 ? 0 : 1);
	}
	MUST(read(ready[0], got, 1));
	conn = (int)MUST(accept(l, NULL, NULL));

	t_ready();

	t_check(write(talk[0], "parent", 6) == 6, "write to the child");
	t_check(!fd_child_end(&child), "child did not hear the parent");
	t_check(read(talk[0], got, 16) == 5 && !memcmp(got, "child", 5),
		"parent did not hear the child");

	t_check(recvmsg(queued[1], &m, MSG_DONTWAIT) == 4, "queued message: %s", strerror(errno));
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_type == SCM_CREDENTIALS)
		memcpy(&cred, CMSG_DATA(c), sizeof(cred));
	t_check(cred.pid == getpid() && cred.uid == getuid() && cred.gid == getgid(),
		"sender of the queued message: pid %d uid %u", cred.pid, cred.uid);

	t_check(!getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cred, &(socklen_t) { sizeof(cred) }) &&
			cred.pid == pid,
		"peer of the connection: pid %d, not %d", cred.pid, pid);
	t_check(write(conn, "x", 1) == 1 && waitpid(pid, &status, 0) == pid && !status,
		"client's verdict %#x", status);
	return t_done();
}
