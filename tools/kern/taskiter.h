/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Of every task at once: by which objects of the kernel it shares memory, descriptors,
 * directories and namespaces with others. kcmp(2) tells the same of two tasks, and
 * /proc/PID/ns of one. A BPF iterator (Linux 5.8, CONFIG_DEBUG_INFO_BTF, CAP_SYS_ADMIN); where
 * the kernel has none, the caller asks those.
 */
#ifndef CKPT_KERN_TASKITER_H
#define CKPT_KERN_TASKITER_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

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

static inline void cleanup_task_kins(struct task_kins *k)
{
	free(k->v);
}
#define auto_task_kins __attribute__((cleanup(cleanup_task_kins)))

/* Load the program: some 2 ms. A descriptor or -errno. */
int task_iter_open(void);
/* 0 or -errno; the caller frees ret->v. */
int task_iter_read(int prog_fd, struct task_kins *ret);
const struct task_kin *task_kin_find(const struct task_kins *k, int pid);

#endif
