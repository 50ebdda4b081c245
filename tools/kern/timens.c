// SPDX-License-Identifier: GPL-2.0-only
#include "kern/timens.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kern/procfs.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define NS 1000000000

/* "monotonic  SECONDS  NANOSECONDS" in one line, "boottime …" in another. */
static int64_t offset_of(const char *text, const char *clock)
{
	const char *p = strstr(text, clock);
	int64_t sec = 0, nsec = 0;

	if (!p || sscanf(p + strlen(clock), "%" SCNd64 " %" SCNd64, &sec, &nsec) != 2)
		return 0;
	return sec * NS + nsec;
}

int timens_read(int pid, struct timens_offsets *ret, struct ckpt_err *err)
{
	auto_free char *text = NULL;
	struct ckpt_err why = { 0 };
	char path[48];

	*ret = (struct timens_offsets) { 0 };
	if (proc_read(pid, "timens_offsets", &text, NULL, &why)) {
		(void)snprintf(path, sizeof(path), "/proc/%d/timens_offsets", pid);
		if (access(path, F_OK) && errno == ENOENT && !access("/proc/self/stat", F_OK))
			return 0;
		*err = why;
		return err->code;
	}
	ret->monotonic_ns = offset_of(text, "monotonic");
	ret->boottime_ns = offset_of(text, "boottime");
	return 0;
}

static int put_offsets(const struct timens_offsets *want)
{
	const struct {
		const char *clock;
		int64_t ns;
	} all[] = { { "monotonic", want->monotonic_ns }, { "boottime", want->boottime_ns } };
	auto_fd fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	char text[160];
	int n = 0;

	if (fd < 0)
		return errno;
	for (int i = 0; i < 2; i++) {
		int64_t sec = all[i].ns / NS, nsec = all[i].ns % NS;

		if (nsec < 0) {
			nsec += NS;
			sec--;
		}
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s %" PRId64 " %" PRId64 "\n",
			      all[i].clock, sec, nsec);
	}
	return write(fd, text, (size_t)n) == n ? 0 : errno ? errno : EIO;
}

int timens_make(const struct timens_offsets *want)
{
	int ready[2], rc = 0, fd = -1;
	char path[64];
	pid_t pid;

	/* In a child, for who has made one makes all its children in it. */
	if (pipe2(ready, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid == 0) {
		unsigned char why = 0;

		if (unshare(CLONE_NEWTIME))
			why = (unsigned char)errno;
		else
			why = (unsigned char)put_offsets(want);
		(void)!write(ready[1], &why, 1);
		(void)pause();
		_exit(0);
	}
	rc = pid < 0 ? -errno : 0;
	(void)close(ready[1]);
	if (!rc) {
		unsigned char why = ECHILD;

		if (read(ready[0], &why, 1) != 1 || why)
			rc = -why;
	}
	if (!rc) {
		(void)snprintf(path, sizeof(path), "/proc/%d/ns/time_for_children", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		rc = fd < 0 ? -errno : 0;
	}
	(void)close(ready[0]);
	if (pid > 0) {
		(void)kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	return rc ? rc : fd;
}
