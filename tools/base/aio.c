// SPDX-License-Identifier: GPL-2.0-only
#include "base/aio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/io.h"
#include "base/vec.h"

/* The first @n buffers. Touched now: fresh pages must not cost time while a program stands still.
 */
static int buffers_make(struct aio *q, size_t bytes, unsigned int n, struct iovec *ret)
{
	for (unsigned int i = 0; i < n; i++) {
		q->buf[i].data = aligned_alloc(4096, bytes);
		if (!q->buf[i].data) {
			aio_close(q);
			return -ENOMEM;
		}
		memset(q->buf[i].data, 0, bytes);
		ret[i] = (struct iovec) { q->buf[i].data, bytes };
	}
	return 0;
}

int aio_open(struct aio *q, size_t bytes)
{
	struct iovec iov[AIO_DEPTH];
	int rc;

	memset(q, 0, sizeof(*q));
	rc = buffers_make(q, bytes, AIO_DEPTH, iov);
	if (rc)
		return rc;
	q->uring = !io_uring_queue_init(ARRAY_SIZE(q->op), &q->ring, 0);
	q->fixed = q->uring && !io_uring_register_buffers(&q->ring, iov, AIO_DEPTH);
	return 0;
}

int aio_open_plain(struct aio *q, size_t bytes)
{
	struct iovec iov;

	memset(q, 0, sizeof(*q));
	return buffers_make(q, bytes, 1, &iov);
}

static void fail(struct aio *q, int rc)
{
	if (!q->rc)
		q->rc = rc;
}

static void reap(struct aio *q, struct io_uring_cqe *cqe)
{
	struct aio_op *op = io_uring_cqe_get_data(cqe);
	int res = cqe->res;

	io_uring_cqe_seen(&q->ring, cqe);
	q->flying--;
	/* Cut short or interrupted: the rest the plain way. */
	if (res == -EINTR || res == -EAGAIN)
		res = 0;
	if (res >= 0 && (uint32_t)res < op->len)
		res = io_pwrite_full(op->fd, op->data + res, op->len - (uint32_t)res,
				     op->off + (uint64_t)res);
	if (res < 0)
		fail(q, res);
	q->buf[op->buf].writes--;
	op->used = false;
}

int aio_submit(struct aio *q)
{
	while (q->queued) {
		int n = io_uring_submit(&q->ring);

		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n < 0) {
			fail(q, n);
			return n;
		}
		q->queued -= (unsigned int)n;
		q->flying += (unsigned int)n;
	}
	return q->rc;
}

/* Wait for one completion at least. */
static int wait_one(struct aio *q)
{
	struct io_uring_cqe *cqe;
	int rc = aio_submit(q);

	if (rc < 0 && !q->flying)
		return rc;
	do {
		rc = io_uring_wait_cqe(&q->ring, &cqe);
	} while (rc == -EINTR);
	if (rc < 0) {
		fail(q, rc);
		return rc;
	}
	do {
		reap(q, cqe);
	} while (!io_uring_peek_cqe(&q->ring, &cqe));
	return q->rc;
}

int aio_buffer(struct aio *q, unsigned char **ret)
{
	for (;;) {
		if (q->rc)
			return q->rc;
		for (unsigned int i = 0; i < AIO_DEPTH; i++)
			if (!q->buf[i].writes) {
				*ret = q->buf[i].data;
				return (int)i;
			}
		if (wait_one(q) < 0)
			return q->rc;
	}
}

static struct aio_op *free_op(struct aio *q)
{
	for (;;) {
		for (size_t i = 0; i < ARRAY_SIZE(q->op); i++)
			if (!q->op[i].used)
				return &q->op[i];
		if (wait_one(q) < 0)
			return NULL;
	}
}

int aio_write(struct aio *q, int fd, int buf, unsigned char *data, size_t len, uint64_t off)
{
	struct io_uring_sqe *sqe;
	struct aio_op *op;

	if (q->rc)
		return q->rc;
	if (!q->uring) {
		q->rc = io_pwrite_full(fd, data, len, off);
		return q->rc;
	}
	op = free_op(q);
	if (!op)
		return q->rc;
	*op = (struct aio_op) { fd, (uint32_t)len, (uint32_t)buf, off, data, true };
	/* As many entries as operations: there is always one. */
	sqe = io_uring_get_sqe(&q->ring);
	if (q->fixed)
		io_uring_prep_write_fixed(sqe, fd, data, (unsigned int)len, off, buf);
	else
		io_uring_prep_write(sqe, fd, data, (unsigned int)len, off);
	io_uring_sqe_set_data(sqe, op);
	q->buf[buf].writes++;
	q->queued++;
	return 0;
}

int aio_flush(struct aio *q)
{
	while (q->uring && (q->queued || q->flying))
		if (wait_one(q) < 0 && !q->flying)
			break;
	return q->rc;
}

void aio_close(struct aio *q)
{
	(void)aio_flush(q);
	if (q->uring)
		io_uring_queue_exit(&q->ring);
	for (unsigned int i = 0; i < AIO_DEPTH; i++)
		free(q->buf[i].data);
	memset(q, 0, sizeof(*q));
}
