// SPDX-License-Identifier: GPL-2.0-only
/* What belongs to the tree as a whole: asked for once, before or after the freeze. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/vec.h"
#include "dump/dump.h"

static int ino_cmp(const void *a, const void *b)
{
	ino_t x = *(const ino_t *)a, y = *(const ino_t *)b;

	return x < y ? -1 : x > y;
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
		ino_t *slot;

		if (n <= 0)
			continue;
		link[n] = 0;
		if (strncmp(link, "socket:[", 8) != 0 && strncmp(link, "pipe:[", 6) != 0)
			continue;
		slot = vec_push(&d->anon);
		if (slot)
			*slot = strtoull(strchr(link, '[') + 1, NULL, 10);
	}
}

static void anon_add_tree(struct dump_ctx *d, int pid)
{
	struct ckpt_err gone = { 0 };
	struct proc_pids kids;

	anon_add(d, pid);
	if (proc_children(pid, &kids, &gone))
		return;
	for (size_t i = 0; i < kids.n; i++)
		anon_add_tree(d, kids.v[i]);
	vec_free(&kids);
}

bool dump_tree_has_anon(struct dump_ctx *d, ino_t ino)
{
	if (!d->anon.known) {
		d->anon.known = true;
		if (d->target.tasks.n)
			for (size_t i = 0; i < d->target.tasks.n; i++)
				anon_add(d, d->target.tasks.v[i].pid);
		else
			anon_add_tree(d, d->opts->pid);
		if (d->anon.n)
			qsort(d->anon.v, d->anon.n, sizeof(*d->anon.v), ino_cmp);
	}
	return d->anon.n && bsearch(&ino, d->anon.v, d->anon.n, sizeof(ino), ino_cmp);
}

int dump_unix_diags(struct dump_ctx *d, const struct unix_diags **ret, struct ckpt_err *err)
{
	int rc;

	if (!d->diags) {
		struct unix_diags *all = calloc(1, sizeof(*all));

		if (!all)
			return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
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
	d->anon.known = false;
	if (d->diags)
		sockdiag_unix_free(d->diags);
	free(d->diags);
	d->diags = NULL;
}
