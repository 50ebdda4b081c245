// SPDX-License-Identifier: GPL-2.0-only
/*
 * A program that is tracked for incremental checkpoints and moves. Its session cannot come along:
 * what was written since a checkpoint here says nothing to a checkpoint there. Nor can it stay
 * while it moves, for both would ask the same kernel what was written, and each would take it from
 * the other. So it ends here, and one begins there with the first checkpoint there.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "migrate/source.h"
#include "migrate/tree.h"
#include "track/keeper.h"

#define KEEPER_END_MS 20000

/* What it holds is the kernel's again when it has ended. */
static int keeper_await(int pid, struct ckpt_err *err)
{
	auto_fd fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd end = { .fd = fd, .events = POLLIN };

	if (fd < 0 || poll(&end, 1, KEEPER_END_MS) > 0)
		return 0;
	return ckpt_fail(err, E_TRACK, -ETIMEDOUT, "the keeper of a tracking session does not end");
}

static int session_end(struct source *s, int pid, struct ckpt_err *err)
{
	struct keeper_state state = { 0 };
	auto_fd sock = -1;
	int rc = keeper_connect(pid, &sock, err);

	if (rc == -ENOENT)
		return 0;
	if (!rc)
		rc = keeper_status(sock, &state, err);
	if (!rc)
		rc = keeper_stop(sock, err);
	if (!rc)
		rc = keeper_await(state.keeper_pid, err);
	if (!rc)
		ui_note(s->ui, 0,
			"the tracking session of process %d ends here; its next checkpoint is a "
			"full "
			"one%s",
			pid, s->opts->track ? ", made over there" : "");
	return rc;
}

int source_untrack(struct source *s, struct ckpt_err *err)
{
	struct tree t = { 0 };
	int rc = 0;

	tree_look(&t, s->opts->pid);
	if (!t.births.n)
		rc = session_end(s, s->opts->pid, err);
	for (size_t i = 0; !rc && i < t.births.n; i++)
		if (!t.seen[i].zombie)
			rc = session_end(s, t.seen[i].pid, err);
	tree_free(&t);
	return rc;
}
