/* SPDX-License-Identifier: GPL-2.0-only */
/* t: modes=control,leave,kill,twice */
/* The main stack: keeps its frames, its name and its flag, grows after a restore, and still has an end. */
#include "../lib/t.h"
#include "vma.h"
#include <alloca.h>
#include <sys/resource.h>

static int __attribute__((noinline)) deep(int depth, uint64_t seed)
{
	volatile uint64_t frame[512];
	int bad = 0;

	for (int i = 0; i < 512; i++)
		frame[i] = vma_word(seed, (size_t)(depth * 512 + i));
	if (depth > 0)
		bad = deep(depth - 1, seed);
	else if (seed == 1)
		t_ready();
	for (int i = 0; i < 512; i++)
		bad += frame[i] != vma_word(seed, (size_t)(depth * 512 + i));
	return bad;
}

static int endless(void *arg)
{
	struct rlimit none = { 0, 0 };

	(void)arg;
	setrlimit(RLIMIT_CORE, &none);
	return deep(1 << 20, 3) & 1;
}

int main(int argc, char **argv)
{
	t_init(argc, argv);

	char line[300];
	int here;
	pid_t kid = vma_child(NULL, endless, NULL);

	t_check(deep(200, 1) == 0, "200 frames of 4 KiB are unchanged");
	t_check(vma_flag(&here, "gd"), "the stack grows down");
	vma_line(&here, line, sizeof(line));
	t_check(strstr(line, "[stack]"), "is named a stack: %s", line);
	t_check(deep(1500, 2) == 0, "grows by 6 MiB");
	int st = vma_child_ask(kid);
	t_check(st == 128 + SIGSEGV, "a child's stack ends at its limit: %d", st);
	return t_done();
}
