// SPDX-License-Identifier: GPL-2.0-only
#include "migrate/hook.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"

extern char **environ;

struct env {
	char **v;
	size_t n, cap;
};

static int env_add(struct env *e, const char *name, const char *value)
{
	char **slot = vec_push(e);

	if (!slot)
		return -ENOMEM;
	*slot = NULL;
	return asprintf(slot, "%s=%s", name, value) < 0 ? -ENOMEM : 0;
}

static void env_free(struct env *e)
{
	for (size_t i = 0; i < e->n; i++)
		free(e->v[i]);
	vec_free(e);
}

/* What ckpt was started with, and CKPT_…. The last entry is NULL. */
static int env_fill(struct env *e, const struct hook *h, const char *point)
{
	auto_free char *addrs = calloc(h->naddrs + 1, NETADDR_TEXT_MAX + 1);
	char pid[16], text[NETADDR_TEXT_MAX], *end = addrs;
	int rc = addrs ? 0 : -ENOMEM;

	for (char **p = environ; !rc && *p; p++) {
		char **slot;

		/* Not those of a ckpt that this one was started by. */
		if (!strncmp(*p, "CKPT_", 5) && strncmp(*p, "CKPT_RUN_DIR=", 13) != 0)
			continue;
		slot = vec_push(e);
		if (!slot || !(*slot = strdup(*p)))
			rc = -ENOMEM;
	}
	for (size_t i = 0; !rc && i < h->naddrs; i++) {
		netaddr_print(&h->addrs[i], text);
		end = stpcpy(stpcpy(end, i ? " " : ""), text);
	}
	(void)snprintf(pid, sizeof(pid), "%d", h->pid);
	if (!rc)
		rc = env_add(e, "CKPT_POINT", point);
	if (!rc)
		rc = env_add(e, "CKPT_SIDE", h->side);
	if (!rc)
		rc = env_add(e, "CKPT_MIGRATION", h->id);
	if (!rc)
		rc = env_add(e, "CKPT_OTHER", h->peer ? h->peer : "");
	if (!rc)
		rc = env_add(e, "CKPT_PID", pid);
	if (!rc)
		rc = env_add(e, "CKPT_ADDRESSES", addrs);
	if (!rc && !vec_push(e))
		rc = -ENOMEM;
	if (!rc)
		e->v[--e->n] = NULL;
	return rc;
}

/* In a group of its own, with nothing of ckpt's but the way to the administrator. */
static int start(const struct hook *h, const char *point, char **env, pid_t *ret)
{
	char *argv[] = { (char *)h->path, (char *)point, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	(void)posix_spawnattr_init(&attr);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setsigdefault(&attr, &all);
	(void)posix_spawnattr_setpgroup(&attr, 0);
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						      POSIX_SPAWN_SETPGROUP);
	(void)posix_spawn_file_actions_init(&files);
	/* Standard output may be the link (--stdio). */
	rc = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", 0, 0);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(&files, 2, 1);
	if (!rc)
		rc = posix_spawn(ret, h->path, &files, &attr, argv, env);
	(void)posix_spawn_file_actions_destroy(&files);
	(void)posix_spawnattr_destroy(&attr);
	return -rc;
}

/* Its wait status, or -ETIMEDOUT when it had to be killed. */
static int await(pid_t pid, uint32_t timeout_ms, int *ret_status)
{
	auto_fd pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	bool late = pidfd >= 0 && poll(&p, 1, (int)timeout_ms) == 0;

	if (late)
		(void)kill(-pid, SIGKILL);
	while (waitpid(pid, ret_status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return late ? -ETIMEDOUT : 0;
}

int hook_run(const struct hook *h, const char *point, struct ckpt_err *err)
{
	struct env env = { 0 };
	pid_t pid = 0;
	int status = 0, rc;

	if (!h->path)
		return 0;
	rc = env_fill(&env, h, point);
	if (!rc)
		rc = start(h, point, env.v, &pid);
	env_free(&env);
	if (rc)
		return ckpt_fail_errno(err, E_HOOK, rc, "cannot run %s", h->path);
	rc = await(pid, h->timeout_ms, &status);
	if (rc == -ETIMEDOUT)
		return ckpt_fail(err, E_HOOK, rc, "%s %s did not end within %u ms", h->path, point,
				 h->timeout_ms);
	if (rc)
		return ckpt_fail_errno(err, E_HOOK, rc, "cannot wait for %s", h->path);
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	return ckpt_fail(err, E_HOOK, -ECANCELED, "%s %s ended with %s %d", h->path, point,
			 WIFEXITED(status) ? "exit status" : "signal",
			 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}
