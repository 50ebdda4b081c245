/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Flags of mappings by the BPF iterator against smaps: a child maps, advises, locks and protects at random; in each of
 * its states both must say the same of every mapping. A kernel without the iterator is asked for smaps alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kern/procfs.h"
#include "kern/vmaiter.h"

#define STATES 150
#define AREA (64u << 12)

static void mutate(char *area, unsigned int *seed)
{
	static const int advice[] = { MADV_NORMAL,    MADV_DONTFORK, MADV_DOFORK,    MADV_WIPEONFORK, MADV_KEEPONFORK,
				      MADV_DONTDUMP,  MADV_DODUMP,   MADV_HUGEPAGE,  MADV_NOHUGEPAGE, MADV_SEQUENTIAL,
				      MADV_MERGEABLE, MADV_RANDOM,   MADV_UNMERGEABLE };
	static const int prot[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC };
	static const int map[] = { MAP_PRIVATE, MAP_SHARED, MAP_PRIVATE | MAP_NORESERVE, MAP_PRIVATE | MAP_GROWSDOWN,
				   MAP_PRIVATE | MAP_LOCKED };
	unsigned int r = (unsigned int)rand_r(seed);
	char *at = area + ((r >> 8) % 60 << 12);
	size_t len = ((r >> 16) % 4 + 1) << 12;

	switch (r % 5) {
	case 0:
		(void)madvise(at, len, advice[(r >> 20) % (sizeof(advice) / sizeof(*advice))]);
		break;
	case 1:
		(void)mprotect(at, len, prot[(r >> 20) % 4]);
		break;
	case 2:
		(void)mmap(at, len, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_FIXED | map[(r >> 20) % 5], -1, 0);
		break;
	case 3:
		(void)(r >> 20 & 1 ? mlock(at, len) : munlock(at, len));
		break;
	default:
		(void)munmap(at, len);
	}
}

static _Noreturn void child(int in, int out)
{
	char *area = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), byte;
	unsigned int seed = 4711;

	while (read(in, &byte, 1) == 1) {
		for (int i = 0; i < 8; i++)
			mutate(area, &seed);
		if (write(out, "", 1) != 1)
			break;
	}
	_exit(0);
}

struct state {
	struct vma_iter it;
	int in, out;
	pid_t pid;
};

