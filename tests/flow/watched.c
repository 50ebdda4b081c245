// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test of its own: a process and its child share anonymous memory, and do to it what a signal says. SIGUSR1 comes
 * with a number: what to do, and to which page. Each counts what it has done in its private memory.
 */
#include "t.h"

#include <sys/mman.h>
#include <sys/uio.h>

#define PAGE 4096ul
#define PAGES 4096ul
#define AT 0x620000000000ul
#define OWN 0x610000000000ul

struct own {
	uint64_t done;
	uint64_t value; /* what is written next */
	uint64_t other; /* pid of the last process that was started */
	uint64_t turn;  /* number of the last write of a loop; it may not have been made yet */
	uint64_t loop;  /* what was done in it */
};

static struct own *own;
static uint64_t *shared;

static void put(size_t page)
{
	shared[page * PAGE / 8] = own->value;
}

static void write_elsewhere(size_t page, bool dup)
{
	uint64_t *from = shared + page * PAGE / 8;
	uint64_t *to = mremap(from, dup ? 0 : PAGE, PAGE, MREMAP_MAYMOVE | (dup ? 0 : MREMAP_FIXED),
			      (void *)(OWN + (16 << 20)));

	if (!t_check(to != MAP_FAILED, "mremap: %s", strerror(errno)))
		return;
	*to = own->value;
	if (dup)
		t_sys(munmap(to, PAGE));
	else
		t_check(mremap(to, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, from) == from, "back");
}

static _Noreturn void obey(void);

/* None of the first 64. */
static size_t page_of(uint64_t turn)
{
	return 64 + (uint32_t)turn * 2654435761u % (PAGES - 64);
}

/* Every second page becomes a hole. */
static bool digs(uint64_t turn)
{
	return own->loop == 'D' && turn % 2;
}

static void write_once(size_t word)
{
	uint64_t *page = shared + page_of(own->turn) * PAGE / 8;

	if (digs(own->turn))
		t_sys(madvise(page, PAGE, MADV_REMOVE));
	else
		*(volatile uint64_t *)&page[word] = own->turn;
}

/* The n-th write goes to a page that the test knows, into word @word, until the next signal comes: by this process, or
 * ('F') by a child that ends. */
static void write_on(int loop, size_t word)
{
	const struct timespec none = { 0 };
	sigset_t s;
	siginfo_t info;
	pid_t child;

	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	own->loop = (uint64_t)loop;
	for (own->turn = 1;; own->turn++) {
		if (loop == 'F') {
			child = t_fork();
			if (!child) {
				write_once(word);
				_exit(0);
			}
			t_reap(child, 0);
		} else {
			write_once(word);
		}
		if (own->turn % 16)
			continue;
		t_tick();
		if (sigtimedwait(&s, &info, &none) == SIGUSR1)
			return;
	}
}

/* Is everything there that was written in the loop? */
static void look_through(size_t word)
{
	static uint64_t last[PAGES];

	for (uint64_t n = 1; n <= own->turn; n++)
		last[page_of(n)] = digs(n) ? 0 : n;
	for (size_t i = 0; i < PAGES; i++)
		if (!t_check(shared[i * PAGE / 8 + word] == last[i], "page %zu, word %zu: %llu, not %llu; turn %llu", i,
			     word, (unsigned long long)shared[i * PAGE / 8 + word], (unsigned long long)last[i],
			     (unsigned long long)own->turn))
			break;
}

static void act(int what, size_t page)
{
	uint64_t *at = shared + page * PAGE / 8;
	struct iovec local = { &own->value, 8 }, remote = { at, 8 };
	char path[64];
	pid_t child;
	int fd;

	switch (what) {
	case 'w':
		put(page);
		break;
	case 'W':
		for (size_t i = 0; i < PAGES / 2; i++)
			put(page + i);
		break;
	case 'L':
	case 'F':
	case 'D':
		own->done++;
		write_on(what, page);
		break;
	case 'V':
		look_through(page);
		break;
	case 'r':
		t_check(*(volatile uint64_t *)at != 1, "read");
		break;
	case 'd':
		t_sys(madvise(at, PAGE, MADV_DONTNEED));
		break;
	case 'R':
		t_sys(madvise(at, PAGE, MADV_REMOVE));
		break;
	case 'f':
		child = t_fork();
		if (!child) {
			put(page);
			_exit(0);
		}
		t_reap(child, 0);
		break;
	case 'x':
	case 'm':
		write_elsewhere(page, what == 'x');
		break;
	case 'p':
		t_sys(mprotect(at, PAGE, PROT_READ));
		t_sys(mprotect(at, PAGE, PROT_READ | PROT_WRITE));
		put(page);
		break;
	case 'v':
		t_check(process_vm_writev(getppid(), &local, 1, &remote, 1, 0) == 8, "writev");
		break;
	case 'i':
		fd = (int)t_sys(open(t_path("in"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
		t_check(pwrite(fd, &own->value, 8, 0) == 8 && pread(fd, at, 8, 0) == 8, "read(2)");
		(void)close(fd);
		break;
	case 'O': /* a descriptor of what has none, and a write by it */
		(void)snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", AT, AT + PAGES * PAGE);
		own->other = (uint64_t)t_sys(open(path, O_RDWR | O_CLOEXEC));
		t_check(pwrite((int)own->other, &own->value, 8, (off_t)(page * PAGE)) == 8, "pwrite");
		break;
	case 'C':
		t_sys(close((int)own->other));
		break;
	case 'c':
		child = t_fork();
		if (!child)
			obey();
		own->other = (uint64_t)child;
		break;
	case 'k':
		t_sys(kill((pid_t)own->other, SIGKILL));
		t_sys(waitpid((pid_t)own->other, NULL, 0));
		break;
	case 'o': /* one that leaves the tree */
		child = t_fork();
		if (!child) {
			t_sys(setsid());
			child = t_fork();
			if (!child)
				obey();
			_exit(0);
		}
		t_reap(child, 0);
		break;
	default:
		t_check(false, "what is %d?", what);
	}
}

static _Noreturn void obey(void)
{
	sigset_t s;
	siginfo_t info;

	own->done = 0;
	own->other = 0;
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigaddset(&s, SIGTERM);
	while (sigwaitinfo(&s, &info) == SIGUSR1) {
		act(info.si_value.sival_int >> 16, (size_t)info.si_value.sival_int & 0xffff);
		own->done++;
	}
	_exit(t_status());
}

int main(int argc, char **argv)
{
	sigset_t s;
	FILE *f;
	pid_t child;

	/* What comes before somebody waits for it, waits. */
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	sigaddset(&s, SIGTERM);
	t_sys(sigprocmask(SIG_BLOCK, &s, NULL));
	t_init(argc, argv);
	own = mmap((void *)OWN, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	shared = mmap((void *)AT, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	t_check(own != MAP_FAILED && shared != MAP_FAILED, "mmap");
	for (size_t i = 0; i < PAGES - PAGES / 8; i++)
		shared[i * PAGE / 8] = i + 1000;
	child = t_fork();
	if (!child)
		obey();
	f = fopen(t_path("ready"), "w");
	t_check(f && !fclose(f), "ready");
	obey();
}
