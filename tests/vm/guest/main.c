// SPDX-License-Identifier: GPL-2.0-only
/*
 * usage: vmtest [GLOB …]     run the tests whose name matches, all without
 *
 * Prints "ok NAME", "not ok NAME: why" or "skip NAME: why" for each and ends with
 * "vmtest: N passed, N failed, N skipped".
 */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vm.h"

#define USUAL_SECONDS 240

static int why_fd = -1;

static void say_and_exit(int code, const char *text)
{
	if (write(why_fd, text, strlen(text)) < 0)
		code = 1;
	_exit(code);
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
	char text[480], all[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(all, sizeof(all), "%s (%s:%d)", text, file, line);
	say_and_exit(1, all);
	__builtin_unreachable();
}

void test_skip(const char *fmt, ...)
{
	char text[480];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	say_and_exit(77, text);
	__builtin_unreachable();
}

void test_note(const char *fmt, ...)
{
	char text[480];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (write(why_fd, text, strlen(text)) < 0)
		_exit(1);
}

void test_row(const char *what, double value, const char *unit, char sense, double goal)
{
	printf("row {\"what\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", \"sense\": \"%c\", "
	       "\"goal\": %.6g}\n",
	       what, value, unit, sense, goal);
	fflush(stdout);
}

int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

int read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	close(fd);
	if (n < 0)
		return -EIO;
	buf[n] = 0;
	return n;
}

uint64_t read_number(const char *fmt, ...)
{
	char path[256], buf[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	if (read_file(path, buf, sizeof(buf)) < 0)
		FAIL("cannot read %s", path);
	return strtoull(buf, NULL, 0);
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void run_first(void)
{
	struct sched_param p = { .sched_priority = 1 };

	SYS(sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &p));
}

void let_others_run(void)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) == 1)
		poll(NULL, 0, 1);
}

unsigned int patience_seconds(void)
{
	const char *scale = getenv("VM_SCALE"); /* a slow kernel, e.g. with KASAN */

	return 60 * (scale && atoi(scale) > 1 ? atoi(scale) : 1);
}

int scaled(int count)
{
	const char *by = getenv("VM_FEWER");
	int fewer = count / (by && atoi(by) > 0 ? atoi(by) : (int)(patience_seconds() / 60));

	return fewer > 2 ? fewer : count < 2 ? count : 2;
}

uint32_t rnd(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return *state >> 33;
}

/* Settings a test may have left changed. */
static void reset_settings(void)
{
	(void)write_file("/sys/kernel/ckpt/granule_bytes", "4096");
	(void)write_file("/sys/kernel/ckpt/granule_mode", "fixed");
	(void)write_file("/sys/kernel/ckpt/thp_mode", "split");
	(void)write_file("/sys/kernel/ckpt/log_limit_bytes", "67108864");
	(void)write_file("/sys/kernel/ckpt/cow_pool_pages", "8192");
	(void)write_file("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
}

/* Where the processes of a test that does not end are: its group, and whoever left it. */
static void say_where(pid_t first)
{
	static const char *const files[] = { "stat", "syscall", "wchan", "stack" };
	char path[64], buf[4096];

	for (pid_t pid = first; pid < first + 200; pid++)
		for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
			snprintf(path, sizeof(path), "/proc/%d/%s", pid, files[i]);
			if (read_file(path, buf, sizeof(buf)) > 0)
				printf("# %d %s: %s\n", pid, files[i], buf);
		}
}

/* The test's exit status; @why gets what it said. */
static int run(const struct test *t, char *why, size_t size)
{
	int pipefd[2], status = 0;
	unsigned int limit = (t->seconds ? t->seconds : USUAL_SECONDS) * (patience_seconds() / 60);
	struct pollfd pfd;
	siginfo_t info;
	ssize_t n;
	pid_t pid;
	int pidfd;

	why[0] = 0;
	reset_settings();
	SYS(pipe2(pipefd, O_CLOEXEC));
	fflush(stdout);
	pid = SYS(fork());
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setpgid(0, 0);
		close(pipefd[0]);
		why_fd = pipefd[1];
		t->run(t->arg);
		_exit(0);
	}
	close(pipefd[1]);
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	pfd = (struct pollfd) { .fd = pidfd, .events = POLLIN };
	if (poll(&pfd, 1, limit * 1000) == 0) {
		say_where(pid);
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
		snprintf(why, size, "not finished after %u s", limit);
		status = 1;
	}
	waitid(P_PID, pid, &info, WEXITED);
	kill(-pid, SIGKILL);
	close(pidfd);
	if (!status) {
		status = info.si_code == CLD_EXITED ? info.si_status : 1;
		if (info.si_code != CLD_EXITED)
			snprintf(why, size, "killed by signal %d", info.si_status);
		n = read(pipefd[0], why, why[0] ? 0 : size - 1);
		if (n > 0)
			why[n] = 0;
	}
	close(pipefd[0]);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	return status;
}

int main(int argc, char **argv)
{
	const struct test *const tables[] = { path_table(), snapshot_table(), session_tests,
					      limit_tests,  request_tests,    client_tests,
					      fault_tests,  stress_tests,     figure_tests };
	int passed = 0, failed = 0, skipped = 0;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
		for (const struct test *t = tables[i]; t->name; t++) {
			/* Figures and faults need a guest of their own kind: only by name. */
			bool wanted = argc < 2 && strncmp(t->name, "figure/", 7) &&
				      strncmp(t->name, "fault/", 6);
			char why[512];
			uint64_t begin;

			for (int a = 1; a < argc; a++)
				wanted |= !fnmatch(argv[a], t->name, 0);
			if (!wanted)
				continue;
			begin = now_ns();
			switch (run(t, why, sizeof(why))) {
			case 0:
				passed++;
				printf("ok %s (%.1f s)%s%s\n", t->name, (now_ns() - begin) / 1e9,
				       why[0] ? ": " : "", why);
				break;
			case 77:
				skipped++;
				printf("skip %s: %s\n", t->name, why);
				break;
			default:
				failed++;
				printf("not ok %s: %s\n", t->name, why);
			}
		}
	}
	printf("vmtest: %d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}
