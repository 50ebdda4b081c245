// SPDX-License-Identifier: GPL-2.0-only
/* Descriptors of an unprivileged user: owners of files and sockets, credentials that peers see. */
/* t: modes=control,leave,kill,twice uid=nobody */
#include "fd_lib.h"
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/un.h>

static bool owned(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_uid == getuid() && st.st_gid == getgid();
}

int main(int argc, char **argv)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int pair[2], l, c, s, gone, fifo, in, ep, ofd, p[2];
	struct epoll_event ev = { .events = EPOLLIN };
	socklen_t len = sizeof(struct ucred);
	struct ucred cred;
	struct stat st;
	char got[8];

	fd_init(argc, argv);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	l = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	MUST(bind(l, (void *)&sun, sizeof(sun)));
	MUST(listen(l, 3));
	gone = (int)MUST(open("gone", O_CREAT | O_RDWR, 0600));
	MUST(write(gone, "gone", 4));
	MUST(unlink("gone"));
	MUST(mkfifo("fifo", 0600));
	fifo = (int)MUST(open("fifo", O_RDWR));
	MUST(unlink("fifo"));
	in = (int)MUST(inotify_init1(IN_NONBLOCK));
	ofd = (int)MUST(open("watched", O_CREAT | O_RDWR, 0600));
	MUST(inotify_add_watch(in, "watched", IN_MODIFY));
	MUST(flock(ofd, LOCK_EX));
	ep = (int)MUST(epoll_create1(0));
	MUST(epoll_ctl(ep, EPOLL_CTL_ADD, in, &ev));
	MUST(pipe(p));
	MUST(fcntl(p[0], F_SETOWN, getpid()));

	t_ready();

	t_check(!getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &cred, &len) &&
			cred.uid == getuid() && cred.gid == getgid() && cred.pid == getpid(),
		"pair: uid %u pid %d", cred.uid, cred.pid);
	c = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	t_check(!connect(c, (void *)&sun, sizeof(sun)), "connect: %s", strerror(errno));
	t_check(!getsockopt(c, SOL_SOCKET, SO_PEERCRED, &cred, &len) && cred.uid == getuid() &&
			cred.gid == getgid() && cred.pid == getpid(),
		"listener: uid %u pid %d", cred.uid, cred.pid);
	s = accept(l, NULL, NULL);
	t_check(s >= 0 && write(c, "x", 1) == 1 && read(s, got, 8) == 1, "connection");
	t_check(!stat("sock", &st) && st.st_uid == getuid(), "owner of the socket's file: %u",
		st.st_uid);
	t_check(owned(gone) && owned(fifo), "owners of removed files");
	t_check(pread(gone, got, 8, 0) == 4, "removed file");
	t_check(write(fifo, "f", 1) == 1 && read(fifo, got, 8) == 1, "removed FIFO");
	t_check(write(ofd, "w", 1) == 1 && epoll_wait(ep, &ev, 1, 0) == 1, "inotify in epoll");
	t_check(fcntl(p[0], F_GETOWN) == getpid(), "owner of the pipe");
	t_check(flock((int)MUST(open("watched", O_RDWR)), LOCK_EX | LOCK_NB) < 0, "lock");
	return t_done();
}
