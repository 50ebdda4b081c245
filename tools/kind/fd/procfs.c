// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files of a process below /proc, also when they are only referred to (O_PATH). Those of the tree's
 * own processes exist only when these do: each task that has one opens it again, once all its
 * threads are there. Those of any other process are refused: its number will be somebody else's.
 * Process 1 is always the same.
 */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fd_procfs.pb-c.h"
#include "kind/fd/kinds.h"
#include "kind/fd/own.h"

#define OPEN_FLAGS (O_ACCMODE | O_NONBLOCK | O_DIRECTORY | O_NOATIME | O_PATH)

static bool procfs_match(const struct fd_facts *f)
{
	struct stat st;

	return !strncmp(f->link, "/proc/", 6) && isdigit((unsigned char)f->link[6]) &&
	       (S_ISREG(f->st.st_mode) || S_ISDIR(f->st.st_mode) || f->flags & O_PATH) &&
	       !stat("/proc", &st) && st.st_dev == f->st.st_dev;
}

/* The flags to open it with: of a link that is only referred to the link itself is meant. */
static int open_flags(uint32_t flags)
{
	return ((int)flags & OPEN_FLAGS) | (flags & O_PATH ? O_NOFOLLOW : 0);
}

static int procfs_check(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err)
{
	int pid = 0, tid = 0, owner = atoi(f->link + 6);

	if (faccessat(AT_FDCWD, f->link, F_OK, AT_SYMLINK_NOFOLLOW))
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "fd %d: the process of %s is gone", f->fd, f->link);
	if (owner == 1)
		return 0;
	if (!dump_tree_has_pid(d, owner)) {
		(void)ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				"fd %d: %s belongs to a process outside the tree", f->fd, f->link);
		return ckpt_remedy(err, "dump a process that both descend from, or have the "
					"program close it");
	}
	if (sscanf(f->link, "/proc/%d/task/%d", &pid, &tid) == 2 && tid != pid && pid != f->pid)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "fd %d: %s belongs to a thread of another process", f->fd,
				 f->link);
	return 0;
}

static int procfs_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		       struct ckpt_err *err)
{
	Ckpt__FdProcfs *m = msg;

	(void)obj;
	m->in_tree = dump_vpid(d, atoi(f->link + 6)) != 0;
	m->path = strdup(f->link);
	return m->path ? 0 : ckpt_oom(err);
}

static int procfs_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			  int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdProcfs *m = msg;
	/* What the tasks inherit until they open their own. */
	auto_fd fd = open(m->in_tree ? "/dev/null" : m->path,
			  m->in_tree ? O_RDWR | O_CLOEXEC : open_flags(obj->flags) | O_CLOEXEC);

	(void)r;
	if (fd < 0)
		return ckpt_fail_errno(err, E_FILE_CHANGED, -errno, "cannot open %s", m->path);
	if (!m->in_tree && obj->pos && !(obj->flags & O_PATH) &&
	    lseek(fd, (off_t)obj->pos, SEEK_SET) < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot seek in %s", m->path);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int procfs_plan(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg, int fdnum,
		       const Ckpt__Task *task, const Ckpt__FdTable *table, struct steps *s,
		       struct ckpt_err *err)
{
	const Ckpt__FdProcfs *m = msg;
	struct fd_own own;
	uint32_t opened;

	(void)r;
	(void)task;
	(void)err;
	if (!m->in_tree)
		return 0;
	own = fd_own_plan(obj, table, fdnum, s);
	if (own.shared)
		return 0;
	opened = steps_call(s, "open a file of its own in /proc", SYS_openat, (uint64_t)AT_FDCWD,
			    steps_str(s, m->path), (uint64_t)open_flags(obj->flags));
	fd_own_place(&own, opened, s);
	if (obj->pos && !(obj->flags & O_PATH))
		(void)steps_call(s, "seek in a file of /proc", SYS_lseek, (uint64_t)fdnum, obj->pos,
				 SEEK_SET);
	return 0;
}

const struct fd_kind fd_kind_procfs = {
	.name = "procfs",
	.desc = &ckpt__fd_procfs__descriptor,
	.match = procfs_match,
	.check = procfs_check,
	.dump = procfs_dump,
	.restore = procfs_restore,
	.plan = procfs_plan,
	.plan_each = true,
	.plan_late = true,
};
