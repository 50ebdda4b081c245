// SPDX-License-Identifier: GPL-2.0-only
/*
 * Inotify: watches and their numbers. The kernel tells a file handle for each watched file; the
 * file is found by it, or, where the file system cannot open handles, among the names the tree
 * uses. Numbers are given out in ascending order, so gaps are made again by watches that are
 * removed at once. Events that were queued cannot be saved: reading them takes them away. In their
 * place the restored program reads what the kernel queues when it had to drop some, IN_Q_OVERFLOW.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/text.h"
#include "fd_inotify.pb-c.h"
#include "kern/getfd.h"
#include "kern/mounts.h"
#include "kind/fd/kinds.h"

#define WD_MAX 1000000u      /* a gap costs two system calls a number */
#define QUEUE_MAX (1u << 21) /* an overflow costs one an event that fits */
#define QUEUE_LIMIT "/proc/sys/fs/inotify/max_queued_events"

static bool inotify_match(const struct fd_facts *f)
{
	return !strcmp(f->link, "anon_inode:inotify");
}

/* Some directory or file on the file system @dev, for open_by_handle_at(). */
static int open_mount(int pid, dev_t dev)
{
	auto_free char *text = NULL;
	struct ckpt_err ignore = { 0 };
	struct mount m;
	char *at;

	if (proc_read(pid, "mountinfo", &text, NULL, &ignore))
		return -1;
	at = text;
	while (mount_next(&at, &m)) {
		struct stat st;
		int fd;

		if (m.dev != dev)
			continue;
		fd = open(m.at, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0 && !fstat(fd, &st) && st.st_dev == dev)
			return fd;
		if (fd >= 0)
			(void)close(fd);
	}
	return -1;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The watched file as an O_PATH descriptor, -1 when there is no way to it. */
static int open_handle(int pid, dev_t dev, unsigned int bytes, unsigned int type, const char *text)
{
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ] __attribute__((aligned(8)));
	struct file_handle *h = (struct file_handle *)room;
	auto_fd mnt = open_mount(pid, dev);

	if (mnt < 0 || bytes > MAX_HANDLE_SZ)
		return -1;
	h->handle_bytes = bytes;
	h->handle_type = (int)type;
	for (unsigned int i = 0; i < bytes; i++) {
		int hi = hex(text[2 * i]), lo = hi < 0 ? -1 : hex(text[2 * i + 1]);

		if (lo < 0)
			return -1;
		h->f_handle[i] = (unsigned char)(hi << 4 | lo);
	}
	return open_by_handle_at(mnt, h, O_PATH | O_CLOEXEC);
}

static int watch_dump(const struct fd_facts *f, const char *line, Ckpt__FdInotifyWatch *w,
		      struct ckpt_err *err)
{
	unsigned int wd, sdev, mask, bytes, type;
	unsigned long long ino;
	char link[PATH_MAX], self[64];
	struct stat st, by_name;
	int at = 0;
	ssize_t n;
	dev_t dev;

	if (text_scan(line,
		      "inotify wd:%x ino:%llx sdev:%x mask:%x ignored_mask:%*x fhandle-bytes:%x "
		      "fhandle-type:%x f_handle:%n",
		      &wd, &ino, &sdev, &mask, &bytes, &type, &at) != 6 ||
	    !at)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "the kernel does not tell what a watch looks at");
	dev = makedev(sdev >> 20, sdev & 0xfffff);
	w->wd = wd;
	w->mask = mask;
	{
		auto_fd fd = open_handle(f->pid, dev, bytes, type, line + at);

		if (fd < 0)
			return ckpt_fail(
				err, E_UNSUPPORTED, -EOPNOTSUPP,
				"watch %u: inode %llu of file system %u:%u cannot be found", wd,
				ino, major(dev), minor(dev));
		(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
		n = readlink(self, link, sizeof(link) - 1);
		if (n <= 0 || fstat(fd, &st))
			return ckpt_fail_errno(err, E_UNSUPPORTED, -errno, "watch %u: no name", wd);
	}
	link[n] = 0;
	if (lstat(link, &by_name) || by_name.st_ino != st.st_ino || by_name.st_dev != st.st_dev)
		return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
				 "watch %u: the file has no name (%s)", wd, link);
	w->path.data = (uint8_t *)strdup(link);
	w->path.len = (size_t)n;
	return w->path.data ? 0 : ckpt_oom(err);
}

static int watch_cmp(const void *a, const void *b)
{
	uint32_t x = (*(Ckpt__FdInotifyWatch *const *)a)->wd,
		 y = (*(Ckpt__FdInotifyWatch *const *)b)->wd;

	return x < y ? -1 : x > y;
}

static int inotify_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
			struct ckpt_err *err)
{
	Ckpt__FdInotify *m = msg;
	const char *at = f->fdinfo;
	int rc, bytes = 0;

	(void)d;
	(void)obj;
	if (ioctl(f->local, FIONREAD, &bytes))
		return ckpt_fail_errno(err, E_FREEZE, -errno, "inotify: FIONREAD");
	m->unread = bytes > 0;
	while ((at = strstr(at, "inotify wd:"))) {
		Ckpt__FdInotifyWatch *w = kind_msg_new(&ckpt__fd_inotify_watch__descriptor);

		if (!w || kind_push(&m->n_watches, &m->watches, w))
			return ckpt_oom(err);
		rc = watch_dump(f, at, w, err);
		if (rc)
			return rc;
		if (w->wd > WD_MAX)
			return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
					 "watch number %u is too high", w->wd);
		at++;
	}
	if (m->n_watches)
		qsort(m->watches, m->n_watches, sizeof(*m->watches), watch_cmp);
	return 0;
}

