// SPDX-License-Identifier: GPL-2.0-only
/* Every kind, one line each. Order matters where one match is broader than another,
 * and for aspects of tasks within one phase. */
#include "kind/kind.h"

#include <stddef.h>

#include "kind/fd/kinds.h"
#include "kind/task/kinds.h"
#include "kind/vma/kinds.h"

// clang-format off
const struct fd_kind *const fd_kinds[] = {
	&fd_kind_pipe,
	&fd_kind_pipe_inode,
	&fd_kind_chr,
	&fd_kind_shmem,
	&fd_kind_shmem_inode,
	&fd_kind_sysv_shm,
	&fd_kind_procfs,
	&fd_kind_nsfs,
	&fd_kind_reg,
	&fd_kind_ghost,
	&fd_kind_stored,
	&fd_kind_unix,
	&fd_kind_tcp,
	&fd_kind_inet,
	&fd_kind_netlink,
	&fd_kind_eventfd,
	&fd_kind_epoll,
	&fd_kind_timerfd,
	&fd_kind_signalfd,
	&fd_kind_inotify,
	&fd_kind_pidfd,
	&fd_kind_pty_end,
	&fd_kind_pty,
	&fd_kind_external,
	&fd_kind_refused, /* matches everything */
	NULL,
};

const struct vma_kind *const vma_kinds[] = {
	&vma_kind_vdso, &vma_kind_vvar, &vma_kind_vsyscall, &vma_kind_sysv,
	&vma_kind_hugetlb, &vma_kind_anon, &vma_kind_shmem,
	&vma_kind_file, NULL,
};

const struct task_kind *const task_kinds[] = {
	/* PHASE_MM: as root of ckpt's own file system */
	&task_kind_cgroups,
	&task_kind_task_traits,
	&task_kind_layout,
	/* PHASE_FS */
	&task_kind_fs,
	/* PHASE_TASK */
	&task_kind_sigaction,
	&task_kind_memlock,
	/* PHASE_THREAD */
	&task_kind_sched,
	&task_kind_comm,
	&task_kind_altstack,
	&task_kind_thread_ids,
	&task_kind_timers,
	/* PHASE_CREDS: credentials last, they take away the right to do the rest */
	&task_kind_limits,
	&task_kind_seccomp,
	&task_kind_creds,
	/* PHASE_LAST: signals behind the timers that may send some */
	&task_kind_thread_traits,
	&task_kind_itimers,
	&task_kind_pending_shared,
	&task_kind_pending,
	NULL,
};
// clang-format on
