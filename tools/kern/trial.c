// SPDX-License-Identifier: GPL-2.0-only
#include "kern/trial.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void play(int sock, bool (*act)(void *arg, int step), void *arg)
{
	int step;
	char ok;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(sock, &step, sizeof(step)) == (ssize_t)sizeof(step)) {
		ok = act(arg, step);
		if (write(sock, &ok, 1) != 1)
			break;
	}
	_exit(0);
}

int trial_begin(struct trial *ret, bool (*act)(void *arg, int step), void *arg)
{
	int sock[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock))
		return -errno;
	ret->sock = sock[0];
	ret->pid = fork();
	if (!ret->pid) {
		(void)close(sock[0]);
		play(sock[1], act, arg);
	}
	(void)close(sock[1]);
	if (ret->pid > 0)
		return 0;
	(void)close(sock[0]);
	return -EAGAIN;
}

bool trial_step(const struct trial *t, int step)
{
	char ok = 0;

	return write(t->sock, &step, sizeof(step)) == (ssize_t)sizeof(step) &&
	       read(t->sock, &ok, 1) == 1 && ok;
}

void trial_end(struct trial *t)
{
	(void)close(t->sock);
	/* Others of its kind may have been born with the same socket. */
	(void)kill(t->pid, SIGKILL);
	while (waitpid(t->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
