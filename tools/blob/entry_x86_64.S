/* SPDX-License-Identifier: GPL-2.0-only */
/* Entry and system calls of the interpreter. Offset 0 is the entry point. */
#include "blob/step.h"

	.section .text.entry, "ax"
	.globl blob_entry
	.hidden blob_entry
blob_entry:				/* rdi: slot, rsp: its stack, 16-aligned */
	xor	%ebp, %ebp
	mov	%rdi, %rbx
	call	blob_main
	mov	CKPT_SLOT_OFF_ARENA(%rbx), %rdi
	mov	CKPT_SLOT_OFF_ARENA_LEN(%rbx), %rsi
	mov	CKPT_SLOT_OFF_LEAVE(%rbx), %rax
	test	%rax, %rax
	jz	1f
	jmp	*%rax
1:	/* restore: the owner died before the program was whole */
	mov	$9, %edi
	mov	$231, %eax		/* exit_group */
	syscall
	ud2

	.text
	.globl blob_syscall
	.hidden blob_syscall
blob_syscall:				/* rdi: nr, rsi: uint64_t arg[6] */
	mov	%rdi, %rax
	mov	%rsi, %r11
	mov	0(%r11), %rdi
	mov	8(%r11), %rsi
	mov	16(%r11), %rdx
	mov	24(%r11), %r10
	mov	32(%r11), %r8
	mov	40(%r11), %r9
	syscall
	ret

	.globl blob_clone
	.hidden blob_clone
blob_clone:				/* rdi: clone_args, rsi: size, rdx: slot */
	mov	%rdx, %r8
	mov	$435, %eax		/* clone3 */
	syscall
	test	%rax, %rax
	jnz	1f
	mov	%r8, %rdi		/* the child, on its own stack */
	jmp	blob_entry
1:	ret

	.section .note.GNU-stack, "", @progbits
