// SPDX-License-Identifier: GPL-2.0-only
/* Many threads of which most are alike and some are not: each setting that a thread has for itself
 * is changed in some of them, alone and together with others. Each finds its own again. */
#include "t.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sys/personality.h>
#include <sys/prctl.h>

enum { N = 160 };

struct thread {
	uint64_t n;
	pthread_t thread;
	char before[2048];
};

static struct thread th[N];
static pthread_barrier_t changed, set_up, verify;
static atomic_int done;

static void set_ids(uint64_t n)
{
	(void)n;
	t_sys(syscall(SYS_setresgid, -1, 777, -1));
	t_sys(syscall(SYS_setresuid, -1, 888, 0));
}

static void set_securebits(uint64_t n)
{
	(void)n;
	t_sys(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_NOROOT));
}

static void set_no_new_privs(uint64_t n)
{
	(void)n;
	t_sys(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void set_filter(uint64_t n)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog prog = { T_ARRAY_SIZE(code), code };

	(void)n;
	t_sys(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog));
}

static void set_slack(uint64_t n)
{
	t_sys(prctl(PR_SET_TIMERSLACK, 70000 + n));
}

static void set_deathsig(uint64_t n)
{
	t_sys(prctl(PR_SET_PDEATHSIG, n % 2 ? SIGUSR2 : SIGWINCH));
}

static void set_personality(uint64_t n)
{
	t_sys(personality(n % 2 ? ADDR_NO_RANDOMIZE : ADDR_COMPAT_LAYOUT));
}

static void set_mce(uint64_t n)
{
	t_sys(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, n % 2 ? PR_MCE_KILL_EARLY : PR_MCE_KILL_LATE, 0,
		    0));
}

