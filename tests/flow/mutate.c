// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test of its own: a program that does everything to its memory that a
 * tracker can get wrong, at random, and knows what every page must hold. Two
 * threads and a child work; all of them verify all their pages at the end.
 */
#include "t.h"

#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define PAGE 4096ul
#define WORDS (PAGE / 8)
#define SLOTS 12
#define SLOT_PAGES 8ul
#define SPACE 0x10000000ul /* between areas */

/* What page i holds: nothing but zeros (0), the file (FILE_TAG), or the pattern of tag[i] with a
 * first word of its own. */
#define FILE_TAG 1ul

struct area {
	char *base, *home, *away;
	size_t pages;
	uint64_t *tag, *first;
	int fd; /* -1: anonymous */
};

struct actor {
	uint64_t seed, tags, ops;
	struct area small, file, huge, move;
	struct area shm, mem, sysv; /* shared: anonymous, a memory file that is open, System V */
	bool forks;
	struct area slot[SLOTS];
	uint64_t *heap;
	size_t heap_n;
	uint64_t heap_tag;
	int pipe[2];
	uint64_t in_pipe;
	bool brk;
	char *brk_at;
	size_t brk_pages;
	uint64_t brk_tag[64];
};

static atomic_bool stop;
static int zero_fd;

static uint64_t rnd(struct actor *a, uint64_t n)
{
	a->seed = t_pattern(a->seed);
	return a->seed % n;
}

static uint64_t file_word(size_t page, size_t word)
{
	return t_pattern(page * 1000 + word);
}

static void area_map(struct area *r, char *at, size_t first, size_t n)
{
	int flags = MAP_PRIVATE | MAP_FIXED | (r->fd < 0 ? MAP_ANONYMOUS : 0);
	void *p = mmap(at + first * PAGE, n * PAGE, PROT_READ | PROT_WRITE, flags, r->fd,
		       r->fd < 0 ? 0 : (off_t)(first * PAGE));

	t_check(p == at + first * PAGE, "mmap, errno %d", errno);
	for (size_t i = first; i < first + n; i++)
		r->tag[i] = r->fd < 0 ? 0 : FILE_TAG;
}

static void area_init(struct area *r, char *home, size_t pages, int fd)
{
	r->home = r->base = home;
	r->away = home + SPACE / 2;
	r->pages = pages;
	r->fd = fd;
	r->tag = calloc(pages, sizeof(*r->tag));
	r->first = calloc(pages, sizeof(*r->first));
	area_map(r, home, 0, pages);
}

static void page_write(struct actor *a, struct area *r, size_t i)
{
	uint64_t *p = (uint64_t *)(r->base + i * PAGE), tag = 2 + ++a->tags * 1000;

	for (size_t w = 0; w < WORDS; w++)
		p[w] = t_pattern(tag + w);
	r->tag[i] = tag;
	r->first[i] = p[0];
}

static void page_touch(struct actor *a, struct area *r, size_t i)
{
	if (r->tag[i] <= FILE_TAG) {
		page_write(a, r, i);
		return;
	}
	r->first[i] = t_pattern(++a->tags);
	*(uint64_t *)(r->base + i * PAGE) = r->first[i];
}

static bool page_check(const struct area *r, size_t i)
{
	const uint64_t *p = (const uint64_t *)(r->base + i * PAGE);

	for (size_t w = 0; w < WORDS; w++) {
		uint64_t want = r->tag[i] == 0	      ? 0 :
				r->tag[i] == FILE_TAG ? file_word(i, w) :
				w == 0		      ? r->first[i] :
							t_pattern(r->tag[i] + w);

		if (!t_check(p[w] == want, "page %zu of %p, word %zu: %#lx, not %#lx (tag %#lx)", i,
			     r->base, w, p[w], want, r->tag[i]))
			return false;
	}
	return true;
}

static void area_check(const struct area *r)
{
	for (size_t i = 0; r->base && i < r->pages; i++)
		if (!page_check(r, i))
			return;
}

static struct area *any_area(struct actor *a)
{
	struct area *of[] = { &a->small, &a->file, &a->huge, &a->move };

	return of[rnd(a, 4)];
}

/* ---- what it does ---------------------------------------------------------------------------- */

static void op_write(struct actor *a)
{
	struct area *r = any_area(a);

	for (uint64_t n = 1 + rnd(a, 4); n; n--)
		page_write(a, r, rnd(a, r->pages));
}

static void op_touch(struct actor *a)
{
	struct area *r = any_area(a);

	page_touch(a, r, rnd(a, r->pages));
}

