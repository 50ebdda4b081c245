// SPDX-License-Identifier: GPL-2.0-only
/* What belongs to a thread: tid, fs/gs base, signal mask, alternate stack, robust list, rseq
 * registration, clear_child_tid (pthread_join), comm, thread-local data. */
#include "t.h"

#include <asm/prctl.h>
#include <linux/futex.h>
#include <linux/rseq.h>
#include <sys/prctl.h>
#include <sys/rseq.h>

enum { N = 6 };

static _Thread_local uint64_t tls_data = 77;
static _Thread_local uint64_t tls_bss[64];

struct thread {
	uint64_t n;
	pthread_t thread;
	pid_t tid;
	unsigned long fs, gs;
	sigset_t mask;
	stack_t stack;
	void *robust;
	size_t robust_len;
	pthread_mutex_t held;
};

static struct thread th[N];
static pthread_barrier_t set_up, verify;
static volatile uintptr_t handler_stack[N];
static volatile int handled[N];

static void on_usr1(int sig)
{
	(void)sig;
	for (int i = 0; i < N; i++)
		if (pthread_equal(th[i].thread, pthread_self())) {
			handler_stack[i] = (uintptr_t)__builtin_frame_address(0);
			handled[i] = 1;
		}
}

static void set_mask(sigset_t *set, uint64_t n)
{
	sigemptyset(set);
	for (int s = 1; s < 65; s++)
		if (s != SIGKILL && s != SIGSTOP && s != 32 && s != 33 && s != SIGUSR1 &&
		    (t_pattern(n) >> (s - 1) & 1))
			sigaddset(set, s);
	sigaddset(set, SIGTERM);
}

/* The kernel's mask, not the C library's opinion. */
static uint64_t get_mask(void)
{
	uint64_t m = 0;

	t_sys(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &m, 8));
	return m;
}

