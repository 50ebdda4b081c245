/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A test program sets up state, says it is ready, waits, and verifies itself:
 *
 *	int main(int argc, char **argv)
 *	{
 *		t_init(argc, argv);
 *		…set up…
 *		t_ready();            // here it is dumped, killed and restored
 *		t_check(x == 5, "x is 5: %d", x);
 *		return t_done();
 *	}
 *
 * The library keeps no descriptor, thread, timer or handler of its own. SIGTERM
 * is blocked from t_init() on, inherited by threads and children; it means "go".
 * Failures go to stderr and to the file "failures" of the test's directory, so
 * that children and threads may check as well.
 *
 * A comment in the .c that starts with "t:" tells the runner what to do (all optional, several lines
 * allowed; see tests/run --help):
 *	t: modes=control,leave,kill,twice
 *	t: refuse=E-UNSUPPORTED "fd 3"
 *	t: needs=cpu:avx512f,cap:sys_resource
 */
#ifndef TESTS_LIB_T_H
#define TESTS_LIB_T_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define T_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* First call of main(). Without arguments a private directory is made and the
 * program says how to make it go on: handy under a debugger. */
void t_init(int argc, char **argv);

/* Ready to be dumped; returns when the runner says go. Any thread may call it. */
void t_ready(void);

/* Wait for SIGTERM without announcing anything: for children and threads. */
void t_wait_go(void);

/* A check that failed is printed, and makes t_done() and t_exit() fail. */
#define t_check(cond, ...)                                                                         \
	({                                                                                         \
		const bool t_held = !!(cond); /* before what is to be printed, such as errno */    \
		t_check_at(__FILE__, __LINE__, t_held, #cond, __VA_ARGS__);                        \
	})
bool t_check_at(const char *file, int line, bool ok, const char *text, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* The value of a system call that has to succeed; ends the program otherwise. */
#define t_sys(call)                                                                                \
	({                                                                                         \
		long t_ret = (long)(call);                                                         \
		if (t_ret == -1)                                                                   \
			t_die(__FILE__, __LINE__, #call);                                          \
		t_ret;                                                                             \
	})
/* The same for pthread_*(): 0, or the error number. */
#define t_zero(call)                                                                               \
	({                                                                                         \
		int t_ret = (call);                                                                \
		if (t_ret) {                                                                       \
			errno = t_ret;                                                             \
			t_die(__FILE__, __LINE__, #call);                                          \
		}                                                                                  \
	})
_Noreturn void t_die(const char *file, int line, const char *what);

/* This machine cannot run the test: names what is missing. Before t_ready(). */
_Noreturn void t_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* End of main(): writes the result; the value to return from main(). */
int t_done(void);

/* The result so far of this process, as an exit status for children. */
int t_status(void);

/* Wait for @cond with a deadline of 20 s, without busy waiting. */
#define t_until(cond, what)                                                                        \
	({                                                                                         \
		bool t_ok = false;                                                                 \
		for (int t_i = 0; t_i < 10000 && !(t_ok = !!(cond)); t_i++)                        \
			t_tick();                                                                  \
		t_check(t_ok, "in time: %s", what);                                                \
	})
void t_tick(void);

/* The private directory, as this process sees it; settable after a chroot(). */
const char *t_dir(void);
void t_set_dir(const char *dir);
/* "DIR/name", in one of a few static buffers. */
const char *t_path(const char *name);

pid_t t_gettid(void);
/* fork() that has to succeed. */
pid_t t_fork(void);
/* clone() with flags other than fork()'s 0, without a stack of its own; it has to succeed. */
pid_t t_clone(unsigned long flags);
/* The file "stepN" of the private directory: whoever waits for step N goes on. */
void t_step_done(int step);
/* pthread_create() that has to succeed. */
pthread_t t_thread(void *(*fn)(void *), void *arg);
/* Wait until thread @tid of process @pid sleeps in system call @nr (-1: in any). */
void t_until_asleep(pid_t pid, pid_t tid, long nr);
/* waitpid() with checks: @pid ended with exit(@code). */
void t_reap(pid_t pid, int code);
/* Value behind "key:" in /proc/PATH, e.g. t_proc("self/status", "Umask"). In a static,
 * per-thread buffer; "" when there is none. */
const char *t_proc(const char *path, const char *key);
/* Contents of a file (any length up to @size - 1, terminated); the length or -1. */
ssize_t t_slurp(const char *path, void *buf, size_t size);

/* A reproducible 64-bit pattern. */
static inline uint64_t t_pattern(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

#endif
