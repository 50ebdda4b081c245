/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Writing files from a few large buffers of our own: batched on an io_uring with registered
 * buffers, so that filling the next buffer and writing the last one overlap; plain pwrite(2) where
 * io_uring is disabled. One queue belongs to one thread.
 */
#ifndef CKPT_BASE_AIO_H
#define CKPT_BASE_AIO_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#define AIO_DEPTH 4u

struct aio {
	bool uring, fixed;
	struct io_uring ring;
	struct aio_buf {
		unsigned char *data; /* page-aligned */
		unsigned int writes; /* not yet complete */
	} buf[AIO_DEPTH];
	struct aio_op {
		int fd; /* borrowed */
		uint32_t len, buf;
		uint64_t off;
		unsigned char *data;
		bool used;
	} op[64];
	unsigned int queued, flying; /* operations not yet submitted; submitted and not complete */
	int rc;                      /* the first failure, sticky */
};

/* Buffers of @bytes each. 0 or -ENOMEM. */
int aio_open(struct aio *q, size_t bytes);
/* The same with one buffer and pwrite(2), for little data, and for files to which an io_uring would
 * write by a thread of the kernel's. */
int aio_open_plain(struct aio *q, size_t bytes);
/* Waits for everything. Forgives a queue that was never opened (zeroed). */
void aio_close(struct aio *q);
/* A buffer that nothing is being written from; its number goes to aio_write(). Negative: -errno of
 * an earlier write. */
int aio_buffer(struct aio *q, unsigned char **ret);
/* Write @len bytes at @data, which lies in buffer @buf, to @off of @fd. Both stay in use until the
 * write is complete. Reports failures of earlier writes too. */
int aio_write(struct aio *q, int fd, int buf, unsigned char *data, size_t len, uint64_t off);
/* Start what was queued, without waiting. */
int aio_submit(struct aio *q);
/* Wait until everything is written; the first failure. */
int aio_flush(struct aio *q);

#endif
