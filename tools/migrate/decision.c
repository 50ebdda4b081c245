// SPDX-License-Identifier: GPL-2.0-only
#include "migrate/decision.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/vec.h"
#include "kern/procfs.h"
#include "kind/fd/tcprepair.h"

#define RUN_DIR "/run/ckpt"

static int open_dir(struct ckpt_err *err)
{
	const char *dir = getenv("CKPT_RUN_DIR");
	struct stat st;
	int fd;

	if (!dir)
		dir = RUN_DIR;
	if (mkdir(dir, 0700) && errno != EEXIST)
		return ckpt_fail_errno(err, E_PERM, -errno, "cannot create %s", dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return ckpt_fail_errno(err, E_PERM, -errno, "cannot open %s", dir);
	if (st.st_uid != geteuid() || (st.st_mode & 022)) {
		(void)close(fd);
		return ckpt_fail(err, E_PERM, -EPERM, "others may write to %s", dir);
	}
	return fd;
}

void decision_id(const uint8_t *id, char *ret)
{
	for (int i = 0; i < MIG_ID_BYTES; i++)
		(void)sprintf(ret + 2 * (size_t)i, "%02x", id[i]);
}

bool decision_id_parse(const char *hex, uint8_t *ret)
{
	if (strlen(hex) != 2 * MIG_ID_BYTES)
		return false;
	for (size_t i = 0; i < MIG_ID_BYTES; i++) {
		unsigned int v;

		if (strspn(hex + 2 * i, "0123456789abcdef") < 2 ||
		    sscanf(hex + 2 * i, "%2x", &v) != 1)
			return false;
		ret[i] = (uint8_t)v;
	}
	return true;
}

/* @text into a file that gets its name when it is durable, so that a kill leaves no half of it.
 * -EEXIST when there is one of that name. @ret_locked, unless NULL: it is locked from the start,
 * and stays open. */
static int put_whole(int dir, const char *name, const char *text, int *ret_locked)
{
	auto_fd fd = openat(dir, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600);
	char path[32], tmp[96] = "";
	int rc = 0;

	/* A file system that has no nameless files. */
	if (fd < 0) {
		(void)snprintf(tmp, sizeof(tmp), "%s.%d", name, getpid());
		fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	}
	rc = fd < 0 ? -errno : io_pwrite_full(fd, text, strlen(text), 0);
	if (!rc && fsync(fd))
		rc = -errno;
	if (!rc && ret_locked && flock(fd, LOCK_EX))
		rc = -errno;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!rc && linkat(AT_FDCWD, path, dir, name, AT_SYMLINK_FOLLOW))
		rc = -errno;
	if (tmp[0])
		(void)unlinkat(dir, tmp, 0);
	if (!rc && fsync(dir))
		rc = -errno;
	if (!rc && ret_locked)
		*ret_locked = take_fd(&fd);
	return rc;
}

static void put_pids(FILE *f, const struct decision *d)
{
	for (size_t i = 0; i < d->pids.n; i++)
		(void)fprintf(f, "pid %d %llu %d\n", d->pids.v[i].pid,
			      (unsigned long long)d->pids.v[i].start_time, d->pids.v[i].stopped);
}

static void put_addrs(FILE *f, const struct decision *d)
{
	char text[NETADDR_TEXT_MAX];

	for (size_t i = 0; i < d->addrs.n; i++) {
		netaddr_print(&d->addrs.v[i], text);
		(void)fprintf(f, "address %s\n", text);
	}
}

static bool parse_addr(const char *line, struct decision *d)
{
	struct netaddr a, *slot;

	if (strncmp(line, "address ", 8) != 0)
		return false;
	slot = netaddr_parse(line + 8, &a) ? vec_push(&d->addrs) : NULL;
	if (slot)
		*slot = a;
	return true;
}

/* A line of put_pids(); false when it is another one. */
static bool parse_pid(const char *line, struct decision *d)
{
	unsigned long long start;
	struct decision_pid *p;
	int pid, stopped;

	if (sscanf(line, "pid %d %llu %d", &pid, &start, &stopped) != 3)
		return false;
	p = vec_push(&d->pids);
	if (p)
		*p = (struct decision_pid) { pid, start, stopped };
	return true;
}

