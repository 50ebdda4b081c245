/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the machine can do at most, in nanoseconds for MIB mebibytes, one line each:
 *	limit memcpy MIB		warm memory to warm memory
 *	limit read MIB PID		/proc/PID/mem of a "rss" workload to a warm buffer
 *	limit save MIB PID FILE		the same, and on to a new file
 *	limit fault MIB			first touch of fresh memory
 *	limit ballast MIB		touches memory and gives it back: what is freed is backed by the host,
 *					until the kernel tells it of free pages (every other second)
 *	limit hold MIB			the same, and gives it back when its input ends
 */
#include "beat.h"
#include <sys/mman.h>

#define CHUNK (4u << 20)

static char *fresh(size_t len, int more)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | more, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	return p;
}

/* The largest mapping of the process is the workload's memory. */
static unsigned long target(const char *pid, size_t len)
{
	char path[64], line[512];
	unsigned long lo, hi, best = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &lo, &hi) == 2 && hi - lo >= len)
			best = lo;
	if (f)
		fclose(f);
	if (!best)
		exit(1);
	return best;
}

int main(int argc, char **argv)
{
	size_t len = argc > 2 ? (size_t)atol(argv[2]) << 20 : 0;
	uint64_t begin;

	if (!len)
		return 2;
	if (!strcmp(argv[1], "memcpy")) {
		char *a = fresh(len, MAP_POPULATE), *b = fresh(len, MAP_POPULATE);

		begin = beat_ns();
		memcpy(a, b, len);
		__asm__ volatile("" : : "r"(a) : "memory");
	} else if ((!strcmp(argv[1], "read") && argc == 4) || (!strcmp(argv[1], "save") && argc == 5)) {
		char path[64], *buf = fresh(CHUNK, MAP_POPULATE);
		unsigned long addr = target(argv[3], len);
		int fd, out = -1;

		snprintf(path, sizeof(path), "/proc/%s/mem", argv[3]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (argc == 5)
			out = open(argv[4], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0 || (argc == 5 && out < 0))
			return 1;
		begin = beat_ns();
		for (size_t at = 0; at < len; at += CHUNK) {
			if (pread(fd, buf, CHUNK, (off_t)(addr + at)) != CHUNK)
				return 1;
			if (out >= 0 && write(out, buf, CHUNK) != CHUNK)
				return 1;
		}
	} else if (!strcmp(argv[1], "fault") || !strcmp(argv[1], "ballast") || !strcmp(argv[1], "hold")) {
		begin = beat_ns();
		fresh(len, MAP_POPULATE);
		if (!strcmp(argv[1], "hold")) {
			puts("held");
			fflush(stdout);
			while (getchar() != EOF)
				;
		}
	} else {
		return 2;
	}
	printf("%llu\n", (unsigned long long)(beat_ns() - begin));
	return 0;
}
