/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's shared object in every process: its bytes, its functions, and how to send calls
 * of one vDSO on to another. */
#ifndef CKPT_KERN_VDSO_H
#define CKPT_KERN_VDSO_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define VDSO_MAX_BYTES (64u << 10)

/* The vDSO of this kernel, as mapped in ckpt; *ret_len 0 when there is none. */
const unsigned char *vdso_own(size_t *ret_len);
/* Turn @old (@len bytes, untrusted) into stubs: each of its functions jumps to the function of
 * that name in @now, which will be at @base, or returns -ENOSYS where there is none. E_KERNEL. */
int vdso_redirect(unsigned char *old, size_t len, const unsigned char *now, size_t now_len,
		  uint64_t base, struct ckpt_err *err) __must_check;

#endif
