// SPDX-License-Identifier: GPL-2.0-only
/* What is handed to the queue is in the file at its offset, whatever the way: io_uring with registered
 * buffers, without, or plain writes; and a failed write is reported, not lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/aio.h"

#define BYTES (64u << 10)
#define BLOCKS 40u

enum way { FIXED, RING, PLAIN };

static void write_all(enum way way)
{
	int fd = memfd_create("aio", MFD_CLOEXEC);
	unsigned char *back = malloc(BYTES);
	struct aio q;

	assert_int_equal(aio_open(&q, BYTES), 0);
	if (way != FIXED)
		q.fixed = false;
	if (way == PLAIN && q.uring) {
		io_uring_queue_exit(&q.ring);
		q.uring = false;
	}
	for (unsigned int i = 0; i < BLOCKS; i++) {
		/* Not in order, and each block in three pieces with a hole between. */
		uint64_t off = (uint64_t)((i * 7) % BLOCKS) * BYTES;
		unsigned char *buf;
		int nr = aio_buffer(&q, &buf);

		assert_true(nr >= 0);
		memset(buf, (int)(off / BYTES + 1), BYTES);
		assert_int_equal(aio_write(&q, fd, nr, buf, 4096, off), 0);
		assert_int_equal(aio_write(&q, fd, nr, buf + 8192, 4096, off + 8192), 0);
		assert_int_equal(aio_write(&q, fd, nr, buf + BYTES - 100, 100, off + BYTES - 100), 0);
		assert_int_equal(aio_submit(&q), 0);
	}
	assert_int_equal(aio_flush(&q), 0);
	aio_close(&q);
	for (unsigned int i = 0; i < BLOCKS; i++) {
		assert_int_equal(pread(fd, back, BYTES, (off_t)i * BYTES), BYTES);
		for (unsigned int k = 0; k < BYTES; k++) {
			int in = k < 4096 || (k >= 8192 && k < 12288) || k >= BYTES - 100;

			if (back[k] != (in ? (unsigned char)(i + 1) : 0))
				fail_msg("block %u, byte %u is %u", i, k, back[k]);
		}
	}
	free(back);
	close(fd);
}

static void by_ring_with_registered_buffers(void **state)
{
	(void)state;
	write_all(FIXED);
}

static void by_ring(void **state)
{
	(void)state;
	write_all(RING);
}

static void by_plain_writes(void **state)
{
	(void)state;
	write_all(PLAIN);
}

static void a_failed_write_is_reported(void **state)
{
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	unsigned char *buf;
	struct aio q;
	int nr;

	(void)state;
	assert_int_equal(aio_open(&q, BYTES), 0);
	nr = aio_buffer(&q, &buf);
	assert_true(nr >= 0);
	(void)aio_write(&q, fd, nr, buf, 4096, 0);
	assert_int_equal(aio_flush(&q), -ENOSPC);
	assert_int_equal(aio_buffer(&q, &buf), -ENOSPC);
	aio_close(&q);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_ring_with_registered_buffers),
		cmocka_unit_test(by_ring),
		cmocka_unit_test(by_plain_writes),
		cmocka_unit_test(a_failed_write_is_reported),
	};

	return cmocka_run_group_tests_name("aio", tests, NULL, NULL);
}
