// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pipes. The two ends are two descriptions of one pipe, known by its inode. The
 * data is read without taking it: tee(2) into a pipe of ours.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fd_basic.pb-c.h"
#include "kind/fd/kinds.h"

static bool pipe_match(const struct fd_facts *f)
{
	return S_ISFIFO(f->st.st_mode) && !strncmp(f->link, "pipe:", 5);
}

/* What is in the pipe, through a read end. */
static int pipe_peek(int fd, int capacity, ProtobufCBinaryData *ret, struct ckpt_err *err)
{
	auto_fd rd = -1;
	auto_fd wr = -1;
	int p[2], queued = 0;
	ssize_t n, got = 0;

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
	ret->data = malloc((size_t)queued);
	if (!ret->data)
		return ckpt_fail(err, E_NOMEM, -ENOMEM, "out of memory");
	while (got < n) {
		ssize_t k = read(rd, ret->data + got, (size_t)(n - got));

		if (k <= 0)
			return ckpt_fail_errno(err, E_FREEZE, -errno,
					       "cannot read the data of the pipe");
		got += k;
	}
	ret->len = (size_t)n;
	return 0;
}

static int pipe_dump(struct dump_ctx *d, const struct fd_facts *f, Ckpt__Object *obj, void *msg,
		     struct ckpt_err *err)
{
	Ckpt__FdPipe *m = msg;
	char path[32];
	int cap;

	(void)d;
	(void)obj;
	m->key = f->st.st_ino;
	m->write_end = (f->flags & O_ACCMODE) == O_WRONLY;
	cap = fcntl(f->local, F_GETPIPE_SZ);
	m->capacity = cap > 0 ? (uint32_t)cap : 0;
	/* A write end leads to a read end too, also when nobody holds one any longer. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", f->local);
	auto_fd rd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (rd < 0)
		return ckpt_fail_errno(err, E_UNSUPPORTED, -errno, "cannot look into the pipe");
	m->has_data = true;
	return pipe_peek(rd, cap, &m->data, err);
}

/* The first end makes the pipe; the other end is opened through /proc. */
static int pipe_restore(struct restore_ctx *r, const Ckpt__Object *obj, const void *msg,
			int *ret_fd, struct ckpt_err *err)
{
	const Ckpt__FdPipe *m = msg;
	int accmode = m->write_end ? O_WRONLY : O_RDONLY;
	char path[32];
	int fd, p[2];

	for (uint32_t id = obj->id; id-- > 1;) {
		const Ckpt__Object *o = restore_object(r, id);
		Ckpt__FdPipe *other;
		uint64_t key;
		int other_fd;

		if (!o || strcmp(o->state->kind, "pipe") != 0)
			continue;
		other = kind_state_unpack(o->state, &ckpt__fd_pipe__descriptor, err);
		if (!other)
			return err->code;
		key = other->key;
		ckpt__fd_pipe__free_unpacked(other, NULL);
		if (key != m->key)
			continue;
		if (restore_object_fd(r, id, &other_fd, err))
			return err->code;
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", other_fd);
		fd = open(path, accmode | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			return ckpt_fail_errno(err, E_RESTORE, -errno,
					       "cannot open the other end of a pipe");
		if (fcntl(fd, F_SETFL, (int)obj->flags))
			goto err_fcntl;
		*ret_fd = fd;
		return 0;
	}
	if (pipe2(p, O_CLOEXEC))
		return ckpt_fail_errno(err, E_RESTORE, -errno, "cannot make a pipe");
	if (m->capacity)
		(void)fcntl(p[1], F_SETPIPE_SZ, (int)m->capacity);
	if (m->data.len && write(p[1], m->data.data, m->data.len) != (ssize_t)m->data.len) {
		(void)close(p[0]);
		(void)close(p[1]);
		return ckpt_fail(err, E_RESTORE, -EIO, "a pipe does not take its %zu bytes back",
				 m->data.len);
	}
	fd = p[m->write_end];
	(void)close(p[!m->write_end]);
	if (fcntl(fd, F_SETFL, (int)obj->flags))
		goto err_fcntl;
	*ret_fd = fd;
	return 0;
err_fcntl:
	(void)ckpt_fail_errno(err, E_RESTORE, -errno, "cannot set the flags of a pipe");
	(void)close(fd);
	return err->code;
}

const struct fd_kind fd_kind_pipe = {
	.name = "pipe",
	.desc = &ckpt__fd_pipe__descriptor,
	.match = pipe_match,
	.dump = pipe_dump,
	.restore = pipe_restore,
};
