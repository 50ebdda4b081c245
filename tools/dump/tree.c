// SPDX-License-Identifier: GPL-2.0-only
/* What belongs to the tree as a whole: asked for once, before or after the freeze. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "dump/dump.h"
#include "kern/getfd.h"

static int anon_cmp(const void *a, const void *b)
{
	ino_t x = ((const struct dump_anon *)a)->ino, y = ((const struct dump_anon *)b)->ino;

	return x < y ? -1 : x > y;
}

static void master_add(struct dump_ctx *d, int pid, int fd)
{
	auto_fd own = fd_take(pid, fd);
	int index, *slot;

	if (own < 0 || ioctl(own, TIOCGPTN, &index))
		return;
	slot = vec_push(&d->masters);
	if (slot)
		*slot = index;
}

/* Remember the inodes behind "socket:[N]" and "pipe:[N]" of one process. */
static void anon_add(struct dump_ctx *d, int pid)
{
	char path[64], link[64];
	auto_dir DIR *dir = NULL;
	struct dirent *e;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1);
		struct dump_anon *slot;
		struct stat st;

		if (n <= 0)
			continue;
		link[n] = 0;
		if (n >= 5 && !strcmp(link + n - 5, "/ptmx"))
			master_add(d, pid, atoi(e->d_name));
		if (strncmp(link, "socket:[", 8) != 0 && strncmp(link, "pipe:[", 6) != 0)
			continue;
		slot = vec_push(&d->anon);
		/* The link's own permissions tell how the descriptor is open. */
		if (!slot || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		slot->ino = strtoull(strchr(link, '[') + 1, NULL, 10);
		slot->ends = (st.st_mode & S_IRUSR ? DUMP_ANON_READ : 0) |
			     (st.st_mode & S_IWUSR ? DUMP_ANON_WRITE : 0);
	}
}

/* Call @fn for each process of the tree, frozen or not. */
static void tree_walk(struct dump_ctx *d, int pid, void (*fn)(struct dump_ctx *d, int pid))
{
	struct ckpt_err gone = { 0 };
	struct proc_pids kids;
	int live;

	if (d->target.tasks.n) {
		for (size_t i = 0; i < d->target.tasks.n; i++)
			fn(d, d->target.tasks.v[i].pid);
		return;
	}
	live = proc_live(pid);
	if (live)
		fn(d, live);
	if (proc_children(pid, NULL, &kids, &gone))
		return;
	for (size_t i = 0; i < kids.n; i++)
		tree_walk(d, kids.v[i], fn);
	vec_free(&kids);
}

/* fdinfo of a unix socket counts the descriptors that wait in it. */
static void flying_add(struct dump_ctx *d, int pid)
{
	char path[64], link[64];
	auto_dir DIR *dir = NULL;
	struct dirent *e;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && !d->anon.flying && (e = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1);
		auto_free char *info = NULL;
		struct ckpt_err gone = { 0 };
		uint64_t count = 0;

		if (n <= 8 || strncmp(link, "socket:[", 8) != 0)
			continue;
		(void)snprintf(path, sizeof(path), "fdinfo/%.16s", e->d_name);
		if (!proc_read(pid, path, &info, NULL, &gone) &&
		    proc_field_num(info, "scm_fds", 0, 10, &count) && count)
			d->anon.flying = true;
	}
}

bool dump_tree_has_pid(const struct dump_ctx *d, int pid)
{
	struct ckpt_err gone = { 0 };
	struct proc_stat st;

	if (d->target.tasks.n)
		return dump_vpid(d, pid) != 0;
	for (; pid > 1; pid = st.ppid) {
		if (pid == d->opts->pid)
			return true;
		if (proc_stat_read(pid, &st, &gone))
			return false;
	}
	return false;
}

bool dump_tree_sends_fds(struct dump_ctx *d)
{
	if (!d->anon.flying_known) {
		d->anon.flying_known = true;
		tree_walk(d, d->opts->pid, flying_add);
	}
	return d->anon.flying;
}

/* Sort, and make one entry of the two ends of a pipe. */
static void anon_sort(struct dump_ctx *d)
{
	struct dump_anon *v = d->anon.v;
	size_t n = 0;

	if (!d->anon.n)
		return;
	qsort(v, d->anon.n, sizeof(*v), anon_cmp);
	for (size_t i = 1; i < d->anon.n; i++)
		if (v[i].ino == v[n].ino)
			v[n].ends |= v[i].ends;
		else
			v[++n] = v[i];
	d->anon.n = n + 1;
}

static void anon_look(struct dump_ctx *d)
{
	if (d->anon.known)
		return;
	d->anon.known = true;
	tree_walk(d, d->opts->pid, anon_add);
	anon_sort(d);
}

bool dump_tree_has_master(struct dump_ctx *d, int index)
{
	anon_look(d);
	for (size_t i = 0; i < d->masters.n; i++)
		if (d->masters.v[i] == index)
			return true;
	return false;
}

unsigned int dump_tree_anon(struct dump_ctx *d, ino_t ino)
{
	struct dump_anon key = { .ino = ino };
	const struct dump_anon *found;

	anon_look(d);
	found = d->anon.n ? bsearch(&key, d->anon.v, d->anon.n, sizeof(key), anon_cmp) : NULL;
	return found ? found->ends : 0;
}

int dump_unix_diags(struct dump_ctx *d, const struct unix_diags **ret, struct ckpt_err *err)
{
	int rc;

	if (!d->diags) {
		struct unix_diags *all = calloc(1, sizeof(*all));

		if (!all)
			return ckpt_oom(err);
		rc = sockdiag_unix_read(all, err);
		if (rc) {
			free(all);
			return rc;
		}
		d->diags = all;
	}
	*ret = d->diags;
	return 0;
}

int dump_pid_image(const struct dump_ctx *d, int pid)
{
	int vpid = dump_vpid(d, pid);

	return vpid ? vpid : d->target.nested_pids ? 0 : pid;
}

void dump_tree_free(struct dump_ctx *d)
{
	vec_free(&d->anon);
	vec_free(&d->masters);
	d->anon.known = d->anon.flying_known = d->anon.flying = false;
	if (d->diags)
		sockdiag_unix_free(d->diags);
	free(d->diags);
	d->diags = NULL;
}
