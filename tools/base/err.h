/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Errors: one value that says what failed, why, and what to do.
 *
 * A function that can fail returns 0 (or a count) or -errno, and takes a
 * struct ckpt_err * as its last argument. The place that knows the cause calls
 * ckpt_fail(); callers may add *where* with ckpt_ctx(). The first cause wins.
 * Libraries never print; tools/cmd prints.
 */
#ifndef CKPT_BASE_ERR_H
#define CKPT_BASE_ERR_H

#include <errno.h>
#include <stddef.h>

#define __must_check __attribute__((warn_unused_result))
#define __printf(f, a) __attribute__((format(printf, f, a)))

/* Every stable id with its exit status and its default remedy. docs/errors.md
 * explains each; tests/unit checks that both lists agree.
 * Exit status: 1 failed, target unharmed; 2 usage; 3 refused before a freeze. */
#define CKPT_ERR_IDS(X)                                                                            \
	X(E_INTERNAL, 1, "this is a bug in ckpt: report it with the output of -v")                 \
	X(E_USAGE, 2, "see: ckpt --help")                                                          \
	X(E_PERM, 3, "run ckpt as root")                                                           \
	X(E_KERNEL, 3, "see what this kernel lacks: ckpt check")                                   \
	X(E_NO_SUCH_PID, 3, "look the pid up again: pgrep -a NAME")                                \
	X(E_BAD_TARGET, 3, "choose another process")                                               \
	X(E_ALREADY_TRACED, 3, "end the debugger or tracer first")                                 \
	X(E_TARGET_GONE, 1, "start the program again and repeat the dump")                         \
	X(E_UNSUPPORTED, 3, "see what stops this dump: ckpt check -t PID")                         \
	X(E_FREEZE, 1, "repeat the dump")                                                          \
	X(E_INJECT, 1, "repeat the dump; if it persists report it with the output of -v")          \
	X(E_PAUSE, 1, "allow more with --max-pause, or copy ahead with --pre")                     \
	X(E_MEMORY, 1, "repeat the dump")                                                          \
	X(E_IMAGE_DIR, 3, "name a new or empty directory with -D")                                 \
	X(E_IMAGE_MISSING, 3, "name the directory of a finished checkpoint with -D")               \
	X(E_IMAGE_CORRUPT, 3, "restore from another checkpoint: this one is damaged")              \
	X(E_IMAGE_VERSION, 3, "use the version of ckpt that wrote it, or a newer one")             \
	X(E_IMAGE_WRITE, 1, "free space on the file system of the image and repeat")               \
	X(E_PARENT, 3, "name the checkpoint this increment was made on, or make a full one")       \
	X(E_TRACK, 3, "start tracking first: ckpt track start -t PID")                             \
	X(E_PID_TAKEN, 3, "stop it, or restore into a fresh pid namespace: --pidns")               \
	X(E_CPU, 3, "restore on a machine with the same or newer CPU")                             \
	X(E_EXTERNAL, 3, "hand a descriptor over: ckpt restore --inherit-fd N:NAME")               \
	X(E_FILE_CHANGED, 3, "put the file back as it was, or dump with --store-files")            \
	X(E_RESTORE, 1, "see which step failed with -v; the image is unharmed")                    \
	X(E_TCP, 3, "say what becomes of it: --tcp keep or --tcp close")                           \
	X(E_NETLOCK, 1, "see what this kernel lacks: ckpt check")                                  \
	X(E_ADDRESS, 3, "look at the addresses of both nodes: ip address")                         \
	X(E_HOOK, 1, "run the script by hand, with what ckpt gives it: man ckpt-migrate")          \
	X(E_LIMIT, 3, "raise the limit named above and repeat")                                    \
	X(E_PEER, 1, "check the peer and repeat: the program still runs here")                     \
	X(E_NOMEM, 1, "free some memory and repeat")

enum ckpt_err_id {
	E_NONE = 0,
#define X(id, status, remedy) id,
	CKPT_ERR_IDS(X)
#undef X
		E_ID_COUNT
};

struct ckpt_err {
	enum ckpt_err_id id;
	int code;         /* -errno of the cause */
	char msg[512];    /* object and cause, one sentence, no final stop */
	char where[256];  /* "task 12: fd 7", built by ckpt_ctx() from inside out */
	char remedy[320]; /* overrides the id's default when not empty */
};

/* Record the first cause. Returns @code (negative errno; 0 becomes -EINVAL). */
int ckpt_fail(struct ckpt_err *err, enum ckpt_err_id id, int code, const char *fmt, ...)
	__printf(4, 5);
/* The same with ": strerror(-code)" behind the text. */
int ckpt_fail_errno(struct ckpt_err *err, enum ckpt_err_id id, int code, const char *fmt, ...)
	__printf(4, 5);
/* Memory is wanting. Returns -ENOMEM. */
int ckpt_oom(struct ckpt_err *err);
/* Put where it happened in front: ckpt_ctx(err, "task %d", pid). Returns err->code. */
int ckpt_ctx(struct ckpt_err *err, const char *fmt, ...) __printf(2, 3);
/* It is the first of @n causes that stop @what (a noun), all of which @command shows: the remedy
 * says so, behind what it said before. Returns err->code. */
int ckpt_remedy_of_many(struct ckpt_err *err, size_t n, const char *what, const char *command);
/* Replace the remedy. Returns err->code. */
int ckpt_remedy(struct ckpt_err *err, const char *fmt, ...) __printf(2, 3);

const char *ckpt_err_name(enum ckpt_err_id id);  /* "E-PID-TAKEN" */
int ckpt_err_status(const struct ckpt_err *err); /* exit status, 1 … 3 */
const char *ckpt_err_remedy(const struct ckpt_err *err);
static inline void ckpt_err_clear(struct ckpt_err *err)
{
	err->id = E_NONE;
	err->code = 0;
	err->msg[0] = err->where[0] = err->remedy[0] = 0;
}

#endif
