// SPDX-License-Identifier: GPL-2.0-only
/* Directories and umask that processes share (CLONE_FS), below a process that shares them with nobody, and
 * descriptors with a third one at the same time. */
#include "t.h"

#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>

static char stack[2][65536] __attribute__((aligned(16)));
static struct shared {
	atomic_int partner, moved, fd, done;
} *m;

static bool here(const char *want)
{
	char cwd[PATH_MAX];

	return getcwd(cwd, sizeof(cwd)) && !strcmp(cwd, want);
}

/* Shares directories with first(). */
static int partner(void *arg)
{
	(void)arg;
	t_wait_go();
	t_check(here(t_path("a")), "where the other was");
	t_sys(chdir(t_path("b")));
	t_check(umask(051) == 027, "the umask of the other");
	m->moved = 1;
	t_until(m->done, "the other looked");
	return t_status();
}

/* Shares descriptors with first(), and no directories. */
static int third(void *arg)
{
	char c = 0;

	(void)arg;
	t_sys(chdir("/"));
	t_wait_go();
	t_check(here("/"), "a directory of its own");
	t_until(m->fd, "a descriptor");
	t_check(pread(m->fd, &c, 1, 1) == 1 && c == 'E', "it is here: errno %d", errno);
	return t_status();
}

static int first(void)
{
	pid_t p, q;

	t_sys(mkdir(t_path("a"), 0755));
	t_sys(mkdir(t_path("b"), 0755));
	t_sys(chdir(t_path("a")));
	(void)umask(027);
	p = (pid_t)t_sys(clone(partner, stack[0] + sizeof(stack[0]), CLONE_FS | SIGCHLD, NULL));
	q = (pid_t)t_sys(clone(third, stack[1] + sizeof(stack[1]), CLONE_FILES | SIGCHLD, NULL));
	m->partner = 1;
	t_wait_go();
	t_sys(kill(p, SIGTERM));
	t_until(m->moved, "the other moved");
	t_check(here(t_path("b")), "moved by the other");
	t_check(umask(0) == 051, "the umask set by the other");
	m->done = 1;
	t_reap(p, 0);
	t_sys(kill(q, SIGTERM));
	m->fd = (int)t_sys(open("/proc/self/exe", O_RDONLY));
	t_reap(q, 0);
	return t_status();
}

int main(int argc, char **argv)
{
	char was[PATH_MAX];
	pid_t pid;

	t_init(argc, argv);
	t_check(getcwd(was, sizeof(was)) != NULL, "getcwd");
	m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = t_fork();
	if (pid == 0)
		_exit(first());
	t_until(m->partner, "all are there");
	t_ready();
	t_sys(kill(pid, SIGTERM));
	t_reap(pid, 0);
	t_check(here(was), "our own directory");
	return t_done();
}
