/* SPDX-License-Identifier: GPL-2.0-only */
/* Small things that the tests of file descriptors share. */
#ifndef CKPT_TESTS_FD_LIB_H
#define CKPT_TESTS_FD_LIB_H

#include "t.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* t_init() and a working directory of our own. */
static inline void fd_init(int argc, char **argv)
{
	t_init(argc, argv);
	if (chdir(t_dir()))
		t_die(__FILE__, __LINE__, "chdir");
}

/* Set-up that does not work ends the test: there is nothing to verify then. */
static inline long must_(long ret, const char *what, const char *file, int line)
{
	if (ret < 0) {
		fprintf(stderr, "%s:%d: %s: %s\n", file, line, what, strerror(errno));
		exit(2);
	}
	return ret;
}
#define MUST(x) must_((long)(x), #x, __FILE__, __LINE__)

/* Are two descriptors the same open file description? */
static inline bool fd_same(pid_t pid1, int fd1, pid_t pid2, int fd2)
{
	return syscall(SYS_kcmp, pid1, pid2, KCMP_FILE, (long)fd1, (long)fd2) == 0;
}

/* Bytes that depend on their position and on @seed. */
static inline void fd_fill(void *buf, size_t n, unsigned int seed)
{
	uint8_t *p = buf;

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(seed + i * 7 + (i >> 8) * 13);
}

static inline bool fd_filled(const void *buf, size_t n, unsigned int seed)
{
	const uint8_t *p = buf;

	for (size_t i = 0; i < n; i++)
		if (p[i] != (uint8_t)(seed + i * 7 + (i >> 8) * 13))
			return false;
	return true;
}

/* Is something readable (or any other of @events) at once? */
static inline short fd_poll(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

/* A number of /proc/self/fdinfo, base 8 or 10; -1 if the key is not there. */
static inline long long fd_info(int fd, const char *key, int base)
{
	char path[64], line[256];
	size_t n = strlen(key);
	long long ret = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	if (!f)
		return -1;
	while (ret == -1 && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, n) && line[n] == ':')
			ret = strtoll(line + n + 1, NULL, base);
	(void)fclose(f);
	return ret;
}

/* A child that waits for the go of its parent, then runs @fn and exits with what it returns. */
struct fd_child {
	pid_t pid;
	int go;
};

static inline struct fd_child fd_child_start(int (*fn)(void *), void *arg)
{
	struct fd_child c;
	int p[2];

	MUST(pipe2(p, O_CLOEXEC));
	c.pid = (pid_t)MUST(fork());
	if (!c.pid) {
		char byte;

		(void)close(p[1]);
		if (read(p[0], &byte, 1) != 1)
			_exit(99);
		_exit(fn(arg));
	}
	(void)close(p[0]);
	c.go = p[1];
	return c;
}

static inline int fd_child_end(struct fd_child *c)
{
	int status = -1;

	if (write(c->go, "g", 1) != 1)
		return -1;
	(void)close(c->go);
	if (waitpid(c->pid, &status, 0) != c->pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif
