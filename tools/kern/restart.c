// SPDX-License-Identifier: GPL-2.0-only
/*
 * System calls that the freeze interrupted, on x86-64. The kernel leaves in rax
 * what is to become of them:
 *
 *   ERESTARTSYS, NOINTR, NOHAND  make the call again; its arguments are all there is
 *   ERESTART_RESTARTBLOCK        continue by restart_syscall, from data in the kernel
 *   EINTR                        some calls give up on any stop, though no signal came
 *
 * For the last a stop by ckpt is turned into the third: the call is made again
 * unless a handler runs. The data in the kernel does not survive a restore: there
 * the call is made again from its arguments, so a relative timeout begins anew.
 *
 * A thread that is stopped twice, before it is back in its program, shows what the
 * kernel has made of it the first time: it is in front of a restart_syscall that
 * no program makes by itself.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "kern/procfs.h"
#include "kern/target.h"

#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516
#define LOOK_DEADLINE_US 500000u
#define MIN_POINTER 4096u
#define SYSCALL_BYTES 2 /* 0f 05 */

/* Calls that return EINTR on any stop, signal(7), and do nothing when they do. */
static const long gives_up[] = {
	SYS_epoll_wait,
	SYS_epoll_pwait,
	441 /* epoll_pwait2 */,
	SYS_rt_sigtimedwait,
	SYS_semop,
	SYS_semtimedop,
	SYS_io_getevents,
	333 /* io_pgetevents */,
	SYS_recvfrom,
	SYS_recvmsg,
	SYS_recvmmsg,
	SYS_sendto,
	SYS_sendmsg,
	SYS_sendmmsg,
	SYS_accept,
	SYS_accept4,
	SYS_connect,
	SYS_read,
	SYS_readv,
	SYS_write,
	SYS_writev,
	SYS_msgrcv,
	SYS_msgsnd,
};

void regs_apply_restart(struct user_regs_struct *regs)
{
	long ret = (long)regs->rax;

	if ((long)regs->orig_rax < 0)
		return;
	if (ret == -ERESTARTSYS || ret == -ERESTARTNOINTR || ret == -ERESTARTNOHAND) {
		regs->rax = regs->orig_rax;
		regs->rip -= SYSCALL_BYTES;
	}
	if (ret == -ERESTART_RESTARTBLOCK) {
		regs->rax = SYS_restart_syscall;
		regs->rip -= SYSCALL_BYTES;
	}
	regs->orig_rax = (unsigned long long)-1;
}

void thread_image_regs(const struct target_thread *th, struct user_regs_struct *ret)
{
	*ret = th->regs;
	regs_apply_restart(ret);
	if (th->restarts)
		ret->rax = (unsigned long long)th->restarts;
}

/* The call that restart_syscall continues, by where in the kernel the thread sleeps. 0: unknown. */
static long sleeping_call(int tid, const struct user_regs_struct *regs)
{
	auto_free char *wchan = NULL;
	struct ckpt_err ignore = { 0 };

	if (proc_read(tid, "wchan", &wchan, NULL, &ignore))
		return 0;
	if (strstr(wchan, "futex"))
		return SYS_futex;
	if (strstr(wchan, "poll") || strstr(wchan, "hrtimeout"))
		return SYS_poll;
	/* A sleep that goes on has no frame of its own but the scheduler's, which is left out; nor
	 * may another call, for a moment. nanosleep() begins with a pointer, clock_nanosleep() with
	 * the number of a clock and has the pointer in the third place. */
	if (strstr(wchan, "sleep") || strstr(wchan, "do_syscall")) {
		if (regs->rdi >= MIN_POINTER)
			return SYS_nanosleep;
		return regs->rdx >= MIN_POINTER ? SYS_clock_nanosleep : 0;
	}
	return 0;
}

/* The calls that a restart_syscall may continue. */
static bool restarts_by_block(long nr)
{
	return nr == SYS_poll || nr == SYS_futex || nr == SYS_nanosleep ||
	       nr == SYS_clock_nanosleep;
}

/* "mov $nr,%eax" in front of "syscall", as C libraries have it; of the calls that restart this way.
 */
static long coded_call(int tid, const struct user_regs_struct *regs)
{
	unsigned char code[5] = { 0 };
	long nr, word;

	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, tid, regs->rip - SYSCALL_BYTES - sizeof(code), NULL);
	if (errno)
		return 0;
	memcpy(code, &word, sizeof(code));
	if (code[0] != 0xb8)
		return 0;
	nr = code[1] | code[2] << 8 | code[3] << 16;
	return restarts_by_block(nr) ? nr : 0;
}

