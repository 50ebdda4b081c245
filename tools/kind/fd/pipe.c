// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pipes and FIFOs. Every description of one refers to a "pipe-inode" object, which holds the data.
 * The data is read without taking it: tee(2) into a pipe of ours, which keeps the boundaries of
 * packet mode.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fd_basic.pb-c.h"
#include "kern/getfd.h"
#include "kind/fd/ghost.h"
#include "kind/fd/kinds.h"

#define LARGEFILE 0100000u /* as the kernel has it; the C library says 0 */

static bool is_anon(const struct fd_facts *f)
{
	return !strncmp(f->link, "pipe:", 5);
}

static bool pipe_match(const struct fd_facts *f)
{
	return S_ISFIFO(f->st.st_mode) && !(f->flags & O_PATH);
}

/* Does nobody hold the other end of this one? */
static bool is_lone(int fd, bool writer)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) >= 0 && p.revents & (writer ? POLLERR : POLLHUP);
}

static int refuse_outside(const struct fd_facts *f, bool writer, struct ckpt_err *err)
{
	(void)ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
			"fd %d: the %s end of %s is held outside the tree", f->fd,
			writer ? "read" : "write", f->link);
	return ckpt_remedy(err,
			   "dump the process that started both, or leave it out and hand one over "
			   "at the restore: --external '%s'",
			   f->link);
}

/* The other end of an anonymous pipe is in the tree, closed, or held by somebody who is not saved.
 */
static int pipe_check(struct dump_ctx *d, const struct fd_facts *f, struct ckpt_err *err)
{
	auto_fd own = f->local < 0 ? fd_take(f->pid, f->fd) : -1;
	bool writer = (f->flags & O_ACCMODE) == O_WRONLY;

	/* Once the tree is frozen pipe_dump_late() knows all of it, also ends on their way. */
	if (own < 0 || !is_anon(f) || (f->flags & O_ACCMODE) == O_RDWR)
		return 0;
	if (dump_tree_anon(d, f->st.st_ino) & (writer ? DUMP_ANON_READ : DUMP_ANON_WRITE))
		return 0;
	return is_lone(own, writer) || dump_tree_sends_fds(d) ? 0 : refuse_outside(f, writer, err);
}

static int chunk_push(Ckpt__PipeInode *m, const char *data, size_t len, bool packet)
{
	Ckpt__PipeChunk *c = kind_msg_new(&ckpt__pipe_chunk__descriptor);

	if (!c || kind_push(&m->n_chunks, &m->chunks, c))
		return -ENOMEM;
	c->data.data = malloc(len + 1);
	if (!c->data.data)
		return -ENOMEM;
	memcpy(c->data.data, data, len);
	c->data.len = len;
	c->packet = packet;
	return 0;
}

/* What is in the pipe, through a read end. @packets: its write end is in packet mode now. */
static int pipe_peek(int fd, int capacity, bool packets, Ckpt__PipeInode *m, struct ckpt_err *err)
{
	auto_free char *buf = NULL;
	auto_fd rd = -1;
	auto_fd wr = -1;
	int p[2], queued = 0, left;
	ssize_t n;

	if (ioctl(fd, FIONREAD, &queued) || !queued)
		return 0;
	if (pipe2(p, O_CLOEXEC | O_NONBLOCK))
		return ckpt_fail_errno(err, E_LIMIT, -errno, "cannot make a pipe to copy the data");
	rd = p[0];
	wr = p[1];
	(void)fcntl(wr, F_SETPIPE_SZ, capacity);
	n = tee(fd, wr, (size_t)queued, SPLICE_F_NONBLOCK);
	if (n != queued)
		return ckpt_fail(err, E_UNSUPPORTED, -EIO,
				 "only %zd of the %d bytes in the pipe can be copied", n, queued);
	buf = malloc((size_t)queued);
	if (!buf)
		return ckpt_oom(err);
	for (left = queued; left > 0; left -= (int)n) {
		n = read(rd, buf, (size_t)queued);
		if (n <= 0)
			return ckpt_fail_errno(err, E_FREEZE, n ? -errno : -EIO,
					       "cannot read the data of the pipe");
		/* A read ends at the end of a packet, which is a page at most, or of the data. */
		if (chunk_push(m, buf, (size_t)n, n <= PIPE_BUF && (n < left || packets)))
			return ckpt_oom(err);
	}
	return 0;
}

