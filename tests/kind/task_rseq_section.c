// SPDX-License-Identifier: GPL-2.0-only
/*
 * A restartable sequence that was stopped never goes on: it is aborted, as by any preemption. Both
 * threads are bound to one processor, so the main thread cannot run without preempting the section; a
 * section that sees what the main thread wrote was therefore continued where it must not be.
 */
#define _GNU_SOURCE
#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <sys/rseq.h>

#include "t.h"

static volatile uint32_t stage, entered;

/* 1: continued inside the section; 0: aborted and saw the stage outside. */
static int section(void)
{
	struct rseq *rseq = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	int continued = 0;

	__asm__ volatile goto(
		".pushsection __rseq_cs, \"aw\"\n\t"
		".balign 32\n\t"
		"7:\n\t"
		".long 0, 0\n\t"
		".quad 1f, 2f - 1f, 4f\n\t"
		".popsection\n\t"
		"lea 7b(%%rip), %%rax\n\t"
		"mov %%rax, 8(%0)\n\t" /* rseq_cs */
		"1:\n\t"
		"movl $1, %2\n\t"
		"9: cmpl $0, %1\n\t"
		"je 9b\n\t"
		"2:\n\t"
		"jmp %l[committed]\n\t"
		".byte 0x0f, 0xb9, 0x3d\n\t"
		".long 0x53053053\n\t"
		"4:\n\t"
		"jmp %l[aborted]\n\t"
		:
		: "r"(rseq), "m"(stage), "m"(entered)
		: "memory", "rax", "cc"
		: committed, aborted);
committed:
	continued = 1;
aborted:
	return continued;
}

static void *run(void *arg)
{
	int continued;

	do {
		continued = section();
	} while (!stage && !continued);
	*(int *)arg = continued;
	return NULL;
}

int main(int argc, char **argv)
{
	int continued = 0;
	pthread_t t;
	cpu_set_t cpu;

	t_init(argc, argv);
	if (!__rseq_size)
		t_skip("rseq registered by the C library");
	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	t_check(!sched_setaffinity(0, sizeof(cpu), &cpu), "sched_setaffinity");
	t_check(!pthread_create(&t, NULL, run, &continued), "pthread_create");
	while (!entered)
		sched_yield();
	t_ready();
	stage = 1;
	pthread_join(t, NULL);
	t_check(!continued, "the section was continued after it was stopped");
	return t_done();
}