static int setup(void **arg)
{
	struct btf types = { 0 };
	struct state *s = calloc(1, sizeof(*s));
	int to[2], from[2], rc;

	assert_non_null(s);
	*arg = s;
	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	s->pid = fork();
	if (!s->pid) {
		close(to[1]);
		child(to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	s->in = to[1];
	s->out = from[0];
	rc = vma_iter_open(&s->it, &types);
	btf_free(&types);
	if (rc)
		print_message("this kernel has no iterator of mappings: %s\n", strerror(-rc));
	return 0;
}

static int teardown(void **arg)
{
	struct state *s = *arg;

	close(s->in);
	close(s->out);
	waitpid(s->pid, NULL, 0);
	vma_iter_close(&s->it);
	free(s);
	return 0;
}

static void same(const struct proc_vmas *a, const struct proc_vmas *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		const struct proc_vma *x = &a->v[i], *y = &b->v[i];

		if (x->flags != y->flags)
			print_error("%#lx-%#lx: %#lx, smaps %#lx\n", (long)x->start, (long)x->end, (long)x->flags,
				    (long)y->flags);
		assert_true(x->start == y->start && x->end == y->end && x->flags == y->flags && x->prot == y->prot);
		assert_true(x->shared == y->shared && x->ino == y->ino && x->pgoff == y->pgoff);
		assert_true(x->page_kb == y->page_kb && !x->path == !y->path);
		assert_true(!x->path || !strcmp(x->path, y->path));
	}
}

/* Without the iterator's answer every mapping would be read from smaps, and the test compare it with itself. */
static void used(const struct vma_iter *it, pid_t pid, unsigned int *known)
{
	struct vma_iter_entry *e = NULL;
	uint64_t n = 0, flags;

	assert_int_equal(vma_iter_read(it, pid, &e, &n), 0);
	for (uint64_t i = 0; i < n; i++)
		if (!vma_iter_flags(it, e[i].vm_flags, &flags)) {
			free(e);
			return;
		}
	free(e);
	(*known)++;
}

static void test_same_as_smaps(void **arg)
{
	struct state *s = *arg;
	struct ckpt_err err = { 0 };
	unsigned int known = 0;
	char byte;

	for (int i = 0; i < STATES; i++) {
		struct proc_vmas fast = { 0 }, smaps = { 0 };

		assert_int_equal(write(s->in, "", 1), 1);
		assert_int_equal(read(s->out, &byte, 1), 1);
		assert_int_equal(proc_vmas_read(s->pid, &s->it, &fast, &err), 0);
		assert_int_equal(proc_vmas_read(s->pid, NULL, &smaps, &err), 0);
		same(&fast, &smaps);
		if (s->it.prog_fd >= 0)
			used(&s->it, s->pid, &known);
		proc_vmas_free(&fast);
		proc_vmas_free(&smaps);
	}
	if (s->it.prog_fd >= 0)
		assert_int_equal(known, STATES);
}

/* Our own address space has the mappings of libraries, the vDSO and, where there is one, vsyscall. */
static void test_own(void **arg)
{
	struct state *s = *arg;
	struct ckpt_err err = { 0 };
	struct proc_vmas fast = { 0 }, smaps = { 0 };

	assert_int_equal(proc_vmas_read(s->pid, &s->it, &fast, &err), 0);
	assert_int_equal(proc_vmas_read(s->pid, NULL, &smaps, &err), 0);
	same(&fast, &smaps);
	proc_vmas_free(&fast);
	proc_vmas_free(&smaps);
}

static void test_gone(void **arg)
{
	struct state *s = *arg;
	struct ckpt_err err = { 0 };
	struct proc_vmas vmas = { 0 };
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
	assert_int_equal(proc_vmas_read(pid, &s->it, &vmas, &err), -ESRCH);
}

/* More mappings than the kernel's buffer takes at once. */
static void test_many(void **arg)
{
	struct state *s = *arg;
	struct ckpt_err err = { 0 };
	struct proc_vmas fast = { 0 }, smaps = { 0 };
	struct vma_iter_entry *e = NULL;
	uint64_t n = 0;
	const size_t count = 3000;
	char *p = mmap(NULL, 2 * count << 12, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	assert_true(p != MAP_FAILED);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(mprotect(p + (2 * i << 12), 4096, PROT_READ), 0);
	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	assert_int_equal(proc_vmas_read(pid, &s->it, &fast, &err), 0);
	assert_int_equal(proc_vmas_read(pid, NULL, &smaps, &err), 0);
	same(&fast, &smaps);
	if (s->it.prog_fd >= 0) {
		assert_int_equal(vma_iter_read(&s->it, pid, &e, &n), 0);
		assert_true(n >= 2 * count);
	}
	free(e);
	proc_vmas_free(&fast);
	proc_vmas_free(&smaps);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	munmap(p, 2 * count << 12);
}

/* A bit that nobody knows is not guessed. */
static void test_unknown(void **arg)
{
	struct vma_iter none = { .prog_fd = -1 };
	uint64_t flags;

	(void)arg;
	assert_true(vma_iter_flags(&none, 0x73, &flags));
	assert_int_equal(flags, PROC_VMF(mw));
	assert_false(vma_iter_flags(&none, 1ull << 50 | 0x73, &flags));
	none.learnt_n = 1;
	none.learnt[0].vm = 1ull << 50;
	none.learnt[0].proc = PROC_VMF(sl);
	assert_true(vma_iter_flags(&none, 1ull << 50 | 0x73, &flags));
	assert_int_equal(flags, PROC_VMF(mw) | PROC_VMF(sl));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_as_smaps),
		cmocka_unit_test(test_own),
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_unknown),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
