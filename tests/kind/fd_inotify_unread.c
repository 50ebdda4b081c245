// SPDX-License-Identifier: GPL-2.0-only
/* Unread events of inotify: a restored program is told that some were lost, one that goes on reads them. */
#include "fd_lib.h"

#include <sys/inotify.h>

static unsigned long long born(void)
{
	char text[1024];
	unsigned long long v = 0;

	if (t_slurp("/proc/self/stat", text, sizeof(text)) > 0)
		(void)sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
						 "%*d %llu", &v);
	return v;
}

/* The next event, by itself. */
static const struct inotify_event *event(int fd)
{
	static char buf[sizeof(struct inotify_event) + 256] __attribute__((aligned(8)));
	const struct inotify_event *e = (void *)buf;
	ssize_t n = read(fd, buf, sizeof(*e) + 16);

	if (n < (ssize_t)sizeof(*e))
		memset(buf, 0, sizeof(buf));
	return e;
}

static void make(const char *name)
{
	(void)close((int)MUST(open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600)));
}

/* Read what is there, then see that the watch works. */
static void look(int in, int wd, bool lost, const char *what, const char *fresh)
{
	const struct inotify_event *e = event(in);
	char path[64];

	t_check(fd_poll(in, POLLIN) == 0 || !lost, "%s: nothing but one event", what);
	if (lost) {
		t_check(e->wd == -1 && e->mask == IN_Q_OVERFLOW && !e->len, "%s: watch %d, mask %#x", what, e->wd,
			e->mask);
	} else {
		t_check(e->wd == wd && e->mask == IN_CREATE && !strcmp(e->name, "one"), "%s: the first event", what);
		e = event(in);
		t_check(e->wd == wd && e->mask == IN_CREATE && !strcmp(e->name, "two"), "%s: the second event", what);
	}
	t_check(!fd_poll(in, POLLIN), "%s: an event came from nowhere", what);
	(void)snprintf(path, sizeof(path), "d/%s", fresh);
	make(path);
	e = event(in);
	t_check(e->wd == wd && e->mask == IN_CREATE && !strcmp(e->name, fresh), "%s: a new event", what);
}

int main(int argc, char **argv)
{
	unsigned long long before;
	int first, gaps, wd, wd2;

	fd_init(argc, argv);
	MUST(mkdir("d", 0700));
	MUST(mkdir("e", 0700));
	first = (int)MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	wd = (int)MUST(inotify_add_watch(first, "d", IN_CREATE));
	gaps = (int)MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	for (int i = 0; i < 5; i++)
		MUST(inotify_rm_watch(gaps, (int)MUST(inotify_add_watch(gaps, "e", IN_CREATE))));
	wd2 = (int)MUST(inotify_add_watch(gaps, "d", IN_CREATE));
	while (event(gaps)->mask)
		;
	make("d/one");
	make("d/two");
	before = born();

	t_ready();

	look(first, wd, born() != before, "the first", "three");
	/* The loss, or the two from before; then what the first has made. */
	for (int i = 0; i < (born() != before ? 2 : 3); i++)
		(void)event(gaps);
	t_check(!fd_poll(gaps, POLLIN), "all is read");
	make("d/four");
	t_check(event(gaps)->wd == wd2, "the other one");
	t_check(inotify_add_watch(gaps, "e", IN_CREATE) > wd2, "number of a new watch");
	return t_done();
}