/* As thread_interrupt(), but the program's own signals may come in and are not to be lost. Of a
 * program that job control has stopped a second stop may have been due, before it ran at all. */
static int stop_again(int tid)
{
	int status = 0, rc = 0;
	pid_t due = waitpid(tid, &status, __WALL | WNOHANG);

	if (due < 0 || (!due && ptrace(PTRACE_INTERRUPT, tid, 0, 0)))
		return -errno;
	if (due && !WIFSTOPPED(status))
		return -ESRCH;
	if (!due)
		rc = thread_wait(tid, &status);
	while (!rc && status >> 16 != PTRACE_EVENT_STOP) {
		rc = thread_pass(tid, status >> 16 ? 0 : WSTOPSIG(status));
		if (!rc)
			rc = thread_wait(tid, &status);
	}
	return rc;
}

/* Let it go on for a few milliseconds and look where it sleeps: *ret_nr, or 0 when it was not seen
 * to. */
static int look_asleep(struct target_thread *th, long *ret_nr)
{
	int rc = ptrace(PTRACE_CONT, th->tid, 0, 0) ? -errno : 0;

	for (int i = 0; !rc && !*ret_nr && i < 40; i++) {
		(void)usleep(25);
		*ret_nr = sleeping_call(th->tid, &th->regs);
	}
	if (!rc)
		rc = stop_again(th->tid);
	return rc ? rc : thread_get_regs(th->tid, &th->regs);
}

/* In front of a restart_syscall: as if this had been interrupted already. */
static bool undo_restart(struct target_thread *th)
{
	struct user_regs_struct *r = &th->regs;
	long word;

	if (r->rax != SYS_restart_syscall)
		return false;
	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, th->tid, r->rip, NULL);
	if (errno || memcmp(&word, "\x0f\x05", SYSCALL_BYTES) != 0)
		return false;
	r->rip += SYSCALL_BYTES;
	r->rax = (unsigned long long)-ERESTART_RESTARTBLOCK;
	r->orig_rax = SYS_restart_syscall;
	return true;
}

/* An earlier stop has made this a restart_syscall, whose number says nothing. Where the code does
 * not tell either, let it sleep on for a moment and look where. It may as well be over by then. On
 * a busy machine it may not even have come to its sleep, so that is tried for a while. */
static int find_restarted(struct target_thread *th)
{
	uint64_t deadline = io_now_us() + LOOK_DEADLINE_US;

	th->restarts = coded_call(th->tid, &th->regs);
	while (!th->restarts && io_now_us() < deadline) {
		long nr = 0;
		int rc = look_asleep(th, &nr);

		if (rc)
			return rc;
		/* It may not have run at all. */
		if (!undo_restart(th) && ((long)th->regs.rax != -ERESTART_RESTARTBLOCK ||
					  th->regs.orig_rax != SYS_restart_syscall))
			return 0;
		th->restarts = nr;
	}
	return th->restarts ? 0 : -EOPNOTSUPP;
}

int thread_read_restarted(struct target_thread *th)
{
	return undo_restart(th) ? find_restarted(th) : 0;
}

int thread_read_state(struct target_thread *th)
{
	int rc = thread_get_regs(th->tid, &th->regs);
	long was = (long)th->regs.orig_rax;

	th->restarts = 0;
	/* The kernel does not touch orig_rax when it makes a restart_syscall of a call. */
	if (!rc && undo_restart(th) && restarts_by_block(was))
		th->regs.orig_rax = (unsigned long long)was;
	if (!rc && (long)th->regs.rax == -ERESTART_RESTARTBLOCK && (long)th->regs.orig_rax >= 0) {
		th->restarts = (long)th->regs.orig_rax;
		if (th->restarts == SYS_restart_syscall)
			rc = find_restarted(th);
	}
	if (!rc && (long)th->regs.rax == -EINTR && (long)th->regs.orig_rax >= 0)
		for (size_t i = 0; i < ARRAY_SIZE(gives_up); i++)
			if ((long)th->regs.orig_rax == gives_up[i]) {
				th->regs.rax = (unsigned long long)-ERESTARTNOHAND;
				rc = thread_set_regs(th->tid, &th->regs);
				break;
			}
	if (!rc)
		rc = thread_rseq_abort(th);
	/* From here on only code of ours runs in it until it is let go: its filters are not for
	 * that. Refused to a ckpt that is confined itself, which no confined task is dumped by
	 * (seccomp.c). */
	if (!rc)
		(void)ptrace(PTRACE_SETOPTIONS, th->tid, 0,
			     THREAD_OPTIONS | PTRACE_O_SUSPEND_SECCOMP);
	return rc ? rc : thread_get_sigmask(th->tid, &th->sigmask);
}
