// SPDX-License-Identifier: GPL-2.0-only
/*
 * Run a command and write "nanoseconds KiB status" of it to a file: wall time from before it is
 * made until it has ended, and its peak memory. The kernel counts as a program's peak also that of
 * what called exec, so whoever measures must be small itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned long long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (unsigned long long)ts.tv_sec * 1000000000u + (unsigned long long)ts.tv_nsec;
}

int main(int argc, char **argv)
{
	struct rusage ru;
	unsigned long long begin, end;
	int status;
	pid_t pid;
	FILE *f;

	if (argc < 3) {
		fprintf(stderr, "usage: meter FILE COMMAND…\n");
		return 2;
	}
	begin = now_ns();
	pid = vfork();
	if (!pid) {
		execv(argv[2], argv + 2);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &ru) != pid)
		return 1;
	end = now_ns();
	f = fopen(argv[1], "we");
	if (!f || fprintf(f, "%llu %ld %d\n", end - begin, ru.ru_maxrss, status) < 0 || fclose(f))
		return 1;
	return 0;
}
