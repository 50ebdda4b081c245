/* SPDX-License-Identifier: GPL-2.0-only */
/* Exact I/O: all bytes or an error. */
#ifndef CKPT_BASE_IO_H
#define CKPT_BASE_IO_H

#include <stdint.h>
#include <sys/types.h>

/* 0, or -errno; -ENODATA at an early end of file. */
int io_pread_full(int fd, void *buf, size_t len, uint64_t off);
int io_pwrite_full(int fd, const void *buf, size_t len, uint64_t off);
/* The whole of a small file, NUL-terminated; the caller frees. Returns its length or -errno. */
ssize_t io_read_file(int dirfd, const char *path, char **ret_buf);
/* The same for a file that one read(2) gives whole unless it fills half a page: most of /proc. */
ssize_t io_read_small(int dirfd, const char *path, char **ret_buf);
int io_write_str(int dirfd, const char *path, const char *s);
/* CLOCK_MONOTONIC in microseconds. */
uint64_t io_now_us(void);

#endif
