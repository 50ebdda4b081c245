/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel itself has written down of the open files of a process, by a BPF iterator (Linux
 * 5.8, of one process 6.1; CONFIG_DEBUG_INFO_BTF, CAP_SYS_ADMIN). /proc tells of one file at a
 * time, and of a socket's options each is a system call. Where the kernel has no iterator, or a
 * record says that there is more to know, the caller asks.
 */
#ifndef CKPT_KERN_FILEITER_H
#define CKPT_KERN_FILEITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kern/btf.h"

/* The records of a TCP socket, struct tcp6_sock and behind it struct socket, as words of 8 bytes.
 */
#define SOCK_RECORD_WORDS 1024u
/* So many of them are part of a file_view. */
#define SOCK_WORDS_MAX 47u

struct sock_words {
	uint16_t n, at[SOCK_WORDS_MAX]; /* ascending */
};

struct file_view {
	uint64_t fd;
	uint64_t file;    /* its description: as long as it is open, no other has this */
	uint64_t flags;   /* F_GETFL */
	uint64_t pos;     /* of the description; its kind knows whether that means anything */
	uint64_t op;      /* the kernel's functions for it: equal for files of one kind */
	uint64_t ino;     /* st_ino, as a rule: some file systems tell another one */
	uint64_t sdev;    /* and st_dev, as the kernel writes it: file_view_dev() */
	uint64_t locks;   /* 0: its file was never locked */
	uint64_t cloexec; /* bit fd % 64: file_view_cloexec() */
	uint64_t owner;   /* both 0: nobody is told of I/O (F_SETOWN, F_SETSIG) */
	uint64_t signal;
	/* Of a socket; zeros of others. */
	uint64_t family, type, protocol;
	uint64_t state; /* TCP_* */
	uint64_t words[SOCK_WORDS_MAX];
};

struct file_iter {
	int prog_fd; /* -1: none */
	uint64_t op; /* of a socket */
};

struct file_views {
	struct file_view *v; /* ascending by fd */
	size_t n;
};

/* Load the program: some 1 ms, and the types when they are not there yet; the caller frees those.
 * Views have the @words. 0 or -errno, then @ret says "none". */
int file_iter_open(struct file_iter *ret, struct btf *types, const struct sock_words *words);
void file_iter_close(struct file_iter *it);
/* Of process @pid; the caller frees ret->v. 0 or -errno. */
int file_iter_read(const struct file_iter *it, int pid, struct file_views *ret);
/* NULL: it was not seen. */
const struct file_view *file_view_find(const struct file_views *v, int fd);
bool file_view_cloexec(const struct file_view *v);
/* Of the file system, as a rule st_dev. */
dev_t file_view_dev(const struct file_view *v);
/* Is it a TCP socket, of which a view tells all that /proc does? */
bool file_view_tcp(const struct file_iter *it, const struct file_view *v);

/* The whole record of one of ckpt's own TCP sockets, to find out which words an option is in. */
struct sock_record {
	int prog_fd;
	size_t bytes;
	const struct btf *types;
	uint32_t sock4, sock6, socket; /* numbers of types */
	uint32_t sock_bytes;           /* the second part begins there */
};
/* Of descriptor number @fd, whatever that is later. @types must stay. 0 or -errno, then @ret says
 * "none". */
int sock_record_open(struct sock_record *ret, struct btf *types, int fd);
void sock_record_close(struct sock_record *r);
/* What of the record of a socket of @family belongs to the byte @at, as btf_member_at() has it.
 * False: no part of it. */
bool sock_record_member(const struct sock_record *r, int family, uint32_t at, uint32_t *ret_first,
			uint32_t *ret_end);
/* Where member @name of struct @part begins, with which the record does: "sock", "sock_common" or
 * "tcp_sock"; -1: nowhere. */
int sock_record_offset(const struct sock_record *r, const char *part, const char *name);
/* @words: zeros behind the record's end. 0 or -errno. */
int sock_record_read(const struct sock_record *r, uint64_t words[SOCK_RECORD_WORDS]);

#endif
