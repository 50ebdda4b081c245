/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The stamp of an address space: equal as long as nothing was mapped, unmapped, moved, protected or forked, whatever the
 * program writes and drops; another one behind each of these. And of a file how many mappings may write to it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kern/mmwatch.h"

#define PAGE 4096ul
#define PAGES 600ul

static char *area, *elsewhere;

static int write_pages(void)
{
	memset(area, 1, PAGES * PAGE);
	return 0;
}

static int drop_pages(void)
{
	return madvise(area, PAGES * PAGE, MADV_DONTNEED);
}

static int write_again(void)
{
	return write_pages();
}

static int dig(void)
{
	return madvise(area, PAGES * PAGE, MADV_REMOVE);
}

static int map(void)
{
	elsewhere = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return elsewhere == MAP_FAILED;
}

static int unmap(void)
{
	return munmap(elsewhere, PAGE);
}

static int twin(void)
{
	elsewhere = mremap(area, 0, PAGE, MREMAP_MAYMOVE);
	return elsewhere == MAP_FAILED;
}

static int protect(void)
{
	return mprotect(area, PAGES * PAGE, PROT_READ);
}

static int unprotect(void)
{
	return mprotect(area, PAGES * PAGE, PROT_READ | PROT_WRITE);
}

static int forks(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	return child < 0 || waitpid(child, NULL, 0) != child;
}

static const struct step {
	const char *name;
	int (*fn)(void);
	bool moves;
	uint64_t writers;
} steps[] = {
	{ "write", write_pages, false, 1 },
	{ "drop", drop_pages, false, 1 },
	{ "write again", write_again, false, 1 },
	{ "dig", dig, false, 1 },
	{ "fill", write_again, false, 1 },
	{ "map", map, true, 1 },
	{ "unmap", unmap, true, 1 },
	{ "twin", twin, true, 2 },
	{ "write with a twin", write_again, false, 2 },
	{ "unmap the twin", unmap, true, 1 },
	{ "protect", protect, true, 1 },
	{ "unprotect", unprotect, true, 1 },
	{ "fork", forks, true, 1 },
	{ "write at last", write_again, false, 1 },
};

static _Noreturn void child(int sock)
{
	char byte;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		char bad;

		if (read(sock, &byte, 1) != 1)
			_exit(1);
		bad = (char)steps[i].fn();
		if (write(sock, &bad, 1) != 1)
			_exit(1);
	}
	(void)!read(sock, &byte, 1);
	_exit(0);
}

static void stamps(void **state)
{
	struct btf types = { 0 };
	struct mm_watch w;
	struct mm_stamp last, now;
	int sock[2], rc = mm_watch_open(&w, &types);
	pid_t pid;

	(void)state;
	btf_free(&types);
	if (rc == -EOPNOTSUPP) {
		print_message("this kernel has no such number\n");
		skip();
	}
	assert_int_equal(rc, 0);
	area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(area, MAP_FAILED);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		(void)close(sock[0]);
		child(sock[1]);
	}
	(void)close(sock[1]);
	(void)munmap(area, PAGES * PAGE);
	assert_int_equal(mm_stamp_read(&w, pid, &last), 0);
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		uint64_t writers = 0;
		char bad = 1;

		assert_int_equal(write(sock[0], "", 1), 1);
		assert_int_equal(read(sock[0], &bad, 1), 1);
		if (bad)
			fail_msg("%s did not work", steps[i].name);
		assert_int_equal(mm_stamp_read(&w, pid, &now), 0);
		assert_int_equal(now.mm, last.mm);
		if ((now.seq != last.seq) != steps[i].moves)
			fail_msg("%s: %llu then %llu", steps[i].name, (unsigned long long)last.seq,
				 (unsigned long long)now.seq);
		assert_int_equal(map_writers_read(&w, pid, (uint64_t)area, &writers), 0);
		if (writers != steps[i].writers)
			fail_msg("%s: %llu may write", steps[i].name, (unsigned long long)writers);
		last = now;
	}
	(void)close(sock[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(mm_stamp_read(&w, pid, &now) < 0, 1);
	mm_watch_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(stamps) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
