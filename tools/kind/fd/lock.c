// SPDX-License-Identifier: GPL-2.0-only
/*
 * File locks, as /proc/PID/fdinfo lists them:
 *	lock:	1: FLOCK  ADVISORY  WRITE 359 08:01:1703 0 EOF
 *	lock:	1: LEASE  ACTIVE    READ 359 08:01:1703 0 EOF
 * The kernel shows a POSIX lock only at the descriptor it was taken through, and only to its
 * process.
 */
#include "kind/fd/lock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "base/vec.h"

static const struct {
	const char *name;
	Ckpt__FileLock__Type type;
} types[] = {
	{ "FLOCK", CKPT__FILE_LOCK__TYPE__FLOCK },
	{ "OFDLCK", CKPT__FILE_LOCK__TYPE__OFD },
	{ "POSIX", CKPT__FILE_LOCK__TYPE__POSIX },
	{ "LEASE", CKPT__FILE_LOCK__TYPE__LEASE },
};

struct parsed {
	char type[16], state[16], mode[16];
	unsigned long long start, end; /* the last byte; ~0 for EOF */
};

/* The next "lock:" line behind *at; false at the end. */
static bool lock_next(const char **at, struct parsed *ret)
{
	char end[32];
	const char *line = strstr(*at, "lock:\t");

	if (!line)
		return false;
	*at = line + 1;
	memset(ret, 0, sizeof(*ret));
	if (text_scan(line, "lock:\t%*d: %15s %15s %15s %*d %*s %llu %31s", ret->type, ret->state,
		      ret->mode, &ret->start, end) != 5)
		ret->type[0] = 0;
	ret->end = !strcmp(end, "EOF") ? ~0ull : strtoull(end, NULL, 10);
	return true;
}

static int type_of(const struct parsed *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(p->type, types[i].name))
			return (int)i;
	return -1;
}

/* Does the process map the file? */
static bool is_mapped(const struct fd_facts *f)
{
	auto_free char *maps = NULL;
	struct ckpt_err ignore = { 0 };
	unsigned long long ino;

	if (proc_read(f->pid, "maps", &maps, NULL, &ignore))
		return true;
	for (const char *p = maps; *p; p += strcspn(p, "\n"), p += *p == '\n')
		if (text_scan(p, "%*x-%*x %*4s %*x %*x:%*x %llu", &ino) == 1 && ino == f->st.st_ino)
			return true;
	return false;
}

/* Whoever opens a file in a way that a lease forbids breaks it, and ckpt has to open what is mapped
 * and what has no name. */
static const char *lease_obstacle(const struct fd_facts *f, const struct parsed *p)
{
	if (strcmp(p->state, "ACTIVE") != 0)
		return "is about to end: somebody waits for it";
	if (!f->st.st_nlink)
		return "is of a removed file";
	if (strcmp(p->mode, "READ") != 0 && is_mapped(f))
		return "is of a file that is mapped as well";
	return NULL;
}

int lock_check(const struct fd_facts *f, struct ckpt_err *err)
{
	const char *at = f->fdinfo, *why;
	struct parsed p;

	while (lock_next(&at, &p)) {
		if (type_of(&p) < 0)
			return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
					 "fd %d: a lock of type \"%s\" on %s cannot be kept", f->fd,
					 p.type, f->link);
		why = strcmp(p.type, "LEASE") ? NULL : lease_obstacle(f, &p);
		if (why)
			return ckpt_fail(err, E_UNSUPPORTED, -EOPNOTSUPP,
					 "fd %d: the lease on %s %s", f->fd, f->link, why);
	}
	return 0;
}

static int lock_push(size_t *n, Ckpt__FileLock ***v, const struct parsed *p, struct ckpt_err *err)
{
	Ckpt__FileLock *l = kind_msg_new(&ckpt__file_lock__descriptor);

	if (!l || kind_push(n, v, l))
		return ckpt_oom(err);
	l->type = types[type_of(p)].type;
	l->write = !strcmp(p->mode, "WRITE");
	l->start = p->start;
	l->len = p->end == ~0ull ? 0 : p->end - p->start + 1;
	return 0;
}

int lock_dump_object(const struct fd_facts *f, Ckpt__Object *obj, struct ckpt_err *err)
{
	const char *at = f->fdinfo;
	struct parsed p;

	while (lock_next(&at, &p))
		if (type_of(&p) >= 0 && strcmp(p.type, "POSIX") != 0 &&
		    lock_push(&obj->n_locks, &obj->locks, &p, err))
			return err->code;
	return 0;
}

int lock_restore_object(const Ckpt__Object *obj, int fd, struct ckpt_err *err)
{
	for (size_t i = 0; i < obj->n_locks; i++) {
		const Ckpt__FileLock *l = obj->locks[i];
		struct flock fl = { .l_type = l->write ? F_WRLCK : F_RDLCK,
				    .l_whence = SEEK_SET,
				    .l_start = (off_t)l->start,
				    .l_len = (off_t)l->len };
		int rc = l->type == CKPT__FILE_LOCK__TYPE__FLOCK
				 ? flock(fd, (l->write ? LOCK_EX : LOCK_SH) | LOCK_NB)
			 : l->type == CKPT__FILE_LOCK__TYPE__LEASE ? 0 /* lock_plan_lease */
								   : fcntl(fd, F_OFD_SETLK, &fl);

		if (!rc)
			continue;
		rc = errno == EAGAIN
			     ? ckpt_fail(err, E_RESTORE, -EAGAIN,
					 "somebody else holds its file lock")
			     : ckpt_fail_errno(err, E_RESTORE, -errno, "cannot take its file lock");
		return ckpt_ctx(err, "object %u (%s)", obj->id, obj->state->kind);
	}
	return 0;
}

void lock_plan_lease(const Ckpt__Object *obj, uint32_t fd, struct steps *s)
{
	for (size_t i = 0; i < obj->n_locks; i++) {
		if (obj->locks[i]->type != CKPT__FILE_LOCK__TYPE__LEASE)
			continue;
		(void)steps_call(s, "take its lease", SYS_fcntl, fd, F_SETLEASE,
				 obj->locks[i]->write ? F_WRLCK : F_RDLCK);
		/* The kernel made the task its owner. */
		if (!obj->owner_pid)
			(void)steps_call(s, "F_SETOWN", SYS_fcntl, fd, F_SETOWN, 0);
	}
}

int lock_dump_posix(const struct fd_facts *f, Ckpt__Fd *fd, struct ckpt_err *err)
{
	const char *at = f->fdinfo;
	struct parsed p;

	while (lock_next(&at, &p))
		if (!strcmp(p.type, "POSIX") && lock_push(&fd->n_locks, &fd->locks, &p, err))
			return err->code;
	return 0;
}

void lock_plan_posix(const Ckpt__Fd *fd, struct steps *s)
{
	for (size_t i = 0; i < fd->n_locks; i++) {
		const Ckpt__FileLock *l = fd->locks[i];
		struct flock fl = { .l_type = l->write ? F_WRLCK : F_RDLCK,
				    .l_whence = SEEK_SET,
				    .l_start = (off_t)l->start,
				    .l_len = (off_t)l->len };

		(void)steps_call(s, "take its file lock", SYS_fcntl, fd->fd, F_SETLK,
				 steps_data(s, &fl, sizeof(fl)));
	}
}
