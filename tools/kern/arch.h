/* SPDX-License-Identifier: GPL-2.0-only */
/* What depends on the processor; arch_x86_64.c. */
#ifndef CKPT_KERN_ARCH_H
#define CKPT_KERN_ARCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* XSAVE components the kernel has enabled (XCR0), 0 without XSAVE. */
uint64_t arch_xfeatures(void);
/* The extended registers of a stopped thread, as PTRACE_GETREGSET gives them; the caller frees. */
int arch_get_xsave(int tid, unsigned char **ret, size_t *ret_len);
int arch_set_xsave(int tid, const unsigned char *buf, size_t len);
/* Bytes of the XSAVE area of this machine. */
size_t arch_xsave_bytes(void);
/* clone3() of a process that runs @fn on the stack of @args and ends with what it returns. Its pid,
 * or -errno. */
struct clone_args;
pid_t arch_clone(const struct clone_args *args, int (*fn)(void *), void *arg);
/* First address that no program can map. */
#define ARCH_TASK_SIZE 0x7ffffffff000ull

#endif
