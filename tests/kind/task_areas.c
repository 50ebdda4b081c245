// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel knows about the program's start: exe link, command line, environment, auxiliary
 * vector and the areas of /proc/PID/stat; also a command line that the program has rewritten. */
#include "t.h"

#include <limits.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

static const char *const files[] = { "cmdline", "environ", "auxv" };
static char before[3][16384], after[3][16384];
static ssize_t len[3];

/* Fields 26-28 (code, stack) and 45-51 (data, brk, arguments, environment) of stat. */
static void areas(char *out, size_t size)
{
	char text[2048], *p;
	int field = 3;

	out[0] = 0;
	if (t_slurp("/proc/self/stat", text, sizeof(text)) < 0)
		return;
	p = strrchr(text, ')') + 2;
	for (char *save = NULL, *word = strtok_r(p, " \n", &save); word;
	     word = strtok_r(NULL, " \n", &save), field++)
		if ((field >= 26 && field <= 28) || (field >= 45 && field <= 51))
			(void)snprintf(out + strlen(out), size - strlen(out), "%d=%s ", field, word);
}

int main(int argc, char **argv)
{
	char exe[2][PATH_MAX] = { { 0 } }, map[2][1024];
	char path[64];
	unsigned long entry;

	t_init(argc, argv);
	/* As a server does to show its state in ps. */
	memset(argv[0], 0, strlen(argv[0]));
	(void)strcpy(argv[0], "idle");
	entry = getauxval(AT_ENTRY);
	for (int i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof(path), "/proc/self/%s", files[i]);
		len[i] = t_slurp(path, before[i], sizeof(before[i]));
		t_check(len[i] > 0, "%s is readable", path);
	}
	t_sys(readlink("/proc/self/exe", exe[0], PATH_MAX - 1));
	areas(map[0], sizeof(map[0]));
	t_ready();
	t_sys(readlink("/proc/self/exe", exe[1], PATH_MAX - 1));
	areas(map[1], sizeof(map[1]));
	t_check(strcmp(exe[0], exe[1]) == 0, "exe %s: %s", exe[0], exe[1]);
	t_check(strcmp(map[0], map[1]) == 0, "areas %s: %s", map[0], map[1]);
	for (int i = 0; i < 3; i++) {
		ssize_t n;

		(void)snprintf(path, sizeof(path), "/proc/self/%s", files[i]);
		n = t_slurp(path, after[i], sizeof(after[i]));
		t_check(n == len[i] && memcmp(before[i], after[i], (size_t)n) == 0,
			"%s: %zd bytes: %zd", path, len[i], n);
	}
	t_check(getauxval(AT_ENTRY) == entry && *(char *)getauxval(AT_EXECFN) == '/',
		"auxiliary vector in memory");
	/* brk still works where it was. */
	t_check(sbrk(4096) != (void *)-1, "the heap grows, errno %d", errno);
	/* The vDSO still works. */
	struct timespec a, b;

	t_sys(clock_gettime(CLOCK_MONOTONIC, &a));
	t_sys(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &b));
	t_check((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec < 1000000000 &&
			(b.tv_sec > a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec >= a.tv_nsec)),
		"the vDSO's clock agrees with the kernel's");
	return t_done();
}
