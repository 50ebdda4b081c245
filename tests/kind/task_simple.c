// SPDX-License-Identifier: GPL-2.0-only
/* The smallest program: data, bss, heap and stack survive, and it goes on where it was. */
#include "t.h"

static uint64_t data[512] = { 1, 2, 3 };
static uint64_t bss[4096];

int main(int argc, char **argv)
{
	volatile uint64_t stack[256];
	uint64_t *heap = malloc(1 << 16), *big = malloc(1 << 20);
	pid_t pid = getpid();

	t_init(argc, argv);
	if (!heap || !big)
		t_die(__FILE__, __LINE__, "malloc");
	for (size_t i = 0; i < 256; i++) {
		stack[i] = t_pattern(i);
		data[i + 3] = t_pattern(i + 1);
		bss[i * 16] = t_pattern(i + 2);
		heap[i * 32] = t_pattern(i + 3);
		big[i * 512] = t_pattern(i + 4);
	}
	t_ready();
	for (size_t i = 0; i < 256; i++) {
		t_check(stack[i] == t_pattern(i), "stack[%zu]", i);
		t_check(data[i + 3] == t_pattern(i + 1), "data[%zu]", i);
		t_check(bss[i * 16] == t_pattern(i + 2), "bss[%zu]", i);
		t_check(heap[i * 32] == t_pattern(i + 3), "heap[%zu]", i);
		t_check(big[i * 512] == t_pattern(i + 4), "big[%zu]", i);
	}
	t_check(getpid() == pid, "pid %d is %d", pid, getpid());
	/* The program's allocator still works. */
	for (size_t i = 1; i < 1000; i++) {
		char *p = malloc(i * 100);

		t_check(p, "malloc(%zu)", i * 100);
		memset(p, 1, i * 100);
		free(p);
	}
	free(heap);
	free(big);
	return t_done();
}