static void op_dontneed(struct actor *a)
{
	struct area *r = any_area(a);
	size_t i = rnd(a, r->pages), n = 1 + rnd(a, r->pages - i < 16 ? r->pages - i : 16);

	t_sys(madvise(r->base + i * PAGE, n * PAGE, MADV_DONTNEED));
	for (size_t k = i; k < i + n; k++)
		r->tag[k] = r->fd < 0 ? 0 : FILE_TAG;
	if (rnd(a, 2))
		page_check(r, i); /* reads: the zero page, or the file */
	else if (rnd(a, 2))
		page_write(a, r, i);
}

static void op_replace(struct actor *a)
{
	struct area *r = rnd(a, 2) ? &a->small : &a->file;
	size_t i = rnd(a, r->pages), n = 1 + rnd(a, r->pages - i < 8 ? r->pages - i : 8);

	t_sys(munmap(r->base + i * PAGE, n * PAGE));
	area_map(r, r->base, i, n);
	page_write(a, r, i + rnd(a, n));
}

static void op_move(struct actor *a)
{
	struct area *r = &a->move;
	char *to = r->base == r->home ? r->away : r->home;
	void *p = mremap(r->base, r->pages * PAGE, r->pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);

	/* Pieces that were never merged again are moved one by one, as programs would. */
	if (p == MAP_FAILED) {
		for (size_t i = 0; i < r->pages; i++)
			t_check(mremap(r->base + i * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				       to + i * PAGE) == to + i * PAGE,
				"mremap of a page, errno %d", errno);
	}
	r->base = to;
	if (rnd(a, 2))
		page_touch(a, r, rnd(a, r->pages));
}

static void op_protect(struct actor *a)
{
	struct area *r = any_area(a);
	size_t i = rnd(a, r->pages), n = 1 + rnd(a, r->pages - i);

	t_sys(mprotect(r->base + i * PAGE, n * PAGE, rnd(a, 2) ? PROT_READ : PROT_NONE));
	t_sys(mprotect(r->base + i * PAGE, n * PAGE, PROT_READ | PROT_WRITE));
	if (rnd(a, 2))
		page_touch(a, r, i);
}

static void op_read(struct actor *a)
{
	struct area *r = any_area(a);
	size_t i = rnd(a, r->pages);

	t_check(read(zero_fd, r->base + i * PAGE, PAGE) == (ssize_t)PAGE, "read");
	r->tag[i] = 0;
}

static void op_fork(struct actor *a)
{
	struct area *r = any_area(a);
	size_t i = rnd(a, r->pages);
	pid_t pid = t_fork();

	if (!pid) {
		memset(r->base + i * PAGE, 0x5a, PAGE);
		_exit(0);
	}
	if (rnd(a, 2))
		page_touch(a, r, i);
	t_reap(pid, 0);
}

/* As page_write(), but in the view @at of the page. */
static void page_write_at(struct actor *a, struct area *r, size_t i, char *at)
{
	char *base = r->base;

	r->base = at - i * PAGE;
	page_write(a, r, i);
	r->base = base;
}

/* A child that comes and goes writes: no mapping that is there later saw it. */
static void shared_by_child(struct actor *a, struct area *r, size_t i)
{
	uint64_t tag = 2 + ++a->tags * 1000;
	pid_t pid = t_fork();

	if (!pid) {
		a->tags--;
		page_write(a, r, i);
		_exit(0);
	}
	t_reap(pid, 0);
	r->tag[i] = tag;
	r->first[i] = t_pattern(tag);
}

/* Through the descriptor, or a mapping of a moment. */
static void shared_by_fd(struct actor *a, struct area *r, size_t i)
{
	char buf[PAGE], *p;

	if (rnd(a, 2)) {
		page_write_at(a, r, i, buf);
		t_check(pwrite(r->fd, buf, PAGE, (off_t)(i * PAGE)) == (ssize_t)PAGE, "pwrite");
		return;
	}
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, (off_t)(i * PAGE));
	t_check(p != MAP_FAILED, "mmap");
	page_write_at(a, r, i, p);
	t_sys(munmap(p, PAGE));
}

