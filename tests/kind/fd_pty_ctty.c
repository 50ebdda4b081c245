// SPDX-License-Identifier: GPL-2.0-only
/* A session on a pty inside the tree: controlling terminal, foreground group, /dev/tty, hangup. */
/* t: modes=control,leave,kill,twice */
#include "fd_lib.h"
#include <termios.h>

struct shared {
	int master, to_parent;
};

static void tell(int fd, const void *p, size_t n)
{
	MUST(write(fd, p, n) == (ssize_t)n ? 0 : -1);
}

/* The leader of the session; its own child is the foreground job. */
static int leader(void *arg)
{
	struct shared *s = arg;
	int slave, tty, job_go[2], job_said[2], status;
	pid_t job;
	char byte;

	MUST(setsid());
	slave = (int)MUST(ioctl(s->master, TIOCGPTPEER, O_RDWR));
	MUST(ioctl(slave, TIOCSCTTY, 0));
	tty = (int)MUST(open("/dev/tty", O_RDWR | O_NONBLOCK));
	MUST(pipe(job_go));
	MUST(pipe(job_said));
	(void)signal(SIGTTOU, SIG_IGN);
	job = (pid_t)MUST(fork());
	if (!job) {
		sigset_t set;
		int sig;

		MUST(setpgid(0, 0));
		MUST(tcsetpgrp(slave, getpid()));
		(void)signal(SIGINT, SIG_DFL);
		sigemptyset(&set);
		sigaddset(&set, SIGINT);
		MUST(sigprocmask(SIG_BLOCK, &set, NULL));
		tell(job_said[1], "r", 1);
		/* ^C on the master reaches the foreground group and nobody else. */
		MUST(sigwait(&set, &sig));
		tell(job_said[1], "i", 1);
		MUST(read(job_go[0], &byte, 1));
		_exit(tcgetpgrp(slave) == getpid() && tcgetsid(slave) == getppid() ? 0 : 1);
	}
	MUST(read(job_said[0], &byte, 1));
	(void)signal(SIGINT, SIG_IGN);
	tell(s->to_parent, &job, sizeof(job));

	if (read(job_said[0], &byte, 1) != 1 || byte != 'i')
		return 10;
	if (tcgetsid(slave) != getpid() || tcgetsid(tty) != getpid())
		return 11;
	if (tcgetpgrp(slave) != job)
		return 12;
	/* The description of /dev/tty is a terminal of its own flags. */
	if (!(fcntl(tty, F_GETFL) & O_NONBLOCK) || write(tty, "via tty", 7) != 7)
		return 13;
	tell(job_go[1], "g", 1);
	if (waitpid(job, &status, 0) != job || status)
		return 14;
	tell(s->to_parent, &job, sizeof(job));
	/* The hangup of the master ends a leader that does not care. */
	sigset_t hup;
	int sig;

	sigemptyset(&hup);
	sigaddset(&hup, SIGHUP);
	MUST(sigprocmask(SIG_BLOCK, &hup, NULL));
	tell(s->to_parent, "h", 1);
	return sigwait(&hup, &sig) || sig != SIGHUP ? 15 : 0;
}

int main(int argc, char **argv)
{
	struct shared s;
	int said[2], status, pgrp = -1;
	pid_t pid, job;
	char buf[64];
	ssize_t n;

	fd_init(argc, argv);
	MUST(pipe(said));
	s.to_parent = said[1];
	s.master = (int)MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
	MUST(ioctl(s.master, TIOCSPTLCK, &(int) { 0 }));
	pid = (pid_t)MUST(fork());
	if (!pid)
		_exit(leader(&s));
	MUST(read(said[0], &job, sizeof(job)) == sizeof(job) ? 0 : -1);

	t_ready();

	t_check(!ioctl(s.master, TIOCGPGRP, &pgrp) && pgrp == job, "foreground group %d, not %d",
		pgrp, job);
	t_check(write(s.master, "\3", 1) == 1, "^C");
	t_check(read(said[0], &job, sizeof(job)) == sizeof(job), "job");
	n = read(s.master, buf, sizeof(buf));
	t_check(n > 0 && memmem(buf, (size_t)n, "^C", 2), "echo of ^C: %zd", n);
	while (n > 0 && !memmem(buf, (size_t)n, "via tty", 7)) {
		ssize_t m = read(s.master, buf + n, sizeof(buf) - (size_t)n);

		if (m <= 0)
			break;
		n += m;
	}
	t_check(n > 0 && memmem(buf, (size_t)n, "via tty", 7), "output through /dev/tty");
	t_check(read(said[0], buf, 1) == 1 && buf[0] == 'h', "leader waits for the hangup");
	/* The child of the fork holds the master too: it closes nothing, so hang up by hand. */
	(void)close(s.master);
	MUST(kill(pid, 0));
	(void)kill(pid, SIGHUP);
	t_check(waitpid(pid, &status, 0) == pid && !status, "leader's verdict %#x", status);
	return t_done();
}
