// SPDX-License-Identifier: GPL-2.0-only
#include "base/fault.h"

#ifdef CKPT_FAULT_POINTS
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* CKPT_FAULT_MET names a file that appears when the point was reached. */
static void note_met(void)
{
	const char *path = getenv("CKPT_FAULT_MET");
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;

	if (fd >= 0)
		(void)close(fd);
}

int ckpt_fault_hit(const char *point)
{
	const char *want = getenv("CKPT_FAULT");
	size_t n = strlen(point);

	if (!want || strncmp(want, point, n) != 0 || want[n] != ':')
		return 0;
	note_met();
	if (!strcmp(want + n, ":kill")) {
		raise(SIGKILL);
		_exit(128 + SIGKILL); /* the init of a pid namespace does not kill itself */
	}
	if (!strcmp(want + n, ":orphan")) {
		static bool once;

		if (!once)
			(void)kill(getppid(), SIGKILL);
		once = true;
	}
	if (!strcmp(want + n, ":stop"))
		raise(SIGSTOP);
	return strcmp(want + n, ":fail") ? 0 : -EIO;
}
#endif