/* From here on it must not look at the clock. */
static void set_tsc(uint64_t n)
{
	(void)n;
	/* AddressSanitizer looks at the clock in any thread, and in its handler of the signal for that. */
#ifndef __SANITIZE_ADDRESS__
	t_sys(prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
#endif
}

static void set_stack(uint64_t n)
{
	stack_t ss = { .ss_sp = malloc(65536 + n * 16),
		       .ss_size = 65536 + n * 16,
		       .ss_flags = n % 2 ? (int)(1u << 31) /* SS_AUTODISARM */ : 0 };

	t_sys(sigaltstack(&ss, NULL));
}

static void set_pending(uint64_t n)
{
	siginfo_t si = { .si_signo = SIGRTMIN + 3, .si_code = SI_QUEUE };

	si.si_pid = getpid();
	si.si_value.sival_ptr = (void *)t_pattern(n);
	t_sys(syscall(SYS_rt_tgsigqueueinfo, getpid(), t_gettid(), si.si_signo, &si));
}

static void set_tid_address(uint64_t n)
{
	static int word[N];

	t_sys(syscall(SYS_set_tid_address, &word[n]));
}

static void set_nice(uint64_t n)
{
	struct sched_param zero = { 0 };

	t_sys(sched_setscheduler(0, n % 2 ? SCHED_BATCH : SCHED_IDLE, &zero));
}

static void (*const set[])(uint64_t) = {
	set_slack,      set_deathsig,     set_personality, set_mce,    set_stack,
	set_pending,    set_tid_address,  set_nice,        set_filter, set_tsc,
	set_securebits, set_no_new_privs, set_ids,
};

/* Most have nothing of their own; then each setting alone, then each with the one behind the next.
 */
static void change(uint64_t n)
{
	uint64_t all = T_ARRAY_SIZE(set), i = n - N / 2;

	/* Nothing is left of it but that it was privileged, as with those that set something. */
	if (n % 4 == 1)
		t_sys(chroot("/"));
	if (n < N / 2)
		return;
	set[i % all](n);
	if (i >= all && i % all + 2 < all)
		set[i % all + 2](n);
}

static void put(char *out, size_t size, const char *name, long value)
{
	size_t at = strlen(out);

	(void)snprintf(out + at, size - at, "%s %ld\n", name, value);
}

/* Everything a thread can find out about itself. */
static void look(char *out, size_t size)
{
	static const char *const keys[] = { "Name",   "Uid",    "Gid",        "Groups",
					    "SigPnd", "CapInh", "CapPrm",     "CapEff",
					    "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp:" };
	char path[64], line[512];
	int sig = 0, tsc = 0;
	unsigned long tid_address = 0;
	stack_t ss;
	FILE *f;

	out[0] = 0;
	t_sys(prctl(PR_GET_PDEATHSIG, &sig));
	t_sys(prctl(PR_GET_TSC, &tsc));
	t_sys(prctl(PR_GET_TID_ADDRESS, &tid_address));
	t_sys(sigaltstack(NULL, &ss));
	put(out, size, "securebits", prctl(PR_GET_SECUREBITS));
	put(out, size, "slack", prctl(PR_GET_TIMERSLACK));
	put(out, size, "deathsig", sig);
	put(out, size, "personality", personality(0xffffffff));
	put(out, size, "mce", prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
	put(out, size, "tsc", tsc);
	put(out, size, "dumpable", prctl(PR_GET_DUMPABLE));
	put(out, size, "tid address", (long)tid_address);
	put(out, size, "stack", (long)ss.ss_sp);
	put(out, size, "stack bytes", (long)ss.ss_size);
	put(out, size, "stack flags", ss.ss_flags);
	put(out, size, "policy", sched_getscheduler(0));
	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/status", t_gettid());
	f = fopen(path, "r");
	t_check(f != NULL, "%s opens", path);
	while (f && fgets(line, sizeof(line), f))
		for (size_t i = 0; i < T_ARRAY_SIZE(keys); i++)
			if (!strncmp(line, keys[i], strlen(keys[i])))
				strncat(out, line, size - strlen(out) - 1);
	if (f)
		fclose(f);
}

static void *run(void *arg)
{
	struct thread *t = arg;
	char name[16], after[sizeof(t->before)];
	uint64_t n = t->n;
	sigset_t rt;

	sigemptyset(&rt);
	sigaddset(&rt, SIGRTMIN + 3);
	t_zero(pthread_sigmask(SIG_BLOCK, &rt, NULL));
	(void)snprintf(name, sizeof(name), "many %lu", n);
	t_sys(prctl(PR_SET_NAME, name));
	change(n);
	pthread_barrier_wait(&changed);
	look(t->before, sizeof(t->before));
	pthread_barrier_wait(&set_up);
	pthread_barrier_wait(&verify);
	look(after, sizeof(after));
	t_check(!strcmp(t->before, after), "thread %lu:\n%s\nis\n%s", n, t->before, after);
	if (strstr(after, "SigPnd:\t0000000000000000") == NULL) {
		siginfo_t si = { 0 };

		t_check(sigwaitinfo(&rt, &si) == SIGRTMIN + 3 &&
				si.si_value.sival_ptr == (void *)t_pattern(n),
			"thread %lu: its signal has its value", n);
	}
	t_sys(prctl(PR_SET_TSC, PR_TSC_ENABLE));
	done++;
	/* One that has another tid address cannot be joined. */
	for (;;)
		pause();
}

/* In a child, whose parent's death means something after a restore, too. */
static void child(int ready, int go)
{
	pthread_attr_t attr;
	char before[2048], after[2048], c = 0;

	t_zero(pthread_attr_init(&attr));
	t_zero(pthread_attr_setstacksize(&attr, 256 << 10));
	t_zero(pthread_barrier_init(&changed, NULL, N));
	t_zero(pthread_barrier_init(&set_up, NULL, N + 1));
	t_zero(pthread_barrier_init(&verify, NULL, N + 1));
	for (uint64_t i = 0; i < N; i++) {
		th[i].n = i;
		t_zero(pthread_create(&th[i].thread, &attr, run, &th[i]));
	}
	pthread_barrier_wait(&set_up);
	look(before, sizeof(before));
	t_sys(write(ready, &c, 1));
	t_check(read(go, &c, 1) == 1, "told to go on");
	look(after, sizeof(after));
	t_check(!strcmp(before, after), "the first thread:\n%s\nis\n%s", before, after);
	pthread_barrier_wait(&verify);
	t_until(done == N, "all threads have looked");
	_exit(t_status());
}

int main(int argc, char **argv)
{
	int ready[2], go[2], status = 0;
	char c = 0;
	pid_t pid;

	t_init(argc, argv);
	t_sys(pipe(ready));
	t_sys(pipe(go));
	pid = (pid_t)t_sys(fork());
	if (!pid)
		child(ready[1], go[0]);
	t_sys(close(ready[1]));
	if (t_sys(read(ready[0], &c, 1)) != 1) {
		t_sys(waitpid(pid, &status, 0));
		t_check(false, "the child ended before it was ready: %#x", (unsigned int)status);
		return t_done();
	}
	t_ready();
	t_sys(write(go[1], &c, 1));
	t_sys(waitpid(pid, &status, 0));
	t_check(!status, "the child: %#x", (unsigned int)status);
	return t_done();
}
