// SPDX-License-Identifier: GPL-2.0-only
/* Descriptor tables that processes share (CLONE_FILES): a parent with a child, and two siblings who share one
 * that their parent does not have. What one opens or closes, the other has or has not. */
#include "t.h"

#include <sys/mman.h>

static char stack[2][65536] __attribute__((aligned(16)));
static struct shared {
	atomic_int fd, seen, sibling_pid, sibling_fd, sibling_seen;
} *m;

/* Shares the table of main(). */
static int partner(void *arg)
{
	char c = 0;

	(void)arg;
	t_wait_go();
	t_until(m->fd, "a descriptor was opened");
	t_check(pread(m->fd, &c, 1, 3) == 1 && c == 'l', "it is here as well: errno %d, %c", errno, c);
	t_sys(close(m->fd));
	m->seen = 1;
	return t_status();
}

/* Shares the table of older(), whose sibling it is. */
static int younger(void *arg)
{
	(void)arg;
	t_wait_go();
	m->sibling_fd = (int)t_sys(open("/proc/self/exe", O_RDONLY));
	t_until(m->sibling_seen, "the sibling has seen it");
	return t_status();
}

static int older(void)
{
	char c = 0;

	m->sibling_pid = (int)t_sys(clone(younger, stack[1] + sizeof(stack[1]),
					  CLONE_FILES | CLONE_PARENT | SIGCHLD, NULL));
	t_wait_go();
	t_until(m->sibling_fd, "the sibling opened a descriptor");
	t_check(pread(m->sibling_fd, &c, 1, 1) == 1 && c == 'E', "it is here: errno %d", errno);
	m->sibling_seen = 1;
	return t_status();
}

int main(int argc, char **argv)
{
	pid_t pid, pid2;
	int fd;

	t_init(argc, argv);
	m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = (pid_t)t_sys(clone(partner, stack[0] + sizeof(stack[0]), CLONE_FILES | SIGCHLD, NULL));
	pid2 = t_fork();
	if (pid2 == 0)
		_exit(older());
	t_until(m->sibling_pid, "all are there");
	t_ready();
	fd = (int)t_sys(open("/proc/self/cmdline", O_RDONLY));
	t_sys(close(fd));
	fd = (int)t_sys(open(t_path("text"), O_RDWR | O_CREAT, 0644));
	t_check(write(fd, "hallo", 5) == 5, "write");
	t_sys(kill(pid, SIGTERM));
	m->fd = fd;
	t_reap(pid, 0);
	t_check(fcntl(fd, F_GETFD) < 0 && errno == EBADF, "closed by the partner: errno %d", errno);
	t_sys(kill(pid2, SIGTERM));
	t_sys(kill(m->sibling_pid, SIGTERM));
	t_reap(pid2, 0);
	t_reap(m->sibling_pid, 0);
	t_check(fcntl(m->sibling_fd, F_GETFD) < 0, "theirs is not ours");
	return t_done();
}
