// SPDX-License-Identifier: GPL-2.0-only
/* Paths: writes of every origin, by the target, by others in its name, and by devices. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* ---- plain writes ------------------------------------------------------------------ */

static void step_nothing(struct env *e, int step)
{
	(void)e;
	(void)step;
}

static void step_read_only(struct env *e, int step)
{
	volatile char sum = 0;

	(void)step;
	for (size_t i = 0; i < e->pages; i++)
		sum += *page_at(e, i);
}

static void step_read_syscall(struct env *e, int step)
{
	int fd = open("/dev/urandom", O_RDONLY);
	size_t i = 10 + step * 5;

	/* Across two page boundaries. */
	if (read(fd, page_at(e, i) + 100, 2 * PAGE) != 2 * PAGE)
		TFAIL(e, "read: %m");
	close(fd);
	touched(e, i);
	touched(e, i + 1);
	touched(e, i + 2);
}

static void step_vm_writev(struct env *e, int step)
{
	pid_t parent = getpid(), child = fork();
	uint64_t value = ++e->sh->stamp;

	if (!child) {
		struct iovec local = { &value, 8 }, remote = { page_at(e, 5 + step), 8 };

		_exit(process_vm_writev(parent, &local, 1, &remote, 1, 0) != 8);
	}
	waitpid(child, NULL, 0);
	touched(e, 5 + step);
}

static void setup_read_only(struct env *e)
{
	setup_filled(e);
	mprotect((void *)e->base, e->pages * PAGE, PROT_READ);
}

/* /proc/PID/mem writes to read-only pages, as a debugger does. */
static void step_proc_mem(struct env *e, int step)
{
	int fd = open("/proc/self/mem", O_RDWR);
	uint64_t value = ++e->sh->stamp;

	for (size_t i = step; i < e->pages; i += 97) {
		if (pwrite(fd, &value, 8, (off_t)(uintptr_t)page_at(e, i)) != 8)
			TFAIL(e, "pwrite: %m");
		touched(e, i);
	}
	close(fd);
}

