/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel itself has written down of its tasks, by BPF iterators (Linux 5.8, of one process
 * 6.1; CONFIG_DEBUG_INFO_BTF, CAP_SYS_ADMIN). Of every task at once: by which objects of the kernel
 * it shares memory, descriptors, directories and namespaces with others; kcmp(2) tells the same of
 * two tasks, and /proc/PID/ns of one. Of every thread of a process: its settings, which /proc tells
 * of one at a time, and some of them only the thread itself. Where the kernel has no iterators, the
 * caller asks those.
 */
#ifndef CKPT_KERN_TASKITER_H
#define CKPT_KERN_TASKITER_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "kern/btf.h"

/* The objects have no meaning but to be equal or not; 0: none. */
struct task_kin {
	uint64_t pid; /* of a thread, as ckpt sees it */
	uint64_t vm, files, fs;
	uint64_t ns; /* all namespaces but the next two */
	uint64_t user_ns, pid_ns;
};

struct task_kins {
	struct task_kin *v; /* ascending by pid; every thread of our pid namespace */
	size_t n;
};

/* Of one thread. Words that are but equal to another thread's, or not: cred, atomic_flags, flags,
 * info_flags. */
struct thread_view {
	uint64_t pid;          /* as ckpt sees it */
	uint64_t cred;         /* the object with its ids and capabilities */
	uint64_t atomic_flags; /* no_new_privs, speculation, … */
	uint64_t flags;        /* of PF_* what to do on machine checks */
	uint64_t info_flags;   /* of TIF_* whether it may read the time-stamp counter */
	uint64_t ptrace;       /* 0: nobody traces it */
	uint64_t exit_state;   /* 0: it has not ended */
	uint64_t seccomp;      /* SECCOMP_MODE_* */
	uint64_t pending;      /* bit N-1: signal N waits for it alone */
	uint64_t clear_child_tid;
	uint64_t altstack_sp, altstack_bytes, altstack_flags;
	uint64_t timer_slack_ns;
	uint64_t personality;
	uint64_t pdeathsig;
	char comm[16];
};

struct thread_views {
	struct thread_view *v; /* ascending by pid */
	size_t n;
};

static inline void cleanup_task_kins(struct task_kins *k)
{
	free(k->v);
}
#define auto_task_kins __attribute__((cleanup(cleanup_task_kins)))

/* Load the program: less than 1 ms, and the types when they are not there yet; the caller frees
 * those. A descriptor or -errno. */
int task_iter_open(struct btf *types);
/* 0 or -errno; the caller frees ret->v. */
int task_iter_read(int prog_fd, struct task_kins *ret);
const struct task_kin *task_kin_find(const struct task_kins *k, int pid);

struct thread_iter {
	int prog_fd; /* -1: none */
	/* Which bits of these two mean anything to a thread: those that change when it sets what
	 * they hold. */
	uint64_t flags, info_flags;
};

/* The same for threads. Finds out on a thread made for that what this kernel's bits mean; those
 * that it does not find out remain. 0 or -errno, then @ret says "none". */
int thread_iter_open(struct thread_iter *ret, struct btf *types);
void thread_iter_close(struct thread_iter *it);
/* Of process @pid, which has about @n. */
int thread_iter_read(const struct thread_iter *it, int pid, size_t n, struct thread_views *ret);
/* NULL: it was not seen. */
const struct thread_view *thread_view_find(const struct thread_views *v, int tid);

#endif
