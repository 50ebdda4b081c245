/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The way in and the way out of a target, put behind the last used byte of its
 * vDSO page. Position independent; ckpt copies [ckpt_tramp, ckpt_tramp_end) and
 * fills the data words. Whatever happens to ckpt, running on from any of these
 * instructions unmaps the arena and ends with the target's own registers.
 */
	.section .rodata
	.globl ckpt_tramp, ckpt_tramp_safe, ckpt_tramp_leave, ckpt_tramp_unmapped, ckpt_tramp_data, ckpt_tramp_end
	.balign 16
ckpt_tramp:				/* mmap: all registers set by ckpt */
	syscall
	mov	%rax, %rdi
	mov	d_len(%rip), %rsi
	jmp	ckpt_tramp_leave
ckpt_tramp_safe:			/* rsp: the target's own, so that signals may come */
	mov	$2, %edi		/* SIG_SETMASK */
	lea	d_all(%rip), %rsi
	mov	$0, %edx
	mov	$8, %r10d
	mov	$14, %eax		/* rt_sigprocmask */
	syscall
	mov	d_arena(%rip), %rdi
	mov	d_arena_len(%rip), %rsi	/* 0: none, and munmap fails */
ckpt_tramp_leave:			/* rdi, rsi: the arena */
	mov	$11, %eax		/* munmap */
	syscall
ckpt_tramp_unmapped:			/* registers and mask are all that is left to do */
	lea	d_flags(%rip), %rsp	/* read only: a pop writes nothing */
	popfq
	mov	d_rsp(%rip), %rsp
	mov	$2, %edi		/* SIG_SETMASK */
	lea	d_mask(%rip), %rsi
	mov	$0, %edx
	mov	$8, %r10d
	mov	$14, %eax		/* rt_sigprocmask */
	syscall
	mov	d_rax(%rip), %rax
	mov	d_rbx(%rip), %rbx
	mov	d_rcx(%rip), %rcx
	mov	d_rdx(%rip), %rdx
	mov	d_rsi(%rip), %rsi
	mov	d_rdi(%rip), %rdi
	mov	d_rbp(%rip), %rbp
	mov	d_r8(%rip), %r8
	mov	d_r9(%rip), %r9
	mov	d_r10(%rip), %r10
	mov	d_r11(%rip), %r11
	mov	d_r12(%rip), %r12
	mov	d_r13(%rip), %r13
	mov	d_r14(%rip), %r14
	mov	d_r15(%rip), %r15
	jmp	*d_rip(%rip)
	.balign 8
ckpt_tramp_data:			/* struct tramp_data in kern/inject.c */
d_len:	.quad 0
d_arena: .quad 0
d_arena_len: .quad 0
d_all:	.quad 0
d_mask:	.quad 0
d_flags: .quad 0
d_rip:	.quad 0
d_rsp:	.quad 0
d_rax:	.quad 0
d_rbx:	.quad 0
d_rcx:	.quad 0
d_rdx:	.quad 0
d_rsi:	.quad 0
d_rdi:	.quad 0
d_rbp:	.quad 0
d_r8:	.quad 0
d_r9:	.quad 0
d_r10:	.quad 0
d_r11:	.quad 0
d_r12:	.quad 0
d_r13:	.quad 0
d_r14:	.quad 0
d_r15:	.quad 0
ckpt_tramp_end:

	.globl ckpt_blob, ckpt_blob_end
	.balign 16
ckpt_blob:
	.incbin BLOB_BIN
ckpt_blob_end:
	.section .note.GNU-stack, "", @progbits
