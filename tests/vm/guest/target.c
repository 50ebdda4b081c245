// SPDX-License-Identifier: GPL-2.0-only
/*
 * The target: a child that waits for a command in read(), so that it stands
 * still while the test looks at it, and runs one step of a path per command.
 * That a step is done does not mean that it stands still: on a slow machine it
 * is then on its way into read() and writes to its stack.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

void touch(struct env *e, size_t i)
{
	volatile uint64_t *p = (volatile uint64_t *)(e->base + i * PAGE);

	e->sh->stamp++;
	p[(e->sh->stamp * 7) % 512] = e->sh->stamp;
	e->sh->touched[i] = 1;
}

void touched(struct env *e, size_t i)
{
	e->sh->touched[i] = 1;
}

void target_give_up(struct env *e, int how, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->sh->why, sizeof(e->sh->why), fmt, ap);
	va_end(ap);
	e->sh->failed = how;
	_exit(3);
}

void pid_wait_reading(pid_t pid)
{
	uint64_t deadline = now_ns() + patience_seconds() * 1000000000ULL;
	char path[64], buf[256];

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	for (;;) {
		/* "0 ..." is read(); "running" is not. */
		if (read_file(path, buf, sizeof(buf)) < 0)
			return; /* it died: its next step will tell */
		if (!strncmp(buf, "0 ", 2))
			return;
		if (now_ns() > deadline)
			FAIL("process %d does not come to rest: %s", pid, buf);
		poll(NULL, 0, 1);
	}
}

static void wait_ack(struct target *t)
{
	char c;

	while (read(t->ack, &c, 1) != 1) {
		if (errno == EINTR)
			continue;
		if (t->sh->failed == 2)
			SKIP("%s", t->sh->why);
		FAIL("the target failed: %s", t->sh->failed ? t->sh->why : "it died");
	}
	if (t->sh->failed == 2)
		SKIP("%s", t->sh->why);
	if (t->sh->failed)
		FAIL("the target failed: %s", t->sh->why);
	pid_wait_reading(t->pid);
}

void target_start(struct target *t, const struct path *p)
{
	int cmd[2], ack[2];
	char c;

	t->sh = mmap(NULL, sizeof(*t->sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(t->sh != MAP_FAILED);
	SYS(pipe(cmd));
	SYS(pipe(ack));
	t->pid = SYS(fork());
	if (!t->pid) {
		struct env e = { .sh = t->sh };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(cmd[1]);
		close(ack[0]);
		p->setup(&e);
		e.sh->base = e.base;
		e.sh->pages = e.pages;
		c = 0;
		for (;;) {
			if (write(ack[1], &c, 1) != 1 || read(cmd[0], &c, 1) != 1)
				_exit(0);
			p->step(&e, c);
			e.sh->base = e.base;
			e.sh->pages = e.pages;
		}
	}
	close(cmd[0]);
	close(ack[1]);
	t->cmd = cmd[1];
	t->ack = ack[0];
	wait_ack(t);
}

void target_step(struct target *t, int step)
{
	char c = step;

	CHECK(write(t->cmd, &c, 1) == 1);
	wait_ack(t);
}

void target_stop(struct target *t)
{
	close(t->cmd);
	close(t->ack);
	kill(t->pid, SIGKILL);
	while (waitpid(t->pid, NULL, 0) < 0 && errno == EINTR)
		;
	munmap(t->sh, sizeof(*t->sh));
}
