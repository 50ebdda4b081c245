/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who shares memory, descriptors and directories with whom: the BPF iterator of tasks against kcmp, over processes that
 * share at random, in a pid namespace of their own as well; and who is in the same namespaces. Without the iterator
 * kcmp alone is asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kern/sharing.h"

#define TASKS 40
#define STACK (64u << 10)

static _Noreturn int wait_forever(void *arg)
{
	(void)arg;
	for (;;)
		pause();
}

static void compare(const int *pids)
{
	static const int types[] = { KCMP_VM, KCMP_FILES, KCMP_FS };
	struct btf btf = { 0 };
	int fd = task_iter_open(&btf);
	struct task_kins kins = { 0 };
	struct ckpt_err err = { 0 };

	btf_free(&btf);
	if (fd < 0)
		return;
	assert_int_equal(task_iter_read(fd, &kins), 0);
	for (size_t t = 0; t < 3; t++) {
		size_t fast[TASKS + 1], asked[TASKS + 1];

		assert_int_equal(sharing_find(pids, TASKS + 1, types[t], &kins, fast, &err), 0);
		assert_int_equal(sharing_find(pids, TASKS + 1, types[t], NULL, asked, &err), 0);
		assert_memory_equal(fast, asked, sizeof(fast));
	}
	for (size_t i = 0; i <= TASKS; i++) {
		const struct task_kin *a = task_kin_find(&kins, pids[0]), *b = task_kin_find(&kins, pids[i]);

		assert_non_null(b);
		assert_int_equal(b->ns == a->ns, i % 8 != 7);
		assert_true(b->user_ns == a->user_ns && b->pid_ns == a->pid_ns);
	}
	assert_null(task_kin_find(&kins, 0x7fffffff));
	free(kins.v);
	(void)close(fd);
}

/* Every eighth has a UTS namespace of its own. */
static void run(void)
{
	char *stacks = mmap(NULL, TASKS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int pids[TASKS + 1] = { getpid() };
	unsigned int seed = 815;

	assert_ptr_not_equal(stacks, MAP_FAILED);
	for (size_t i = 1; i <= TASKS; i++) {
		unsigned int r = (unsigned int)rand_r(&seed);
		int flags = (r & 1 ? CLONE_FILES : 0) | (r & 2 ? CLONE_FS : 0) | (r & 4 ? CLONE_VM : 0);

		if (i % 8 == 7)
			flags |= CLONE_NEWUTS;
		pids[i] = clone(wait_forever, stacks + i * STACK, flags | SIGCHLD, NULL);
		assert_true(pids[i] > 0);
	}
	compare(pids);
	for (size_t i = 1; i <= TASKS; i++) {
		assert_int_equal(kill(pids[i], SIGKILL), 0);
		assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
	}
	(void)munmap(stacks, TASKS * STACK);
}

static void test_same_as_kcmp(void **arg)
{
	(void)arg;
	if (geteuid())
		skip();
	run();
}

/* Numbers are those of the namespace of whoever reads. */
static void test_pid_namespace(void **arg)
{
	int status = -1;
	pid_t child;

	(void)arg;
	if (geteuid())
		skip();
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		pid_t init;

		if (unshare(CLONE_NEWPID))
			_exit(1);
		init = fork();
		if (!init) {
			run();
			_exit(0);
		}
		_exit(init > 0 && waitpid(init, &status, 0) == init ? status != 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_as_kcmp),
		cmocka_unit_test(test_pid_namespace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
