// SPDX-License-Identifier: GPL-2.0-only
/* Processes whose session or group has lost its leader, as daemons that forked twice and pipelines
 * whose first member was waited for, below the subreaper that has adopted them. */
#include "t.h"

#include <sys/mman.h>
#include <sys/prctl.h>

enum { MAX = 16 };

static struct table {
	atomic_int n;
	struct self {
		pid_t pid, ppid, pgid, sid;
	} v[MAX];
} *all;

static void look(struct self *s)
{
	*s = (struct self){ getpid(), getppid(), getpgrp(), getsid(0) };
}

/* Wait until it has been adopted by @parent, say who it is, and find the same after the restore. */
static void wait_and_verify(pid_t parent)
{
	struct self a, b;

	t_until(getppid() == parent, "adopted");
	look(&a);
	all->v[atomic_fetch_add(&all->n, 1)] = a;
	t_wait_go();
	look(&b);
	t_check(a.pid == b.pid && a.ppid == b.ppid && a.pgid == b.pgid && a.sid == b.sid,
		"pid %d parent %d group %d session %d: %d %d %d %d", a.pid, a.ppid, a.pgid, a.sid, b.pid,
		b.ppid, b.pgid, b.sid);
	_exit(t_status());
}

static void until_many(int n)
{
	t_until(atomic_load(&all->n) == n, "everyone is there");
}

int main(int argc, char **argv)
{
	pid_t self = getpid(), middle, leader, zombie_leader, zombie, first, deep, left;
	int others = 0;

	t_init(argc, argv);
	t_sys(prctl(PR_SET_CHILD_SUBREAPER, 1));
	all = mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	t_check(all != MAP_FAILED, "shared memory");

	/* A daemon of two processes, and one in a group of its own with a child in it. */
	middle = t_fork();
	if (middle == 0) {
		t_sys(setsid());
		if (!t_fork())
			wait_and_verify(self);
		if (!t_fork())
			wait_and_verify(self);
		if (!t_fork()) {
			pid_t child, session = getsid(0);

			t_sys(setpgid(0, 0));
			child = t_fork();
			if (!child)
				wait_and_verify(getppid());
			t_until(getppid() == self, "adopted");
			all->v[atomic_fetch_add(&all->n, 1)] =
				(struct self){ getpid(), getppid(), getpgrp(), getsid(0) };
			t_wait_go();
			t_reap(child, 0);
			t_check(getsid(0) == session && getpgrp() == getpid(), "its own group");
			_exit(t_status());
		}
		_exit(0);
	}
	t_reap(middle, 0);
	until_many(4);

	/* A pipeline: the first member has ended; the others are children of different parents. */
	first = t_fork();
	if (first == 0) {
		t_sys(setpgid(0, 0));
		t_until(atomic_load(&all->n) == 6, "the group has members");
		_exit(0);
	}
	(void)setpgid(first, first);
	if (!t_fork()) {
		t_sys(setpgid(0, first));
		wait_and_verify(self);
	}
	others = (int)t_fork();
	if (!others) {
		pid_t child = t_fork();

		if (!child) {
			t_sys(setpgid(0, first));
			wait_and_verify(getppid());
		}
		t_wait_go();
		t_reap(child, 0);
		_exit(t_status());
	}
	until_many(6);
	t_reap(first, 0);

	/* A group whose leader lives and has left it. */
	left = t_fork();
	if (left == 0) {
		pid_t child;

		t_sys(setpgid(0, 0));
		child = t_fork();
		if (!child)
			wait_and_verify(getppid());
		until_many(7);
		t_sys(setpgid(0, getpgid(self)));
		all->v[atomic_fetch_add(&all->n, 1)] =
			(struct self){ getpid(), self, getpgrp(), getsid(0) };
		t_wait_go();
		t_check(getpgrp() == getpgid(self) && getpgid(child) == getpid(), "groups %d %d",
			getpgrp(), getpgid(child));
		t_reap(child, 0);
		_exit(t_status());
	}
	until_many(8);

	/* A session whose leader lives, beside the one it has lost to its grandparent. */
	leader = t_fork();
	if (leader == 0) {
		t_sys(setsid());
		if (!t_fork()) {
			if (!t_fork())
				wait_and_verify(self);
			_exit(0);
		}
		t_sys(wait(NULL));
		t_wait_go();
		t_check(getsid(0) == getpid(), "still leads its session");
		_exit(t_status());
	}
	until_many(9);
	/* The same further down. */
	deep = t_fork();
	if (deep == 0) {
		pid_t inner = t_fork();

		if (!inner) {
			t_sys(setsid());
			if (!t_fork()) {
				if (!t_fork())
					wait_and_verify(self);
				_exit(0);
			}
			t_sys(wait(NULL));
			t_wait_go();
			_exit(t_status());
		}
		t_wait_go();
		t_sys(kill(inner, SIGTERM));
		t_reap(inner, 0);
		_exit(t_status());
	}
	until_many(10);
	/* A leader that has ended and waits, with a member that lives. */
	zombie_leader = t_fork();
	if (zombie_leader == 0) {
		t_sys(setsid());
		if (!t_fork())
			wait_and_verify(self);
		_exit(5);
	}
	/* And a zombie in a group that others lead. */
	zombie = t_fork();
	if (zombie == 0) {
		t_sys(setpgid(0, first));
		_exit(6);
	}
	until_many(11);
	{
		siginfo_t si;

		t_sys(waitid(P_PID, zombie, &si, WEXITED | WNOWAIT));
		t_sys(waitid(P_PID, zombie_leader, &si, WEXITED | WNOWAIT));
	}

	t_ready();

	for (int i = 0; i < 11; i++) {
		const struct self *s = &all->v[i];

		t_check(getsid(s->pid) == s->sid && getpgid(s->pid) == s->pgid,
			"pid %d in session %d, group %d: %d %d", s->pid, s->sid, s->pgid, getsid(s->pid),
			getpgid(s->pid));
	}
	t_check(all->v[0].sid == middle && getsid(all->v[0].pid) == middle, "session %d", middle);
	t_check(getpgid(zombie) == first, "group of a zombie: %d", getpgid(zombie));
	t_check(getsid(zombie_leader) == zombie_leader, "session of a zombie");
	t_check(kill(middle, 0) == -1 && kill(first, 0) == -1, "the leaders are still gone");
	t_check(waitpid(-first, NULL, WNOHANG) == zombie, "waited for by its group");
	t_reap(zombie_leader, 5);
	for (int i = 0; i < 11; i++)
		if (all->v[i].ppid != self)
			t_sys(kill(all->v[i].pid, SIGTERM));
	for (int i = 0; i < 11; i++) {
		if (all->v[i].ppid != self)
			continue;
		t_sys(kill(all->v[i].pid, SIGTERM));
		t_reap(all->v[i].pid, 0);
	}
	t_sys(kill(others, SIGTERM));
	t_reap(others, 0);
	t_sys(kill(leader, SIGTERM));
	t_reap(leader, 0);
	t_sys(kill(deep, SIGTERM));
	t_reap(deep, 0);
	t_check(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "no other child");
	return t_done();
}