static void op_shared(struct actor *a)
{
	struct area *of[] = { &a->shm, &a->mem, &a->sysv }, *r = of[rnd(a, 3)];
	size_t i = rnd(a, r->pages);

	switch (rnd(a, 8)) {
	case 0:
		if (a->forks && rnd(a, 8) == 0)
			shared_by_child(a, r, i);
		break;
	case 1:
		t_sys(madvise(r->base + i * PAGE, PAGE, MADV_REMOVE));
		r->tag[i] = 0;
		break;
	case 2:
		t_sys(madvise(r->base + i * PAGE, PAGE, MADV_DONTNEED));
		page_check(r, i);
		break;
	case 3:
	case 4:
		if (r->fd >= 0)
			shared_by_fd(a, r, i);
		break;
	default:
		page_touch(a, r, i);
	}
}

static void op_huge(struct actor *a)
{
	static const int advice[] = { MADV_HUGEPAGE, MADV_COLLAPSE, MADV_NOHUGEPAGE };

	(void)madvise(a->huge.base, a->huge.pages * PAGE, advice[rnd(a, 3)]);
	page_touch(a, &a->huge, rnd(a, a->huge.pages));
}

static void op_slot(struct actor *a)
{
	struct area *r = &a->slot[rnd(a, SLOTS)];

	if (!r->base) {
		r->base = r->home;
		area_map(r, r->base, 0, r->pages);
		page_write(a, r, rnd(a, r->pages));
	} else if (rnd(a, 2)) {
		page_touch(a, r, rnd(a, r->pages));
	} else {
		t_sys(munmap(r->base, r->pages * PAGE));
		r->base = NULL;
	}
}

static void op_malloc(struct actor *a)
{
	free(a->heap);
	a->heap_n = 100 + rnd(a, 60000);
	a->heap_tag = ++a->tags;
	a->heap = malloc(a->heap_n * 8);
	for (size_t i = 0; i < a->heap_n; i++)
		a->heap[i] = t_pattern(a->heap_tag + i);
}

static void op_brk(struct actor *a)
{
	/* malloc may have moved it on. */
	if (!a->brk || sbrk(0) != a->brk_at + a->brk_pages * PAGE)
		return;
	if (a->brk_pages && rnd(a, 2)) {
		a->brk_pages--;
		t_check(sbrk(-(intptr_t)PAGE) != (void *)-1, "sbrk");
	} else if (a->brk_pages < T_ARRAY_SIZE(a->brk_tag)) {
		char *p = sbrk((intptr_t)PAGE);

		t_check(p == a->brk_at + a->brk_pages * PAGE, "sbrk grows where it was");
		a->brk_tag[a->brk_pages] = ++a->tags;
		for (size_t w = 0; w < WORDS; w++)
			((uint64_t *)p)[w] = t_pattern(a->tags + w);
		a->brk_pages++;
	}
}

static void op_pipe(struct actor *a)
{
	if (a->pipe[0]) {
		uint64_t got = 0;

		t_check(read(a->pipe[0], &got, 8) == 8 && got == a->in_pipe, "pipe");
		close(a->pipe[0]);
		close(a->pipe[1]);
		a->pipe[0] = 0;
		return;
	}
	t_sys(pipe(a->pipe));
	a->in_pipe = ++a->tags;
	t_check(write(a->pipe[1], &a->in_pipe, 8) == 8, "write");
}

static void deep(struct actor *a, int depth)
{
	volatile uint64_t room[256];
	uint64_t tag = ++a->tags;

	for (size_t i = 0; i < 256; i++)
		room[i] = t_pattern(tag + i);
	if (depth)
		deep(a, depth - 1);
	for (size_t i = 0; i < 256; i++)
		t_check(room[i] == t_pattern(tag + i), "stack, depth %d", depth);
}

static void op_stack(struct actor *a)
{
	deep(a, (int)rnd(a, 16));
}

static void (*const ops[])(struct actor *a) = {
	op_write, op_write, op_write, op_touch, op_touch, op_touch,  op_dontneed, op_replace, op_move,
	op_protect, op_read, op_huge, op_slot,	op_slot,  op_malloc, op_brk,	  op_pipe,    op_stack,
	op_shared, op_shared,
};

static bool told(void)
{
	sigset_t s;

	return atomic_load(&stop) || (!sigpending(&s) && sigismember(&s, SIGTERM) == 1);
}

