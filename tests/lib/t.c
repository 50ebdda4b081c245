// SPDX-License-Identifier: GPL-2.0-only
/* See t.h. Owns the protocol between a test program and its runner (tests/lib/sandbox.py):
 * the files ready, failures and result in the test's directory, and SIGTERM. */
#include "t.h"

#include <limits.h>
#include <stdarg.h>
#include <sys/stat.h>

#ifdef __SANITIZE_ADDRESS__
/* Programs end without freeing what they have, and have signal handlers and stacks of their own. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:handle_segv=0:handle_sigbus=0:use_sigaltstack=0";
}
#endif

static char dir[PATH_MAX / 2];
static bool standalone;
static atomic_int failures;

static void put_file(const char *name, const char *text, int flags)
{
	int saved = errno;
	int fd = open(t_path(name), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0666);

	if (fd >= 0) {
		(void)!write(fd, text, strlen(text));
		(void)fchmod(fd, 0666);
		(void)close(fd);
	}
	errno = saved;
}

static void publish(const char *name, const char *text)
{
	char tmp[64], from[PATH_MAX];

	(void)snprintf(tmp, sizeof(tmp), ".%s.%d", name, getpid());
	(void)snprintf(from, sizeof(from), "%s", t_path(tmp));
	put_file(tmp, text, O_TRUNC);
	(void)rename(from, t_path(name));
}

void t_init(int argc, char **argv)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	t_sys(sigprocmask(SIG_BLOCK, &set, NULL));
	if (argc > 1) {
		t_set_dir(argv[1]);
		return;
	}
	standalone = true;
	(void)snprintf(dir, sizeof(dir), "/tmp/ckpt-test-XXXXXX");
	if (!mkdtemp(dir))
		t_die(__FILE__, __LINE__, "mkdtemp");
	(void)fprintf(stderr, "directory %s\n", dir);
}

void t_wait_go(void)
{
	sigset_t set;
	siginfo_t info;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	/* The kernel ends this call with EINTR on any ptrace stop. */
	while (sigwaitinfo(&set, &info) != SIGTERM)
		if (errno != EINTR)
			t_die(__FILE__, __LINE__, "sigwaitinfo");
}

void t_ready(void)
{
	char text[32];

	if (standalone)
		(void)fprintf(stderr, "ready: kill -TERM %d\n", getpid());
	(void)snprintf(text, sizeof(text), "%d\n", getpid());
	publish("ready", text);
	t_wait_go();
}

static void report(const char *file, int line, const char *text)
{
	char msg[1024];
	const char *slash = strrchr(file, '/');

	(void)snprintf(msg, sizeof(msg), "%s:%d: [%d] %s\n", slash ? slash + 1 : file, line,
		       t_gettid(), text);
	put_file("failures", msg, O_APPEND);
	(void)!write(2, msg, strlen(msg));
}

bool t_check_at(const char *file, int line, bool ok, const char *text, const char *fmt, ...)
{
	char msg[768];
	va_list ap;
	int n;

	if (ok)
		return true;
	failures++;
	va_start(ap, fmt);
	n = vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(msg))
		(void)snprintf(msg + n, sizeof(msg) - (size_t)n, " (%s)", text);
	report(file, line, msg);
	return false;
}

_Noreturn void t_die(const char *file, int line, const char *what)
{
	char msg[512];

	(void)snprintf(msg, sizeof(msg), "%s: %s", what, strerror(errno));
	report(file, line, msg);
	_exit(99);
}

_Noreturn void t_skip(const char *fmt, ...)
{
	char msg[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	publish("skip", msg);
	if (standalone)
		(void)fprintf(stderr, "skip: %s\n", msg);
	_exit(77);
}

int t_status(void)
{
	return failures ? 1 : 0;
}

int t_done(void)
{
	struct stat st;
	bool failed = failures || stat(t_path("failures"), &st) == 0;

	publish("result", failed ? "fail\n" : "pass\n");
	if (standalone)
		(void)fprintf(stderr, failed ? "fail\n" : "pass\n");
	return failed;
}

void t_tick(void)
{
	struct timespec ts = { .tv_nsec = 2000000 };

	(void)nanosleep(&ts, NULL);
}

const char *t_dir(void)
{
	return dir;
}

void t_set_dir(const char *path)
{
	(void)snprintf(dir, sizeof(dir), "%s", path);
}

const char *t_path(const char *name)
{
	static _Thread_local char buf[4][PATH_MAX];
	static _Thread_local unsigned int next;
	char *p = buf[next++ % T_ARRAY_SIZE(buf)];

	(void)snprintf(p, PATH_MAX, "%s/%s", dir, name);
	return p;
}

pid_t t_gettid(void)
{
	return (pid_t)syscall(SYS_gettid);
}

pid_t t_fork(void)
{
	pid_t pid = fork();

	if (pid < 0)
		t_die(__FILE__, __LINE__, "fork");
	return pid;
}

pid_t t_clone(unsigned long flags)
{
	return flags ? (pid_t)t_sys(syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0)) : t_fork();
}

void t_step_done(int step)
{
	char name[16];

	(void)snprintf(name, sizeof(name), "step%d", step);
	close((int)t_sys(open(t_path(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0666)));
}

pthread_t t_thread(void *(*fn)(void *), void *arg)
{
	pthread_t thread;

	t_zero(pthread_create(&thread, NULL, fn, arg));
	return thread;
}

void t_until_asleep(pid_t pid, pid_t tid, long nr)
{
	char path[64], text[256];
	bool asleep = false;

	for (int i = 0; i < 10000 && !asleep; i++) {
		if (i)
			t_tick();
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
		if (t_slurp(path, text, sizeof(text)) <= 0 || strncmp(text, "running", 7) == 0)
			continue;
		asleep = nr < 0 || strtol(text, NULL, 10) == nr;
	}
	t_check(asleep, "thread %d sleeps in system call %ld", tid, nr);
}

void t_reap(pid_t pid, int code)
{
	int status = 0;
	pid_t got = waitpid(pid, &status, 0);

	t_check(got == pid, "waitpid(%d) is %d, errno %d", pid, got, errno);
	t_check(WIFEXITED(status) && WEXITSTATUS(status) == code,
		"child %d ended with exit(%d): status %#x", pid, code, status);
}

ssize_t t_slurp(const char *path, void *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t r;

	if (fd < 0)
		return -1;
	while (n < size - 1 && (r = read(fd, (char *)buf + n, size - 1 - n)) > 0)
		n += (size_t)r;
	((char *)buf)[n] = 0;
	(void)close(fd);
	return (ssize_t)n;
}

const char *t_proc(const char *path, const char *key)
{
	static _Thread_local char text[8192];
	char full[256];
	size_t len = strlen(key);

	(void)snprintf(full, sizeof(full), "/proc/%s", path);
	if (t_slurp(full, text, sizeof(text)) < 0)
		return "";
	for (char *line = text; line && *line; line = strchr(line, '\n'), line += line ? 1 : 0) {
		if (strncmp(line, key, len) || line[len] != ':')
			continue;
		line += len + 1;
		line += strspn(line, " \t");
		line[strcspn(line, "\n")] = 0;
		return line;
	}
	return "";
}