bool decision_same(const struct decision_pid *p)
{
	struct ckpt_err gone = { 0 };
	struct proc_stat st;

	return !proc_stat_read(p->pid, &st, &gone) && st.start_time == p->start_time;
}

int decision_add(struct decision *d, int pid, bool stopped, struct ckpt_err *err)
{
	struct decision_pid *p;
	struct proc_stat st;

	if (proc_stat_read(pid, &st, err))
		return err->code;
	p = vec_push(&d->pids);
	if (!p)
		return ckpt_oom(err);
	*p = (struct decision_pid) { pid, st.start_time, stopped };
	return 0;
}

/* The record is there already: only run_sent has changed, which is one byte. */
static int update(int dir, const char *name, const char *text)
{
	auto_fd fd = openat(dir, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	int rc = fd < 0 ? -errno : io_pwrite_full(fd, text, strcspn(text, "\n"), 0);

	return !rc && fsync(fd) ? -errno : rc;
}

int decision_write(const struct decision *d, struct ckpt_err *err)
{
	auto_fd dir = open_dir(err);
	auto_free char *text = NULL;
	char name[64];
	size_t len = 0;
	FILE *f;
	int rc;

	if (dir < 0)
		return dir;
	f = open_memstream(&text, &len);
	if (!f)
		return ckpt_oom(err);
	(void)fprintf(f, "run_sent %d\nto %s\nkey %s\ninsecure %d\n", d->run_sent, d->to, d->key,
		      d->insecure);
	(void)fprintf(f, "lock %s\nhook %u %s\n", d->lock, d->hook_timeout_ms, d->hook);
	put_addrs(f, d);
	put_pids(f, d);
	if (fclose(f))
		return ckpt_oom(err);
	(void)snprintf(name, sizeof(name), "source-%s", d->id);
	rc = put_whole(dir, name, text, NULL);
	if (rc == -EEXIST)
		rc = update(dir, name, text);
	return rc ? ckpt_fail_errno(err, E_PERM, rc, "cannot record the decision %s", name) : 0;
}

static void remove_file(const char *what, const char *id)
{
	struct ckpt_err ignore = { 0 };
	auto_fd dir = open_dir(&ignore);
	char name[64];

	(void)snprintf(name, sizeof(name), "%s-%s", what, id);
	if (dir >= 0)
		(void)unlinkat(dir, name, 0);
}

void decision_remove(const char *id)
{
	remove_file("source", id);
}

int decision_read(const char *id, struct decision *ret, struct ckpt_err *err)
{
	auto_fd dir = open_dir(err);
	auto_free char *text = NULL;
	char name[64];
	uint8_t raw[MIG_ID_BYTES];

	memset(ret, 0, sizeof(*ret));
	if (dir < 0)
		return dir;
	(void)snprintf(name, sizeof(name), "source-%s", id);
	if (!decision_id_parse(id, raw) || io_read_file(dir, name, &text) < 0)
		return ckpt_fail(err, E_USAGE, -ENOENT, "there is no migration %s in doubt here",
				 id);
	memcpy(ret->id, id, sizeof(ret->id));
	for (char *save = NULL, *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		int v, at = 0;

		if (parse_pid(line, ret) || parse_addr(line, ret)) {
			continue;
		} else if (!strncmp(line, "to ", 3)) {
			(void)snprintf(ret->to, sizeof(ret->to), "%s", line + 3);
		} else if (!strncmp(line, "key ", 4)) {
			(void)snprintf(ret->key, sizeof(ret->key), "%s", line + 4);
		} else if (!strncmp(line, "lock ", 5)) {
			(void)snprintf(ret->lock, sizeof(ret->lock), "%s", line + 5);
		} else if (sscanf(line, "hook %u %n", &ret->hook_timeout_ms, &at) == 1 && at) {
			(void)snprintf(ret->hook, sizeof(ret->hook), "%s", line + at);
		} else if (sscanf(line, "run_sent %d", &v) == 1) {
			ret->run_sent = v;
		} else if (sscanf(line, "insecure %d", &v) == 1) {
			ret->insecure = v;
		}
	}
	return 0;
}

void decision_free(struct decision *d)
{
	vec_free(&d->pids);
	vec_free(&d->addrs);
}

int decision_list(char ***ret, size_t *ret_n, struct ckpt_err *err)
{
	auto_fd dir = open_dir(err);
	auto_dir DIR *d = NULL;
	VEC(char *) list = { 0 };
	struct dirent *e;

	if (dir < 0)
		return dir;
	d = fdopendir(dir);
	if (!d)
		return ckpt_fail_errno(err, E_PERM, -errno, "cannot read the decisions");
	(void)take_fd(&dir);
	while ((e = readdir(d))) {
		uint8_t raw[MIG_ID_BYTES];
		char **slot;

		if (strncmp(e->d_name, "source-", 7) != 0 || !decision_id_parse(e->d_name + 7, raw))
			continue;
		slot = vec_push(&list);
		if (!slot || !(*slot = strdup(e->d_name + 7)))
			return ckpt_oom(err);
	}
	*ret = list.v;
	*ret_n = list.n;
	return 0;
}

int verdict_make(const char *id, Ckpt__MigState want, Ckpt__MigState *ret, struct ckpt_err *err)
{
	auto_fd dir = open_dir(err);
	auto_free char *have = NULL;
	char name[64];
	int rc;

	if (dir < 0)
		return dir;
	(void)snprintf(name, sizeof(name), "peer-%s", id);
	rc = put_whole(dir, name, want == CKPT__MIG_STATE__MIG_STATE_RUNNING ? "run\n" : "drop\n",
		       NULL);
	if (rc == -EEXIST)
		rc = 0;
	if (!rc && io_read_file(dir, name, &have) < 0)
		rc = -EIO;
	if (rc)
		return ckpt_fail_errno(err, E_PERM, rc, "cannot record the verdict %s", name);
	*ret = !strcmp(have, "run\n") ? CKPT__MIG_STATE__MIG_STATE_RUNNING
				      : CKPT__MIG_STATE__MIG_STATE_DROPPED;
	return 0;
}

void verdict_remove(const char *id)
{
	remove_file("peer", id);
}

void held_remove(const char *id)
{
	remove_file("held", id);
}

int held_write(const char *id, const struct decision *pids, int *ret_fd, struct ckpt_err *err)
{
	auto_fd dir = open_dir(err);
	auto_free char *text = NULL;
	char name[64];
	size_t len = 0;
	FILE *f;
	int rc;

	if (dir < 0)
		return dir;
	f = open_memstream(&text, &len);
	if (!f)
		return ckpt_oom(err);
	put_addrs(f, pids);
	put_pids(f, pids);
	if (fclose(f))
		return ckpt_oom(err);
	(void)snprintf(name, sizeof(name), "held-%s", id);
	rc = put_whole(dir, name, text, ret_fd);
	return rc ? ckpt_fail_errno(err, E_PERM, rc, "cannot record %s", name) : 0;
}

/* The file, once nobody is at work on its processes; -1 when there is nothing to be settled. */
static int held_open(int dir, const char *name)
{
	auto_fd fd = openat(dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 || flock(fd, LOCK_EX) || fstat(fd, &st) || !st.st_nlink)
		return -1;
	return take_fd(&fd);
}

void held_settle(const char *id, bool run)
{
	struct ckpt_err ignore = { 0 };
	auto_fd dir = open_dir(&ignore);
	auto_free char *text = NULL;
	auto_fd announcer = -1;
	auto_fd fd = -1;
	struct decision d = { 0 };
	char name[64];

	(void)snprintf(name, sizeof(name), "held-%s", id);
	if (dir >= 0)
		fd = held_open(dir, name);
	if (fd < 0 || io_read_file(dir, name, &text) < 0)
		return;
	for (char *save = NULL, *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		(void)(parse_addr(line, &d) || parse_pid(line, &d));
	if (run && d.addrs.n)
		announcer = netaddr_announcer();
	for (size_t i = 0; run && i < d.addrs.n; i++)
		if (!netaddr_add(&d.addrs.v[i]))
			(void)netaddr_announce(announcer, &d.addrs.v[i]);
	for (size_t i = 0; run && i < d.pids.n; i++)
		if (decision_same(&d.pids.v[i]))
			tcp_reset_task(d.pids.v[i].pid);
	for (size_t i = 0; i < d.pids.n; i++)
		if (decision_same(&d.pids.v[i]) && (!run || !d.pids.v[i].stopped))
			(void)kill(d.pids.v[i].pid, run ? SIGCONT : SIGKILL);
	decision_free(&d);
	held_remove(id);
}
