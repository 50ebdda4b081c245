// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test of its own: a process with much anonymous memory, which does to it what a signal says. SIGUSR1 comes with a number:
 * what to do, and to which page. What it writes the n-th time follows from n. The file "done" tells how often it was asked.
 */
#include "t.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/uio.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#define PAGE 4096ul
#define PAGES 40960ul
#define AT 0x620000000000ul
#define VALUE (1ul << 32)

static uint64_t *memory, done;
static int done_fd, pipes[2];
static _Atomic(uint64_t *) wanted; /* by the second thread */

static uint64_t value(void)
{
	return VALUE + done;
}

static void *second(void *arg)
{
	(void)arg;
	for (;; usleep(100)) {
		uint64_t *at = atomic_exchange(&wanted, NULL);

		if (at)
			*(volatile uint64_t *)at = value();
	}
	return NULL;
}

static void by_second(uint64_t *at)
{
	uint64_t is = value();

	wanted = at;
	while (*(volatile uint64_t *)at != is)
		usleep(100);
}

static void by_kernel(uint64_t *at)
{
	uint64_t is = value();

	t_check(write(pipes[1], &is, 8) == 8 && read(pipes[0], at, 8) == 8, "read(2)");
}

static void by_self(uint64_t *at, bool mem)
{
	uint64_t is = value();
	struct iovec local = { &is, 8 }, remote = { at, 8 };
	int fd;

	if (!mem) {
		t_check(process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == 8, "process_vm_writev");
		return;
	}
	fd = (int)t_sys(open("/proc/self/mem", O_RDWR | O_CLOEXEC));
	t_check(pwrite(fd, &is, 8, (off_t)(uintptr_t)at) == 8, "mem");
	t_sys(close(fd));
}

static void map_new(uint64_t *at)
{
	t_check(mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at, "mmap");
}

static void act(int what, size_t page)
{
	uint64_t *at = memory + page * PAGE / 8;
	pid_t child;

	switch (what) {
	case 'w':
		*at = value();
		break;
	case 's':
		by_second(at);
		break;
	case 'k':
		by_kernel(at);
		break;
	case 'W': /* each 16th page from there on */
		for (size_t i = page; i < page + 3200; i += 16)
			memory[i * PAGE / 8] = value();
		break;
	case 'A': /* all of them, of so many */
		for (size_t i = page; i < page + 6000; i++)
			memory[i * PAGE / 8] = value();
		break;
	case 'r':
		t_check(*(volatile uint64_t *)at != 1, "read");
		break;
	case 'd':
		t_sys(madvise(at, PAGE, MADV_DONTNEED));
		break;
	case 'v':
	case 'm':
		by_self(at, what == 'm');
		break;
	case 'p':
		t_sys(madvise(at, PAGE, MADV_POPULATE_WRITE));
		break;
	case 'l': /* with faults disabled, and then with the lock */
		t_sys(syscall(SYS_futex, at, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
		t_sys(syscall(SYS_futex, at, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
		break;
	case 'g':
		(void)madvise(at, PAGE, MADV_GUARD_INSTALL);
		break;
	case 'G':
		(void)madvise(at, PAGE, MADV_GUARD_REMOVE);
		break;
	case 'M':
		map_new(at);
		*at = value();
		break;
	case 'x': /* to the next page */
		t_check(mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + PAGE / 8) == at + PAGE / 8, "mremap");
		map_new(at);
		break;
	case 'P':
		t_sys(mprotect(at, PAGE, PROT_READ));
		t_sys(mprotect(at, PAGE, PROT_READ | PROT_WRITE));
		*at = value();
		break;
	case 'f':
		child = t_fork();
		if (!child)
			_exit(0);
		*at = value();
		t_reap(child, 0);
		break;
	case 'i': /* nothing */
		break;
	default:
		t_check(false, "what is %d?", what);
	}
}

static void tell(void)
{
	t_check(pwrite(done_fd, &done, sizeof(done), 0) == sizeof(done), "done");
}

int main(int argc, char **argv)
{
	pthread_t thread;
	sigset_t s;
	siginfo_t info;

	/* What comes before somebody waits for it, waits. */
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigaddset(&s, SIGTERM);
	t_sys(sigprocmask(SIG_BLOCK, &s, NULL));
	t_init(argc, argv);
	memory = mmap((void *)AT, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	t_check(memory != MAP_FAILED, "mmap");
	t_sys(madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE));
	for (size_t i = 0; i < PAGES - PAGES / 8; i++)
		memory[i * PAGE / 8] = i + 1000;
	t_sys(pipe(pipes));
	t_check(!pthread_create(&thread, NULL, second, NULL), "thread");
	done_fd = (int)t_sys(open(t_path("done"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	tell();
	while (sigwaitinfo(&s, &info) == SIGUSR1) {
		done++;
		act(info.si_value.sival_int >> 16, (size_t)info.si_value.sival_int & 0xffff);
		tell();
	}
	_exit(t_status());
}
