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

/* The N of "point:how@N": not at once, but where a process comes there for the Nth time. */
static bool is_turn(const char *how)
{
	static unsigned long turn;
	const char *at = how + strcspn(how, "@,");

	return *at != '@' ||
	       __atomic_add_fetch(&turn, 1, __ATOMIC_RELAXED) == strtoul(at + 1, NULL, 10);
}

static bool is_how(const char *how, const char *name)
{
	size_t n = strlen(name);

	return !strncmp(how, name, n) && (!how[n] || how[n] == '@' || how[n] == ',');
}

/* What CKPT_FAULT, a list with commas, wants at the point; NULL: nothing. */
static const char *how_at(const char *point)
{
	const char *want = getenv("CKPT_FAULT");
	size_t n = strlen(point);

	for (; want; want = strchr(want, ',')) {
		want += *want == ',';
		if (!strncmp(want, point, n) && want[n] == ':')
			return want + n + 1;
	}
	return NULL;
}

static void hold(void)
{
	const char *path = getenv("CKPT_FAULT_MET");

	while (path && !access(path, F_OK))
		(void)usleep(1000);
}

int ckpt_fault_hit(const char *point)
{
	const char *how = how_at(point);

	if (!how || !is_turn(how))
		return 0;
	note_met();
	if (is_how(how, "kill")) {
		raise(SIGKILL);
		_exit(128 + SIGKILL); /* the init of a pid namespace does not kill itself */
	}
	if (is_how(how, "orphan")) {
		static bool once;

		if (!once)
			(void)kill(getppid(), SIGKILL);
		once = true;
	}
	if (is_how(how, "stop"))
		raise(SIGSTOP);
	if (is_how(how, "hold"))
		hold();
	return is_how(how, "fail") ? -EIO : 0;
}
#endif
