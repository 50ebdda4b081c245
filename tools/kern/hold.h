/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Processes that must not run on when their tracer dies. A pending SIGSTOP does
 * that: as long as we hold the process by ptrace nothing happens; when we are gone
 * it stops before its next instruction.
 */
#ifndef CKPT_KERN_HOLD_H
#define CKPT_KERN_HOLD_H

/* 0 or -errno */
int hold_pend(int pid);
/* Take the SIGSTOP out of @pid again, whose main thread is in a ptrace stop of ours, and stays in
 * one. Signals that come first are delivered. 0 or -errno. */
int hold_take_back(int pid);

#endif
