/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The heartbeat of a workload: it looks at the clock every 0.2 ms and remembers the longest gap, which
 * is the pause as the program itself sees it. SIGUSR1 makes it write that gap and the verdict on its own
 * data to the file REPORT, and start anew; SIGUSR2 the gap alone, and do nothing else. Knows nothing of
 * the tools it is measured with.
 */
#ifndef CKPT_BENCH_BEAT_H
#define CKPT_BENCH_BEAT_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t beat_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/** Blocks the signals; call it before threads and children are made. */
static inline void beat_init(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/** Writes @path under a temporary name first, so that a reader sees all or nothing. */
static inline void beat_report(const char *path, uint64_t gap, bool right)
{
	char tmp[4096], text[100];
	int fd, n;

	snprintf(tmp, sizeof(tmp), "%s.new", path);
	n = snprintf(text, sizeof(text), "%llu %s\n", (unsigned long long)gap, right ? "right" : "wrong");
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, (size_t)n) != n)
		_exit(3);
	close(fd);
	if (rename(tmp, path) < 0)
		_exit(3);
}

/** Never returns; @verify looks at the workload's data. */
static inline void beat_run(const char *path, bool (*verify)(void))
{
	const struct timespec tick = { 0, 200000 };
	uint64_t last, now, gap = 0;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	beat_report(path, 0, true);
	for (last = beat_ns();; last = now) {
		int sig = sigtimedwait(&set, NULL, &tick);

		now = beat_ns();
		if (now - last > gap)
			gap = now - last;
		if (sig > 0) {
			beat_report(path, gap, sig == SIGUSR2 || !verify || verify());
			gap = 0;
			now = beat_ns();
		}
	}
}

#endif