static int inode_fill(const struct fd_facts *f, Ckpt__PipeInode *m, struct ckpt_err *err)
{
	auto_fd rd = -1;
	struct stat st;
	char self[32];
	int cap = fcntl(f->local, F_GETPIPE_SZ);

	m->capacity = cap > 0 ? (uint32_t)cap : 0;
	if (!is_anon(f)) {
		m->path = strdup(f->link);
		if (!m->path)
			return ckpt_oom(err);
		m->dev = f->st.st_dev;
		m->ino = f->st.st_ino;
		m->mode = f->st.st_mode & 07777;
		m->uid = f->st.st_uid;
		m->gid = f->st.st_gid;
		m->removed = lstat(m->path, &st) || st.st_dev != f->st.st_dev ||
			     st.st_ino != f->st.st_ino;
		if (m->removed)
			m->path[proc_name_len(m->path)] = 0;
	}
	/* A write end leads to a read end too, also when nobody holds one any longer. */
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", f->local);
	rd = open(self, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (rd < 0)
		return ckpt_fail_errno(err, E_UNSUPPORTED, -errno, "cannot look into the pipe");
	return pipe_peek(rd, cap, f->flags & O_DIRECT, m, err);
}

static int pipe_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		     struct ckpt_err *err)
{
	Ckpt__FdPipe *m = msg;
	Ckpt__PipeInode *inode;
	Ckpt__Object *o;
	bool is_new;
	int rc = dump_object_keyed(d, "pipe-inode", f->st.st_dev, f->st.st_ino, &o, &is_new, err);

	(void)obj;
	if (rc)
		return rc;
	m->inode = o->id;
	if (!is_new)
		return 0;
	inode = kind_msg_new(&ckpt__pipe_inode__descriptor);
	if (!inode)
		return ckpt_oom(err);
	rc = inode_fill(f, inode, err);
	if (!rc)
		rc = dump_object_set(o, "pipe-inode", &inode->base, err);
	ckpt__pipe_inode__free_unpacked(inode, NULL);
	return rc;
}

static int pipe_dump_late(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj,
			  void *msg, struct ckpt_err *err)
{
	bool writer = (f->flags & O_ACCMODE) == O_WRONLY;
	uint32_t id = 0;
	int pid, fd;

	(void)obj;
	(void)msg;
	if (!is_anon(f) || (f->flags & O_ACCMODE) == O_RDWR || is_lone(f->local, writer))
		return 0;
	while (dump_object_next(d, f->st.st_dev, f->st.st_ino, &id, &pid, &fd))
		if ((dump_object_flags(d, id) & O_ACCMODE) != (f->flags & O_ACCMODE))
			return 0;
	return refuse_outside(f, writer, err);
}

/* open(2) marks every description, pipe(2) does not: without the mark it is one of the first two.
 */
static bool is_first(const Ckpt__Object *obj)
{
	return !(obj->flags & LARGEFILE) && (obj->flags & O_ACCMODE) != O_RDWR;
}

/* Both ends exist as long as ckpt has the inode, so nothing blocks or fails. */
static int pipe_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdPipe *m = msg;
	int inode, fd, spare, rc = restore_object_fd(r, m->inode, &inode, err);
	char path[32];

	if (rc)
		return rc;
	spare = *restore_object_spare(r, m->inode);
	if (is_first(obj) && spare >= 0) {
		fd = fcntl((obj->flags & O_ACCMODE) == O_WRONLY ? spare : inode, F_DUPFD_CLOEXEC,
			   3);
	} else {
		/* Packet mode is for fcntl(2) only. */
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", inode);
		fd = open(path,
			  ((int)obj->flags & (O_ACCMODE | O_NONBLOCK | O_APPEND)) | O_CLOEXEC);
	}
	if (fd < 0)
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot open an end of a pipe");
	*ret_fd = fd;
	return 0;
}

