/* SPDX-License-Identifier: GPL-2.0-only */
/* Namespaces that ckpt enters for a dump, and makes or enters for a restore. */
#ifndef CKPT_KERN_NSENTER_H
#define CKPT_KERN_NSENTER_H

#include <stdbool.h>

#include "base/err.h"

enum nsenter_type { NSENTER_NET, NSENTER_UTS, NSENTER_IPC, NSENTER_TYPES };

const char *nsenter_name(enum nsenter_type type); /* "net", as in /proc/PID/ns */
int nsenter_flag(enum nsenter_type type);         /* CLONE_NEWNET … */
bool nsenter_differs(int pid,
		     enum nsenter_type type); /* @pid's from our own; false also if unknown */
/* Enter the namespace of this type behind @path. */
int nsenter_path(enum nsenter_type type, const char *path, struct ckpt_err *err) __must_check;

#endif
