// SPDX-License-Identifier: GPL-2.0-only
/* A tree of processes: exact pids, parents, sessions, groups, zombies with their
 * exit code or signal, stopped children. */
#include "t.h"

/* One line per process: what it saw of itself before, and what it sees after. */
struct self {
	pid_t pid, ppid, pgid, sid;
};

static void look(struct self *s)
{
	*s = (struct self){ getpid(), getppid(), getpgrp(), getsid(0) };
}

static void wait_and_verify(void)
{
	struct self a, b;

	look(&a);
	t_wait_go();
	look(&b);
	t_check(a.pid == b.pid && a.ppid == b.ppid && a.pgid == b.pgid && a.sid == b.sid,
		"pid %d parent %d group %d session %d: %d %d %d %d", a.pid, a.ppid, a.pgid, a.sid,
		b.pid, b.ppid, b.pgid, b.sid);
	_exit(t_status());
}

static char state(pid_t pid)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "%d/status", pid);
	return t_proc(path, "State")[0];
}

int main(int argc, char **argv)
{
	pid_t plain, group, mate, leader, zombie[3], stopped;
	int status;

	t_init(argc, argv);
	plain = t_fork();
	if (plain == 0)
		wait_and_verify();
	/* A process group of two. */
	group = t_fork();
	if (group == 0) {
		t_sys(setpgid(0, 0));
		wait_and_verify();
	}
	(void)setpgid(group, group);
	mate = t_fork();
	if (mate == 0) {
		t_sys(setpgid(0, group));
		wait_and_verify();
	}
	/* A session of its own with a child in another group of it. */
	leader = t_fork();
	if (leader == 0) {
		pid_t inner;

		t_sys(setsid());
		inner = t_fork();
		if (inner == 0) {
			t_sys(setpgid(0, 0));
			wait_and_verify();
		}
		t_until(getpgid(inner) == inner, "the inner group exists");
		t_wait_go();
		t_sys(kill(inner, SIGTERM));
		t_reap(inner, 0);
		t_check(getsid(0) == getpid(), "still leads its session");
		_exit(t_status());
	}
	/* Zombies. */
	for (int i = 0; i < 3; i++) {
		zombie[i] = t_fork();
		if (zombie[i] == 0) {
			if (i == 0)
				_exit(42);
			if (i == 1)
				abort();
			t_sys(setsid());
			(void)raise(SIGKILL);
		}
		t_until(state(zombie[i]) == 'Z', "a zombie");
	}
	stopped = t_fork();
	if (stopped == 0) {
		(void)raise(SIGSTOP);
		wait_and_verify();
	}
	t_until(state(stopped) == 'T', "stopped");
	t_until(getpgid(leader) == leader && getpgid(group) == group && getpgid(mate) == group,
		"groups exist");

	t_ready();

	t_check(getpgid(plain) == getpgrp() && getsid(plain) == getsid(0), "plain child");
	t_check(getpgid(mate) == group && getsid(mate) == getsid(0), "group %d: %d", group,
		getpgid(mate));
	t_check(getsid(leader) == leader && getpgid(leader) == leader, "own session");
	t_check(state(stopped) == 'T', "still stopped: %c", state(stopped));
	t_sys(waitpid(zombie[0], &status, 0));
	t_check(WIFEXITED(status) &&
			WEXITSTATUS(status) == 42,
		"zombie with exit(42): %#x", status);
	t_sys(waitpid(zombie[1], &status, 0));
	t_check(WIFSIGNALED(status) &&
			WTERMSIG(status) == SIGABRT,
		"zombie by SIGABRT: %#x", status);
	t_check(getsid(zombie[2]) == zombie[2], "session of a zombie: %d", getsid(zombie[2]));
	t_sys(waitpid(zombie[2], &status, 0));
	t_check(WIFSIGNALED(status) &&
			WTERMSIG(status) == SIGKILL,
		"zombie by SIGKILL: %#x", status);
	t_sys(kill(stopped, SIGTERM));
	t_sys(kill(stopped, SIGCONT));
	t_reap(stopped, 0);
	pid_t rest[] = { plain, group, mate, leader };

	for (size_t i = 0; i < T_ARRAY_SIZE(rest); i++) {
		t_sys(kill(rest[i], SIGTERM));
		t_reap(rest[i], 0);
	}
	t_check(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD, "no other child");
	return t_done();
}
