/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The trampoline as ckpt sees it (blob/trampoline_x86_64.S), and what a ckpt
 * that was killed may have left of it in a program.
 */
#ifndef CKPT_KERN_TRAMP_H
#define CKPT_KERN_TRAMP_H

#include "kern/target.h"

extern const unsigned char ckpt_tramp[], ckpt_tramp_safe[], ckpt_tramp_leave[],
	ckpt_tramp_unmapped[], ckpt_tramp_data[], ckpt_tramp_end[];

/* The words behind ckpt_tramp_data, in the order of trampoline_x86_64.S. */
struct tramp_data {
	uint64_t len, arena, arena_len, all, mask, flags, rip, rsp;
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
};

#define TRAMP_SIZE ((uint64_t)(ckpt_tramp_end - ckpt_tramp))
#define ALL_SIGNALS (~0ull)

/* Is there any there that a killed ckpt left? */
bool tramp_any(const struct target_task *task, uint64_t tail, const unsigned char *bytes,
	       size_t room);
/*
 * Where in the @room @bytes at @tail, behind the vDSO of a frozen task, the trampoline goes. A
 * place that holds one is not used again: a ckpt was killed, and a signal handler of the program
 * may yet return into it. A thread that is still inside, or in the arena it belongs to, is led to
 * where it is done with both, and its record in @task says what it left with: the program's own
 * registers. 0 and *ret_addr, or E_FREEZE.
 */
int tramp_place(struct target_task *task, uint64_t tail, const unsigned char *bytes, size_t room,
		uint64_t *ret_addr, struct ckpt_err *err) __must_check;

#endif
