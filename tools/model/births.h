/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How the processes of a tree come into their sessions and groups again.
 *
 * A session is inherited at birth and can be left only for one's own, so whoever is to be in a
 * session must be cloned by somebody who is in it. That is the parent as a rule: before its own
 * setsid() or after it. Where the parent never was in that session (the one who was has ended, and
 * the child was adopted), the session's leader clones it as its sibling, or a stand-in does: a
 * short-lived process under the number of the leader that has ended.
 *
 * What processes share, descriptors or directories, is inherited at birth as well, and can be left
 * for a copy: all that lie between two who share it are born sharing it.
 *
 * Knows pids only: used on the running tree before a dump, and on an image before a restore.
 */
#ifndef CKPT_MODEL_BIRTHS_H
#define CKPT_MODEL_BIRTHS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define BIRTH_NOBODY ((size_t)-1)

enum birth_how {
	BIRTH_CHILD,   /* cloned by its parent */
	BIRTH_SIBLING, /* cloned with CLONE_PARENT by a sibling in its session */
	BIRTH_ORPHAN,  /* cloned by a helper that then ends, so that its parent adopts it */
};

struct birth {
	/* Given. Parents come before children; the first has none. */
	int pid, ppid, pgid, sid, exit_signal;
	bool lone_sid;  /* the leader of its session has ended and was waited for */
	bool lone_pgid; /* the same of its process group */
	/* Those with the same number share descriptors, or directories; 0: with nobody. */
	int files, fs;
	/* Found. */
	size_t parent;  /* BIRTH_NOBODY: outside */
	size_t by;      /* in whose life its clone is; BIRTH_NOBODY: ckpt's */
	size_t standin; /* which of by's stand-ins clones it; BIRTH_NOBODY: by itself */
	enum birth_how how;
	bool before_setsid; /* of its parent */
	bool adopts;        /* it must be a subreaper until all are born */
	bool lends_group;   /* it leads a group for others, and then joins another one itself */
	int birth_sid;      /* the session it is born in */
	bool birth_lone;
	unsigned int share; /* BIRTH_FILES, BIRTH_FS: with whoever clones it */
	unsigned int leave; /* what it shared only for the sake of others, and is to copy */
};

enum { BIRTH_FILES = 1, BIRTH_FS = 2 };

/* A process under the number of a leader that has ended. */
struct birth_standin {
	int pid;
	bool session;    /* or only a group */
	size_t host;     /* whose child it is; BIRTH_NOBODY: ckpt's */
	int exit_signal; /* of those it clones as its siblings */
};

struct births {
	struct birth *v;
	size_t n;
	struct birth_standin *standins;
	size_t nstandins, standins_cap;
	size_t *order; /* indexes, whoever clones before whom is cloned */
	/* children by parent: kids[kids_at[i]] … kids[kids_at[i + 1] - 1] */
	size_t *kids, *kids_at;
	/* the same by who clones them, stand-ins' siblings included */
	size_t *born, *born_at;
	size_t *by_pid;
};

/* Room for @n processes, to be filled in by the caller. */
int births_init(struct births *b, size_t n, struct ckpt_err *err) __must_check;
/* Find all of it. E_UNSUPPORTED names the task that nobody could put into its session or group. */
int births_plan(struct births *b, struct ckpt_err *err) __must_check;
void births_free(struct births *b);
/* Part of births_plan(), for births_find() before it. */
void births_index(struct births *b);
/* Index of @pid, BIRTH_NOBODY when it is not in the tree. */
size_t births_find(const struct births *b, int pid);

#endif
