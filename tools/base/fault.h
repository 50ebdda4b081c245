/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Named fault points of test builds (build/ckpt-test):
 *   CKPT_FAULT=dump.frozen:kill   end this process with SIGKILL there
 *   CKPT_FAULT=dump.frozen:stop   stop it with SIGSTOP
 *   CKPT_FAULT=dump.frozen:fail   fail there with -EIO
 * In normal builds they cost nothing.
 */
#ifndef CKPT_BASE_FAULT_H
#define CKPT_BASE_FAULT_H

#ifdef CKPT_FAULT_POINTS
int ckpt_fault(const char *point);
#else
static inline int ckpt_fault(const char *point)
{
	(void)point;
	return 0;
}
#endif

#endif