static void actor_run(struct actor *a, bool forks)
{
	struct timespec rest = { .tv_nsec = 100000 };

	a->forks = forks;
	for (; !told(); a->ops++) {
		if (forks && a->ops % 200 == 199)
			op_fork(a);
		else
			ops[rnd(a, T_ARRAY_SIZE(ops))](a);
		if (a->ops % 8 == 7)
			(void)nanosleep(&rest, NULL);
	}
	area_check(&a->small);
	area_check(&a->file);
	area_check(&a->huge);
	area_check(&a->move);
	area_check(&a->shm);
	area_check(&a->mem);
	area_check(&a->sysv);
	for (size_t i = 0; i < SLOTS; i++)
		area_check(&a->slot[i]);
	for (size_t i = 0; a->heap && i < a->heap_n; i++)
		if (!t_check(a->heap[i] == t_pattern(a->heap_tag + i), "heap[%zu]", i))
			break;
	for (size_t k = 0; k < a->brk_pages; k++)
		for (size_t w = 0; w < WORDS; w++)
			if (!t_check(((uint64_t *)(a->brk_at + k * PAGE))[w] ==
					     t_pattern(a->brk_tag[k] + w),
				     "brk page %zu", k))
				break;
	if (a->pipe[0])
		op_pipe(a);
	fprintf(stderr, "pid %d: %lu operations\n", getpid(), a->ops);
}

/* @fd: a memory file; -1 anonymous memory, -2 a System V segment. */
static void shared_init(struct area *r, char *at, size_t pages, int fd)
{
	int flags = MAP_SHARED | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0), id;
	void *p;

	*r = (struct area) { .home = at, .base = at, .pages = pages, .fd = fd };
	r->tag = calloc(pages, sizeof(*r->tag));
	r->first = calloc(pages, sizeof(*r->first));
	if (fd == -2) {
		id = (int)t_sys(shmget(IPC_PRIVATE, pages * PAGE, IPC_CREAT | 0600));
		p = shmat(id, at, 0);
		t_sys(shmctl(id, IPC_RMID, NULL));
	} else {
		if (fd >= 0)
			t_sys(ftruncate(fd, (off_t)(pages * PAGE)));
		p = mmap(at, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
	}
	t_check(p == at, "shared memory at %p, errno %d", at, errno);
}

static struct actor *actor_new(int n, int fd, bool brk)
{
	struct actor *a = calloc(1, sizeof(*a));
	char *at = (char *)(0x600000000000ul + (unsigned long)n * 64 * SPACE);

	a->seed = (uint64_t)n + 77;
	area_init(&a->small, at, 300, -1);
	area_init(&a->file, at + SPACE, 32, fd);
	area_init(&a->huge, at + 2 * SPACE, 1024, -1);
	area_init(&a->move, at + 3 * SPACE, 24, -1);
	shared_init(&a->shm, at + 5 * SPACE, 40, -1);
	shared_init(&a->mem, at + 6 * SPACE, 100, (int)t_sys(memfd_create("mutate", MFD_CLOEXEC)));
	shared_init(&a->sysv, at + 7 * SPACE, 20, -2);
	for (int i = 0; i < SLOTS; i++) {
		/* Neighbours, so that they merge. */
		area_init(&a->slot[i], at + 4 * SPACE + (unsigned long)i * SLOT_PAGES * PAGE,
			  SLOT_PAGES, -1);
	}
	a->brk = brk;
	if (brk) {
		char *p = sbrk(0);

		a->brk_at = sbrk((intptr_t)(PAGE - (uintptr_t)p % PAGE)) + PAGE - (uintptr_t)p % PAGE;
	}
	return a;
}

static void *thread_main(void *arg)
{
	actor_run(arg, false);
	return NULL;
}

int main(int argc, char **argv)
{
	uint64_t page[WORDS];
	struct actor *mine, *other;
	pthread_t th[2];
	pid_t child;
	int fd;

	t_init(argc, argv);
	zero_fd = (int)t_sys(open("/dev/zero", O_RDONLY | O_CLOEXEC));
	fd = (int)t_sys(open(t_path("mapped"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	for (size_t i = 0; i < 32; i++) {
		for (size_t w = 0; w < WORDS; w++)
			page[w] = file_word(i, w);
		t_check(write(fd, page, PAGE) == (ssize_t)PAGE, "write");
	}
	child = t_fork();
	if (!child) {
		mine = actor_new(3, fd, true);
		actor_run(mine, true);
		_exit(t_status());
	}
	mine = actor_new(1, fd, false);
	other = actor_new(2, fd, false);
	th[0] = t_thread(thread_main, mine);
	th[1] = t_thread(thread_main, other);
	t_ready();
	atomic_store(&stop, true);
	pthread_join(th[0], NULL);
	pthread_join(th[1], NULL);
	t_sys(kill(child, SIGTERM));
	t_reap(child, 0);
	return t_done();
}