/* Remove what dummy watches left in the queue. */
static void drain(int fd)
{
	char buf[4096];
	int bytes;

	while (!ioctl(fd, FIONREAD, &bytes) && bytes && read(fd, buf, sizeof(buf)) > 0)
		;
}

/* Watches are given the numbers 1, 2, 3 …: use up those that are missing. */
static int skip_numbers(int fd, uint32_t from, uint32_t to)
{
	for (uint32_t n = from; n < to; n++) {
		int wd = inotify_add_watch(fd, "/", IN_ONESHOT | IN_DELETE_SELF);

		if (wd != (int)n)
			return -EPROTO;
		if (inotify_rm_watch(fd, wd))
			return -errno;
		if ((n & 1023) == 0)
			drain(fd);
	}
	drain(fd);
	return 0;
}

static int queue_limit(unsigned int *ret)
{
	auto_free char *text = NULL;
	ssize_t n = io_read_file(AT_FDCWD, QUEUE_LIMIT, &text);

	if (n < 0)
		return (int)n;
	*ret = (unsigned int)strtoul(text, NULL, 10);
	return *ret && *ret <= QUEUE_MAX ? 0 : -ERANGE;
}

/* More events of a file of our own than the queue takes, each different from the one before: the
 * same again would be dropped without a word. */
static int flood(int fd, unsigned int limit)
{
	auto_fd own = memfd_create("ckpt-inotify", MFD_CLOEXEC);
	char path[32];
	int wd;

	if (own < 0)
		return -errno;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", own);
	wd = inotify_add_watch(fd, path, IN_ATTRIB | IN_MODIFY);
	if (wd < 0)
		return -errno;
	for (unsigned int n = 0; n <= limit; n += 2)
		if (fchmod(own, 0600) || ftruncate(own, 0))
			return -errno;
	/* It says goodbye by an event, for which there is no room either. */
	return inotify_rm_watch(fd, wd) ? -errno : 0;
}

/* Leave one event in the queue: that some were lost. It is the last of a full queue. */
static int overflow(int fd)
{
	const int last = (int)sizeof(struct inotify_event);
	unsigned int limit = 0;
	char buf[4096];
	int bytes, rc = queue_limit(&limit);

	if (!rc)
		rc = flood(fd, limit);
	if (rc)
		return rc;
	if (ioctl(fd, FIONREAD, &bytes))
		return -errno;
	for (bytes -= last; bytes > 0;) {
		ssize_t n =
			read(fd, buf, (size_t)bytes < sizeof(buf) ? (size_t)bytes : sizeof(buf));

		if (n <= 0)
			return n ? -errno : -EIO;
		bytes -= (int)n;
	}
	return ioctl(fd, FIONREAD, &bytes) ? -errno : bytes < last ? -EIO : 0;
}

static int inotify_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			   int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdInotify *m = msg;
	auto_fd fd = fd_private(inotify_init1(IN_NONBLOCK));
	uint32_t next = 1;

	(void)obj;
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make an inotify instance");
	for (size_t i = 0; i < m->n_watches; i++) {
		const Ckpt__FdInotifyWatch *w = m->watches[i];
		char path[PATH_MAX];
		int rc, wd;

		if (w->wd < next || w->wd > WD_MAX || w->path.len >= sizeof(path))
			return ckpt_fail(err, E_IMAGE_CORRUPT, -EBADMSG, "inotify: watch number %u",
					 w->wd);
		memcpy(path, w->path.data, w->path.len);
		path[w->path.len] = 0;
		rc = skip_numbers(fd, next, w->wd);
		if (rc)
			return ckpt_fail_errno(err, E_RESTORE, rc,
					       "inotify: cannot skip to number %u", w->wd);
		wd = inotify_add_watch(fd, path, w->mask | IN_DONT_FOLLOW);
		if (wd < 0)
			return ckpt_fail_errno(err, E_RESTORE, -errno, "inotify: cannot watch %s",
					       path);
		if (wd != (int)w->wd)
			return ckpt_fail(err, E_RESTORE, -EPROTO,
					 "inotify: %s got number %d, not %u", path, wd, w->wd);
		next = w->wd + 1;
	}
	if (m->unread) {
		int rc = overflow(fd);

		if (rc == -ERANGE)
			return ckpt_remedy(
				(ckpt_fail(
					 err, E_LIMIT, rc,
					 "inotify: too long a queue to say that events were lost"),
				 err),
				"lower it: sysctl fs.inotify.max_queued_events=%u", QUEUE_MAX);
		if (rc)
			return ckpt_fail_errno(err, E_RESTORE, rc,
					       "inotify: cannot say that events were lost");
		ui_note(restore_ui(r), 1,
			"inotify: unread events were lost, and the program is told so");
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

const struct fd_kind fd_kind_inotify = {
	.name = "inotify",
	.desc = &ckpt__fd_inotify__descriptor,
	.match = inotify_match,
	.dump = inotify_dump,
	.restore = inotify_restore,
};
