/* SPDX-License-Identifier: GPL-2.0-only */
/* Time namespaces: how far their clocks are from those of the machine. */
#ifndef CKPT_KERN_TIMENS_H
#define CKPT_KERN_TIMENS_H

#include <stdint.h>

#include "base/err.h"

struct timens_offsets {
	int64_t monotonic_ns, boottime_ns;
};

/* Those of the time namespace of task @pid; zero where the kernel has none. */
int timens_read(int pid, struct timens_offsets *ret, struct ckpt_err *err) __must_check;
/* A descriptor of a new time namespace, for setns(2). -errno without *err when the kernel has none.
 */
int timens_make(const struct timens_offsets *want);

#endif
