/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The test of tools/track in parts: a target that does what a letter says, what stops it and collects, and the
 * cases. test_track.c has the table of all.
 */
#ifndef TRACK_TEST_H
#define TRACK_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <sys/types.h>

#include "kern/target.h"
#include "track/track.h"

#define PAGE 4096ul
#define BASE ((char *)0x700000000000ul)
#define PAGES 64
#define AWAY ((char *)0x710000000000ul)
#define HUGE ((char *)0x720000000000ul)
#define HUGE_BYTES (4ul << 20)
#define FILEMAP ((char *)0x730000000000ul)
/* Twelve page tables that are mutated at random. */
#define WILD ((char *)0x740000000000ul)
#define WILD_PAGES 6144ul

struct backend {
	const char *title, *name;
	unsigned int facts; /* 1: as on a kernel of which nothing good is known */
	const struct track_ops *ops;
};

struct fixture {
	const struct track_ops *ops;
	unsigned int facts;
	struct tracker t;
	pid_t pid;
	int to, from;
	char file[32];
};

struct seen {
	uint64_t base;
	char map[2048]; /* per page: 0 nothing, 'c' clean, 'w' written, 'z' the zero page, 'g' guard */
};

/* ---- target.c ------------------------------------------------------------------------------- */

/* Answer each letter from @in on @out; never returns. */
void target_main(int in, int out, const char *file, const char *self);

/* ---- fixture.c ------------------------------------------------------------------------------ */

/* This program, which a target may execute. */
extern const char *self_path;

void tell(struct fixture *f, char what);
int setup(void **state);
int teardown(void **state);
int note(void *arg, uint64_t addr, uint64_t npages, unsigned int flags);
int attach_it(struct fixture *f, struct target *tg, struct ckpt_err *err);
int pass(struct fixture *f, bool attach, char *base, size_t len, struct seen *s);
bool exact(const struct fixture *f);
void arm_base(struct fixture *f, struct seen *s);
void expect(const struct fixture *f, const struct seen *s, const char *written, int gone, int ngone);

/* ---- cases ---------------------------------------------------------------------------------- */

void test_live(void **state);
void test_new(void **state);
void test_wild(void **state);

#endif
