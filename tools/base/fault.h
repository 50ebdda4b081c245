/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Named fault points of test builds (build/ckpt-test):
 *   CKPT_FAULT=dump.frozen:kill   end this process with SIGKILL there
 *   CKPT_FAULT=dump.frozen:stop   stop it with SIGSTOP
 *   CKPT_FAULT=restore.seized:orphan   in a helper of ckpt: kill ckpt, and go on
 *   CKPT_FAULT=dump.frozen:fail   fail there with -EIO
 *   CKPT_FAULT=every.merge:hold   the thread waits there until CKPT_FAULT_MET is removed
 *   CKPT_FAULT=inject.run:kill@3   not before a process comes there for the third time
 * Several of these have a comma between them. In normal builds they cost nothing. The names of all
 * points are in a section of the test build, so that tests/faults can walk them without a list that
 * could be incomplete.
 */
#ifndef CKPT_BASE_FAULT_H
#define CKPT_BASE_FAULT_H

#include "base/err.h"

#ifdef CKPT_FAULT_POINTS
int ckpt_fault_hit(const char *point);
/* 0, or -EIO where CKPT_FAULT says so. @point is a string literal. */
#define ckpt_fault(point)                                                                          \
	({                                                                                         \
		static const char fault_name[]                                                     \
			__attribute__((section("ckpt_fault_points"), used, aligned(1))) = point;   \
		ckpt_fault_hit(fault_name);                                                        \
	})
#else
static inline int ckpt_fault(const char *point)
{
	(void)point;
	return 0;
}
#endif

/* The same, as an error with identifier @id. */
#define ckpt_fault_fail(point, id, err)                                                            \
	(ckpt_fault(point) ? ckpt_fail(err, id, -EIO, "fault point " point) : 0)

#endif
