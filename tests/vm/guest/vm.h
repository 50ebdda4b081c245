/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guest's test program: a table of tests, each run in a process of its own.
 * A test ends with PASS, FAIL("why") or SKIP("what is missing").
 */
#ifndef VM_VM_H
#define VM_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "nl.h"

#define PAGE 4096UL
#define CHUNK (2UL << 20)

void test_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), noreturn));
/* Said behind a test that passes. */
void test_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A figure, for bench/guest: @sense '<' (at most @goal), '>' (at least), '-' (no goal). */
void test_row(const char *what, double value, const char *unit, char sense, double goal);
void test_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define SKIP(...) test_skip(__VA_ARGS__)
#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x))                                                                          \
			FAIL("%s", #x);                                                            \
	} while (0)
/* For calls that return -1 and errno. */
#define SYS(x)                                                                                     \
	({                                                                                         \
		long sys_ret = (long)(x);                                                          \
		if (sys_ret == -1)                                                                 \
			FAIL("%s: %m", #x);                                                        \
		sys_ret;                                                                           \
	})

struct test {
	const char *name;
	void (*run)(const void *arg);
	const void *arg;
	int seconds; /* 0: the usual limit */
};

const struct test *path_table(void);
const struct path *path_number(size_t i); /* NULL behind the last */
const struct test *snapshot_table(void);
extern const struct test session_tests[], limit_tests[], request_tests[], client_tests[], stress_tests[], figure_tests[],
	fault_tests[];

/* ---- target.c: a program that changes its pages on command ------------------- */

#define REGION_PAGES_MAX 8192

/* Shared with the target, outside of what is tracked. */
struct shared {
	uintptr_t base;		/* the region, as it lies now */
	size_t pages;
	uint8_t touched[REGION_PAGES_MAX];
	uint64_t stamp;		/* never written twice */
	int failed;		/* 1: why[] says what, 2: skip */
	char why[256];
	volatile uint64_t counters[64]; /* free use by a test */
};

struct env {
	struct shared *sh;
	uintptr_t base;
	size_t pages;
	void *priv;
};

struct path {
	const char *name;
	/* In the target. setup leaves env->base and env->pages. */
	void (*setup)(struct env *e);
	void (*step)(struct env *e, int step);
	int steps;
	size_t extra_max;	/* reported but not touched, in the region */
	unsigned int flags;
};
#define PATH_THP (1U << 0)	/* run for each thp_mode */

extern const struct path path_writes[], path_ranges[], path_pages[];

struct target {
	pid_t pid;
	int cmd, ack;
	struct shared *sh;
};

void target_start(struct target *t, const struct path *p);
/* Returns when it is done and the target's main thread sleeps in read() again. */
void target_step(struct target *t, int step);
void target_stop(struct target *t);
/* Wait until the process sleeps in read(): until then it may write to its stack. */
void pid_wait_reading(pid_t pid);

/* In the target: write to page @i and say so. */
void touch(struct env *e, size_t i);
void touched(struct env *e, size_t i); /* changed in another way */
#define TFAIL(e, ...) target_give_up(e, 1, __VA_ARGS__)
#define TSKIP(e, ...) target_give_up(e, 2, __VA_ARGS__)
void target_give_up(struct env *e, int how, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), noreturn));

/* ---- region.c: memory to write to, in the target ----------------------------- */

/* Anonymous, private, small pages, aligned to 2 MiB: e->base and e->pages. */
void region(struct env *e, size_t pages, int extra_flags);
void fill(struct env *e); /* touch all of it */
void setup_filled(struct env *e); /* 1024 pages */
void setup_empty(struct env *e);
void touch_some(struct env *e, int step); /* 60 at random */
char *page_at(struct env *e, size_t i);
/* Room at a multiple of @align, with nothing mapped right before and behind it. */
char *map_at(size_t bytes, size_t align, int prot, int flags, int fd);
void need_swap(struct env *e); /* or skip */

/* ---- armed.c: a session with one target, armed -------------------------------- */

struct armed {
	struct nl nl;
	struct target t;
	uint32_t session, track;
};

/* 512 pages; a step writes to page @step and to page 400 + @step. */
extern const struct path small;
void setup_small(struct env *e);
void arm_target(struct armed *a, const struct path *p, uint32_t flags);
void disarm(struct armed *a);
/* With runs, which are in order. */
void collect(struct armed *a, uint32_t flags, struct vnl_result *r);
bool covers_step(struct armed *a, const struct vnl_result *r, int step);
/* Reported pages of the target's region. */
uint64_t arena_pages(struct armed *a, const struct vnl_result *r);
bool session_exists(uint32_t id);
/* A socket that hears events. */
void events_open(struct nl *nl);
/* Wait for an event of this type; @ret_child gets its CHILD_PID. */
void expect_event(struct nl *nl, uint32_t type, int32_t *ret_child);

/* ---- oracle.c: what really changed --------------------------------------------- */

struct image; /* every page of every private mapping: a hash */
struct image *image_take(pid_t pid);
void image_free(struct image *img);
/* Each page that differs between the images must be in a run. */
void image_check(const struct image *before, const struct image *after, const struct vnl_result *r);
bool run_covers(const struct vnl_result *r, uintptr_t addr, uint32_t *ret_state);
/* Pages of the runs that lie in [start, start + pages): a test counts in its own arena only,
 * a program's stack and libc change whenever it runs. */
uint64_t runs_pages_in(const struct vnl_result *r, uintptr_t start, size_t pages);
void runs_check_order(const struct vnl_result *r);
void pages_soft_dirty(pid_t pid, uintptr_t addr, size_t n, bool *ret);
bool vma_has_flag(pid_t pid, uintptr_t addr, const char *flag);
bool pid_maps(pid_t pid, void (*fn)(uintptr_t start, uintptr_t end, const char *perms, bool file,
				    void *arg), void *arg);

/* ---- helpers ------------------------------------------------------------------- */

int write_file(const char *path, const char *text); /* 0 or -errno */
int read_file(const char *path, char *buf, size_t size);
uint64_t read_number(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
uint64_t now_ns(void);
/* Before whatever spins: without this a test would mostly wait for its turn. */
void run_first(void);
/* Who runs first and never sleeps leaves nothing of the only processor. */
void let_others_run(void);
/* How long to wait for what must come: long, and longer in a slow kernel. */
unsigned int patience_seconds(void);
/* How often to repeat something: the slower the kernel (vm_scale) the fewer, unless vm_fewer says by how much. */
int scaled(int count);
uint32_t rnd(uint64_t *state);

#endif
