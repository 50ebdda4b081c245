// SPDX-License-Identifier: GPL-2.0-only
#include "kern/arch.h"

#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <linux/sched.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define XSAVE_MAX 65536

uint64_t arch_xfeatures(void)
{
	/* To ask the processor takes a virtual machine microseconds. */
	static int known; /* 0: not asked yet, 1: it has them, -1: it has not */
	unsigned int a, b, c, d;

	if (!__atomic_load_n(&known, __ATOMIC_RELAXED))
		__atomic_store_n(&known,
				 __get_cpuid(1, &a, &b, &c, &d) && (c & bit_OSXSAVE) ? 1 : -1,
				 __ATOMIC_RELAXED);
	if (__atomic_load_n(&known, __ATOMIC_RELAXED) < 0)
		return 0;
	__asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return ((uint64_t)d << 32) | a;
}

size_t arch_xsave_bytes(void)
{
	unsigned int a, b, c, d;

	if (!arch_xfeatures())
		return 512;
	__cpuid_count(0xd, 0, a, b, c, d);
	return b;
}

int arch_get_xsave(int tid, unsigned char **ret, size_t *ret_len)
{
	struct iovec iov = { malloc(XSAVE_MAX), XSAVE_MAX };

	if (!iov.iov_base)
		return -ENOMEM;
	if (ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &iov)) {
		free(iov.iov_base);
		return -errno;
	}
	*ret = realloc(iov.iov_base, iov.iov_len);
	*ret_len = iov.iov_len;
	return 0;
}

int arch_set_xsave(int tid, const unsigned char *buf, size_t len)
{
	struct iovec iov = { (void *)buf, len };

	return ptrace(PTRACE_SETREGSET, tid, NT_X86_XSTATE, &iov) ? -errno : 0;
}

pid_t arch_clone(const struct clone_args *args, int (*fn)(void *), void *arg)
{
	long pid;

	__asm__ volatile(
		"syscall\n\t"
		"test	%%rax, %%rax\n\t"
		"jnz	1f\n\t"
		"xor	%%ebp, %%ebp\n\t"
		"mov	%[arg], %%rdi\n\t"
		"call	*%[fn]\n\t"
		"mov	%%eax, %%edi\n\t"
		"mov	%[exit], %%eax\n\t"
		"syscall\n\t"
		"ud2\n"
		"1:"
		: "=a"(pid)
		: "a"(SYS_clone3), "D"(args),
		  "S"(sizeof(*args)), [fn] "r"(fn), [arg] "r"(arg), [exit] "i"(SYS_exit_group)
		: "rcx", "r11", "memory");
	return (pid_t)pid;
}
