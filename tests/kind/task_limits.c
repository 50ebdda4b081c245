// SPDX-License-Identifier: GPL-2.0-only
/* Small state of a process: resource limits, umask, personality, dumpable, OOM adjustment,
 * core filter, THP-disable, child subreaper, parent-death signal, login uid, CPU time so far. */
#include "t.h"

#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#ifndef PR_GET_THP_DISABLE
#define PR_SET_THP_DISABLE 41
#define PR_GET_THP_DISABLE 42
#endif

static void put(const char *path, const char *text)
{
	int fd = (int)t_sys(open(path, O_WRONLY));

	if (write(fd, text, strlen(text)) < 0)
		t_die(__FILE__, __LINE__, path);
	close(fd);
}

static const char *get(const char *path)
{
	static char text[128];

	if (t_slurp(path, text, sizeof(text)) < 0)
		return "?";
	text[strcspn(text, "\n")] = 0;
	return text;
}

/* A child and one of its threads, each with its own: the root of a restored tree has no parent
 * that could die. */
static void *dies(void *arg)
{
	int sig = 0;

	t_sys(prctl(PR_SET_PDEATHSIG, SIGUSR2));
	pthread_barrier_wait(arg);
	pthread_barrier_wait(arg);
	t_sys(prctl(PR_GET_PDEATHSIG, &sig));
	t_check(sig == SIGUSR2, "parent-death signal of a thread: %d", sig);
	return NULL;
}

static int dying(void)
{
	pthread_barrier_t barrier;
	pthread_t thread;
	int sig = 0;

	t_zero(pthread_barrier_init(&barrier, NULL, 2));
	t_sys(prctl(PR_SET_PDEATHSIG, SIGWINCH));
	thread = t_thread(dies, &barrier);
	pthread_barrier_wait(&barrier);
	t_wait_go();
	t_sys(prctl(PR_GET_PDEATHSIG, &sig));
	t_check(sig == SIGWINCH, "parent-death signal: %d", sig);
	pthread_barrier_wait(&barrier);
	t_zero(pthread_join(thread, NULL));
	return t_status();
}

int main(int argc, char **argv)
{
	static struct rlimit want[RLIM_NLIMITS], got;
	bool loginuid = access("/proc/self/loginuid", W_OK) == 0;
	char login[32] = "";
	int mask, sub = 0;
	pid_t child;

	t_init(argc, argv);
	child = t_fork();
	if (child == 0)
		_exit(dying());
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		t_sys(getrlimit((__rlimit_resource_t)i, &want[i]));
		if (want[i].rlim_max == RLIM_INFINITY) {
			want[i].rlim_max = (1ul << 40) + (unsigned)i;
			want[i].rlim_cur = (1ul << 39) + (unsigned)i;
		} else if (want[i].rlim_max > 100) {
			want[i].rlim_cur = want[i].rlim_max / 2 + (unsigned)i;
			want[i].rlim_max -= (unsigned)i;
		}
		if (i == RLIMIT_CORE)
			want[i].rlim_cur = 0;
		t_sys(setrlimit((__rlimit_resource_t)i, &want[i]));
	}
	umask(0137);
	t_sys(personality(ADDR_NO_RANDOMIZE | SHORT_INODE | UNAME26));
	t_sys(prctl(PR_SET_DUMPABLE, 0));
	put("/proc/self/oom_score_adj", "345");
	put("/proc/self/coredump_filter", "0x5d");
	t_sys(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	t_sys(prctl(PR_SET_CHILD_SUBREAPER, 1));
	t_sys(prctl(PR_SET_TSC, PR_TSC_ENABLE));
	t_sys(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
	if (loginuid) {
		int fd = open("/proc/self/loginuid", O_WRONLY);

		/* Can be refused: immutable once set, or by the audit configuration. */
		(void)!write(fd, "12345", 5);
		close(fd);
		(void)snprintf(login, sizeof(login), "%s", get("/proc/self/loginuid"));
	}
	t_until_asleep(child, child, SYS_rt_sigtimedwait);
	t_ready();
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		t_sys(getrlimit((__rlimit_resource_t)i, &got));
		t_check(got.rlim_cur == want[i].rlim_cur && got.rlim_max == want[i].rlim_max,
			"limit %d is %lu/%lu: %lu/%lu", i, want[i].rlim_cur, want[i].rlim_max,
			got.rlim_cur, got.rlim_max);
	}
	mask = (int)umask(0);
	t_check(mask == 0137, "umask: %#o", mask);
	t_check(personality(0xffffffff) == (ADDR_NO_RANDOMIZE | SHORT_INODE | UNAME26),
		"personality: %#x", personality(0xffffffff));
	t_check(prctl(PR_GET_DUMPABLE) == 0, "dumpable: %d", prctl(PR_GET_DUMPABLE));
	t_check(strcmp(get("/proc/self/oom_score_adj"), "345") == 0, "oom_score_adj: %s",
		get("/proc/self/oom_score_adj"));
	t_check(strcmp(get("/proc/self/coredump_filter"), "0000005d") == 0, "coredump_filter: %s",
		get("/proc/self/coredump_filter"));
	t_check(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1, "THP-disable: %d",
		prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	t_sys(prctl(PR_GET_CHILD_SUBREAPER, &sub));
	t_check(sub == 1, "child subreaper: %d", sub);
	t_check(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_EARLY, "machine check policy: %d",
		prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
	if (loginuid)
		t_check(strcmp(get("/proc/self/loginuid"), login) == 0, "login uid %s: %s", login,
			get("/proc/self/loginuid"));
	t_sys(kill(child, SIGTERM));
	t_reap(child, 0);
	return t_done();
}
