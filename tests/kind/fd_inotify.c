// SPDX-License-Identifier: GPL-2.0-only
/* Inotify: watches with their numbers and masks; they still fire, and removed ones stay removed. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <sys/inotify.h>

static uint32_t event(int fd, int wd)
{
	char buf[4096] __attribute__((aligned(8)));
	ssize_t n = read(fd, buf, sizeof(buf));
	uint32_t mask = 0;

	for (ssize_t i = 0; i < n;) {
		struct inotify_event *e = (void *)(buf + i);

		if (e->wd == wd)
			mask |= e->mask;
		i += (ssize_t)(sizeof(*e) + e->len);
	}
	return mask;
}

int main(int argc, char **argv)
{
	int in, dir, file, moved, dead, fd, once;

	fd_init(argc, argv);
	in = (int)MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	MUST(mkdir("d", 0700));
	MUST(mkdir("o", 0700));
	fd = (int)MUST(open("f", O_CREAT | O_RDWR, 0600));
	(void)close((int)MUST(open("m", O_CREAT | O_RDWR, 0600)));
	dead = (int)MUST(inotify_add_watch(in, "d", IN_CREATE));
	MUST(inotify_rm_watch(in, dead));
	MUST(event(in, dead) == IN_IGNORED ? 0 : -1);
	file = (int)MUST(inotify_add_watch(in, "f", IN_MODIFY));
	dir = (int)MUST(inotify_add_watch(in, "d", IN_CREATE | IN_DELETE | IN_ONLYDIR));
	moved = (int)MUST(inotify_add_watch(in, "m", IN_ATTRIB));
	MUST(rename("m", "d2"));
	once = (int)MUST(inotify_add_watch(in, "o", IN_CREATE | IN_ONESHOT));

	t_ready();

	t_check(fcntl(in, F_GETFD) == FD_CLOEXEC && fcntl(in, F_GETFL) & O_NONBLOCK, "flags");
	t_check(!fd_poll(in, POLLIN), "an event came from nowhere");
	(void)close((int)MUST(open("d/new", O_CREAT | O_RDWR, 0600)));
	t_check(event(in, dir) == IN_CREATE, "watch of the directory");
	MUST(write(fd, "x", 1));
	t_check(event(in, file) == IN_MODIFY, "watch of the file");
	MUST(chmod("d2", 0640));
	t_check(event(in, moved) == IN_ATTRIB, "watch of the renamed file");
	MUST(mkdir("o/1", 0700));
	t_check((event(in, once) & IN_CREATE), "one-shot watch");
	MUST(mkdir("o/2", 0700));
	t_check(!fd_poll(in, POLLIN), "the one-shot watch fired twice");
	t_check(inotify_rm_watch(in, dead) < 0, "removed watch is back");
	t_check(inotify_add_watch(in, "d/new", IN_CREATE) > once, "number of a new watch");
	return t_done();
}