static void *run(void *arg)
{
	struct thread *t = arg;
	struct rseq *rseq = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	char comm[16], name[16];
	unsigned long v;
	uint64_t mask;
	stack_t ss;
	void *head;
	size_t len;

	t->thread = pthread_self();
	t->tid = t_gettid();
	tls_data += t->n;
	tls_bss[5] = t_pattern(t->n);
	(void)snprintf(name, sizeof(name), "thr %d\n\x80:x", (int)t->n);
	t_sys(prctl(PR_SET_NAME, name));
	t_sys(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x10000ul + t->n * 0x7000ul));
	t_sys(syscall(SYS_arch_prctl, ARCH_GET_FS, &t->fs));
	t_sys(syscall(SYS_arch_prctl, ARCH_GET_GS, &t->gs));
	t->stack.ss_size = 65536;
	t->stack.ss_sp = malloc(65536);
	t->stack.ss_flags = t->n & 1 ? (int)(1u << 31) /* SS_AUTODISARM */ : 0;
	if (t->n != 2) /* one has none */
		t_sys(sigaltstack(&t->stack, NULL));
	t_sys(syscall(SYS_get_robust_list, 0, &t->robust, &t->robust_len));
	t_zero(pthread_mutex_lock(&t->held));
	set_mask(&t->mask, t->n);
	t_zero(pthread_sigmask(SIG_SETMASK, &t->mask, NULL));
	mask = get_mask();
	pthread_barrier_wait(&set_up);

	pthread_barrier_wait(&verify);
	t_check(t_gettid() == t->tid, "tid %d: %d", t->tid, t_gettid());
	t_check(tls_data == 77 + t->n && tls_bss[5] == t_pattern(t->n), "thread-local data");
	t_sys(prctl(PR_GET_NAME, comm));
	t_check(strncmp(comm, name, 15) == 0, "comm '%s': '%s'", name, comm);
	t_sys(syscall(SYS_arch_prctl, ARCH_GET_FS, &v));
	t_check(v == t->fs, "fs base %#lx: %#lx", t->fs, v);
	t_sys(syscall(SYS_arch_prctl, ARCH_GET_GS, &v));
	t_check(v == t->gs, "gs base %#lx: %#lx", t->gs, v);
	t_check(get_mask() == mask, "signal mask %#lx: %#lx", mask, get_mask());
	t_sys(sigaltstack(NULL, &ss));
	if (t->n == 2)
		t_check(ss.ss_flags == SS_DISABLE, "no alternate stack: %#x", ss.ss_flags);
	else
		t_check(ss.ss_sp == t->stack.ss_sp && ss.ss_size == t->stack.ss_size &&
				ss.ss_flags == t->stack.ss_flags,
			"alternate stack %p+%#zx %#x: %p+%#zx %#x", t->stack.ss_sp,
			t->stack.ss_size, t->stack.ss_flags, ss.ss_sp, ss.ss_size, ss.ss_flags);
	t_sys(syscall(SYS_get_robust_list, 0, &head, &len));
	t_check(head == t->robust && len == t->robust_len, "robust list %p: %p", t->robust, head);
	/* The handler runs on the alternate stack. */
	t_sys(syscall(SYS_tgkill, getpid(), t->tid, SIGUSR1));
	t_check(handled[t->n] == 1, "SIGUSR1 was handled");
	if (t->n != 2)
		t_check(handler_stack[t->n] >= (uintptr_t)t->stack.ss_sp &&
				handler_stack[t->n] < (uintptr_t)t->stack.ss_sp + 65536,
			"the handler ran at %#lx", handler_stack[t->n]);
	/* Registering the C library's rseq area again is refused as busy: it is registered. */
	if (__rseq_size) {
		int r = (int)syscall(SYS_rseq, rseq, 32, 0, 0x53053053);

		t_check(r == -1 && errno == EBUSY, "rseq is registered: %d, errno %d", r, errno);
		for (int i = 0; i < 1000 && (int)rseq->cpu_id != sched_getcpu(); i++)
			sched_yield();
		t_check((int)rseq->cpu_id >= 0, "rseq cpu %d", (int)rseq->cpu_id);
	}
	/* Ends with a robust mutex held: the kernel walks the list. */
	return (void *)t->n;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = SA_ONSTACK };
	pthread_mutexattr_t attr;
	unsigned long gs;
	char comm[16];
	pid_t child;
	int r;

	t_init(argc, argv);
	t_sys(sigaction(SIGUSR1, &sa, NULL));
	t_zero(pthread_mutexattr_init(&attr));
	t_zero(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST));
	t_zero(pthread_barrier_init(&set_up, NULL, N));
	t_zero(pthread_barrier_init(&verify, NULL, N));
	for (uint64_t i = 0; i < N; i++) {
		th[i].n = i;
		t_zero(pthread_mutex_init(&th[i].held, &attr));
		if (i)
			t_thread(run, &th[i]);
	}
	child = t_fork();
	if (child == 0) {
		t_wait_go();
		_exit(t_status());
	}
	th[0].thread = pthread_self();
	t_sys(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x123456000ul));
	t_sys(prctl(PR_SET_NAME, "main thread nam"));
	pthread_barrier_wait(&set_up);
	t_ready();
	t_sys(prctl(PR_GET_NAME, comm));
	t_check(strcmp(comm, "main thread nam") == 0, "comm '%s'", comm);
	t_sys(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs));
	t_check(gs == 0x123456000ul, "gs base: %#lx", gs);
	pthread_barrier_wait(&verify);
	for (int i = 1; i < N; i++) {
		void *ret = NULL;

		r = pthread_join(th[i].thread, &ret);
		t_check(r == 0 && ret == (void *)th[i].n, "join of thread %d: %d", i, r);
		r = pthread_mutex_lock(&th[i].held);
		t_check(r == EOWNERDEAD, "owner of mutex %d died: %d", i, r);
	}
	t_sys(kill(child, SIGTERM));
	t_reap(child, 0);
	return t_done();
}