static void step_ptrace_poke(struct env *e, int step)
{
	pid_t child = fork();
	int status;

	if (!child) {
		/* The parent is the target: trace it from a child. */
		pid_t target = getppid();

		if (ptrace(PTRACE_SEIZE, target, 0, 0) || ptrace(PTRACE_INTERRUPT, target, 0, 0))
			_exit(1);
		waitpid(target, &status, __WALL);
		if (ptrace(PTRACE_POKEDATA, target, page_at(e, 7 + step), (void *)0x1234567890 + step))
			_exit(1);
		ptrace(PTRACE_DETACH, target, 0, 0);
		_exit(0);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (status)
		TSKIP(e, "a child may not trace its parent here");
	touched(e, 7 + step);
}

static void step_mprotect(struct env *e, int step)
{
	mprotect((void *)e->base, e->pages * PAGE, PROT_READ);
	mprotect((void *)e->base, e->pages * PAGE, PROT_READ | PROT_WRITE);
	touch_some(e, step);
	mprotect(page_at(e, 100), 50 * PAGE, PROT_READ);
}

static void step_vfork(struct env *e, int step)
{
	pid_t pid = vfork();

	if (!pid) {
		touch(e, 33 + step);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static int clone_writer(void *arg)
{
	struct env *e = arg;

	touch(e, 44);
	touch(e, 700);
	return 0;
}

static void step_clone_vm(struct env *e, int step)
{
	static char stack[65536];
	pid_t pid = clone(clone_writer, stack + sizeof(stack), CLONE_VM | SIGCHLD, e);

	(void)step;
	if (pid < 0)
		TFAIL(e, "clone: %m");
	waitpid(pid, NULL, 0);
}

static void step_populate_write(struct env *e, int step)
{
	if (madvise(page_at(e, 40 * step), 10 * PAGE, MADV_POPULATE_WRITE))
		TSKIP(e, "MADV_POPULATE_WRITE: %m");
	for (int i = 0; i < 10; i++)
		touched(e, 40 * step + i);
}

/* ---- files ------------------------------------------------------------------------------ */

static void setup_private_file(struct env *e)
{
	char name[] = "/tmp/privXXXXXX";
	int fd = mkstemp(name);

	unlink(name);
	for (int i = 0; i < 256; i++) {
		char data[PAGE];

		memset(data, i + 1, sizeof(data));
		if (write(fd, data, sizeof(data)) != sizeof(data))
			TFAIL(e, "write: %m");
	}
	e->priv = (void *)(intptr_t)fd;
	e->pages = 256;
	e->base = (uintptr_t)map_at(256 * PAGE, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	for (size_t i = 0; i < 256; i += 2)
		touch(e, i);
}

static void step_private_file(struct env *e, int step)
{
	touch_some(e, step);
	/* Private pages fall back to the file's content. */
	madvise(page_at(e, 64), 8 * PAGE, MADV_DONTNEED);
	for (int k = 0; k < 8; k++)
		touched(e, 64 + k);
}

static void step_punch_hole(struct env *e, int step)
{
	int fd = (intptr_t)e->priv;
	size_t first = 128 + 16 * step;

	touch(e, 3);
	/* Truncation drops private copies, too. */
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first * PAGE, 8 * PAGE))
		TFAIL(e, "fallocate: %m");
	if (ftruncate(fd, 200 * PAGE) || ftruncate(fd, 256 * PAGE))
		TFAIL(e, "ftruncate: %m");
	for (int k = 0; k < 8; k++)
		touched(e, first + k);
	for (size_t i = 200; i < 256; i++)
		touched(e, i);
}

static void setup_shared(struct env *e)
{
	e->pages = 256;
	e->base = (uintptr_t)mmap(NULL, 256 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fill(e);
}

static void setup_hugetlb(struct env *e)
{
	(void)write_file("/proc/sys/vm/nr_hugepages", "2");
	e->pages = 512;
	e->base = (uintptr_t)mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	if ((void *)e->base == MAP_FAILED)
		TSKIP(e, "no hugetlb page: %m");
	fill(e);
}

/* ---- processes ------------------------------------------------------------------------------ */

static void step_fork(struct env *e, int step)
{
	static pid_t children[8];

	/* The child lives on and shares every page; then both write. */
	children[step] = fork();
	if (!children[step]) {
		for (size_t i = 0; i < e->pages; i += 5)
			*(volatile char *)page_at(e, i) = 99;
		for (;;)
			pause();
	}
	touch_some(e, step);
}

/* ---- somebody else uses the soft-dirty bits ---------------------------------------------------------------- */

static void step_clear_refs(struct env *e, int step)
{
	touch_some(e, step);
	if (write_file("/proc/self/clear_refs", "4"))
		TFAIL(e, "clear_refs: %m");
	touch(e, 5);
}

/* ---- O_DIRECT -------------------------------------------------------------------------------------------- */

static void step_o_direct(struct env *e, int step)
{
	int fd = open("/dev/ram1", O_RDWR | O_DIRECT);
	uint64_t *data = (uint64_t *)page_at(e, 900);

	if (fd < 0)
		TSKIP(e, "no /dev/ram1: the kernel image has no brd module");
	data[0] = ++e->sh->stamp;
	touched(e, 900);
	if (pwrite(fd, data, PAGE, 0) != PAGE || pread(fd, page_at(e, 20 + step), PAGE, 0) != PAGE)
		TFAIL(e, "direct I/O: %m");
	close(fd);
	touched(e, 20 + step);
}

const struct path path_writes[] = {
	{ "nothing", setup_filled, step_nothing, 2, 0, 0 },
	{ "reads", setup_filled, step_read_only, 2, 0, 0 },
	{ "reads-of-nothing", setup_empty, step_read_only, 2, 0, 0 },
	{ "writes", setup_filled, touch_some, 4, 0, 0 },
	{ "first-writes", setup_empty, touch_some, 4, 0, 0 },
	{ "read-syscall", setup_filled, step_read_syscall, 3, 0, 0 },
	{ "o-direct", setup_filled, step_o_direct, 3, 0, 0 },
	{ "process-vm-writev", setup_filled, step_vm_writev, 3, 0, 0 },
	{ "proc-mem-read-only", setup_read_only, step_proc_mem, 3, 0, 0 },
	{ "ptrace-poke-read-only", setup_read_only, step_ptrace_poke, 3, 0, 0 },
	{ "mprotect", setup_filled, step_mprotect, 3, 0, 0 },
	{ "vfork", setup_filled, step_vfork, 2, 0, 0 },
	{ "clone-vm", setup_filled, step_clone_vm, 2, 0, 0 },
	{ "populate-write", setup_empty, step_populate_write, 3, 0, 0 },
	{ "private-file", setup_private_file, step_private_file, 3, 0, 0 },
	{ "punch-hole", setup_private_file, step_punch_hole, 3, 0, 0 },
	{ "shared", setup_shared, touch_some, 2, 256, 0 },
	{ "hugetlb", setup_hugetlb, touch_some, 2, 512, 0 },
	{ "fork", setup_filled, step_fork, 4, 0, 0 },
	{ "clear-refs-by-another", setup_filled, step_clear_refs, 3, 1024, 0 },
	{}
};
