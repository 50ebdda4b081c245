/* SPDX-License-Identifier: GPL-2.0-only */
/* The frozen tree: tasks and threads that ckpt holds by ptrace. */
#ifndef CKPT_KERN_TARGET_H
#define CKPT_KERN_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>

#include "base/err.h"
#include "base/ui.h"
#include "kern/procfs.h"

/* Options of a thread that is being stopped. Not TRACEVFORK: a child that is born by vfork must run
 * on, for its parent cannot stop before it has called exec. It is found when the parent has
 * stopped. */
#define THREAD_OPTIONS (PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACESYSGOOD)

/* As PTRACE_GET_RSEQ_CONFIGURATION tells it; pointer 0: none is registered. */
struct thread_rseq {
	uint64_t pointer;
	uint32_t size, signature, flags, pad;
};

struct target_thread {
	int tid;  /* as ckpt sees it */
	int vtid; /* in the innermost pid namespace of the target */
	bool seized;
	bool settled;                 /* its stop was waited for */
	bool group_stopped;           /* job control had stopped it */
	struct user_regs_struct regs; /* from which the kernel restarts what it interrupted */
	long restarts;                /* the call that restart_syscall is to continue; 0: none */
	uint64_t sigmask;
	struct thread_rseq rseq;
	bool poked; /* ckpt has changed its memory */
};

struct target_task {
	/* What /proc, kcmp and kill know it by: its process id, or, when its first thread has ended
	 * and others go on, the number of another one (of the ended one they show nothing). */
	int pid;
	int tgid; /* its process id, as ckpt sees it */
	int vpid; /* in the innermost pid namespace of the target */
	int ppid; /* as ckpt sees it; the parent may be outside the tree */
	bool zombie;
	bool gone;  /* while freezing: ended and reaped, or no longer below the root */
	int parent; /* index in target.tasks, -1 for the root */
	int mem_fd; /* /proc/PID/mem, -1 for a zombie */
	/* What /proc said of it when all stood still: of the process, and of thread tgid. */
	struct proc_stat stat;
	char *status; /* NULL: not known, or taken */
	/* Index of the first task that shares its descriptors, or its directories; its own as a
	 * rule. Set by tools/dump. */
	size_t files_of, fs_of;
	struct {
		struct target_thread *v;
		size_t n, cap;
	} threads; /* those that have not ended; pid's first */
};

/* Its first thread has ended while others go on. */
static inline bool task_headless(const struct target_task *task)
{
	return !task->zombie && task->pid != task->tgid;
}

struct target {
	struct {
		struct target_task *v;
		size_t n, cap;
	} tasks; /* parents before children */
	bool nested_pids;
	struct ckpt_ui *ui;
	uint64_t frozen_at_us;
	uint64_t thawed_at_us; /* when the last thread was let go; 0: none was */
};

/*
 * Stop every thread of @pid and of its descendants and hold them by ptrace.
 * Either all are stopped or none is. When ckpt dies, all run on.
 * Errors: E_NO_SUCH_PID, E_BAD_TARGET, E_ALREADY_TRACED, E_FREEZE, E_TARGET_GONE.
 */
int target_freeze(struct target *t, int pid, struct ckpt_err *err) __must_check;
/* Let all run on, or (@stop_sig) leave them stopped by that signal, or (@kill) end them. */
enum target_end { TARGET_RUN, TARGET_STOP, TARGET_KILL };
void target_thaw(struct target *t, enum target_end how);
void target_free(struct target *t);

/* Registers of a stopped thread. 0 or -errno. */
int thread_get_regs(int tid, struct user_regs_struct *ret);
int thread_set_regs(int tid, const struct user_regs_struct *regs);
int thread_get_sigmask(int tid, uint64_t *ret);
int thread_set_sigmask(int tid, uint64_t mask);
/* Wait until @tid stops. 0 and the wait status, or -ESRCH when it ended. */
int thread_wait(int tid, int *ret_status);
/* Asked of /proc: a first thread that ends before others of its process is not reported until they
 * have ended, and those that we hold until they are waited for. */
bool thread_has_ended(int tid);
/* Go on from another stop than the one that was asked for, with signal @sig. Any stop takes the
 * pending request away, so it is made again, and before the thread runs, lest it be left over when
 * it is met already. */
int thread_pass(int tid, int sig);
/* Interrupt a running thread that we hold and wait for its PTRACE_EVENT_STOP. */
int thread_interrupt(int tid);
/* The second half of it, for who did the first: PTRACE_INTERRUPT. */
int thread_await_stop(int tid);
/* The registers with which an interrupted system call is made again (its restart applied). */
void regs_apply_restart(struct user_regs_struct *regs);
/* The same for a restore, which has no data of the kernel's to continue a call from. */
void thread_image_regs(const struct target_thread *th, struct user_regs_struct *ret);
/* Registers and signal mask of a thread that has just stopped; what the stop did to the system call
 * it was in is made good (restart.c). -EOPNOTSUPP: it cannot be told which call that is. */
int thread_read_state(struct target_thread *th);
/* The same for a thread that @th->regs says leaves code of ours: when it is to go on with a
 * restart_syscall, which call that is. It may run on, out of that code, to show it. */
int thread_read_restarted(struct target_thread *th);
/* Part of the above: a thread inside a restartable sequence continues at its abort handler. rseq.c
 */
int thread_rseq_abort(struct target_thread *th);

#endif
