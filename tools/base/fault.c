// SPDX-License-Identifier: GPL-2.0-only
#include "base/fault.h"

#ifdef CKPT_FAULT_POINTS
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

int ckpt_fault(const char *point)
{
	const char *want = getenv("CKPT_FAULT");
	size_t n = strlen(point);

	if (!want || strncmp(want, point, n) != 0 || want[n] != ':')
		return 0;
	if (!strcmp(want + n, ":kill"))
		raise(SIGKILL);
	if (!strcmp(want + n, ":stop"))
		raise(SIGSTOP);
	return strcmp(want + n, ":fail") ? 0 : -EIO;
}
#endif