const struct fd_kind fd_kind_pipe = {
	.name = "pipe",
	.desc = &ckpt__fd_pipe__descriptor,
	.match = pipe_match,
	.check = pipe_check,
	.dump = pipe_dump,
	.dump_late = pipe_dump_late,
	.restore = pipe_restore,
};

static int fifo_open(const Ckpt__PipeInode *m, int *ret_fd, struct ckpt_err *err)
{
	char path[PATH_MAX];
	struct stat st;
	auto_fd fd = -1;
	int rc;

	if (!m->removed) {
		fd = open(m->path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0 || fstat(fd, &st))
			return ckpt_fail_errno(err, E_FILE_CHANGED, -errno,
					       "cannot open the FIFO %s", m->path);
		if (!S_ISFIFO(st.st_mode))
			return ckpt_fail(err, E_FILE_CHANGED, -EINVAL, "%s is no FIFO", m->path);
		*ret_fd = take_fd(&fd);
		return 0;
	}
	rc = ghost_name(m->path, path, sizeof(path));
	if (rc || mkfifo(path, 0600))
		return ckpt_fail_errno(err, E_RESTORE, rc ? rc : -errno,
				       "cannot make the FIFO %s again", m->path);
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fchown(fd, m->uid, m->gid) || fchmod(fd, m->mode & 07777))
		(void)ckpt_fail_errno(err, E_RESTORE, -errno, "cannot set up the FIFO %s", m->path);
	(void)unlink(path);
	if (err->id)
		return err->code;
	*ret_fd = take_fd(&fd);
	return 0;
}

static int chunks_write(const Ckpt__PipeInode *m, int fd, struct ckpt_err *err)
{
	for (size_t i = 0; i < m->n_chunks; i++) {
		const Ckpt__PipeChunk *c = m->chunks[i];

		/* Packet mode is the writer's at the time of writing. */
		if (fcntl(fd, F_SETFL, O_NONBLOCK | (c->packet ? O_DIRECT : 0)) ||
		    write(fd, c->data.data, c->data.len) != (ssize_t)c->data.len)
			return ckpt_fail(err, E_RESTORE, -EIO,
					 "a pipe does not take its %zu bytes back", c->data.len);
	}
	return fcntl(fd, F_SETFL, 0) ? ckpt_fail_errno(err, E_RESTORE, -errno, "flags of a pipe")
				     : 0;
}

/* Of an anonymous pipe the object's descriptor is the read end, its spare one the write end. Of a
 * FIFO it is both. */
static int inode_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			 int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__PipeInode *m = msg;
	int p[2], rc = 0;
	auto_fd rd = -1;

	if (m->path && *m->path) {
		rc = fifo_open(m, &rd, err);
		if (rc)
			return rc;
		p[1] = rd;
	} else {
		if (pipe2(p, O_CLOEXEC) || restore_object_keep(r, obj->id, p[1]))
			return ckpt_fail_errno(err, E_LIMIT, -errno, "cannot make a pipe");
		rd = p[0];
		p[1] = *restore_object_spare(r, obj->id);
	}
	if (m->capacity && (int)m->capacity != fcntl(rd, F_GETPIPE_SZ) &&
	    fcntl(rd, F_SETPIPE_SZ, (int)m->capacity) < 0)
		return ckpt_fail_errno(err, E_LIMIT, -errno,
				       "a pipe cannot have its %u bytes of room", m->capacity);
	rc = chunks_write(m, p[1], err);
	if (!rc)
		*ret_fd = take_fd(&rd);
	return rc;
}

/* Never matches a descriptor: objects of this kind are made by pipe_dump(). */
const struct fd_kind fd_kind_pipe_inode = {
	.name = "pipe-inode",
	.desc = &ckpt__pipe_inode__descriptor,
	.restore = inode_restore,
};
