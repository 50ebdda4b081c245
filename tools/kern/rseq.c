// SPDX-License-Identifier: GPL-2.0-only
/*
 * Restartable sequences, rseq(2). A thread that was stopped inside one must not go on
 * there. The kernel would see to it when the thread runs on from where it was; code of
 * ours in between makes it forget. So do what it would have done: continue at the abort
 * handler, and clear the descriptor's address.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>

#include "kern/target.h"

/* linux/ptrace.h of 5.13; glibc's sys/ptrace.h and the kernel's header do not mix. */
#define GET_RSEQ_CONFIGURATION 0x420f
#define RSEQ_CS_OFFSET 8 /* of rseq_cs in struct rseq, linux/rseq.h */

struct section {
	uint32_t version, flags;
	uint64_t start, length, abort;
};

static int peek(int tid, uint64_t addr, void *ret, size_t words)
{
	for (size_t i = 0; i < words; i++) {
		long w;

		errno = 0;
		w = ptrace(PTRACE_PEEKDATA, tid, addr + i * sizeof(w), NULL);
		if (errno)
			return -errno;
		memcpy((char *)ret + i * sizeof(w), &w, sizeof(w));
	}
	return 0;
}

int thread_rseq_abort(struct target_thread *th)
{
	struct thread_rseq *conf = &th->rseq;
	struct section cs;
	uint64_t at = 0;
	int rc;

	*conf = (struct thread_rseq) { 0 };
	if (ptrace(GET_RSEQ_CONFIGURATION, th->tid, sizeof(*conf), conf) <= 0 || !conf->pointer)
		return 0;
	/* What cannot be read the kernel could not either: it would end the thread, not we. */
	if (peek(th->tid, conf->pointer + RSEQ_CS_OFFSET, &at, 1) || !at ||
	    peek(th->tid, at, &cs, sizeof(cs) / sizeof(long)) ||
	    th->regs.rip - cs.start >= cs.length)
		return 0;
	/* In this order: losing ckpt between the two leaves an address that no longer applies. */
	th->regs.rip = cs.abort;
	rc = thread_set_regs(th->tid, &th->regs);
	th->poked = true;
	if (!rc && ptrace(PTRACE_POKEDATA, th->tid, conf->pointer + RSEQ_CS_OFFSET, NULL))
		rc = -errno;
	return rc;
}
